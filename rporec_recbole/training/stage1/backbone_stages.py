"""The stage that teaches the backbone: warm-up (1b). It reads and writes the state of its trainer."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from rporec_recbole.backbone.load import make_backbone
from rporec_recbole.cot.store import CoTStore
from rporec_recbole.data import ladder
from rporec_recbole.settings.reader import backbone_defaults
from rporec_recbole.settings.types import STAGES
from rporec_recbole.text.prompts import PromptTemplate
from rporec_recbole.training.stage1.best_of import best_of_lessons, best_of_positions
from rporec_recbole.training.stage1.rows import (
    Lessons,
    composed_lessons,
    early_order,
)
from rporec_recbole.training.stage1.warmup import warm_up
from rporec_recbole.training.state import checkpoint


class BackboneStages:
    """Stage 1b.

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
        backbone = make_backbone(
            trainer.settings.backbone, [*trainer.model.catalogue.lines, *texts], trainer.device, trainer.seed
        )
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
        loss_of = model.weighted_cot_loss
        if "1a" not in trainer.wanted:
            loss_of = self._trunk_beside(train_data)
        # As generation will show them: the backbone's own limit may cut prompts shorter than the plain ones.
        lessons = composed_lessons(model, dataset, ends, model.reasoner.template)
        self._teach("1b", STAGES["1b"], lessons, loss_of, 1.0)
        done = {"examples": len(lessons.ends), "backbone_parameters": model.backbone.parameters}
        if settings.best_of > 1:
            chosen = best_of_positions(order, len(ends), settings.best_of_positions)
            best, found = best_of_lessons(
                model, dataset, chosen, trainer.head_stages.fit_scorer, trainer.positions, trainer.seed
            )
            trainer.log(f"1b best-of: {found}")
            self._teach("1b best-of", "best-of", best, model.weighted_cot_loss, settings.best_of_learning_rate_factor)
            done["best_of"] = found
        return done

    def _trunk_beside(self, train_data: Any) -> Callable[[dict[str, Tensor]], Tensor]:
        """The CoT loss of a batch, with a step of the trunk on the next windows beside it."""
        trainer = self.trainer
        model = trainer.model
        model.learn_from(ladder.EARLY)
        model.train()
        batches = trainer.head_stages.batches(train_data.dataset.inter_feat, train_data.generator)
        windows = itertools.chain.from_iterable(batches for _ in itertools.count())

        def loss_of(batch: dict[str, Tensor]) -> Tensor:
            rec, cot = model.calculate_loss(next(windows).to(trainer.device), batch)
            trainer.optimizer.zero_grad()
            rec.backward()
            trainer.optimizer.step()
            return cot

        return loss_of

    def _teach(
        self, stage: str, name: str, lessons: Lessons, loss_of: Callable[[dict[str, Tensor]], Tensor], factor: float
    ) -> None:
        """One pass of the backbone over texts."""
        trainer = self.trainer
        if not len(lessons.ends):
            return
        settings = trainer.settings.backbone
        warm_up(
            trainer.model.backbone,
            trainer.model.backbone.encode_examples(lessons.prompts, lessons.completions),
            loss_of,
            batch_size=settings.warmup_batch_size,
            learning_rate=settings.warmup_learning_rate * factor,
            seed=trainer.seed,
            desc=f"1b {name}",
            on_step=lambda step, loss: trainer.recorder.add(f"1b {name}/loss", step + 1, loss),
        )
        trainer.positions.add(stage, lessons.ends)
