"""The backbone: a causal language model with its tokenizer, behind one class that hides transformers and PEFT."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.utils import logging as transformers_logging

from rporec_recbole.backbone.engine import Generated, Read, generate_tokens
from rporec_recbole.backbone.facts import facts_of, in_one_line
from rporec_recbole.backbone.fingerprint import fingerprint_of
from rporec_recbole.backbone.grounding import Grounding, TagWatch
from rporec_recbole.backbone.losses import IGNORE
from rporec_recbole.backbone.rendering import PromptEncoder
from rporec_recbole.backbone.running import in_eval_mode, trains_in_bfloat16
from rporec_recbole.backbone.screening import ScreenedOutput, can_screen
from rporec_recbole.backbone.spelling import Spelling
from rporec_recbole.backbone.writer import Writer, keep_writer
from rporec_recbole.cot.store import Decoding
from rporec_recbole.settings.types import is_embedded
from rporec_recbole.text.completions import ANSWER_END, render_guesses

BASE = "base"
ADAPTER = "default"  # PEFT's name for the adapter of a model that has one


class Backbone:
    """A causal language model and its tokenizer.

    Args:
        model: a transformers causal LM, or a PEFT model around one.
        tokenizer: its tokenizer; gets left padding, and the end token as padding if it has none.
        name: what the user asked for.
        batch_tokens: rows times length of one generation batch.
        max_prompt_tokens: room for a prompt, the tokens of a chat template included.
        chat: show prompts through the tokenizer's chat template.
        writer: what was kept of it when it was saved; None for a new one.

    Attributes:
        prompts: turns prompts into tokens.
        spelling: turns tokens into text.
        writer: what is kept of it beside its weights.
        has_answered: says of the last tokens of a text whether an answer is closed.
        grounding: the lines that answers may be; None until `ground`.

    Raises:
        BackboneError: the chat template cannot be used.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        name: str,
        *,
        batch_tokens: int,
        max_prompt_tokens: int,
        chat: bool = False,
        writer: Writer | None = None,
    ) -> None:
        tokenizer.padding_side = "left"
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.model = model
        self.tokenizer = tokenizer
        self.name = name
        self.batch_tokens = batch_tokens
        kept = writer or Writer()
        self.prompts = PromptEncoder(tokenizer, max_prompt_tokens, chat, kept.around)
        self.writer = kept._replace(around=self.prompts.around)
        self.spelling = Spelling(tokenizer)
        self._fingerprint: str | None = None
        self._screened: ScreenedOutput | None = None
        self.has_answered = TagWatch(tokenizer, ANSWER_END)
        self.grounding: Grounding | None = None

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

    @property
    def adapter_rank(self) -> int | None:
        """Inner size of the adapter; None without one."""
        return int(self.model.peft_config[ADAPTER].r) if self.is_adapter else None

    def trainable(self) -> list[torch.nn.Parameter]:
        """The weights that training may change: all, or the adapter's."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def weights(self) -> dict[str, Tensor]:
        """Copies of the weights that training may change, by name, on the CPU; `set_weights` takes them back."""
        named = self.model.named_parameters()
        return {name: weight.detach().cpu().clone() for name, weight in named if weight.requires_grad}

    @torch.no_grad()
    def set_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Puts weights in the place of those that training may change."""
        own = dict(self.model.named_parameters())
        for name, weight in weights.items():
            own[name].copy_(weight)
        self.weights_changed()

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all that decides what is written: architecture, adapter, tokenizer, end tokens, weights; part of every
        store key."""
        if self._fingerprint is None:
            adapter = self.model.peft_config[ADAPTER] if self.is_adapter else None
            self._fingerprint = fingerprint_of(
                self.model, self.tokenizer, adapter, self.end_tokens, self.prompts.identity, self.writer.form
            )
        return self._fingerprint

    def weights_changed(self) -> None:
        """Call after training: texts written before belong to another writer."""
        self._fingerprint = self._screened = None

    @property
    def facts(self) -> dict[str, Any]:
        """What a reader of a run wants to know of its backbone, as plain values."""
        return facts_of(self)

    def describe(self) -> str:
        """`facts` in one line."""
        return in_one_line(self.facts)

    def encode_examples(self, prompts: Sequence[str], completions: Sequence[str]) -> list[tuple[list[int], list[int]]]:
        """Training examples as (tokens, labels): the prompt is not learned, the completion and the end token are."""
        ends = self.tokenizer(list(completions), add_special_tokens=False)["input_ids"]
        examples = []
        for prompt, completion in zip(self.prompts.encode(prompts), ends, strict=True):
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
        kept = max(len(labels) - _first_learned(labels) for _, labels in examples) + 1
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
        return sorted(ends | set(self.has_answered.tokens))

    def ground(self, lines: Sequence[str], repeats: bool = True) -> str:
        """Lets answers be lines of a catalogue, by item id, where a decoding asks for guesses; see `Grounding`. Its digest."""
        self.grounding = Grounding(lines, self.tokenizer, repeats)
        return self.grounding.digest

    def _output(self, decoding: Decoding, logprobs: bool) -> ScreenedOutput | None:
        """The output layer for decoding that needs the largest logit alone; None where the model's own is as good."""
        if decoding.temperature > 0 or logprobs:
            return None
        layer = (self.model.get_base_model() if self.is_adapter else self.model).get_output_embeddings()
        if not can_screen(layer):
            return None
        if self._screened is None or self._screened.layer is not layer:
            self._screened = ScreenedOutput(layer)
        return self._screened

    def generate_tokens(
        self,
        prompts: Sequence[str],
        decoding: Decoding,
        on_batch: Callable[[list[int], list[Generated]], None] | None = None,
        desc: str | None = None,
        identities: Sequence[str] | None = None,
        logprobs: bool = False,
    ) -> list[Generated]:
        """Completions as tokens, in order; see `engine.generate_tokens`. A grounded answer is drawn as the text before it is."""
        named = identities if identities is not None else prompts
        return self._write(prompts, decoding, on_batch, desc, named, logprobs=logprobs, drawn=True)

    def generate(
        self,
        prompts: Sequence[str],
        decoding: Decoding,
        on_batch: Callable[[list[int], list[str]], None] | None = None,
        desc: str = "",
    ) -> list[str]:
        """Completes prompts; the `TextGenerator` of the reasoner. A grounded answer is the likeliest line, never drawn."""
        keep = None
        if on_batch is not None:
            keep = lambda rows, written: on_batch(rows, self.decode(written))  # noqa: E731

        return self.decode(self._write(prompts, decoding, keep, desc or None, prompts, logprobs=False, drawn=False))

    def answer(
        self,
        prompts: Sequence[str],
        begun: Sequence[Generated],
        decoding: Decoding,
        identities: Sequence[str] | None = None,
        read: Read | None = None,
    ) -> list[Generated]:
        """Grounded answers behind texts that were written up to `<answer>`.

        Args:
            prompts: of each.
            begun: the texts; malformed ones stay.
            decoding: has `guesses`.
            identities: names the stream of draws of each, for answers that are drawn; without them the likeliest are taken.
            read: what the model has read of prompts and texts; None if they are to be read again.
        """
        assert self.grounding is not None, "`ground` was not called"
        encoded = self.prompts.encode(prompts)
        room: dict[str, Any] = {"pad": self.tokenizer.pad_token_id, "budget": self.batch_tokens}
        more = {**room, "shown": prompts, "read": read}
        with in_eval_mode(self.model):
            if identities is None:
                return self.grounding.likely(self.model, encoded, begun, decoding.guesses, **more)
            return self.grounding.drawn(self.model, encoded, begun, decoding, identities, **more)

    def decode(self, generated: Sequence[Generated]) -> list[str]:
        """Texts of completions, cut after the first `</answer>`, with their guesses behind."""
        texts = [self.spelling(one.tokens) for one in generated]
        cut = [head + tag for head, tag, _ in (text.partition(ANSWER_END) for text in texts)]
        return [text + render_guesses(one.guesses) for text, one in zip(cut, generated, strict=True)]

    def _write(
        self,
        prompts: Sequence[str],
        decoding: Decoding,
        on_batch: Callable[[list[int], list[Generated]], None] | None,
        desc: str | None,
        identities: Sequence[str],
        *,
        logprobs: bool,
        drawn: bool,
    ) -> list[Generated]:
        """The engine's completions; of a grounded decoding it writes from `<think>` to `<answer>`, and `answer` the rest."""
        grounded = self.grounding if decoding.guesses else None
        watch = self.has_answered if grounded is None else grounded.opened
        begin = [] if grounded is None else grounded.begin
        finished: dict[int, Generated] = {}

        def finish(rows: list[int], written: list[Generated], read: Read | None) -> None:
            if grounded is not None:
                written = [Generated([*grounded.begin, *one.tokens], []) for one in written]
                own, names = [prompts[row] for row in rows], [identities[row] for row in rows]
                written = self.answer(own, written, decoding, names if drawn else None, read)
            finished.update(zip(rows, written, strict=True))
            if on_batch is not None:
                on_batch(rows, written)

        with in_eval_mode(self.model):
            generate_tokens(
                self.model,
                [[*shown, *begin] for shown in self.prompts.encode(prompts)],
                decoding if grounded is None else grounded.before_answer(decoding),
                ends=sorted({*self.end_tokens, *watch.tokens}),
                pad=self.tokenizer.pad_token_id,
                budget=self.batch_tokens,
                identities=identities,
                logprobs=logprobs,
                screened=self._output(decoding, logprobs),
                has_ended=watch if watch.needed else None,
                on_batch=finish,
                keep_read=grounded is not None,
                desc=desc,
            )
        return [finished[row] for row in range(len(prompts))]

    def save(self, folder: Path) -> None:
        """Writes an ordinary Hugging Face folder, or a PEFT adapter folder, with the tokenizer and with what `writer` holds.

        The base of an adapter on a tiny backbone exists nowhere else, so it goes along as `base/`.
        """
        transformers_logging.disable_progress_bar()
        if self.is_adapter and is_embedded(self.name):
            self.save_base(folder / BASE)
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        keep_writer(folder, self.writer)

    def save_base(self, folder: Path) -> None:
        """Writes an ordinary Hugging Face folder without any adapter, with the tokenizer."""
        transformers_logging.disable_progress_bar()
        model = copy.deepcopy(self.model).unload() if self.is_adapter else self.model
        model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def save_adapter(self, folder: Path) -> None:
        """Writes a PEFT adapter folder with the adapter that is trained, and no other that may stand beside it."""
        transformers_logging.disable_progress_bar()
        self.model.save_pretrained(folder, selected_adapters=[ADAPTER])


def _first_learned(labels: Sequence[int]) -> int:
    return next((place for place, label in enumerate(labels) if label != IGNORE), len(labels))
