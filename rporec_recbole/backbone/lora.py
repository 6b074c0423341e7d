"""LoRA through PEFT, on whatever linear layers an architecture has."""

from __future__ import annotations

from typing import Any

import torch


def attach_lora(model: Any, rank: int, alpha: int, seed: int) -> Any:
    """A PEFT model that trains a low-rank adapter on every linear layer but the output head (Hu et al., arXiv 2106.09685).

    PEFT finds the layers, whatever their names are: `torch.nn.Linear`, and GPT-2's `Conv1D`.

    Args:
        model: a transformers causal LM; its weights are frozen.
        rank: inner size of the adapter.
        alpha: the adapter counts `alpha / rank` times.
        seed: seed of the adapter's weights; the global random state is left as it was.
    """
    from peft import LoraConfig, TaskType, get_peft_model

    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules="all-linear", task_type=TaskType.CAUSAL_LM)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return get_peft_model(model, config)


def adapted_layers(model: Any) -> list[str]:
    """Last names of the layers that carry an adapter, such as `q_proj`, sorted, each once."""
    return sorted({layer.name.rpartition(".")[2] for layer in model.get_layer_status()})
