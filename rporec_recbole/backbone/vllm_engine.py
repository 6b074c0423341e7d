"""Generation by vLLM (Kwon et al., SOSP 2023), for GPUs: the same prompts, other kernels.

The tests check that vLLM is called as its documentation says, against a stand-in; they never run vLLM itself, which needs
a GPU. Stage 2 writes with `Backbone.generate_tokens`: there the weights change at every step.
"""

from __future__ import annotations

import gc
import hashlib
import importlib.util
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import torch
from tqdm.auto import tqdm

from rporec_recbole.backbone.engine import Generated
from rporec_recbole.backbone.model import Backbone
from rporec_recbole.cot.store import Decoding
from rporec_recbole.errors import BackboneError
from rporec_recbole.text.completions import ANSWER_END

_AT_ONCE = 256  # texts between two visits to the store


def require_vllm() -> None:
    """Does nothing if vLLM is installed.

    Raises:
        BackboneError: it is not.
    """
    if importlib.util.find_spec("vllm") is None:
        raise BackboneError(
            '`generation_engine=vllm` needs the package vllm and a GPU: pip install "rporec_recbole[vllm]". Or leave it at '
            "`transformers`."
        )


class VLLMEngine:
    """A `TextGenerator` that lets vLLM write with the weights that a backbone has at that moment.

    vLLM reads weights from a folder. So they are saved, any adapter merged in, when the first text is asked for, and again
    after each training of the backbone.

    Args:
        backbone: gives weights, tokens and end tokens.
        max_new_tokens: longest completion that will be asked for.
        memory: share of the GPU's memory that vLLM takes.

    Raises:
        BackboneError: vLLM is not installed.
    """

    def __init__(self, backbone: Backbone, *, max_new_tokens: int, memory: float) -> None:
        require_vllm()
        self._backbone = backbone
        self._max_length = backbone.prompts.max_tokens + max_new_tokens
        self._memory = memory
        self._llm: Any = None
        self._served = ""

    @property
    def fingerprint(self) -> str:
        """Another one than the backbone's own: vLLM rounds and draws differently, so it may write other texts."""
        return hashlib.sha256(f"vllm {self._backbone.fingerprint}".encode()).hexdigest()

    def generate(
        self,
        prompts: Sequence[str],
        decoding: Decoding,
        on_batch: Callable[[list[int], list[str]], None] | None = None,
        desc: str = "",
    ) -> list[str]:
        """Completes prompts; see `TextGenerator`. Sampled texts depend on prompt and decoding, not on their neighbours."""
        from vllm import SamplingParams

        llm = self._current()
        shared = {
            "temperature": decoding.temperature,
            "max_tokens": decoding.max_new_tokens,
            "stop": [ANSWER_END],
            "include_stop_str_in_output": True,
            "stop_token_ids": self._backbone.end_tokens,
        }
        texts: list[str] = []
        with tqdm(total=len(prompts), desc=desc, disable=not desc, unit="text", leave=False) as bar:
            for start in range(0, len(prompts), _AT_ONCE):
                part = prompts[start : start + _AT_ONCE]
                parameters = [SamplingParams(**shared, seed=_seed(prompt, decoding)) for prompt in part]
                tokens = [{"prompt_token_ids": ids} for ids in self._backbone.prompts.encode(part)]
                written = [
                    Generated(list(request.outputs[0].token_ids), [])
                    for request in llm.generate(tokens, parameters, use_tqdm=False)
                ]
                texts += self._backbone.decode(written)  # as our own engine's: one way from tokens to text
                if on_batch is not None:
                    on_batch(list(range(start, len(texts))), texts[start:])
                bar.update(len(part))
        return texts

    def _current(self) -> Any:
        """vLLM with the backbone's weights of now."""
        if self._served != self._backbone.fingerprint:
            from vllm import LLM

            self._llm = None
            gc.collect()  # the old engine gives its memory back before the new one measures what is free
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            with tempfile.TemporaryDirectory(prefix="rporec-vllm-") as folder:
                self._backbone.save_merged(folder)
                self._llm = LLM(
                    model=folder,
                    dtype=str(self._backbone.model.dtype).removeprefix("torch."),
                    max_model_len=self._max_length,
                    gpu_memory_utilization=self._memory,
                    seed=0,  # each request has its own
                )
            self._served = self._backbone.fingerprint
        return self._llm


def _seed(prompt: str, decoding: Decoding) -> int | None:
    if decoding.temperature == 0:
        return None
    digest = hashlib.sha256(f"{decoding.seed}/{decoding.sample}/{prompt}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4], "little")
