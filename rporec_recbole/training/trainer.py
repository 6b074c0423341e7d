"""RPORecTrainer: RecBole's trainer, with RPORec's stages inside `fit` and safe checkpoints.

1a  trunk            L_rec on early positions, no language model involved
1b  warm-up          lambda L_CoT on early positions (L_rec + lambda L_CoT if 1a is off); then best-of-N, if asked for
1c  fusion           reasoning written blind to the target for later positions; the fusion learns how far to trust it
2   GRPO             the head is frozen and pays the backbone, on positions that the fusion never saw
2b  re-alignment     new reasoning from the refined backbone, fusion fine-tuned
refresh              a new trunk learns from all positions, the later ones too, and the fusion is fitted to it; the backbone stays

Early stopping and the kept epoch of trunk and fusion are chosen on RecBole's validation split, and so is whether the refreshed
head replaces the one before it.
"""

from __future__ import annotations

import copy
import functools
import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.trainer import Trainer
from recbole.utils import calculate_valid_score
from torch import Tensor

from rporec_recbole.backbone.load import check_backbone, make_backbone
from rporec_recbole.cot.store import CoTStore
from rporec_recbole.data import ladder
from rporec_recbole.data.batches import WindowBatches
from rporec_recbole.errors import ConfigError
from rporec_recbole.memory import release_freed_memory
from rporec_recbole.settings import STAGES, backbone_defaults
from rporec_recbole.text.completions import Completion
from rporec_recbole.text.prompts import PromptTemplate
from rporec_recbole.training import checkpoint, stage_state
from rporec_recbole.training.best_of import best_of_lessons, best_of_positions
from rporec_recbole.training.fusion import train_fusion
from rporec_recbole.training.positions import PositionLog
from rporec_recbole.training.recorder import Recorder
from rporec_recbole.training.resume import Progress
from rporec_recbole.training.rewards import RecheadReward
from rporec_recbole.training.rows import (
    Lessons,
    composed_lessons,
    early_order,
    frozen_scorer,
    fusion_texts,
    history_rows,
    reasoned_rows,
)
from rporec_recbole.training.trunk import Validation, train_trunk
from rporec_recbole.training.warmup import warm_up


