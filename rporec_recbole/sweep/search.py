"""A worker of a sweep: takes trials until none is left; one of the workers then ranks the test split for the best.

Trials see the validation split alone. Workers are processes that were started with the very same command, at any time
and on any machine that shares the sweep's folder.
"""

from __future__ import annotations

import gc
import shutil
import time
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rporec_recbole.data.files import write_text
from rporec_recbole.errors import RPORecError, RunFolderError, SweepError
from rporec_recbole.runs.finished import add_test
from rporec_recbole.runs.folder import CHECKPOINTS, CONFIG, METRICS, RESUME, alone, finish, read_config, read_results
from rporec_recbole.runs.run import run
from rporec_recbole.settings.places import settled
from rporec_recbole.sweep.moved import as_it_began
from rporec_recbole.sweep.plan import Plan, enter_folder, make_plan
from rporec_recbole.sweep.report import BEST, ranking, write_report
from rporec_recbole.sweep.study import Claimed, Pruned, Record, Study, TakenOver

_POLL = 2.0  # seconds between two looks at what others are running


@dataclass(frozen=True)
class SweepResult:
    """What a sweep came to.

    Attributes:
        plan: the sweep; `plan.folder` has everything.
        records: its trials, by number.
        metrics: of the best trial (`metrics.json`), test split included.
    """

    plan: Plan
    records: list[Record]
    metrics: dict[str, Any]


def search(
    model: str,
    dataset: str,
    sweep_file: str | Path,
    config_files: Iterable[str] = (),
    overrides: Mapping[str, Any] | None = None,
) -> SweepResult:
    """Starts a sweep, joins it or goes on with it, and comes back when all of its trials have ended.

    Args:
        model: `RPORec` or one of RecBole's models.
        dataset: name of the data set.
        sweep_file: the search space, in YAML or as RecBole's `hyper.test`.
        config_files: YAML files with settings of every trial; later ones win.
        overrides: settings that win over the files; also `run_dir`, the sweep's folder, and the sweep's own settings
            (`plan.DEFAULTS`), which win over the sweep's file.

    Raises:
        RPORecError: whatever the user can repair; `SweepError` if every trial failed.
    """
    plan = as_it_began(make_plan(model, dataset, sweep_file, config_files, overrides))
    study = Study(plan, enter_folder(plan))
    while True:
        claimed = study.claim()
        if claimed is not None:
            _work(plan, study, claimed)
            gc.collect()
            continue
        records = study.records()
        if all(one.ended for one in records):
            return SweepResult(plan, records, _finish(plan, study, records))
        time.sleep(min(_POLL, plan.heartbeat))


def _work(plan: Plan, study: Study, claimed: Claimed) -> None:
    """Runs one trial and tells the study what became of it; what a trial raises is kept and ends only the trial."""
    chosen = ", ".join(f"{name}={value}" for name, value in claimed.values.items())
    _say(f"trial {claimed.slot} of {plan.trials} starts: {chosen}")
    twin = study.twin(claimed)
    if twin is not None and twin.score is not None:
        study.complete(claimed, twin.score, same_as=twin.slot)
        _say(f"trial {claimed.slot} has the settings of trial {twin.slot}, and so its {plan.metric}: {twin.score:.4f}")
        return
    folder = plan.trial_folder(claimed.slot)
    try:
        with study.alive(claimed):
            metrics = _left_by_another(plan, claimed.values, folder)
            if metrics is None:
                values = {**plan.settings, **claimed.values, "run_dir": str(folder)}
                metrics = run(plan.model, plan.dataset, plan.files, values, test=False, watch=claimed.report).metrics
        score = metrics["valid"][plan.metric]
        study.complete(claimed, score)
        _say(f"trial {claimed.slot} of {plan.trials}: {plan.metric} {score:.4f} on validation")
    except Pruned:
        _tidy(folder)
        study.prune(claimed)
        _say(f"trial {claimed.slot} of {plan.trials} is pruned")
    except TakenOver:
        _say(f"trial {claimed.slot} was taken over by another worker: this one gave no sign of life for too long")
    except SweepError:
        raise
    except (KeyboardInterrupt, RunFolderError):  # a full disk is not the fault of the settings
        study.release(claimed)
        raise
    except Exception as error:  # RecBole's models raise anything for settings that do not go together
        message = " ".join(str(error).split())
        if not isinstance(error, RPORecError):
            message = f"{type(error).__name__}: {message}"
            if folder.exists():
                write_text(folder / "error.txt", traceback.format_exc())
        _tidy(folder)
        study.fail(claimed, message)
        _say(f"trial {claimed.slot} of {plan.trials} failed: {message}")


def _left_by_another(plan: Plan, values: Mapping[str, Any], folder: Path) -> dict[str, Any] | None:
    """What a worker that died left of a trial: the metrics if its run was over, else None and a folder to go on in."""
    if not folder.exists():
        return None
    before = read_config(folder) if (folder / CONFIG).is_file() else {}
    same = all(before.get(name) == value for name, value in settled(values, plan.dataset).items())
    if same and (folder / METRICS).is_file():
        finish(folder)
        return read_results(folder)[0]
    if not same or before.get("gpu_id") != plan.settings.get("gpu_id", before.get("gpu_id")):
        shutil.rmtree(folder)
    return None


def _finish(plan: Plan, study: Study, records: list[Record]) -> dict[str, Any]:
    """Ranks the test split for the best trial and writes the report; the first worker does it, the others wait.

    Raises:
        SweepError: no trial came to its end, or the best run's folder is elsewhere.
    """
    best = ranking(plan, records)[0]
    if best.state != "complete":
        messages = {one.message for one in records if one.message}
        raise SweepError(
            f"None of the {plan.trials} trials came to its end: {'; '.join(sorted(messages)[:3])}. Widen the search space, or "
            f"try one of its settings alone. What was tried is in {plan.folder}."
        )
    folder = plan.trial_folder(best.slot)
    with alone(plan.folder):
        if not (folder / METRICS).is_file():
            raise SweepError(
                f"The best trial is {best.slot}, but its run is not in {folder}. All workers of a sweep share one folder: "
                "name it with --run_dir=PATH."
            )
        metrics = add_test(folder)
        if not (plan.folder / BEST).exists():
            write_report(plan, records, study.importance())
    return metrics


def _tidy(folder: Path) -> None:
    for name in (RESUME, CHECKPOINTS):  # of a run that nobody will go on with
        shutil.rmtree(folder / name, ignore_errors=True)


def _say(message: str) -> None:
    print(message, flush=True)
