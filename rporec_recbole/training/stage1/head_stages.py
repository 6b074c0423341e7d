"""The stages that change the head: trunk (1a), fusion (1c, 2b), refresh. They read and write the state of their trainer."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from rporec_recbole.data import ladder
from rporec_recbole.data.batches import WindowBatches
from rporec_recbole.model.encoder import unseen_texts
from rporec_recbole.settings.types import STAGES
from rporec_recbole.text.completions import Completion
from rporec_recbole.training.stage1.fusion import FusionRows, train_fusion
from rporec_recbole.training.stage1.rows import fusion_texts, reasoned_rows
from rporec_recbole.training.stage1.strength import Tried, fresh_reasoning, try_strengths
from rporec_recbole.training.stage1.trunk import Validation, train_trunk
from rporec_recbole.training.state import checkpoint
from rporec_recbole.training.state.snapshots import Progress


class HeadStages:
    """Stages 1a, 1c, 2b and refresh.

    Args:
        trainer: the `RPORecTrainer` that runs them.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def trunk(
        self, train_data: Any, valid_data: Any, callback_fn: Callable[[int, float], None] | None
    ) -> dict[str, Any]:
        """Stage 1a: early stopping on RecBole's validation metric, best epoch kept."""
        trainer = self.trainer
        trainer.model.learn_from(ladder.EARLY if len(trainer.wanted) > 1 else ladder.RL)
        return self._train("1a trunk", train_data, valid_data, trainer.epochs, callback_fn)

    def fusion(
        self,
        stage: str,
        train_data: Any,
        valid_data: Any,
        rate_factor: float,
        titled: Callable[[str], str] = str,
    ) -> dict[str, Any]:
        """Stages 1c and 2b, and the end of the refresh; `titled` says in which round. Arguments as for `train_fusion`."""
        trainer = self.trainer
        settings, _dataset, model = trainer.settings.fusion, train_data.dataset, trainer.model
        if model.backbone is None:
            trainer.backbone_stages.make(list(model.catalogue.lines))
        ends, train, written, valid = self._fusion_rows(train_data, valid_data, stage)
        name = titled("refresh fusion" if stage == "refresh" else f"{stage} {STAGES[stage]}")

        def on_epoch(epoch: int, loss: float, valid_loss: float) -> None:
            trainer.recorder.add(f"{name}/loss", epoch, loss)
            trainer.recorder.add(f"{name}/valid loss", epoch, valid_loss)

        kept = train_fusion(
            model.head,
            train,
            valid,
            settings,
            seed=trainer.seed,
            desc=name,
            rate_factor=rate_factor,
            on_epoch=on_epoch,
        )
        trainer.positions.add(stage, ends)
        model.reasoning_on = True
        well_formed = float(np.mean([one.well_formed for one in written]))
        thoughts = train.reasoning.vectors.chunk(2, dim=1)[0][train.reasoning.well_formed]
        if unseen := unseen_texts(thoughts, f"texts of {name}", trainer.settings.text):
            trainer.logger.warning(unseen)
        trainer.log(
            f"{name}: {len(written)} texts, {well_formed:.1%} well-formed; kept epoch {kept} of at most {settings.fusion_epochs}"
        )
        return {"texts": len(written), "well_formed": well_formed, "kept_epoch": kept}

    def _fusion_rows(
        self, train_data: Any, valid_data: Any, stage: str
    ) -> tuple[np.ndarray, FusionRows, list[Completion], FusionRows | None]:
        """Positions of the fusion rung, their rows and texts, and the rows of validation."""
        model, dataset = self.trainer.model, train_data.dataset
        ends = dataset.positions(ladder.FUSION, self.trainer.settings.fusion.fusion_positions)
        train, written = fusion_texts(model, dataset, ends, f"{stage} reasoning")
        valid = None
        if valid_data:
            rows = valid_data.dataset.inter_feat
            valid, _ = reasoned_rows(model, rows, model.evaluation_decoding, f"{stage} reasoning, validation")
        return ends, train, written, valid

    def try_strengths(self, train_data: Any, valid_data: Any) -> Tried:
        """What each strength of reasoning and answers is worth on positions that nothing has learned from; see `strength.py`.

        Args:
            train_data: RecBole's training loader.
            valid_data: RecBole's validation loader: stops the fits, as it stops that of the run.
        """
        trainer = self.trainer
        model, settings = trainer.model, trainer.settings.fusion
        ends, train, _, valid = self._fusion_rows(train_data, valid_data, "strength")
        own = copy.deepcopy(model.head.state_dict())
        fresh_reasoning(model.head, model.new_head(model.head.item_text))
        tried = try_strengths(
            model.head,
            train,
            train_data.dataset.timeline[train_data.dataset.uid_field].numpy()[ends],
            lambda rows: train_fusion(model.head, rows, valid, settings, seed=trainer.seed, desc="strength"),
            settings.fusion_strengths,
            metric=trainer.valid_metric,
            hide_seen=bool(trainer.config["hide_seen"]),
            seed=trainer.seed,
        )
        model.head.load_state_dict(own)
        return tried

    def refresh(self, train_data: Any, valid_data: Any) -> dict[str, Any]:
        """Refresh: a head from new weights, because weights that have converged on early positions hardly move.

        How far answers are trusted stays as it was learned where neither trunk nor writer had seen the next item: it is made of
        probabilities, which the new trunk has too. The fusion's map lives in the trunk's space, and no position is left that the new
        trunk has not seen: fitted to those it makes others worse, so beside an expert it says nothing from here on. A head without
        one fits it all the same, and keeps it only where it lowers the validation loss.
        If validation is no better than before the refresh, everything stays. Last the backbone reads the later histories too.
        How much of it all counts is asked before, for afterwards nothing is left that nobody has learned from.
        """
        trainer = self.trainer
        model, before = trainer.model, trainer.best_valid_score
        if model.reasoning_on and valid_data:
            trainer.tried = self.try_strengths(train_data, valid_data).as_json()
        kept, reasoned = copy.deepcopy(model.state_dict()), model.reasoning_on
        trust = None if model.head.expert is None else copy.deepcopy(dict(model.head.expert.named_parameters()))
        model.restart_head()
        if trust is not None:
            model.head.expert.load_state_dict(trust, strict=False)  # how popular items are is counted anew
        model.learn_from(ladder.RL)
        trainer.optimizer.state.clear()
        trainer.best_valid_score = -np.inf if trainer.valid_metric_bigger else np.inf
        done = self._train("refresh trunk", train_data, valid_data, trainer.settings.stage.refresh_epochs)
        model.reasoning_on = reasoned
        if reasoned and trust is None:
            done |= self.fusion("refresh", train_data, valid_data, 1.0)
        if valid_data:
            now = trainer.validation_score(valid_data)
            better = now > before if trainer.valid_metric_bigger else now < before
            if not better:
                model.load_state_dict(kept)
                model.reasoning_on = reasoned
                done["note"] = f"validation was {now:.4f}, no better than before: the head stays as it was"
                trainer.log(f"refresh: {done['note']}")
                return done
        if trainer.tried and trust is not None:
            trainer.tried = Tried.of_json(trainer.tried).of_answers().as_json()
        if reasoned:
            if trainer.settings.stage.controls:
                checkpoint.keep_before_refresh(kept, model.backbone, trainer.folder)
            done |= trainer.backbone_stages.refresh(train_data, valid_data)
        return done

    def fit_scorer(self, name: str, windows: Any) -> None:
        """A trunk for best-of-N, trained for as many epochs as were best in stage 1a."""
        trainer = self.trainer
        train_trunk(
            name,
            trainer.model,
            trainer.new_optimizer(),
            self.batches(windows, torch.Generator().manual_seed(trainer.seed)),
            None,
            trainer.settings.trunk,
            epochs=trainer.stages.get("1a", {}).get("best_epoch") or trainer.epochs,
            best_score=0.0,
            clip=trainer.clip_grad_norm,
            recorder=trainer.recorder,
            positions=trainer.positions,
            progress=Progress(None),  # the stage starts again from its beginning if the run is killed
        )

    def batches(self, windows: Any, generator: torch.Generator) -> WindowBatches:
        """Batches of windows; with the random state of RecBole's loader where they are all of its windows."""
        trainer = self.trainer
        return WindowBatches(
            windows,
            windows[trainer.model.ITEM_SEQ_LEN],
            trainer.config["train_batch_size"] * trainer.settings.head.MAX_ITEM_LIST_LENGTH,
            generator,
        )

    def _train(
        self,
        name: str,
        train_data: Any,
        valid_data: Any,
        epochs: int,
        on_score: Callable[[int, float], None] | None = None,
    ) -> dict[str, Any]:
        trainer = self.trainer
        validation = None
        if valid_data and trainer.eval_step > 0:  # RecBole: no validation at 0 or less
            validation = Validation(
                lambda: trainer.validation_score(valid_data),
                trainer.valid_metric,
                trainer.eval_step,
                trainer.stopping_step,
                trainer.valid_metric_bigger,
            )
        trainer.model.head.prepare(train_data.dataset.inter_feat[trainer.model.ITEM_SEQ])
        done = train_trunk(
            name,
            trainer.model,
            trainer.optimizer,
            self.batches(train_data.dataset.inter_feat, train_data.generator),
            validation,
            trainer.settings.trunk,
            epochs=epochs,
            best_score=trainer.best_valid_score,
            clip=trainer.clip_grad_norm,
            recorder=trainer.recorder,
            positions=trainer.positions,
            progress=trainer.progress,
            on_score=on_score,
        )
        trainer.best_valid_score = done.pop("best_score")
        return done
