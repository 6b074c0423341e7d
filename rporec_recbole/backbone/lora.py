"""LoRA through PEFT, on whatever linear layers an architecture has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from rporec_recbole.errors import first_line

# PEFT adapts no layer of this name in these models: a kernel reads its weight, not its output.
_READ_BY_A_KERNEL = {"falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h"}
_OF_KERNELS = ["out_proj", "conv1d"]


def attach_lora(model: Any, rank: int, alpha: int, seed: int) -> Any:
    """A PEFT model that trains a low-rank adapter on every linear layer but the output head (Hu et al., arXiv 2106.09685).

    PEFT finds the layers, whatever their names are: `torch.nn.Linear`, and GPT-2's `Conv1D`. Those that read no text, of a vision
    tower for example, stay as they are.

    Args:
        model: a transformers causal LM; its weights are frozen.
        rank: inner size of the adapter.
        alpha: the adapter counts `alpha / rank` times.
        seed: seed of the adapter's weights; the global random state is left as it was.
    """
    from peft import LoraConfig, TaskType, get_peft_model

    left_out = _without_text(model) + (_OF_KERNELS if model.config.model_type in _READ_BY_A_KERNEL else [])
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules="all-linear",
        exclude_modules=left_out or None,
        task_type=TaskType.CAUSAL_LM,
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # not those of GPUs, which `fork_rng` would leave seeded
        return get_peft_model(model, config)


def adapted_layers(model: Any) -> list[str]:
    """Last names of the layers that carry an adapter, such as `q_proj`, sorted, each once."""
    return sorted({layer.name.rpartition(".")[2] for layer in model.get_layer_status()})


def adapter_problems(folder: Path, config: Any, base: str | None = None) -> list[str]:
    """Why an adapter cannot be trained further on its base, found from names and shapes, without loading either.

    Args:
        folder: of the adapter, with its weights.
        config: of its base.
        base: what that is called; None for the adapter's own note of it.
    """
    from peft import PeftConfig, get_peft_model, get_peft_model_state_dict

    described = PeftConfig.from_pretrained(str(folder))
    described.init_lora_weights = True  # other ways of beginning compute with the base
    kind = getattr(described.peft_type, "value", described.peft_type)
    if kind != "LORA":
        return [
            f"it is an adapter of the kind {kind}, and LoRA alone is trained further. Merge it into its base and name that"
        ]
    where = "in its adapter_config.json" if base is None else "with --backbone=FOLDER_OR_ID_OR_GGUF"
    base = base or described.base_model_name_or_path
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
        described.base_model_name_or_path = model.name_or_path  # PEFT warns where the two differ
        text = set(_text_layers(model))
        rows = model.get_input_embeddings().weight.shape[0]
        with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
            saved = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        grown = {shape[0] for name, shape in saved.items() if "embed" in name and ".lora_" not in name} - {rows}
        if grown:
            return [
                f"the adapter's vocabulary was grown: it holds embeddings of {max(grown)} tokens, and its base {base} has {rows}. Merge the "
                "adapter into a base that was grown as well (`merge_and_unload`), save that with its tokenizer, and name its folder"
            ]
        try:
            adapted = get_peft_model(model, described)
        except (ValueError, TypeError, NotImplementedError, RuntimeError) as error:
            return [
                f"the adapter does not fit its base {base}: {first_line(error)}. Name the base that it was trained on {where}"
            ]
        weights = get_peft_model_state_dict(adapted, save_embedding_layers=False)
        expected = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    other = sorted(
        name for name in expected.keys() | saved.keys() if ".lora_" in name and expected.get(name) != saved.get(name)
    )
    if other:
        first = other[0]
        return [
            f"the adapter does not fit its base {base}: {len(other)} of its weights, {first} for one, are {saved.get(first) or 'missing'} in the "
            f"adapter and {expected.get(first) or 'missing'} in the base. Name the base that it was trained on {where}"
        ]
    layers = {layer.name.removeprefix("model.") for layer in adapted.get_layer_status()}
    if not layers & text:
        return [
            f"the adapter changes no layer that reads text, but {min(layers)} and others of a model that also sees. Train one on its "
            "language layers, or name the base alone"
        ]
    return []


def _text_layers(model: Any) -> list[str]:
    """Names of the layers that a text goes through."""
    decoder = set(map(id, model.get_decoder().modules())) | {id(model.get_output_embeddings())}
    return [name for name, module in model.named_modules() if id(module) in decoder]


def _without_text(model: Any) -> list[str]:
    """Names of the linear layers that no text goes through."""
    text = set(_text_layers(model))
    return [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and name not in text]
