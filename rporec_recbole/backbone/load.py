"""Where backbones come from: made here (`tiny`), a local folder, a GGUF file or a hub id."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from rporec_recbole.backbone.fingerprint import digest_of_base
from rporec_recbole.backbone.int8_writer import require_int8
from rporec_recbole.backbone.lora import adapter_problems, attach_lora
from rporec_recbole.backbone.model import ADAPTER, BASE, Backbone
from rporec_recbole.backbone.rendering import PromptEncoder
from rporec_recbole.backbone.running import context_length, trains_in_bfloat16
from rporec_recbole.backbone.sources import (
    Source,
    arguments_for,
    check_weights,
    find_source,
    is_gguf,
    noted_base,
    one_message,
    tokenizer_of,
)
from rporec_recbole.backbone.spelling import spelling_problems
from rporec_recbole.backbone.tiny import build_tiny, train_tokenizer
from rporec_recbole.backbone.trial import trial_problem
from rporec_recbole.backbone.vllm_engine import require_vllm
from rporec_recbole.backbone.writer import Writer, kept_writer
from rporec_recbole.errors import BackboneError
from rporec_recbole.settings.types import TINY, BackboneSettings, is_embedded
from rporec_recbole.text.prompts import INSTRUCTIONS

_CPU = torch.device("cpu")


def make_backbone(
    settings: BackboneSettings,
    texts: Iterable[str],
    device: torch.device,
    seed: int,
    writer: Writer | None = None,
) -> Backbone:
    """The backbone that the settings name, before warm-up.

    Args:
        settings: source, dtype, LoRA and limits.
        texts: what a tiny backbone builds its vocabulary from.
        device: where it runs.
        seed: seed of new weights.
        writer: what was kept when it was made before, by a run that goes on; None for a new one.

    Raises:
        BackboneError: the source cannot be loaded, or prompts and completions do not fit into its context.
    """
    if is_embedded(settings.backbone):
        vocabulary, width, layers = TINY[settings.backbone]
        tokenizer = train_tokenizer(texts, vocabulary)
        length = settings.max_prompt_tokens + settings.max_new_tokens
        model = build_tiny(tokenizer, width, layers, length, seed).to(device)
    else:
        source = find_source(settings.backbone)
        model, tokenizer = _load(source, _dtype(settings, device), device)
        before = kept_writer(Path(source.name)) if source.is_adapter else None  # that of a run, trained further
        writer = writer or Writer(base=before and before.base)
    if settings.lora and not hasattr(model, "peft_config"):
        model = attach_lora(model, settings.lora_rank, settings.lora_alpha, seed)
    return _backbone(model, tokenizer, settings, writer or Writer())


def load_backbone(folder: Path, settings: BackboneSettings, device: torch.device) -> Backbone:
    """A backbone from a folder that `Backbone.save` wrote.

    Args:
        folder: whole, or an adapter.
        settings: name the base of an adapter.
        device: where it runs.

    Raises:
        BackboneError: the folder holds no model, or the adapter's base model cannot be found or is another one.
    """
    writer = kept_writer(folder) or Writer(form=1)
    source = find_source(str(folder), settings.backbone)
    if source.is_adapter and source.weights not in (noted_base(folder), str(folder / BASE)):
        _check_stand_in(folder, source.weights, writer)
    model, tokenizer = _load(source, _dtype(settings, device), device)
    return _backbone(model, tokenizer, settings, writer)


def _check_stand_in(folder: Path, base: str, writer: Writer) -> None:
    """Whether an adapter fits a base that is not the one that it notes; whether the weights are the same is asked of all, once they are
    loaded.

    Raises:
        BackboneError: it does not fit, or the base cannot be read.
    """
    with one_message(base):
        check_weights(find_source(base))
        problems = adapter_problems(folder, AutoConfig.from_pretrained(**arguments_for(base)), base)
    _refuse(base, problems)
    if writer.base is None:
        logging.getLogger().warning(
            f"{folder} was kept by a version that did not keep what its base was: if the weights of {base} are not those of "
            f"{noted_base(folder)}, what it writes from now on is wrong."
        )


def check_backbone(settings: BackboneSettings, device: torch.device = _CPU) -> None:
    """Finds out what can go wrong with a backbone before hours of work, without loading its weights.

    Args:
        settings: source, LoRA, limits and engine.
        device: where it will run.

    Raises:
        BackboneError: the source cannot be read, prompts and completions do not fit into its context, its tokenizer or adapter does not
            fit the model, its architecture does not write the same with a cache and without, or a package that the settings
            need is missing. One message says all that is known.
    """
    if settings.generation_engine == "vllm":
        require_vllm()
    if settings.generation_engine == "int8":
        require_int8(device)
    if is_embedded(settings.backbone):
        return
    source = find_source(settings.backbone)
    with one_message(settings.backbone):
        check_weights(source)
        config = AutoConfig.from_pretrained(**arguments_for(source.weights))
        tokenizer = tokenizer_of(source)
        text = config.get_text_config(decoder=True)
        problems = adapter_problems(Path(source.name), config) if source.is_adapter else []
        problems += spelling_problems(tokenizer, text.vocab_size, getattr(text, "eos_token_id", None))
    try:
        prompts = PromptEncoder(tokenizer, settings.max_prompt_tokens, _chat(settings))
        problems += _length_problems(config, prompts, settings)
    except BackboneError as error:
        problems.append(str(error).removesuffix("."))
    if not problems:
        problems += trial_problem(config, device, settings.lora or source.is_adapter)
    _refuse(settings.backbone, problems)


def _refuse(name: str, problems: list[str]) -> None:
    """One message for all problems; nothing where there is none."""
    if problems:
        raise BackboneError(f"`backbone={name}` cannot be used:\n  " + ".\n  ".join(problems) + ".")


def _backbone(model: Any, tokenizer: Any, settings: BackboneSettings, writer: Writer) -> Backbone:
    if hasattr(model, "peft_config") and not is_embedded(settings.backbone):
        base = digest_of_base(model)
        if writer.base not in (None, base):
            raise BackboneError(
                f"The weights of `backbone={settings.backbone}` are not those that the adapter was trained on, and on others it writes what "
                "nobody taught it. Name the base of then with --backbone=FOLDER_OR_ID_OR_GGUF."
            )
        writer = writer._replace(base=base)
    backbone = Backbone(
        model,
        tokenizer,
        settings.backbone,
        batch_tokens=settings.generation_batch_tokens,
        max_prompt_tokens=settings.max_prompt_tokens,
        chat=_chat(settings),
        writer=writer,
    )
    _refuse(settings.backbone, _length_problems(model.config, backbone.prompts, settings))
    return backbone


def _chat(settings: BackboneSettings) -> bool:
    # A compact prompt is for a model that was trained on that very form.
    return settings.chat_template == "auto" and settings.prompt_style != "compact"


def _length_problems(config: Any, prompts: PromptEncoder, settings: BackboneSettings) -> list[str]:
    problems = []
    context, total = context_length(config), settings.max_prompt_tokens + settings.max_new_tokens
    if context is not None and total > context:
        problems.append(
            f"`max_prompt_tokens={settings.max_prompt_tokens}` and `max_new_tokens={settings.max_new_tokens}` (or `rl_max_new_tokens`) make {total} "
            f"tokens, and {settings.backbone} reads at most {context}. Lower one of them"
        )
    fixed = prompts.overhead + prompts.count(INSTRUCTIONS[settings.prompt_style])
    if fixed >= settings.max_prompt_tokens:
        problems.append(
            f"`max_prompt_tokens={settings.max_prompt_tokens}` leaves no room for a history: instruction and chat template "
            f"alone have {fixed} tokens on {settings.backbone}. Raise it"
        )
    return problems


def _dtype(settings: BackboneSettings, device: torch.device) -> torch.dtype:
    if is_embedded(settings.backbone):
        return torch.float32
    if settings.backbone_dtype != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[settings.backbone_dtype]
    # AdamW's steps are smaller than bfloat16's spacing, so weights that are trained themselves stay in float32; training
    # then computes in bfloat16 (`trains_in_bfloat16`). PEFT keeps an adapter in float32 on a base of any dtype.
    return torch.bfloat16 if settings.lora and trains_in_bfloat16(device) else torch.float32


def _load(source: Source, dtype: torch.dtype, device: torch.device) -> tuple[Any, Any]:
    """Model and tokenizer."""
    with one_message(source.name):
        transformers_logging.disable_progress_bar()
        tokenizer = tokenizer_of(source)
        model = AutoModelForCausalLM.from_pretrained(
            **arguments_for(source.weights),
            dtype=dtype,
            use_safetensors=True,  # never the pickle that transformers would fall back to
        )
        if is_gguf(source.weights):
            # What an adapter notes as its base: the file, not the folder of its numbers.
            model.name_or_path = source.weights
        if source.is_adapter:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, source.name, is_trainable=True)
            if source.weights != str(Path(source.name) / BASE):
                model.peft_config[ADAPTER].base_model_name_or_path = source.weights  # it may have moved
    return model.to(device).eval(), tokenizer
