"""Backbones: `tiny`, a local folder, a GGUF file or a hub id, behind one class that hides transformers and PEFT."""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from rporec_recbole.backbone.engine import Generated, generate_tokens
from rporec_recbole.backbone.tiny import build_tiny, train_tokenizer
from rporec_recbole.cot.store import Decoding
from rporec_recbole.errors import BackboneError
from rporec_recbole.model.losses import IGNORE
from rporec_recbole.settings import BackboneSettings
from rporec_recbole.text.completions import ANSWER_END

_ADAPTER, _BASE = "adapter_config.json", "base"
# Config entries that say where a model came from or how it runs, not what it writes.
_VOLATILE = {"_name_or_path", "transformers_version", "_attn_implementation", "architectures", "use_cache", "dtype"}


class Backbone:
    """A causal language model and its tokenizer.

    Args:
        model: a transformers causal LM, or a PEFT model around one.
        tokenizer: its tokenizer; gets left padding, and the end token as padding if it has none.
        name: what the user asked for.
        batch_tokens: rows times length of one generation batch.
        max_prompt_tokens: longer prompts lose their beginning.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str, *, batch_tokens: int, max_prompt_tokens: int) -> None:
        tokenizer.padding_side = "left"
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.model = model
        self.tokenizer = tokenizer
        self.name = name
        self.batch_tokens = batch_tokens
        self.max_prompt_tokens = max_prompt_tokens
        self._fingerprint: str | None = None
        self._closing: list[int] = tokenizer(ANSWER_END, add_special_tokens=False)["input_ids"]
        self._may_close: dict[int, bool] = {}  # whether a token can be the last one of `</answer>`

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    @property
    def is_adapter(self) -> bool:
        """Whether a PEFT adapter stands on the model."""
        return hasattr(self.model, "peft_config")

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def trainable(self) -> list[torch.nn.Parameter]:
        """The weights that training may change: all, or the adapter's."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    @property
    def fingerprint(self) -> str:
        """SHA-256 over architecture, vocabulary and weights; part of every store key."""
        if self._fingerprint is None:
            digest = hashlib.sha256()
            described = {key: str(value) for key, value in self.model.config.to_dict().items() if key not in _VOLATILE}
            digest.update(json.dumps(described, sort_keys=True).encode())
            digest.update(json.dumps(sorted(self.tokenizer.get_vocab().items())).encode())
            for name, tensor in sorted(self.model.state_dict().items()):
                digest.update(name.encode())
                digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
            digest.update(str(self.max_prompt_tokens).encode())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def weights_changed(self) -> None:
        """Call after training: texts written before belong to another writer."""
        self._fingerprint = None

    def count_tokens(self, text: str) -> int:
        """Length of a text in tokens."""
        return len(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def encode_prompts(self, prompts: Sequence[str]) -> list[list[int]]:
        """Prompts as tokens, cut at the front to `max_prompt_tokens`."""
        encoded = self.tokenizer(list(prompts), add_special_tokens=True)["input_ids"]
        return [ids[-self.max_prompt_tokens :] for ids in encoded]

    def encode_examples(self, prompts: Sequence[str], completions: Sequence[str]) -> list[tuple[list[int], list[int]]]:
        """Training examples as (tokens, labels): the prompt is not learned, the completion and the end token are."""
        ends = self.tokenizer(list(completions), add_special_tokens=False)["input_ids"]
        examples = []
        for prompt, completion in zip(self.encode_prompts(prompts), ends, strict=True):
            completion = [*completion, self.tokenizer.eos_token_id]
            examples.append((prompt + completion, [IGNORE] * len(prompt) + completion))
        return examples

    def collate(self, examples: Sequence[tuple[list[int], list[int]]]) -> dict[str, Tensor]:
        """A training batch on the model's device, padded on the left so that completions end together.

        Returns:
            `input_ids`, `attention_mask`, `position_ids`, each `[R, T]`, and `labels`, `[R, K]`: the last K tokens,
            which hold all completions.
        """
        width = max(len(tokens) for tokens, _ in examples)
        kept = max(sum(label != IGNORE for label in labels) for _, labels in examples) + 1
        pad = self.tokenizer.pad_token_id
        batch = {
            "input_ids": [[pad] * (width - len(tokens)) + tokens for tokens, _ in examples],
            "attention_mask": [[0] * (width - len(tokens)) + [1] * len(tokens) for tokens, _ in examples],
            "labels": [([IGNORE] * (width - len(labels)) + labels)[-kept:] for _, labels in examples],
        }
        tensors = {name: torch.tensor(rows, device=self.device) for name, rows in batch.items()}
        tensors["position_ids"] = tensors["attention_mask"].cumsum(1).sub_(1).clamp_(min=0)
        return tensors

    def logits(self, batch: dict[str, Tensor]) -> Tensor:
        """`[R, K, V]` for the last K tokens of a collated batch; the prompt's logits, which nobody learns, are not made."""
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "position_ids")}
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=trains_in_bfloat16(self.device)):
            return self.model(**inputs, use_cache=False, logits_to_keep=batch["labels"].shape[1]).logits

    @property
    def end_tokens(self) -> list[int]:
        """A completion stops after any of these: the model's own end tokens, and `</answer>` where that is one token."""
        declared = self.model.generation_config.eos_token_id
        declared = declared if isinstance(declared, list) else [declared]
        ends = {token for token in (*declared, self.tokenizer.eos_token_id) if token is not None}
        return sorted(ends | ({self._closing[0]} if len(self._closing) == 1 else set()))

    def has_answered(self, tokens: list[int]) -> bool:
        """Whether the last of these tokens closes an answer."""
        last = tokens[-1]
        if last not in self._may_close:
            self._may_close[last] = ANSWER_END[-1] in self.tokenizer.decode([last])
        return self._may_close[last] and ANSWER_END in self.tokenizer.decode(tokens)

    def generate_tokens(
        self,
        prompts: Sequence[str],
        decoding: Decoding,
        on_batch: Callable[[list[int], list[Generated]], None] | None = None,
        desc: str | None = None,
        identities: Sequence[str] | None = None,
        logprobs: bool = False,
    ) -> list[Generated]:
        """Completions as tokens, in order; see `engine.generate_tokens`."""
        was_training = self.model.training
        self.model.eval()
        try:
            return generate_tokens(
                self.model,
                self.encode_prompts(prompts),
                decoding,
                ends=self.end_tokens,
                pad=self.tokenizer.pad_token_id,
                budget=self.batch_tokens,
                identities=identities if identities is not None else prompts,
                logprobs=logprobs,
                has_ended=self.has_answered if len(self._closing) > 1 else None,
                on_batch=on_batch,
                desc=desc,
            )
        finally:
            self.model.train(was_training)

    def decode(self, generated: Sequence[Generated]) -> list[str]:
        """Texts of completions, cut after the first `</answer>`."""
        texts = self.tokenizer.batch_decode([one.tokens for one in generated], skip_special_tokens=True)
        return [head + tag for head, tag, _ in (text.partition(ANSWER_END) for text in texts)]

    def generate(
        self,
        prompts: Sequence[str],
        decoding: Decoding,
        on_batch: Callable[[list[int], list[str]], None] | None = None,
        desc: str = "",
    ) -> list[str]:
        """Completes prompts; the `TextGenerator` of the reasoner."""
        keep = None
        if on_batch is not None:
            keep = lambda rows, written: on_batch(rows, self.decode(written))  # noqa: E731
        return self.decode(self.generate_tokens(prompts, decoding, keep, desc or None))

    def save(self, folder: Path) -> None:
        """Writes an ordinary Hugging Face folder, or a PEFT adapter folder, with the tokenizer.

        The base of an adapter on `tiny` exists nowhere else, so it goes along as `base/`.
        """
        transformers_logging.disable_progress_bar()
        if self.is_adapter and self.name == "tiny":
            copy.deepcopy(self.model).unload().save_pretrained(folder / _BASE)
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def trains_in_bfloat16(device: torch.device) -> bool:
    """Whether training runs under bfloat16 autocast: on GPUs that have it.

    Never on a CPU: without AMX bfloat16 is slower than float32 there, and results would differ from one CPU to the next.
    """
    return device.type == "cuda" and torch.cuda.is_bf16_supported()


