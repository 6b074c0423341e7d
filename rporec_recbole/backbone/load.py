"""Where backbones come from: made here (`tiny`), a local folder, a GGUF file or a hub id."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils import has_file
from transformers.utils import logging as transformers_logging

from rporec_recbole.backbone.lora import attach_lora
from rporec_recbole.backbone.model import BASE, Backbone
from rporec_recbole.backbone.rendering import PromptEncoder
from rporec_recbole.backbone.running import context_length, trains_in_bfloat16
from rporec_recbole.backbone.tiny import build_tiny, train_tokenizer
from rporec_recbole.backbone.vllm_engine import require_vllm
from rporec_recbole.errors import BackboneError, first_line, translating
from rporec_recbole.settings.types import TINY, BackboneSettings, is_embedded
from rporec_recbole.text.prompts import INSTRUCTIONS

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_ADAPTER, _ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def make_backbone(settings: BackboneSettings, texts: Iterable[str], device: torch.device, seed: int) -> Backbone:
    """The backbone that the settings name, before warm-up.

    Args:
        settings: source, dtype, LoRA and limits.
        texts: what a tiny backbone builds its vocabulary from.
        device: where it runs.
        seed: seed of new weights.

    Raises:
        BackboneError: the source cannot be loaded, or prompts and completions do not fit into its context.
    """
    if is_embedded(settings.backbone):
        vocabulary, width, layers = TINY[settings.backbone]
        tokenizer = train_tokenizer(texts, vocabulary)
        length = settings.max_prompt_tokens + settings.max_new_tokens
        model = build_tiny(tokenizer, width, layers, length, seed).to(device)
    else:
        model, tokenizer = _load(settings.backbone, _dtype(settings, device), device)
    if settings.lora and not hasattr(model, "peft_config"):
        model = attach_lora(model, settings.lora_rank, settings.lora_alpha, seed)
    return _backbone(model, tokenizer, settings)


def load_backbone(folder: Path, settings: BackboneSettings, device: torch.device) -> Backbone:
    """A backbone from a folder that `Backbone.save` wrote.

    Raises:
        BackboneError: the folder holds no model, or the adapter's base model cannot be found.
    """
    model, tokenizer = _load(str(folder), _dtype(settings, device), device, settings.backbone)
    return _backbone(model, tokenizer, settings)


def check_backbone(settings: BackboneSettings) -> None:
    """Finds out what can go wrong with a backbone before hours of work, without loading its weights.

    Raises:
        BackboneError: the source cannot be read, prompts and completions do not fit into its context, or a package that
            the settings need is missing.
    """
    if settings.generation_engine == "vllm":
        require_vllm()
    if is_embedded(settings.backbone):
        return
    weights, _ = _where_weights_are(settings.backbone)
    with _one_message(settings.backbone):
        _check_weights(weights, settings.backbone)
        config = AutoConfig.from_pretrained(**_where(weights))
        tokenizer = _tokenizer(settings.backbone)
    _check_lengths(config, PromptEncoder(tokenizer, settings.max_prompt_tokens, _chat(settings)), settings)


def _check_weights(weights: str, source: str) -> None:
    """Refuses a model whose safetensors files are missing or cut off; of a local one the headers are read, of one on a hub the names."""
    folder = Path(weights)
    if not folder.is_dir():
        whole = [_ADAPTER_WEIGHTS] if has_file(weights, _ADAPTER) else _WEIGHTS
        if not _is_gguf(weights) and not any(has_file(weights, name) for name in whole):
            raise BackboneError(
                f"`backbone={source}` has none of {whole}, and weights of another form are not read. Take a model that has, or save it "
                "with `save_pretrained` and name the folder."
            )
        return
    files = sorted(folder.glob("*.safetensors"))
    wanted = {folder / name for index in folder.glob("*.safetensors.index.json") for name in _files_of(index)}
    missing = sorted(wanted - set(files)) if files else [folder / _WEIGHTS[0]]
    if missing:
        raise BackboneError(
            f"`backbone={source}`: no file {missing[0]}, and weights of another form are not read. `save_pretrained` writes such files."
        )
    for file in files:
        try:
            with safe_open(file, framework="pt"):
                pass
        except (OSError, SafetensorError) as error:
            raise BackboneError(f"`backbone={source}`: {file} is damaged ({error}). Copy or save it again.") from error


def _files_of(index: Path) -> set[str]:
    """The files that the index of a model in several files names."""
    return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())


def _backbone(model: Any, tokenizer: Any, settings: BackboneSettings) -> Backbone:
    backbone = Backbone(
        model,
        tokenizer,
        settings.backbone,
        batch_tokens=settings.generation_batch_tokens,
        max_prompt_tokens=settings.max_prompt_tokens,
        chat=_chat(settings),
    )
    _check_lengths(model.config, backbone.prompts, settings)
    return backbone


def _chat(settings: BackboneSettings) -> bool:
    # A compact prompt is for a model that was trained on that very form.
    return settings.chat_template == "auto" and settings.prompt_style == "instruct"


def _check_lengths(config: Any, prompts: PromptEncoder, settings: BackboneSettings) -> None:
    context, total = context_length(config), settings.max_prompt_tokens + settings.max_new_tokens
    if context is not None and total > context:
        raise BackboneError(
            f"`max_prompt_tokens={settings.max_prompt_tokens}` and `max_new_tokens={settings.max_new_tokens}` make {total} "
            f"tokens, and {settings.backbone} reads at most {context}. Lower one of them."
        )
    fixed = prompts.overhead + prompts.count(INSTRUCTIONS[settings.prompt_style])
    if fixed >= settings.max_prompt_tokens:
        raise BackboneError(
            f"`max_prompt_tokens={settings.max_prompt_tokens}` leaves no room for a history: instruction and chat template "
            f"alone have {fixed} tokens on {settings.backbone}. Raise it."
        )


def _dtype(settings: BackboneSettings, device: torch.device) -> torch.dtype:
    if is_embedded(settings.backbone):
        return torch.float32
    if settings.backbone_dtype != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[settings.backbone_dtype]
    # AdamW's steps are smaller than bfloat16's spacing, so weights that are trained themselves stay in float32; training
    # then computes in bfloat16 (`trains_in_bfloat16`). PEFT keeps an adapter in float32 on a base of any dtype.
    return torch.bfloat16 if settings.lora and trains_in_bfloat16(device) else torch.float32


def _load(source: str, dtype: torch.dtype, device: torch.device, base: str | None = None) -> tuple[Any, Any]:
    """Model and tokenizer; `base` is what an adapter folder was trained on, where its own note of that does not do."""
    weights, adapter = _where_weights_are(source, base)
    with _one_message(source):
        transformers_logging.disable_progress_bar()
        tokenizer = _tokenizer(source)
        plain = None if _is_gguf(weights) else True  # never the pickle that transformers would fall back to
        model = AutoModelForCausalLM.from_pretrained(**_where(weights), dtype=dtype, use_safetensors=plain)
        if _is_gguf(weights):  # its numbers are plain ones by now, and transformers would refuse to train it
            model.hf_quantizer.remove_quantization_config(model)
        if adapter:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, source, is_trainable=True)
    return model.to(device).eval(), tokenizer


def _one_message(source: str) -> AbstractContextManager[None]:
    # transformers raises many kinds; the user needs one message
    return translating(
        lambda error: BackboneError(
            f"`backbone={source}` cannot be loaded: {first_line(error)}. Give `tiny`, a folder that `save_pretrained` wrote, a .gguf "
            "file, or a Hugging Face id that is downloaded already or reachable. Weights are read from safetensors and GGUF files alone."
        )
    )


def _where_weights_are(source: str, base: str | None = None) -> tuple[str, bool]:
    """The model that a source means, and whether the source is an adapter on it.

    Raises:
        BackboneError: the source is a path without a model.
    """
    folder = Path(source)
    if (source.startswith((".", "/", "~")) or folder.exists()) and not (
        any((folder / name).is_file() for name in ("config.json", _ADAPTER)) or (_is_gguf(source) and folder.is_file())
    ):
        raise BackboneError(
            f"`backbone={source}` is a local path but no model: a folder needs config.json, weights and tokenizer files, as "
            "`save_pretrained` writes them. Give such a folder, a .gguf file, a Hugging Face id, or `tiny`."
        )
    if not (folder / _ADAPTER).is_file():
        return source, False
    if not (folder / _ADAPTER_WEIGHTS).is_file():  # PEFT would unpickle adapter_model.bin
        raise BackboneError(
            f"`backbone={source}` is an adapter without {_ADAPTER_WEIGHTS}, and nothing else is read. Save it again with "
            "`save_pretrained`, which writes that file."
        )
    if (folder / BASE).is_dir():
        return str(folder / BASE), True
    if base is not None and _is_gguf(base):
        return base, True
    from peft import PeftConfig

    with _one_message(source):
        return str(PeftConfig.from_pretrained(source).base_model_name_or_path), True


def _tokenizer(source: str) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(**_where(source))
    # Where the files are missing transformers makes up a tokenizer that knows no word.
    if not set(tokenizer(INSTRUCTIONS["instruct"])["input_ids"]) - set(tokenizer.all_special_ids):
        raise BackboneError(
            f"`backbone={source}` has no tokenizer: not a word of an instruction is a token of it. Put the tokenizer files (tokenizer.json, "
            "tokenizer_config.json) beside the weights, as `tokenizer.save_pretrained` writes them."
        )
    return _as_it_is(tokenizer) if _is_gguf(source) else tokenizer


def _is_gguf(source: str) -> bool:
    return source.lower().endswith(".gguf")


def _where(source: str) -> dict[str, str]:
    """The arguments by which `from_pretrained` finds a model. A GGUF file is a file of its folder.

    Raises:
        BackboneError: the package that reads GGUF is missing.
    """
    if not _is_gguf(source):
        return {"pretrained_model_name_or_path": source}
    if importlib.util.find_spec("gguf") is None:
        raise BackboneError(f'`backbone={source}` needs the package gguf: pip install "rporec_recbole[gguf]".')
    path = Path(source)
    return {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}


def _as_it_is(tokenizer: Any) -> PreTrainedTokenizerFast:
    """The same tokenizer under transformers' general class. The class of a model family rebuilds itself by its own rules
    when it is loaded again, and then splits words in another way than the GGUF file said."""
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer,
        chat_template=tokenizer.chat_template,
        **{name: getattr(tokenizer, name) for name in ("bos_token", "eos_token", "pad_token", "unk_token")},
    )
