"""What a reader of a run wants to know of its backbone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rporec_recbole.backbone.lora import adapted_layers
from rporec_recbole.backbone.running import context_length


def facts_of(backbone: Any) -> dict[str, Any]:
    """Name, size and ways of a `Backbone`, as plain values."""
    config = backbone.model.config
    return {
        "name": backbone.name,
        "architecture": config.model_type,
        "parameters": backbone.parameters,
        "trainable": sum(weight.numel() for weight in backbone.trainable()),
        "dtype": str(backbone.model.dtype).removeprefix("torch."),
        "device": str(backbone.device),
        "attention": getattr(config, "_attn_implementation", None) or "its own",
        "context": context_length(config),
        "prompt_tokens": backbone.prompts.max_tokens,
        "chat_template": backbone.prompts.chat,
        "lora": adapted_layers(backbone.model) if backbone.is_adapter else [],
    }


def in_one_line(facts: Mapping[str, Any]) -> str:
    """`facts_of` as a line of the log."""
    parts = [
        f"backbone {facts['name']} ({facts['architecture']}): {facts['parameters'] / 1e6:.1f} M weights, "
        f"{facts['trainable'] / 1e6:.1f} M trainable",
        f"{facts['dtype']} on {facts['device']}, {facts['attention']} attention",
        f"context {facts['context'] or 'unlimited'}",
        f"prompts up to {facts['prompt_tokens']} tokens, {'through its' if facts['chat_template'] else 'no'} chat template",
    ]
    return "; ".join([*parts, f"LoRA on {', '.join(facts['lora'])}"] if facts["lora"] else parts)
