"""RPORec as a RecBole sequential model: joins head, text encoder and backbone. Wiring, no maths."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from torch import Tensor

from rporec_recbole.backbone.int8_writer import Int8Writer
from rporec_recbole.backbone.losses import cot_loss
from rporec_recbole.backbone.model import Backbone
from rporec_recbole.backbone.vllm_engine import VLLMEngine
from rporec_recbole.cot.reasoner import NOTHING, AskHelpers, Reasoner, TextGenerator
from rporec_recbole.cot.store import CoTStore, Decoding
from rporec_recbole.data import ladder
from rporec_recbole.data.clock import hidden_times, history_times
from rporec_recbole.data.dataset import RUNGS, TARGETS, window_positions
from rporec_recbole.data.kept_negatives import KeptNegatives
from rporec_recbole.data.ratings import Ratings
from rporec_recbole.data.score_budget import rows_at_once
from rporec_recbole.model.answer_match import AnswerMatcher
from rporec_recbole.model.answers import Guesses, read_guesses
from rporec_recbole.model.encoder import TextEncoder, unseen_texts
from rporec_recbole.model.item_text import read_item_text
from rporec_recbole.model.losses import negatives_loss, recommendation_loss, sampled_recommendation_loss
from rporec_recbole.model.new_head import history_text, new_head
from rporec_recbole.model.rechead import Reasoning, RecHead, distinct, mean_reasoning
from rporec_recbole.model.texthead import TextHead
from rporec_recbole.settings.reader import settings_from
from rporec_recbole.text.catalogue import Catalogue
from rporec_recbole.text.completions import PARSERS, Completion
from rporec_recbole.text.prompts import PromptTemplate, Rating

_SCORING_ROWS = 1024


class RPORec(SequentialRecommender):
    """Reinforced Preference Optimization for Reasoning-Augmented Recommendations (Gao et al., arXiv 2605.21967).

    The backbone is not a submodule: `parameters()` and `state_dict()` are the head's, so RecBole's optimizer and
    checkpoints never hold a language model.

    Attributes:
        head: the `RecHead`.
        times: reads the clock of rows; None where the trunk has none (`time_buckets`).
        backbone: the language model, once a stage has made it.
        reasoner: writes or looks up reasoning, once there is a backbone.
        ask_helpers: what a reasoner asks for help with many texts (`Reasoner`); None where there is nobody.
        reasoning_on: whether there is a fusion to read reasoning with; off until it is trained.
        max_rung: `calculate_loss` learns from positions up to this rung of the ladder; `learn_from` changes it.
        on_learned: gets the timeline indices, `[P]`, of the positions that a `calculate_loss` learned from; may be None.

    Raises:
        DatasetError: the data set has no item text and `ids_only` is off.
    """

    input_type = InputType.POINTWISE

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.settings = settings = settings_from(config)
        self.times = history_times(dataset, settings.head.time_buckets)
        if self.times is None:
            self.settings = dataclasses.replace(settings, head=dataclasses.replace(settings.head, time_buckets=0))
        self.seed = int(config["seed"])
        self.ratings: Ratings | None = dataset.ratings
        self.catalogue: Catalogue | None = None
        self.encoder: TextEncoder | None = None
        if not self.settings.text.ids_only:
            self.catalogue, self.encoder = read_item_text(config, dataset, self.settings.text, self.seed, self.logger)
        item_text = None
        if self.encoder is not None and self.catalogue is not None:
            item_text = torch.from_numpy(self.encoder.encode(self.catalogue.lines))
        if item_text is not None and (unseen := unseen_texts(item_text[1:], "item texts", self.settings.text)):
            self.logger.warning(unseen)
        self.matcher = None if self.catalogue is None else AnswerMatcher(self.catalogue)
        self._first_rung, self._target_counts = dataset.first_rungs(), dataset.target_counts
        self._has_repeats = dataset.has_repeats()
        self.head = self.new_head(item_text)
        self.backbone: Backbone | None = None
        self.reasoner: Reasoner | None = None
        self._guessing: dict[str, Any] = {}
        self.ask_helpers: AskHelpers | None = None
        self.reasoning_on = False
        self.on_learned: Callable[[Tensor], None] | None = None
        self.learn_from(ladder.RL)

    def new_head(self, item_text: Tensor | None) -> RecHead:
        """A head that has learned nothing, by the run's settings; `item_text`, `[N, D]`, or None for a head of ids only."""
        return new_head(self.settings, self.n_items, item_text, self.catalogue, self.encoder)

    def use_encoder(self, encoder: TextEncoder) -> None:
        """Puts another text encoder in place, one that was saved with the head's weights."""
        self.encoder = encoder
        if isinstance(self.head, TextHead):
            self.head.history_text = history_text(self.settings, self.catalogue, encoder)

    def learn_from(self, max_rung: int) -> None:
        """Later losses learn from positions up to a rung of the ladder; items that stand on none of these are cold."""
        self.max_rung = max_rung
        self.head.learned.copy_(self._first_rung <= max_rung)
        if self.head.expert is not None:
            self.head.expert.count(self._target_counts(max_rung))

    def restart_head(self) -> None:
        """New weights for trunk and fusion, drawn as at the beginning; scores do without reasoning from here on."""
        self.head.load_state_dict(self.new_head(self.head.item_text).state_dict())
        self.learn_from(self.max_rung)
        self.reasoning_on = False

    @cached_property
    def negatives(self) -> KeptNegatives:
        """The `sampled_negatives` items beside each target that are drawn once and kept."""
        return KeptNegatives(self.n_items, self.settings.head.sampled_negatives, self.seed)

    def connect(self, backbone: Backbone, store: CoTStore) -> None:
        """Gives the model its language model and the store of what it writes."""
        assert self.catalogue is not None, "a backbone needs item text"
        limits = self.settings.backbone
        template = PromptTemplate(
            self.catalogue,
            self.settings.text.prompt_items,
            limits.prompt_style,
            limits.max_prompt_tokens - backbone.prompts.overhead,
            backbone.prompts.count,
            self.settings.text.prompt_ratings,
        )
        writer: TextGenerator = backbone
        if limits.generation_engine == "vllm":
            longest = self.settings.longest_texts.max_new_tokens
            writer = VLLMEngine(backbone, max_new_tokens=longest, memory=limits.vllm_memory)
        elif limits.generation_engine == "int8":
            writer = Int8Writer(backbone)
        if limits.grounded_answers:
            lines = backbone.ground(self.catalogue.lines, self._has_repeats)
            self._guessing = {"guesses": limits.answer_guesses, "lines": lines}
        self.backbone = backbone
        self.reasoner = Reasoner(writer, template, store, self.ask_helpers, PARSERS[self.settings.text.tag_reading])

    # --- losses -----------------------------------------------------------------------------------------------------

    def calculate_loss(
        self, interaction: Interaction, cot_batch: dict[str, Tensor] | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """L_rec, or the two parts (L_rec, lambda L_CoT); RecBole's trainer adds the parts of a tuple.

        Args:
            interaction: windows of the training part.
            cot_batch: a collated batch of reasoning texts (`Backbone.collate`).
        """
        inputs, targets, rung = interaction[self.ITEM_SEQ], interaction[TARGETS], interaction[RUNGS]
        items = self.head.item_vectors()
        states = self.head.states(
            inputs, items, hidden_times(self.clock_of(interaction), self.settings.head.time_dropout)
        )
        learned = (targets > 0) & (rung <= self.max_rung)
        if self.on_learned is not None:
            self.on_learned(window_positions(interaction)[learned])
        rows, steps = learned.nonzero(as_tuple=True)
        states = states[learned]
        head = self.settings.head
        exact = head.head_loss == "catalogue" and self.n_items <= head.full_softmax_items
        estimated = negatives_loss if head.head_loss == "negatives" else sampled_recommendation_loss
        if head.head_loss == "negatives" and head.kept_negatives:
            estimated = partial(
                negatives_loss, others=self.negatives.of(window_positions(interaction)[learned], targets[learned])
            )
        loss = (recommendation_loss if exact else estimated)(
            self.head.user_vectors(states, None),
            items,
            targets[learned],
            distinct(inputs),
            rows,
            steps,
            self.head.history_offset(states),
            head.logit_budget if exact else head.sampled_negatives,
            self.head.learned,
        )
        return loss if cot_batch is None else (loss, self.weighted_cot_loss(cot_batch))

    def weighted_cot_loss(self, cot_batch: dict[str, Tensor]) -> Tensor:
        """lambda L_CoT of a collated batch."""
        assert self.backbone is not None, "the CoT loss needs a backbone"
        return self.settings.backbone.cot_weight * cot_loss(self.backbone.logits(cot_batch), cot_batch["labels"])

    def clock_of(self, rows: Interaction) -> Tensor | None:
        """When the items of each row's history were chosen, `[B, T]` on the model's device; None where the trunk reads no times, or rows have none."""
        clock = None if self.times is None else self.times.of(rows)
        return None if clock is None else clock.to(self.device)

    # --- reasoning --------------------------------------------------------------------------------------------------

    def completions(self, interaction: Interaction, decoding: Decoding, desc: str = "Reasoning") -> list[Completion]:
        """What the backbone writes for each row's history. Reads the history and, where there are any, its ratings; nothing else."""
        assert self.reasoner is not None, "no backbone is connected"
        return self.reasoner.reason(interaction[self.ITEM_SEQ].tolist(), self.ratings_of(interaction), decoding, desc)

    def ratings_of(self, rows: Interaction) -> list[list[Rating]] | None:
        """The ratings of each row's history, `[B, T]`; None on data without any, and for new users."""
        return None if self.ratings is None else self.ratings.of(rows)

    def encode_texts(self, completions: Sequence[Completion]) -> Tensor:
        """`[enc(cot); enc(answer)]` of B completions as the head reads them, `[B, 2D]`, on the model's device."""
        assert self.encoder is not None, "reasoning needs item text"
        cots, answers = self.read_sections(completions)
        with torch.no_grad():
            own = self.head.read_texts(cots, answers)
        if own is None:
            cot, answer = self.encoder.encode(cots), self.encoder.encode(answers)
            own = torch.from_numpy(np.concatenate([cot, answer], axis=1)).to(self.device)
        silent = [row for row, one in enumerate(completions) if one is NOTHING]
        return own.index_fill(0, torch.tensor(silent, device=own.device), 0.0) if silent else own

    def read_sections(self, completions: Sequence[Completion]) -> tuple[list[str], list[str]]:
        """What is read as cot and as answer of B completions; of a malformed one nothing, or with `malformed_texts: read` its text as cot."""
        whole = self.settings.head.malformed_texts == "read"
        cots = [one.text if whole and not one.well_formed else one.cot for one in completions]
        return cots, [one.answer for one in completions]

    def encode_completions(self, completions: Sequence[Completion], histories: Tensor) -> Reasoning:
        """Completions as the head reads them, on the model's device.

        Args:
            completions: B of them.
            histories: `[B, T]` item ids that they were written for.
        """
        return Reasoning(
            self.encode_texts(completions),
            torch.tensor([one.well_formed for one in completions], device=self.device),
            self.head.read_history(histories.to(self.device)),
            self.guesses(completions),
        )

    def guesses(self, completions: Sequence[Completion]) -> Guesses | None:
        """Which items the answers of B completions speak of, on the model's device; None for a head that hears no answers."""
        if self.head.expert is None or self.matcher is None:
            return None
        return read_guesses(completions, self.matcher, self.n_items).to(self.device)

    def reasoning(
        self, interaction: Interaction, decoding: Decoding, desc: str = "Reasoning"
    ) -> tuple[Reasoning, list[list[Completion]]]:
        """What the head reads of each row, and the `cot_samples` completions that it is made of.

        Of several completions of a history the head reads the mean of the well-formed ones: what the backbone keeps coming
        back to counts for more than what it wrote once (the idea of self-consistency, Wang et al., arXiv 2203.11171, with
        a mean of vectors in place of a vote).

        Args:
            interaction: reads what `completions` reads.
            decoding: of the first completion; the others take the same with the next `sample`.
            desc: label of the progress bar.
        """
        count = self.settings.backbone.cot_samples
        samples = [
            self.completions(
                interaction,
                dataclasses.replace(decoding, sample=number),
                desc if count == 1 else f"{desc}, text {number + 1} of {count}",
            )
            for number in range(count)
        ]
        encoded = [self.encode_completions(sample, interaction[self.ITEM_SEQ]) for sample in samples]
        rows = [list(one) for one in zip(*samples, strict=True)]
        return (encoded[0] if count == 1 else mean_reasoning(encoded)), rows

    @property
    def reads_reasoning(self) -> bool:
        """Whether scores depend on reasoning: it is on, and its strength is not 0. Otherwise nothing need be written for them."""
        return self.reasoning_on and self.head.reads

    def decoding(
        self, temperature: float = 0.0, seed: int = 0, sample: int = 0, instead: Decoding | None = None
    ) -> Decoding:
        """How the backbone writes for this model, within its limits and with the answers that it may give."""
        limits = self.settings.backbone
        top_p = limits.cot_top_p if temperature > 0 else 1.0
        return Decoding(temperature, limits.max_new_tokens, seed, sample, instead, top_p=top_p, **self._guessing)

    @property
    def evaluation_decoding(self) -> Decoding:
        """How the texts of an evaluation are written: greedily for one a user, drawn for several or with `evaluation_texts: drawn`."""
        limits = self.settings.backbone
        if limits.cot_samples == 1 and limits.evaluation_texts == "greedy":
            return self.decoding(instead=self._again(0))
        return self.fusion_decoding

    @property
    def fusion_decoding(self) -> Decoding:
        """How the texts that the fusion learns from are written: drawn, the first of `cot_samples`."""
        return self.decoding(self.settings.backbone.cot_temperature, self.seed, instead=self._again(1))

    def _again(self, first: int) -> Decoding | None:
        """The draws, from number `first` on, that a malformed text is given; none where a history has several texts anyway."""
        limits, again = self.settings.backbone, None
        if limits.cot_samples == 1 and limits.cot_temperature > 0:
            for number in reversed(range(first, first + limits.cot_retries)):
                again = self.decoding(limits.cot_temperature, self.seed, number, again)
        return again

    # --- scores -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Scores of all items, `[B, N]`; never reads the target that RecBole leaves in the batch."""
        reasoning = None
        if self.reads_reasoning:
            reasoning, _ = self.reasoning(interaction, self.evaluation_decoding)
        parts, clock = [], self.clock_of(interaction)
        for start in range(0, len(interaction), _SCORING_ROWS):
            rows = slice(start, start + _SCORING_ROWS)
            part = None if reasoning is None else reasoning.at(rows)
            parts.append(
                self.head.scores(interaction[self.ITEM_SEQ][rows], part, None if clock is None else clock[rows])
            )
        return torch.cat(parts)

    def predict(self, interaction: Interaction) -> Tensor:
        """Scores of the items named in the batch, `[B]`; RecBole's sampled evaluation asks for these."""
        parts = torch.arange(len(interaction)).split(rows_at_once(len(interaction), self.n_items))
        rows = [interaction[part] for part in parts]
        return torch.cat([self.full_sort_predict(one).gather(1, one[self.ITEM_ID][:, None]) for one in rows]).squeeze(1)