class RPORecTrainer(Trainer):
    """Runs the stages that `stages` names, in order; found by RecBole's `get_trainer` under its name.

    Attributes:
        stages: stage -> {"seconds": ..., and what else is worth knowing of it}.
        recorder: all curves.
        stage_results: stage -> validation metrics after it.
        positions: which training positions taught what, in the last `fit`.
    """

    def __init__(self, config: Any, model: Any) -> None:
        super().__init__(config, model)
        self.settings = model.settings
        self.seed = int(config["seed"])
        self.stages: dict[str, dict[str, Any]] = {}
        self.stage_results: dict[str, dict[str, float]] = {}
        self.recorder = Recorder(self.tensorboard)
        self.run_dir = Path(config["run_dir"]) if config["run_dir"] else None
        self.positions = PositionLog(0)
        self._progress = Progress(None)
        self._scratch: tempfile.TemporaryDirectory | None = None
        self._wanted = self._check_stages()

    def _check_stages(self) -> list[str]:
        asked = self.settings.stage.stages
        wanted = [stage for stage in STAGES if stage in asked]
        if self.settings.text.ids_only:
            asked = wanted = [stage for stage in wanted if stage == "1a"]
        for stage, needed in (("2", "1c"), ("2b", "1c"), ("refresh", "1a")):
            if stage in wanted and needed not in wanted:
                raise ConfigError(
                    f"`stages={asked}`: stage {stage} ({STAGES[stage]}) needs stage {needed} ({STAGES[needed]}) before it. Add `{needed}` or leave out `{stage}`."
                )
        if not wanted:
            raise ConfigError(f"`stages={asked}` leaves nothing to do. Name at least one of {list(STAGES)}.")
        return wanted

    @property
    def folder(self) -> Path:
        """Where the head, the backbone and the store lie: the run folder, or a temporary one if there is none."""
        if self.run_dir is not None:
            return self.run_dir
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="rporec-")
        return Path(self._scratch.name)

    # --- RecBole's interface ------------------------------------------------------------------------------------------

    def fit(
        self,
        train_data: Any,
        valid_data: Any = None,
        verbose: bool = True,
        saved: bool = True,
        show_progress: bool = False,
        callback_fn: Callable[[int, float], None] | None = None,
    ) -> tuple[float, dict[str, float] | None]:
        """Runs the stages and leaves the model in its final state.

        Args:
            train_data: RecBole's training loader.
            valid_data: RecBole's validation loader; without it nothing stops early.
            verbose: log what each stage did.
            saved: write head, encoder and backbone into `folder` at the end.
            show_progress: also show RecBole's bars of each evaluation.
            callback_fn: called with (epoch, score) after each validation of stage 1a.

        Returns:
            (validation score, validation metrics) of the final model; (-inf, None) without `valid_data`.
        """
        self._verbose = verbose
        self.eval_collector.data_collect(train_data)
        self.model.reasoning_on = False
        self.positions = PositionLog(len(train_data.dataset.timeline))
        run = {
            "1a": lambda: self._train_trunk(train_data, valid_data, callback_fn),
            "1b": lambda: self._warm_up_backbone(train_data),
            "1c": lambda: self._train_fusion("1c", train_data, valid_data, 1.0),
            "2": lambda: self._refine_backbone(train_data),
            "2b": lambda: self._train_fusion(
                "2b", train_data, valid_data, self.settings.fusion.realign_learning_rate_factor
            ),
            "refresh": lambda: self._refresh_trunk(train_data, valid_data),
        }
        if self.run_dir is not None:
            self._progress = Progress(self.run_dir / "resume", stage_state.identity(self, train_data))
        done = stage_state.put_back(self._progress, self, train_data)
        if done:
            self._log(f"going on after stage {done[-1]} of a run that was interrupted")
        if self.model.backbone is None and {"1b", "1c"} & set(self._wanted):
            check_backbone(self.settings.backbone)  # the trunk may take hours before the first stage that needs it
        for stage in self._wanted[len(done) :]:
            self.model.on_learned = functools.partial(self.positions.add, stage)
            with self._timed(stage):
                self.stages[stage].update(run[stage]() or {})
                if valid_data and stage not in ("1b", "2"):
                    result = dict(self.evaluate(valid_data, load_best_model=False, show_progress=show_progress) or {})
                    self.best_valid_result, self.stage_results[stage] = result, result
                    self.best_valid_score = calculate_valid_score(result, self.valid_metric)
            done.append(stage)
            stage_state.keep(self._progress, self, train_data, done)
        self.model.on_learned = None
        if saved:
            checkpoint.save(self.model, self.folder)
            self.positions.save(train_data.dataset, self.folder)
        return self.best_valid_score, self.best_valid_result

    def evaluate(
        self,
        eval_data: Any,
        load_best_model: bool = True,
        model_file: str | None = None,
        show_progress: bool = False,
    ) -> dict[str, float] | None:
        """RecBole's evaluation; missing reasoning of all rows is generated first, in large batches.

        Args:
            eval_data: RecBole's validation or test loader.
            load_best_model: restore the head that `fit` saved. `fit` leaves the best one in place, so this matters
                only if weights were changed since.
            model_file: a `head.safetensors` to load instead.
            show_progress: show RecBole's bar.
        """
        if not eval_data:
            return None
        if model_file is not None:
            checkpoint.load_head(self.model, Path(model_file))
        elif load_best_model and (self.folder / checkpoint.HEAD).is_file():
            checkpoint.load_head(self.model, self.folder / checkpoint.HEAD)
        if self.model.reasoning_on:
            self.model.completions(
                eval_data.dataset.inter_feat, self.model.evaluation_decoding, "Reasoning for evaluation"
            )
        return super().evaluate(eval_data, load_best_model=False, show_progress=show_progress)

    # --- stages -------------------------------------------------------------------------------------------------------

    def _train_trunk(
        self, train_data: Any, valid_data: Any, callback_fn: Callable[[int, float], None] | None
    ) -> dict[str, Any]:
        """Stage 1a: early stopping on RecBole's validation metric, best epoch kept."""
        self.model.learn_from(ladder.EARLY if len(self._wanted) > 1 else ladder.RL)
        return self._train_head("1a trunk", train_data, valid_data, self.epochs, callback_fn)

    def _refresh_trunk(self, train_data: Any, valid_data: Any) -> dict[str, Any]:
        """Refresh: a head from new weights, because weights that have converged on early positions hardly move.

        The trunk has seen the positions that the fusion is fitted on, so it is surer of them than it will be of others, and
        reasoning counts for less than it might: that errs on the safe side. The fusion starts from nothing and is kept only
        where it lowers the validation loss. If validation is no better than before the refresh, everything stays.
        """
        model, before = self.model, self.best_valid_score
        kept, reasoned = copy.deepcopy(model.state_dict()), model.reasoning_on
        model.restart_head()
        model.learn_from(ladder.RL)
        self.optimizer.state.clear()
        self.best_valid_score = -np.inf if self.valid_metric_bigger else np.inf
        done = self._train_head("refresh trunk", train_data, valid_data, self.settings.stage.refresh_epochs)
        if reasoned:
            done |= self._train_fusion("refresh", train_data, valid_data, 1.0)
        if valid_data:
            now = self._valid_epoch(valid_data)[0]
            if now < before if self.valid_metric_bigger else now > before:
                model.load_state_dict(kept)
                model.reasoning_on = reasoned
                done["note"] = f"validation was {now:.4f}, no better than before: the head stays as it was"
                self._log(f"refresh: {done['note']}")
        return done

    def _train_head(
        self,
        name: str,
        train_data: Any,
        valid_data: Any,
        epochs: int,
        on_score: Callable[[int, float], None] | None = None,
    ) -> dict[str, Any]:
        validation = None
        if valid_data and self.eval_step > 0:  # RecBole: no validation at 0 or less
            validation = Validation(
                lambda: self._valid_epoch(valid_data)[0],
                self.valid_metric,
                self.eval_step,
                self.stopping_step,
                self.valid_metric_bigger,
            )
        self.model.head.prepare(train_data.dataset.inter_feat[self.model.ITEM_SEQ])
        done = train_trunk(
            name,
            self.model,
            self.optimizer,
            self._batches(train_data.dataset.inter_feat, train_data.generator),
            validation,
            self.settings.trunk,
            epochs=epochs,
            best_score=self.best_valid_score,
            clip=self.clip_grad_norm,
            recorder=self.recorder,
            positions=self.positions,
            progress=self._progress,
            on_score=on_score,
        )
        self.best_valid_score = done.pop("best_score")
        return done

    def _batches(self, windows: Interaction, generator: torch.Generator) -> WindowBatches:
        """Batches of windows; with the random state of RecBole's loader where they are all of its windows."""
        return WindowBatches(
            windows,
            windows[self.model.ITEM_SEQ_LEN],
            self.config["train_batch_size"] * self.settings.head.MAX_ITEM_LIST_LENGTH,
            generator,
        )

    def _warm_up_backbone(self, train_data: Any) -> dict[str, Any]:
        """Stage 1b: composed texts first, then the best of what the backbone writes itself.

        With 1a before it the head is done, and L_rec + lambda L_CoT leaves only its second term to train: head and
        backbone share no parameter. Without 1a the composed texts and the trunk are learned side by side.
        """
        settings, model, dataset = self.settings.backbone, self.model, train_data.dataset
        order = early_order(dataset, self.seed)
        ends = order[: settings.warmup_examples]
        plain = composed_lessons(model, dataset, ends, PromptTemplate(model.catalogue, self.settings.text.prompt_items))
        self._make_backbone([*plain.prompts, *plain.completions])
        if settings.cot_weight == 0:
            return {"examples": 0, "note": "cot_weight is 0: the backbone stays as it is"}
        loss_of = model.weighted_cot_loss
        if "1a" not in self._wanted:
            loss_of = self._trunk_beside_backbone(train_data)
        # As generation will show them: the backbone's own limit may cut prompts shorter than the plain ones.
        lessons = composed_lessons(model, dataset, ends, model.reasoner.template)
        self._teach("1b", STAGES["1b"], lessons, loss_of, 1.0)
        done = {"examples": len(lessons.ends), "backbone_parameters": model.backbone.parameters}
        if settings.best_of > 1:
            chosen = best_of_positions(order, len(ends), settings.best_of_positions)
            best, found = best_of_lessons(model, dataset, chosen, self._fit_scorer, self.positions, self.seed)
            self._log(f"1b best-of: {found}")
            self._teach("1b best-of", "best-of", best, model.weighted_cot_loss, settings.best_of_learning_rate_factor)
            done["best_of"] = found
        return done

    def _trunk_beside_backbone(self, train_data: Any) -> Callable[[dict[str, Tensor]], Tensor]:
        """The CoT loss of a batch, with a step of the trunk on the next windows beside it."""
        model = self.model
        model.learn_from(ladder.EARLY)
        model.train()
        batches = self._batches(train_data.dataset.inter_feat, train_data.generator)
        windows = itertools.chain.from_iterable(batches for _ in itertools.count())

        def loss_of(batch: dict[str, Tensor]) -> Tensor:
            rec, cot = model.calculate_loss(next(windows).to(self.device), batch)
            self.optimizer.zero_grad()
            rec.backward()
            self.optimizer.step()
            return cot

        return loss_of

    def _teach(
        self, stage: str, name: str, lessons: Lessons, loss_of: Callable[[dict[str, Tensor]], Tensor], factor: float
    ) -> None:
        """One pass of the backbone over texts."""
        if not len(lessons.ends):
            return
        settings = self.settings.backbone
        warm_up(
            self.model.backbone,
            self.model.backbone.encode_examples(lessons.prompts, lessons.completions),
            loss_of,
            batch_size=settings.warmup_batch_size,
            learning_rate=settings.warmup_learning_rate * factor,
            seed=self.seed,
            desc=f"1b {name}",
            on_step=lambda step, loss: self.recorder.add(f"1b {name}/loss", step + 1, loss),
        )
        self.positions.add(stage, lessons.ends)

    def _fit_scorer(self, name: str, windows: Interaction) -> None:
        """A trunk for best-of-N, trained for as many epochs as were best in stage 1a."""
        train_trunk(
            name,
            self.model,
            self._build_optimizer(),
            self._batches(windows, torch.Generator().manual_seed(self.seed)),
            None,
            self.settings.trunk,
            epochs=self.stages.get("1a", {}).get("best_epoch") or self.epochs,
            best_score=0.0,
            clip=self.clip_grad_norm,
            recorder=self.recorder,
            positions=self.positions,
            progress=Progress(None),  # the stage starts again from its beginning if the run is killed
        )

    def _train_fusion(self, stage: str, train_data: Any, valid_data: Any, rate_factor: float) -> dict[str, Any]:
        """Stages 1c and 2b, and the end of the refresh."""
        settings, dataset, model = self.settings.fusion, train_data.dataset, self.model
        if model.backbone is None:
            self._make_backbone(list(model.catalogue.lines))
        ends = dataset.positions(ladder.FUSION, settings.fusion_positions)
        if not len(ends):
            raise ConfigError(
                f"No training position is left for the fusion: `ladder_early={self.settings.stage.ladder_early}` takes all. Lower it."
            )
        train, written = fusion_texts(model, dataset, ends, f"{stage} reasoning")
        valid = None
        if valid_data:
            valid, _ = reasoned_rows(
                model, valid_data.dataset.inter_feat, model.evaluation_decoding, f"{stage} reasoning, validation"
            )
        name = "refresh fusion" if stage == "refresh" else f"{stage} {STAGES[stage]}"

        def on_epoch(epoch: int, loss: float, valid_loss: float) -> None:
            self.recorder.add(f"{name}/loss", epoch, loss)
            self.recorder.add(f"{name}/valid loss", epoch, valid_loss)

        kept = train_fusion(
            model.head,
            train,
            valid,
            settings,
            seed=self.seed,
            desc=name,
            rate_factor=rate_factor,
            on_epoch=on_epoch,
        )
        self.positions.add(stage, ends)
        model.reasoning_on = True
        well_formed = float(np.mean([one.well_formed for one in written]))
        self._log(
            f"{name}: {len(written)} texts, {well_formed:.1%} well-formed; kept epoch {kept} of {settings.fusion_epochs}"
        )
        return {"texts": len(written), "well_formed": well_formed, "kept_epoch": kept}

    def _refine_backbone(self, train_data: Any) -> dict[str, Any]:
        """Stage 2."""
        from rporec_recbole.training.rl import train_rl

        settings, model, dataset = self.settings.rl, self.model, train_data.dataset
        if self.settings.stage.controls:
            model.backbone.save(self.folder / checkpoint.BEFORE_RL)
        ends = dataset.positions(ladder.RL)
        wanted = settings.rl_steps * settings.rl_prompts
        if len(ends) < settings.rl_prompts:
            raise ConfigError(
                f"Only {len(ends)} training positions are left for stage 2. Raise `ladder_rl` or lower `ladder_early`."
            )
        ends = ends[np.random.default_rng(self.seed).permutation(len(ends))[:wanted]]
        rows = dataset.histories(ends)
        prompts = [model.reasoner.template.prompt(*row) for row in history_rows(model, rows)]
        targets = rows[model.ITEM_ID]
        scorer = frozen_scorer(model, dataset, ends, bool(self.config["hide_seen"]))
        step = itertools.count(1)

        def score(index: Sequence[int], completions: Sequence[Completion]) -> Tensor:
            self.positions.add("2", ends[list(index)])
            return scorer(index, completions)

        def observe(parts: dict[str, float]) -> None:
            at = next(step)
            for name, value in parts.items():
                self.recorder.add(f"2 reinforcement learning/{name}", at, value)

        with tempfile.TemporaryDirectory() as reference:
            model.backbone.save(Path(reference))
            steps = train_rl(
                model.backbone,
                prompts,
                RecheadReward(score, targets, settings.reward_weights, settings.reward_k, observe),
                settings,
                max_new_tokens=self.settings.backbone.max_new_tokens,
                reference=reference,
                seed=self.seed,
                on_log=self._record_rl,
            )
        return {"steps": steps, "prompts": len(prompts)}

    # --- helpers of the stages ----------------------------------------------------------------------------------------

    def _make_backbone(self, texts: Sequence[str]) -> None:
        backbone = make_backbone(self.settings.backbone, [*self.model.catalogue.lines, *texts], self.device, self.seed)
        self.model.connect(backbone, CoTStore(self.folder / checkpoint.STORE))
        self._log(backbone.describe())
        changed = backbone_defaults(backbone.name)
        if changed:
            self._log(f"for a pretrained backbone: {', '.join(f'{key}={self.config[key]}' for key in changed)}")

    def _record_rl(self, step: int, numbers: dict[str, float]) -> None:
        for name in ("kl", "entropy", "completions/mean_length", "frac_reward_zero_std", "loss"):
            if name in numbers:
                self.recorder.add(f"2 reinforcement learning/{name.rsplit('/', 1)[-1]}", step, numbers[name])

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        self.stages[stage] = {"name": STAGES[stage], "seconds": 0.0}
        self._log(f"stage {stage} ({STAGES[stage]}) starts")
        start = perf_counter()
        yield
        release_freed_memory()
        self.stages[stage]["seconds"] = perf_counter() - start
        after = self.stage_results.get(stage)
        score = f"; {self.config['valid_metric']} {after[self.valid_metric]:.4f} on validation" if after else ""
        self._log(f"stage {stage} ({STAGES[stage]}) took {self.stages[stage]['seconds']:.1f} s{score}")

    def _log(self, message: str) -> None:
        if self._verbose:
            self.logger.info(message)