def make_backbone(settings: BackboneSettings, texts: Iterable[str], device: torch.device, seed: int) -> Backbone:
    """The backbone that the settings name, before warm-up.

    Args:
        settings: source, dtype, LoRA and limits.
        texts: what `tiny` builds its vocabulary from.
        device: where it runs.
        seed: seed of new weights.

    Raises:
        BackboneError: the source cannot be loaded.
    """
    if settings.backbone == "tiny":
        tokenizer = train_tokenizer(texts, settings.tiny_vocabulary)
        length = settings.max_prompt_tokens + settings.max_new_tokens
        model = build_tiny(tokenizer, settings.tiny_hidden_size, settings.tiny_layers, length, seed).to(device)
    else:
        model, tokenizer = _load(settings.backbone, settings.backbone_dtype, device)
    if settings.lora and not hasattr(model, "peft_config"):
        model = _attach_lora(model, settings.lora_rank, settings.lora_alpha, seed)
    return _backbone(model, tokenizer, settings)


def load_backbone(folder: Path, settings: BackboneSettings, device: torch.device) -> Backbone:
    """A backbone from a folder that `Backbone.save` wrote.

    Raises:
        BackboneError: the folder holds no model, or the adapter's base model cannot be found.
    """
    dtype = "float32" if settings.backbone == "tiny" else settings.backbone_dtype  # as `make_backbone` makes it
    model, tokenizer = _load(str(folder), dtype, device, settings.backbone)
    return _backbone(model, tokenizer, settings)


