"""How a model runs: its length, its precision, its mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def context_length(config: Any) -> int | None:
    """The longest sequence that a model of this config reads, in tokens; None if it names no limit."""
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def trains_in_bfloat16(device: torch.device) -> bool:
    """Whether training runs under bfloat16 autocast: on GPUs that have it.

    Never on a CPU: without AMX bfloat16 is slower than float32 there, and results would differ from one CPU to the next.
    """
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


@contextmanager
def in_eval_mode(model: Any) -> Iterator[None]:
    """A model writes without dropout, and is trained further as it was before."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
