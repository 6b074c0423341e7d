"""Texts written with products of 8-bit integers (`generation_engine=int8`): the same engine, on a processor, with faster layers.

Attention, norms and the output layer stay as they are. Texts are another arithmetic's, so they have keys of their own in the store.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import torch

from rporec_recbole.backbone.int8 import Int8Linear, int8_layers, products_are_exact, standing_in
from rporec_recbole.backbone.model import Backbone
from rporec_recbole.cot.store import Decoding
from rporec_recbole.errors import BackboneError


def require_int8(device: torch.device) -> None:
    """Does nothing if a device multiplies 8-bit integers exactly.

    Raises:
        BackboneError: it does not.
    """
    if device.type != "cpu":
        raise BackboneError(
            f"`generation_engine=int8` is for processors, and this runs on {device.type}. Set it to `transformers` or, on a GPU, `vllm`."
        )
    if not products_are_exact():
        raise BackboneError(
            "`generation_engine=int8` needs a processor with instructions for products of 8-bit integers (AVX-512 VNNI or AMX), and this one "
            "has none that PyTorch can use. Leave it at `transformers`."
        )


class Int8Writer:
    """A `TextGenerator` that writes with the weights that a backbone has at that moment, rounded to 8 bits.

    Args:
        backbone: gives weights, tokens and the engine.

    Raises:
        BackboneError: its device does not multiply 8-bit integers exactly.
    """

    def __init__(self, backbone: Backbone) -> None:
        require_int8(backbone.device)
        self._backbone = backbone
        self._layers: dict[str, Int8Linear] = {}
        self._rounded = ""  # fingerprint of the weights that the layers were made of

    @property
    def fingerprint(self) -> str:
        """Another one than the backbone's own."""
        return hashlib.sha256(f"int8 {self._backbone.fingerprint}".encode()).hexdigest()

    def generate(
        self,
        prompts: Sequence[str],
        decoding: Decoding,
        on_batch: Callable[[list[int], list[str]], None] | None = None,
        desc: str = "",
    ) -> list[str]:
        """Completes prompts; see `TextGenerator`."""
        if self._rounded != self._backbone.fingerprint:
            self._layers = int8_layers(self._backbone.model)
            self._rounded = self._backbone.fingerprint
        with standing_in(self._backbone.model, self._layers):
            return self._backbone.generate(prompts, decoding, on_batch, desc)
