"""Generation by vLLM (Kwon et al., SOSP 2023), for GPUs: the same prompts, other kernels.

An adapter is handed to vLLM as a LoRA request, so the base is loaded once, and stage 2 can write with an adapter that changes at
every step. A backbone that is trained whole is loaded anew after each training. Of grounded texts vLLM writes what stands before the answer,
and the backbone beside it the answer.

The tests check that vLLM is called as its documentation says, against a stand-in; they never run vLLM itself, which needs
a GPU.
"""

from __future__ import annotations

import gc
import hashlib
import importlib.util
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from rporec_recbole.backbone.engine import Generated
from rporec_recbole.backbone.model import Backbone
from rporec_recbole.cot.store import Decoding
from rporec_recbole.errors import BackboneError
from rporec_recbole.settings.bars import progress_bar
from rporec_recbole.text.completions import ANSWER, ANSWER_END

_AT_ONCE = 256  # texts between two visits to the store
_RANKS = (8, 16, 32, 64, 128, 256)  # sizes of adapter that vLLM makes room for


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

    vLLM reads weights from folders. They are saved when the first text is asked for, and again after each training of the
    backbone; of a backbone with an adapter only the adapter, for its base stays as it is.

    Args:
        backbone: gives weights, tokens and end tokens.
        max_new_tokens: longest completion that will be asked for.
        memory: share of the GPU's memory that vLLM takes.

    Raises:
        BackboneError: vLLM is not installed, or the adapter is larger than it allows.
    """

    def __init__(self, backbone: Backbone, *, max_new_tokens: int, memory: float) -> None:
        require_vllm()
        self._backbone = backbone
        self._max_length = backbone.prompts.max_tokens + max_new_tokens
        self._memory = memory
        self._llm: Any = None
        self._served = ""
        self._adapter: Any = None  # vLLM's request for the adapter that is served
        self._adapters = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        rank = backbone.adapter_rank
        if rank is not None and rank > _RANKS[-1]:
            raise BackboneError(f"`lora_rank={rank}` is more than vLLM allows. Lower it to {_RANKS[-1]} or less.")

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
        if self._served != self._backbone.fingerprint:
            self._serve()
            self._served = self._backbone.fingerprint
        texts: list[str] = []
        with progress_bar(total=len(prompts), desc=desc, disable=not desc, unit="text") as bar:
            for start in range(0, len(prompts), _AT_ONCE):
                part = prompts[start : start + _AT_ONCE]
                written = self._write(part, decoding, part)
                if decoding.guesses:
                    written = self._backbone.answer(part, written, decoding)
                texts += self._backbone.decode(written)  # as our own engine's: one way from tokens to text
                if on_batch is not None:
                    on_batch(list(range(start, len(texts))), texts[start:])
                bar.update(len(part))
        return texts

    def generate_tokens(
        self, prompts: Sequence[str], decoding: Decoding, *, identities: Sequence[str]
    ) -> list[Generated]:
        """Completions as tokens, with the weights of this moment, whatever the engine served before (stage 2).

        Args:
            prompts: what is completed.
            decoding: how.
            identities: of each prompt; a draw depends on it and on `decoding`, so equal prompts may get other texts.
        """
        self._serve()
        self._served = ""  # the weights go on changing
        written = self._write(prompts, decoding, identities)
        return self._backbone.answer(prompts, written, decoding, identities) if decoding.guesses else written

    def _write(self, prompts: Sequence[str], decoding: Decoding, identities: Sequence[str]) -> list[Generated]:
        from vllm import SamplingParams

        grounding = self._backbone.grounding if decoding.guesses else None
        begin = [] if grounding is None else grounding.begin
        limit = decoding if grounding is None else grounding.before_answer(decoding)
        shared = {
            "temperature": decoding.temperature,
            "max_tokens": limit.max_new_tokens,
            "stop": [ANSWER_END] if grounding is None else [ANSWER, ANSWER_END],
            "include_stop_str_in_output": True,
            "stop_token_ids": sorted({*self._backbone.end_tokens, *(grounding.opened.tokens if grounding else ())}),
        }
        if decoding.temperature > 0 and decoding.top_p < 1:
            shared["top_p"] = decoding.top_p
        parameters = [SamplingParams(**shared, seed=_seed(identity, decoding)) for identity in identities]
        tokens = [{"prompt_token_ids": [*ids, *begin]} for ids in self._backbone.prompts.encode(prompts)]
        return [
            Generated([*begin, *request.outputs[0].token_ids], [])
            for request in self._llm.generate(tokens, parameters, use_tqdm=False, lora_request=self._adapter)
        ]

    def _serve(self) -> None:
        """Shows vLLM the weights of now."""
        rank = self._backbone.adapter_rank
        if rank is None:
            self._load({})
            return
        if self._llm is None:
            room = next(size for size in _RANKS if size >= rank)
            self._load({"enable_lora": True, "max_loras": 1, "max_lora_rank": room})
        from vllm.lora.request import LoRARequest

        folder = tempfile.TemporaryDirectory(prefix="rporec-adapter-")
        self._backbone.save_adapter(Path(folder.name))
        self._adapters += 1  # vLLM remembers adapters by this number
        self._adapter = LoRARequest(f"adapter-{self._adapters}", self._adapters, folder.name)
        if self._folder is not None:
            self._folder.cleanup()
        self._folder = folder  # vLLM reads it with the next request

    def _load(self, options: dict[str, Any]) -> None:
        from vllm import LLM

        self._llm = None
        gc.collect()  # the old engine gives its memory back before the new one measures what is free
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        with tempfile.TemporaryDirectory(prefix="rporec-vllm-") as folder:
            self._backbone.save_base(Path(folder))
            self._llm = LLM(
                model=folder,
                dtype=str(self._backbone.model.dtype).removeprefix("torch."),
                max_model_len=self._max_length,
                gpu_memory_utilization=self._memory,
                seed=0,  # each request has its own
                **options,
            )


def _seed(identity: str, decoding: Decoding) -> int | None:
    if decoding.temperature == 0:
        return None
    digest = hashlib.sha256(f"{decoding.seed}/{decoding.sample}/{identity}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4], "little")
