"""What a language model is known by: another fingerprint means that it may write other texts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import torch

FORM = 2
"""How a fingerprint is made. Form 1 took nested entries of a config in the order in which they stood, which saving changes, and did not
ask which tokens are special. Backbones that were saved before the form was (`writer.py`) keep it, and so their texts."""

# Config entries that say where a model came from or how it runs, not what it writes.
_VOLATILE = {"_name_or_path", "transformers_version", "_attn_implementation", "architectures", "use_cache", "dtype"}
# What an added token is, beside its number.
_ADDED = ("content", "special", "lstrip", "rstrip", "normalized", "single_word")
# What a LoRA adapter's weights are multiplied by.
_SCALING = ("r", "lora_alpha", "use_rslora", "alpha_pattern", "rank_pattern")

# In the names of weights that an adapter brings along.
_OF_ADAPTERS = (".lora_", ".modules_to_save.", ".token_adapter.")


def fingerprint_of(
    model: Any, tokenizer: Any, adapter: Any, ends: Sequence[int], prompts: str, form: int = FORM
) -> str:
    """SHA-256 over architecture, adapter, tokenizer, end tokens, weights and how prompts are shown.

    Args:
        model: a transformers causal LM, or a PEFT model around one.
        tokenizer: its tokenizer.
        adapter: PEFT's config of the adapter; None without one.
        ends: tokens that end a text.
        prompts: `PromptEncoder.identity`.
        form: see `FORM`.
    """
    digest = hashlib.sha256()
    digest.update(_described(model.config.to_dict(), form).encode())
    if adapter is not None:
        values = adapter.to_dict()
        digest.update(json.dumps([str(values.get(key)) for key in _SCALING]).encode())
    digest.update(json.dumps(sorted(tokenizer.get_vocab().items())).encode())
    digest.update(json.dumps([_splitting(tokenizer), list(ends)]).encode())
    if form > 1:
        added = tokenizer.added_tokens_decoder.items()
        digest.update(
            json.dumps(
                [[number, *(getattr(token, name) for name in _ADDED)] for number, token in sorted(added)]
            ).encode()
        )
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    digest.update(prompts.encode())
    return digest.hexdigest()


def digest_of_base(model: Any) -> str:
    """SHA-256 over the weights that an adapter stands on, rounded to bfloat16: the same whatever dtype they were loaded in.

    Args:
        model: a PEFT model.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if not any(part in name for part in _OF_ADAPTERS):
            weights = tensor.detach().to(torch.bfloat16) if tensor.is_floating_point() else tensor.detach()
            digest.update(f"{name} {tuple(weights.shape)}".encode())
            digest.update(weights.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _described(config: dict[str, Any], form: int) -> str:
    """A config as text that is the same before it is saved and after."""
    if form == 1:
        return json.dumps({key: str(value) for key, value in config.items() if key not in _VOLATILE}, sort_keys=True)
    return json.dumps(_lasting(config), sort_keys=True, default=str)


def _lasting(value: Any) -> Any:
    """The same without what is volatile, at any depth; JSON turns tuples into lists and numbers that are keys into text."""
    if isinstance(value, dict):
        return {str(key): _lasting(entry) for key, entry in value.items() if key not in _VOLATILE}
    return [_lasting(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def _splitting(tokenizer: Any) -> dict[str, Any]:
    """How a tokenizer splits text, as plain values; nothing for one without a serialized form."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return {}
    whole = json.loads(backend.to_str())  # truncation and padding, which calls change, stand beside these
    return {part: whole.get(part) for part in ("normalizer", "pre_tokenizer", "model")}
