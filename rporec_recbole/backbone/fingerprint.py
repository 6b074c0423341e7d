"""What a language model is known by: another fingerprint means that it may write other texts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import torch

# Config entries that say where a model came from or how it runs, not what it writes.
_VOLATILE = {"_name_or_path", "transformers_version", "_attn_implementation", "architectures", "use_cache", "dtype"}
# What a LoRA adapter's weights are multiplied by.
_SCALING = ("r", "lora_alpha", "use_rslora", "alpha_pattern", "rank_pattern")


def fingerprint_of(model: Any, tokenizer: Any, adapter: Any, ends: Sequence[int], prompts: str) -> str:
    """SHA-256 over architecture, adapter, tokenizer, end tokens, weights and how prompts are shown.

    Args:
        model: a transformers causal LM, or a PEFT model around one.
        tokenizer: its tokenizer.
        adapter: PEFT's config of the adapter; None without one.
        ends: tokens that end a text.
        prompts: `PromptEncoder.identity`.
    """
    digest = hashlib.sha256()
    described = {key: str(value) for key, value in model.config.to_dict().items() if key not in _VOLATILE}
    digest.update(json.dumps(described, sort_keys=True).encode())
    if adapter is not None:
        values = adapter.to_dict()
        digest.update(json.dumps([str(values.get(key)) for key in _SCALING]).encode())
    digest.update(json.dumps(sorted(tokenizer.get_vocab().items())).encode())
    digest.update(json.dumps([_splitting(tokenizer), list(ends)]).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    digest.update(prompts.encode())
    return digest.hexdigest()


def _splitting(tokenizer: Any) -> dict[str, Any]:
    """How a tokenizer splits text, as plain values; nothing for one without a serialized form."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return {}
    whole = json.loads(backend.to_str())  # truncation and padding, which calls change, stand beside these
    return {part: whole.get(part) for part in ("normalizer", "pre_tokenizer", "model")}
