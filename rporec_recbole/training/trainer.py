"""RPORecTrainer: RecBole's trainer, with RPORec's stages inside `fit` and safe checkpoints.

1a  trunk            L_rec on early positions, no language model involved
1b  warm-up          lambda L_CoT on early positions (L_rec + lambda L_CoT if 1a is off); then best-of-N, if asked for
1c  fusion           reasoning written blind to the target for later positions; the fusion learns how far to trust it
2   GRPO             the head is frozen and pays the backbone, on positions that the fusion never saw
2b  re-alignment     new reasoning from the refined backbone, fusion fine-tuned; 2 and 2b are run `rounds` times, and the best is kept, or
                     what was there before them
refresh              a new trunk learns from all positions, the later ones too, and then the backbone reads the later part as well

Early stopping and the kept epoch of trunk and fusion are chosen on RecBole's validation split, and so is whether the refreshed
head replaces the one before it. How much the reasoning counts in the end (`fusion_strengths`) is chosen on positions that nothing has
learned from, before the refresh takes them.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from recbole.trainer import Trainer
from recbole.utils import calculate_valid_score

from rporec_recbole.backbone.memory import release_freed_memory
from rporec_recbole.errors import ConfigError
from rporec_recbole.evaluation.answers import described
from rporec_recbole.settings.types import STAGES
from rporec_recbole.training.checks import check_work
from rporec_recbole.training.helpers import Helpers
from rporec_recbole.training.stage1.answers import answer_measure, answers_of
from rporec_recbole.training.stage1.backbone_stages import BackboneStages
from rporec_recbole.training.stage1.head_stages import HeadStages
from rporec_recbole.training.stage1.strength import Tried
from rporec_recbole.training.stage2.rounds import REPEATED, BestRound, Step, refine, steps_of
from rporec_recbole.training.state import alone, checkpoint, stage_state
from rporec_recbole.training.state.positions import PositionLog
from rporec_recbole.training.state.processes import Processes
from rporec_recbole.training.state.recorder import Recorder
from rporec_recbole.training.state.snapshots import Progress
from rporec_recbole.training.state.start import start_from


class RPORecTrainer(Trainer):
    """Runs the stages that `stages` names, in order; found by RecBole's `get_trainer` under its name.

    Attributes:
        stages: stage -> {"seconds": ..., and what else is worth knowing of it}.
        recorder: all curves.
        stage_results: stage -> validation metrics after it.
        positions: which training positions taught what, in the last `fit`.
        wanted: the stages that run, in order.
        rounds: what stages 2 and 2b started with, and one entry a round of them, see `BestRound`.
        tried: what strengths of the reasoning are worth, once they were tried (`Tried.as_json`).
        progress: snapshots of this run, to go on from.
        head_stages, backbone_stages: what the stages 1a to 1c, 2b and refresh do; stage 2 is `refine`.
        reward_folder: where a failed reward is written: the run folder, or RecBole's folder of checkpoints, which outlives this
            process.
        helpers: the other processes of a launcher; None where this one works alone.
    """

    def __init__(self, config: Any, model: Any) -> None:
        super().__init__(config, model)
        self.settings = model.settings
        self.seed = int(config["seed"])
        self.stages: dict[str, dict[str, Any]] = {}
        self.stage_results: dict[str, dict[str, float]] = {}
        self.rounds: list[dict[str, Any]] = []
        self.tried: dict[str, Any] | None = None
        self.recorder = Recorder(self.tensorboard)
        self.run_dir = Path(config["run_dir"]) if config["run_dir"] else None
        self.reward_folder = self.run_dir or Path(config["checkpoint_dir"])
        self.positions = PositionLog(0)
        self.progress = Progress(None)
        self.helpers: Helpers | None = None
        self._verbose = False
        self._scratch: tempfile.TemporaryDirectory | None = None
        self._saved_to: Path | None = None
        self.wanted = self._check_stages()
        self.head_stages, self.backbone_stages = HeadStages(self), BackboneStages(self)

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
        rounds = self.settings.rl.rounds
        if rounds > 1 and len(set(REPEATED) & set(wanted)) == 1:
            raise ConfigError(
                f"`rounds={rounds}` repeats stages 2 and 2b, and `stages={asked}` lacks one of them. Add it or set `rounds` to 1."
            )
        if not wanted:
            raise ConfigError(f"`stages={asked}` leaves nothing to do. Name at least one of {list(STAGES)}.")
        lessons = self.settings.backbone
        beside = "1b" in wanted and lessons.cot_weight > 0 and lessons.warmup_examples > 0
        whole = "1c" in wanted and self.settings.fusion.fusion_learns == "head"
        if "1a" not in wanted and not (beside or whole):
            raise ConfigError(
                f"`stages={asked}` trains no trunk, so everything would rest on random weights: 1b trains it beside its texts, and "
                f"`cot_weight={lessons.cot_weight:g}` and `warmup_examples={lessons.warmup_examples}` must both be above 0 for that. Add `1a`."
            )
        return wanted

    @property
    def folder(self) -> Path:
        """Where the head, the backbone and the store lie: the run folder, the one that `fit` saves to, or a temporary one."""
        if self.run_dir is not None:
            return self.run_dir
        if self._saved_to is not None:
            return self._saved_to
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
            saved: write head, encoder and backbone into `folder` at the end. Without a run folder that is a new one beside
                RecBole's own checkpoints, named by `saved_model_file`; `load_run` brings it back.
            show_progress: also show RecBole's bars of each evaluation.
            callback_fn: called with (epoch, score) after each validation of stage 1a.

        Returns:
            (validation score, validation metrics) of the final model; (-inf, None) without `valid_data`.
        """
        self._verbose = verbose
        if saved and self.run_dir is None:
            self._saved_to = alone.folder_for(Path(self.checkpoint_dir), "RPORec")
            self.saved_model_file = str(self._saved_to)
        self.eval_collector.data_collect(train_data)
        self.model.reasoning_on = False
        self.positions, self.rounds, self.tried = PositionLog(len(train_data.dataset.timeline)), [], None
        head, backbone = self.head_stages, self.backbone_stages
        realign = self.settings.fusion.realign_learning_rate_factor
        run = {
            "1a": lambda step: head.trunk(train_data, valid_data, callback_fn),
            "1b": lambda step: backbone.warm_up(train_data),
            "1c": lambda step: head.fusion("1c", train_data, valid_data, 1.0),
            "2": lambda step: refine(self, train_data, valid_data, step.number),
            "2b": lambda step: head.fusion("2b", train_data, valid_data, realign, step.titled),
            "refresh": lambda step: head.refresh(train_data, valid_data),
        }
        if self.run_dir is not None:
            self.progress = Progress(self.run_dir / "resume", stage_state.identity(self, train_data))
        best_round = BestRound(self.model, self.progress, self.settings.rl.rounds)
        done = stage_state.put_back(self.progress, self, train_data)
        if done:
            self.log(f"going on after stage {done[-1]} of a run that was interrupted")
        elif self.settings.stage.start_from is not None:
            done = start_from(Path(self.settings.stage.start_from), self, train_data)
            if valid_data:
                self._validate(done[-1], valid_data, show_progress)
            stage_state.keep(self.progress, self, train_data, done)
            self.log(f"going on after stage {done[-1]} of {self.settings.stage.start_from}")
        steps = steps_of(self.wanted, self.settings.rl.rounds)[len(done) :]
        processes = Processes(torch.device(self.device)).count
        check_work(self.model, train_data.dataset, {step.stage for step in steps}, processes)
        best_round.rounds, rounds = self.rounds, self.settings.rl.rounds
        chosen = bool(valid_data) and "2b" in self.wanted
        for step in steps:
            if chosen and step.stage in REPEATED and not self.rounds:
                best_round.offer(0, self.best_valid_score, self.best_valid_result, self.valid_metric_bigger)
            self.model.on_learned = functools.partial(self.positions.add, step.stage)
            with self._timed(step):
                self.stages[step.name].update(run[step.stage](step) or {})
                if valid_data and step.stage not in ("1b", "2"):
                    result = self._validate(step.name, valid_data, show_progress)
                    if self.model.reasoning_on:
                        self.stages[step.name]["answers"] = found = self.answers(train_data, valid_data)
                        self.log(f"{step.stage}: {described(found)}")
                    if step.stage == "2b":
                        best_round.offer(step.number, self.best_valid_score, result, self.valid_metric_bigger)
                        if step.number == rounds:
                            self._take(best_round)
            done.append(step.name)
            stage_state.keep(self.progress, self, train_data, done)
        self.model.on_learned = None
        if valid_data and self.model.reasoning_on:
            self._choose_strength(train_data, valid_data, show_progress)
        if saved:
            checkpoint.save(self.model, self.folder)
            self.positions.save(train_data.dataset, self.folder)
            if self._saved_to is not None:
                alone.describe(self, train_data)
                self.log(f"saved to {self._saved_to}")
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
        if self.model.reads_reasoning:
            self.model.reasoning(
                eval_data.dataset.inter_feat, self.model.evaluation_decoding, "Reasoning for evaluation"
            )
        return super().evaluate(eval_data, load_best_model=False, show_progress=show_progress)

    def answers(self, train_data: Any, data: Any) -> dict[str, float]:
        """What the writer itself knows of a split (`AnswerMeasure`); its texts are written if nobody asked for them yet.

        Args:
            train_data: RecBole's training loader.
            data: RecBole's loader of the split.
        """
        return answers_of(
            self.model,
            answer_measure(self.model, train_data.dataset),
            data.dataset,
            hide_seen=bool(self.config["hide_seen"]),
            desc="Reasoning for answers",
        )

    def _validate(self, name: str, valid_data: Any, show_progress: bool) -> dict[str, float]:
        """The validation metrics after a stage, which are kept under its name."""
        result = self.evaluate(valid_data, load_best_model=False, show_progress=show_progress) or {}
        result = {metric: float(value) for metric, value in result.items()}  # NumPy's own numbers are no JSON
        self.best_valid_result, self.stage_results[name] = result, result
        self.best_valid_score = calculate_valid_score(result, self.valid_metric)
        return result

    def _choose_strength(self, train_data: Any, valid_data: Any, show_progress: bool) -> None:
        """Makes the best of the strengths that were tried the head's own."""
        start = perf_counter()
        self.tried = self.tried or self.head_stages.try_strengths(train_data, valid_data).as_json()
        tried = Tried.of_json(self.tried)
        tried.best.set(self.model.head)
        scores = ", ".join(f"{score:.4f} at {one.fusion:g}/{one.answers:g}" for one, score in tried.scores.items())
        self.log(
            f"reasoning counts with strength {tried.best.fusion:g} of 1, its answers with {tried.best.answers:g}: {tried.metric} on "
            f"{tried.rows:,} positions held out from the fusion: {scores}"
        )
        if not self.model.head.reads:
            self.log("no strength of the reasoning ranks them better than the trunk does, so the trunk ranks alone")
        self.best_valid_result = dict(
            self.evaluate(valid_data, load_best_model=False, show_progress=show_progress) or {}
        )
        self.best_valid_score = calculate_valid_score(self.best_valid_result, self.valid_metric)
        seconds = perf_counter() - start
        self.stages["strength"] = {"name": "strength of reasoning", "seconds": seconds, **self.tried}

    def _take(self, best_round: BestRound) -> None:
        best = best_round.take()
        self.best_valid_result, self.best_valid_score = best["valid"], best["score"]
        scores = ", ".join(
            f"{one['score']:.4f} " + (f"after round {one['round']}" if one["round"] else "before stage 2")
            for one in best_round.rounds
        )
        kept = (
            f"round {best['round']} is kept" if best["round"] else "head and backbone stay as they were before stage 2"
        )
        self.log(f"{kept}: {self.config['valid_metric']} on validation {scores}")

    # --- what the stages use --------------------------------------------------------------------------------------------

    def validation_score(self, valid_data: Any) -> float:
        """`valid_metric` of the head as it is now."""
        result = self.evaluate(valid_data, load_best_model=False)
        return float(calculate_valid_score(result, self.valid_metric))

    def new_optimizer(self) -> torch.optim.Optimizer:
        """RecBole's optimizer over the head, without any state."""
        return self._build_optimizer()

    def log(self, message: str) -> None:
        """Says something, if `fit` was asked to."""
        if self._verbose:
            self.logger.info(message)

    @contextmanager
    def _timed(self, step: Step) -> Iterator[None]:
        title = step.titled(STAGES[step.stage])
        self.stages[step.name] = {"name": title, "seconds": 0.0}
        self.log(f"stage {step.stage} ({title}) starts")
        start = perf_counter()
        yield
        release_freed_memory()
        self.stages[step.name]["seconds"] = perf_counter() - start
        after = self.stage_results.get(step.name)
        score = f"; {self.config['valid_metric']} {after[self.valid_metric]:.4f} on validation" if after else ""
        self.log(f"stage {step.stage} ({title}) took {self.stages[step.name]['seconds']:.1f} s{score}")