def _backbone(model: Any, tokenizer: Any, settings: BackboneSettings) -> Backbone:
    return Backbone(
        model,
        tokenizer,
        settings.backbone,
        batch_tokens=settings.generation_batch_tokens,
        max_prompt_tokens=settings.max_prompt_tokens,
    )


def _load(source: str, dtype: str, device: torch.device, base: str | None = None) -> tuple[Any, Any]:
    """Model and tokenizer; `base` is what an adapter folder was trained on, where its own note of that does not do."""
    wanted = {
        "float32": torch.float32,
        "bfloat16": torch.bfloat16,
        "auto": torch.bfloat16 if device.type == "cuda" else torch.float32,
    }[dtype]
    folder = Path(source)
    if (source.startswith((".", "/", "~")) or folder.exists()) and not (
        any((folder / name).is_file() for name in ("config.json", _ADAPTER)) or (_is_gguf(source) and folder.is_file())
    ):
        raise BackboneError(
            f"`backbone={source}` is a local path but no model: a folder needs config.json, weights and tokenizer files, as "
            "`save_pretrained` writes them. Give such a folder, a .gguf file, a Hugging Face id, or `tiny`."
        )
    try:
        transformers_logging.disable_progress_bar()
        tokenizer = AutoTokenizer.from_pretrained(**_where(source))
        if _is_gguf(source):
            tokenizer = _as_it_is(tokenizer)
        if (folder / _ADAPTER).is_file():
            from peft import PeftConfig, PeftModel

            if (folder / _BASE).is_dir():
                base = str(folder / _BASE)
            elif base is None or not _is_gguf(base):
                base = str(PeftConfig.from_pretrained(source).base_model_name_or_path)
            model = AutoModelForCausalLM.from_pretrained(**_where(base), dtype=wanted)
            model = PeftModel.from_pretrained(model, source, is_trainable=True)
        else:
            model = AutoModelForCausalLM.from_pretrained(**_where(source), dtype=wanted)
    except BackboneError:
        raise
    except Exception as error:  # transformers raises many kinds; the user needs one message
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BackboneError(
            f"`backbone={source}` cannot be loaded: {reason}. Give `tiny`, a folder that `save_pretrained` wrote, a .gguf "
            "file, or a Hugging Face id that is downloaded already or reachable."
        ) from error
    return model.to(device).eval(), tokenizer


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


def _attach_lora(model: Any, rank: int, alpha: int, seed: int) -> Any:
    from peft import LoraConfig, TaskType, get_peft_model

    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules="all-linear", task_type=TaskType.CAUSAL_LM)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return get_peft_model(model, config)
