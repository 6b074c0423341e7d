"""The stages that teach the backbone: warm-up (1b), and the end of the refresh. They read and write the state of their trainer."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from rporec_recbole.backbone.load import make_backbone
from rporec_recbole.backbone.warmup import Example, bucketed_batches, token_batches, warm_up
from rporec_recbole.backbone.writer import keep_writer, kept_writer
from rporec_recbole.cot.store import CoTStore
from rporec_recbole.data import ladder
from rporec_recbole.evaluation.answers import K
from rporec_recbole.settings.reader import backbone_defaults
from rporec_recbole.settings.types import STAGES
from rporec_recbole.text.prompts import PromptTemplate
from rporec_recbole.training.stage1.best_of import best_of_lessons, best_of_positions
from rporec_recbole.training.stage1.rows import (
    Lessons,
    composed_lessons,
    early_order,
)
from rporec_recbole.training.stage1.streams import ListLoss, Lists, lesson_examples
from rporec_recbole.training.state import checkpoint

Loss = Callable[[dict[str, Tensor]], Tensor]
"""Of a collated batch."""


_KEPT_BY = f"ndcg@{K}"  # of the answers alone, on validation


class BackboneStages:
    """Stage 1b, and the backbone's part of the refresh.

    Args:
        trainer: the `RPORecTrainer` that runs it.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def make(self, texts: Sequence[str]) -> None:
        """Makes the backbone and connects it to the model.

        Args:
            texts: what a tiny backbone builds its vocabulary from, beside the catalogue.
        """
        trainer = self.trainer
        begun = trainer.progress.folder  # a run that was killed in this stage goes on with the prompts that it had
        backbone = make_backbone(
            trainer.settings.longest_texts if "2" in trainer.wanted else trainer.settings.backbone,
            [*trainer.model.catalogue.lines, *texts],
            trainer.device,
            trainer.seed,
            None if begun is None else kept_writer(begun),
        )
        if begun is not None:
            begun.mkdir(parents=True, exist_ok=True)
            keep_writer(begun, backbone.writer)
        trainer.model.connect(backbone, CoTStore(trainer.folder / checkpoint.STORE))
        trainer.log(backbone.describe())
        changed = backbone_defaults(backbone.name)
        if changed:
            trainer.log(f"for a pretrained backbone: {', '.join(f'{key}={trainer.config[key]}' for key in changed)}")

    def warm_up(self, train_data: Any) -> dict[str, Any]:
        """Stage 1b: composed texts first, then the best of what the backbone writes itself.

        With 1a before it the head is done, and L_rec + lambda L_CoT leaves only its second term to train: head and
        backbone share no parameter. Without 1a the composed texts and the trunk are learned side by side.
        """
        trainer = self.trainer
        settings, model, dataset = trainer.settings.backbone, trainer.model, train_data.dataset
        order = early_order(dataset, trainer.seed)
        ends = order[: settings.warmup_examples]
        plain = composed_lessons(
            model, dataset, ends, PromptTemplate(model.catalogue, trainer.settings.text.prompt_items)
        )
        self.make([*plain.prompts, *plain.completions])
        if settings.cot_weight == 0:
            return {"examples": 0, "note": "cot_weight is 0: the backbone stays as it is"}
        # As generation will show them: the backbone's own limit may cut prompts shorter than the plain ones.
        lessons = composed_lessons(model, dataset, ends, model.reasoner.template)
        cot_loss: Loss = model.weighted_cot_loss
        batches = self._batches_of(lessons, settings.warmup_passes)
        if settings.stream_passes:
            list_loss = ListLoss(model.backbone)
            cot_loss = lambda batch: settings.cot_weight * list_loss(batch)  # noqa: E731
            batches = self._batches_of_lists(dataset, lessons, dataset.positions(ladder.EARLY), settings.stream_passes)
            trainer.positions.add("1b", order)
        beside = "1a" not in trainer.wanted
        self._teach(STAGES["1b"], batches, self._trunk_beside(train_data, cot_loss) if beside else cot_loss, 1.0)
        trainer.positions.add("1b", lessons.ends)
        done = {
            "examples": len(lessons.ends),
            "tokens": sum(len(tokens) for batch in batches for tokens, _ in batch),
            "backbone_parameters": model.backbone.parameters,
        }
        if settings.best_of > 1:
            chosen = best_of_positions(order, len(ends), settings.best_of_positions)
            best, found = best_of_lessons(
                model, dataset, chosen, trainer.head_stages.fit_scorer, trainer.positions, trainer.seed
            )
            trainer.log(f"1b best-of: {found}")
            again = self._batches_of(best)
            self._teach("best-of", again, model.weighted_cot_loss, settings.best_of_learning_rate_factor)
            trainer.positions.add("1b best-of", best.ends)
            done["best_of"] = found
        return done

    def _batches_of(self, lessons: Lessons, passes: int = 1) -> list[list[Example]]:
        trainer = self.trainer
        examples = (
            trainer.model.backbone.encode_examples(lessons.prompts, lessons.completions) if lessons.prompts else []
        )
        rng, size = np.random.default_rng(trainer.seed), trainer.settings.backbone.warmup_batch_size
        return [batch for _ in range(passes) for batch in bucketed_batches(examples, size, rng)]

    def refresh(self, train_data: Any, valid_data: Any) -> dict[str, Any]:
        """The end of the refresh: the backbone reads the later positions as well, as the trunk has done.

        What was learned of how far to trust its answers stays, so nothing is fitted to positions that it has seen. Where its own
        answers are no better for it on validation, the backbone stays as it was. The ranking does not decide that: validation chose the
        trunk's best epoch, so whatever changes the trunk's ranking of it looks worse there than it is.
        """
        trainer = self.trainer
        settings, model = trainer.settings.backbone, trainer.model
        if not (settings.refresh_stream_passes and settings.stream_passes and settings.cot_weight and valid_data):
            return {}
        before, kept = trainer.answers(train_data, valid_data), model.backbone.weights()
        ends = self.read_later_histories(train_data.dataset)
        after = trainer.answers(train_data, valid_data)
        better = after[_KEPT_BY] > before[_KEPT_BY]
        if better:
            trainer.positions.add("refresh", ends)
        else:
            model.backbone.set_weights(kept)
        trainer.log(
            f"refresh of the backbone: its answers' {_KEPT_BY} on validation {before[_KEPT_BY]:.4f} before, "
            f"{after[_KEPT_BY]:.4f} after it read the later histories; "
            + ("it is kept" if better else "the backbone stays as it was")
        )
        return {"backbone": {"before": before, "after": after, "kept": bool(better)}}

    def read_later_histories(self, dataset: Any) -> np.ndarray:
        """Lists and lessons of the later training positions, mixed; timeline indices of what was read.

        Args:
            dataset: the `RPORecDataset` of the training part.
        """
        trainer = self.trainer
        settings, model = trainer.settings.backbone, trainer.model
        later = np.sort(np.concatenate([dataset.positions(rung) for rung in (ladder.FUSION, ladder.RL)]))
        drawn = np.random.default_rng(trainer.seed).permutation(later)[: settings.warmup_examples // 8]
        lessons = composed_lessons(model, dataset, drawn, model.reasoner.template)
        batches = self._batches_of_lists(dataset, lessons, later, settings.refresh_stream_passes, mixed=True)
        list_loss = ListLoss(model.backbone)
        self._teach("later histories", batches, lambda batch: settings.cot_weight * list_loss(batch), 1.0)
        return later

    def _batches_of_lists(
        self, dataset: Any, lessons: Lessons, ends: np.ndarray, passes: int, *, mixed: bool = False
    ) -> list[list[Example]]:
        """Passes over lists of items, then the lessons, whose prompts are lists too, so that nothing is forgotten.

        Args:
            dataset: an `RPORecDataset`.
            lessons: composed texts.
            ends: `[P]` timeline indices of the positions of the lists, sorted.
            passes: over the lists, each with borders of its own.
            mixed: lists and lessons in one random order.
        """
        trainer, model, timeline = self.trainer, self.trainer.model, dataset.timeline
        settings, rng = trainer.settings.backbone, np.random.default_rng(trainer.seed)
        lists = Lists(
            model.backbone,
            model.reasoner.template,
            timeline[dataset.uid_field].numpy(),
            timeline[dataset.iid_field].numpy(),
            None if model.ratings is None else model.ratings.single(timeline),
            ends,
            settings.stream_window,
        )
        parts = [
            *(lists.examples(rng) for _ in range(passes)),
            *(lesson_examples(model.backbone, lessons, rng) for _ in range(settings.warmup_passes)),
        ]
        parts = [[example for part in parts for example in part]] if mixed else parts
        return [batch for part in parts for batch in token_batches(part, settings.stream_batch_tokens, rng)]

    def _trunk_beside(self, train_data: Any, cot_loss: Loss) -> Loss:
        """The CoT loss of a batch, with a step of the trunk on the next windows beside it."""
        trainer = self.trainer
        model = trainer.model
        model.learn_from(ladder.EARLY)
        model.train()
        batches = trainer.head_stages.batches(train_data.dataset.inter_feat, train_data.generator)
        windows = itertools.chain.from_iterable(batches for _ in itertools.count())

        def loss_of(batch: dict[str, Tensor]) -> Tensor:
            rec = model.calculate_loss(next(windows).to(trainer.device))
            trainer.optimizer.zero_grad()
            rec.backward()
            trainer.optimizer.step()
            return cot_loss(batch)

        return loss_of

    def _teach(self, name: str, batches: list[list[Example]], loss_of: Loss, factor: float) -> None:
        """One pass of the backbone over batches of texts."""
        trainer = self.trainer
        if not batches:
            return
        backbone = trainer.model.backbone
        warm_up(
            backbone,
            batches,
            lambda batch: loss_of(backbone.collate(batch)),
            learning_rate=trainer.settings.backbone.warmup_learning_rate * factor,
            desc=f"1b {name}",
            on_step=lambda step, loss: trainer.recorder.add(f"1b {name}/loss", step + 1, loss),
        )
