"""Which finished runs can stand side by side: those that ranked the same lists of the same users against the same candidates."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from rporec_recbole.errors import RunFolderError
from rporec_recbole.evaluation.ranks import OF_LISTS, read_rows, with_lists
from rporec_recbole.settings.places import STARTED_IN
from rporec_recbole.settings.properties import read_yaml

_EQUAL = ("dataset", "eval_args", "hide_seen", "valid_metric")
_READ = ("model", "seed", "dataset", "candidates", "hide_seen", "parameters", "stages")  # of metrics.json
_NO_NAME = (
    "seed",
    "data_path",
    STARTED_IN,
    "show_progress",
    "gpu_id",
    "worker",
    "log_wandb",
    "trackers",
    "tracker_project",
    "state",
    "nproc",
    "device",
    "controls",
    "start_from",
)
"""Settings that make no other model."""
_UNKNOWN = "unknown"


class Run(NamedTuple):
    """What a comparison reads of a finished run.

    Attributes:
        folder: the run folder.
        facts: its `metrics.json`.
        config: its `config.yaml`.
        rows: of `ranks.parquet`, of the compared split, as `ranks.with_lists` gives them, indexed by (user_id, item_id), sorted.
        samples: digest of the candidates that were drawn for it (`data.samples`); None where all items were ranked.
    """

    folder: Path
    facts: dict[str, Any]
    config: dict[str, Any]
    rows: pd.DataFrame
    samples: str | None


def read_run(folder: str | Path, split: str = "test") -> Run:
    """Reads a finished run.

    Raises:
        RunFolderError: the folder holds none, or one of an older version that cannot be compared.
    """
    path = Path(folder)
    try:
        facts = json.loads((path / "metrics.json").read_text(encoding="utf-8"))
        if missing := [key for key in _READ if key not in facts]:
            raise ValueError(f"metrics.json lacks {missing}")
    except (OSError, ValueError, TypeError) as error:
        raise RunFolderError(
            f"{path} holds no finished run ({error}). Name the folder that a run said it wrote to."
        ) from error
    config = read_yaml(path / "config.yaml")
    rows = read_rows(path, split)
    if not set(OF_LISTS) <= set(rows) and rows.index.get_level_values("user_id").has_duplicates:
        raise RunFolderError(
            f"{path} has several ranks of one user and not which of them share a list: an older version wrote it. Run the training again."
        )
    return Run(path, facts, config, with_lists(rows), _samples(facts, config, split))


def named_runs(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Sorts runs by model; runs of one model with several settings are told apart by what differs."""
    by_model: dict[str, list[Run]] = {}
    for run in runs:
        by_model.setdefault(run.facts["model"], []).append(run)
    found: dict[str, list[Run]] = {}
    for model, its in by_model.items():
        keys = sorted({key for run in its for key in run.config} - {*_NO_NAME, *_EQUAL})
        different = [key for key in keys if len({repr(run.config.get(key)) for run in its}) > 1]
        for run in its:
            what = ", ".join(f"{key}={run.config.get(key)}" for key in different)
            found.setdefault(f"{model} ({what})" if what else model, []).append(run)
    return found


def refuse_unequal(runs: Mapping[str, Sequence[Run]]) -> None:
    """Refuses runs that are no pairs.

    Args:
        runs: name of a model -> its runs.

    Raises:
        RunFolderError: says what differs.
    """
    first, *others = (run for its in runs.values() for run in its)
    problems = []
    for run in others:
        for key in _EQUAL:
            if run.config.get(key) != first.config.get(key):
                problems.append(
                    f"`{key}` is {first.config.get(key)!r} in {first.folder} and {run.config.get(key)!r} in {run.folder}"
                )
        if run.facts["candidates"] != first.facts["candidates"]:
            problems.append(
                f"{first.folder} ranked {first.facts['candidates']:,} candidates and {run.folder} {run.facts['candidates']:,}"
            )
        elif not run.rows.index.equals(first.rows.index):
            problems.append(f"{first.folder} and {run.folder} ranked other users or targets")
        elif not run.rows["targets"].equals(first.rows["targets"]):
            problems.append(
                f"one of {first.folder} and {run.folder} ranked all targets of a user in one list, the other a list for each, as general "
                "and sequential models do. With `eval_args.split={LS: valid_and_test}` a user has one target, and with a split by time, {TS: [0.8,0.1,0.1]}, "
                "every target has a list of its own"
            )
    if not problems:
        problems += _unequal_samples(runs)
    if problems:
        raise RunFolderError("These runs cannot be compared:\n  " + "\n  ".join(problems))


def _unequal_samples(runs: Mapping[str, Sequence[Run]]) -> list[str]:
    drawn = {name: sorted(str(run.samples) for run in its) for name, its in runs.items()}
    older = [str(run.folder) for its in runs.values() for run in its if run.samples == _UNKNOWN]
    if older:
        return [
            f"an older version drew the samples of {', '.join(older)} anew at each evaluation, so they are nobody else's: run the training again"
        ]
    first = next(iter(drawn))
    return [
        f"{name} was ranked against other samples of items than {first}: the seed decides, and the seeds are "
        f"{[run.facts['seed'] for run in runs[name]]} and {[run.facts['seed'] for run in runs[first]]}. Give every model the same ones"
        for name, samples in drawn.items()
        if samples != drawn[first]
    ]


def mode_of(eval_args: Mapping[str, Any] | None, split: str) -> str:
    """What a run ranks a split against: `full`, or RecBole's name for a sample such as `uni100`."""
    mode = (eval_args or {}).get("mode", "full")
    return str(mode[split] if isinstance(mode, dict) else mode)


def _samples(facts: Mapping[str, Any], config: Mapping[str, Any], split: str) -> str | None:
    if not mode_of(config.get("eval_args"), split).startswith(("uni", "pop")):
        return None
    return str(facts.get("samples", {}).get(split, _UNKNOWN))
