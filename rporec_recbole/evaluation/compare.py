"""Finished runs side by side: many models, several seeds, one comparison. Reads run folders and trains nothing.

A model's metrics are averaged over its seeds user by user; differences to the reference are paired over users. Intervals and
tests resample users, so they say how results would vary over other users; the spread over seeds stands beside them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rporec_recbole.errors import RunFolderError, did_you_mean
from rporec_recbole.evaluation.ranks import metric_values, read_rows
from rporec_recbole.evaluation.significance import (
    Interval,
    effect_size,
    holm,
    mean_interval,
    paired_bootstrap,
    paired_randomization,
)
from rporec_recbole.settings.properties import read_yaml

_EQUAL = ("dataset", "eval_args", "hide_seen", "valid_metric")
_READ = ("model", "seed", "dataset", "candidates", "hide_seen", "parameters", "stages")  # of metrics.json
_NO_NAME = (
    "seed",
    "data_path",
    "show_progress",
    "gpu_id",
    "worker",
    "log_wandb",
    "state",
    "nproc",
    "device",
    "controls",
    "start_from",
)
"""Settings that make no other model."""


class Run(NamedTuple):
    """What a comparison reads of a finished run.

    Attributes:
        folder: the run folder.
        facts: its `metrics.json`.
        config: its `config.yaml`.
        rows: `rank`, `user_activity`, `item_popularity` of the compared split, indexed by (user_id, item_id), sorted.
    """

    folder: Path
    facts: dict[str, Any]
    config: dict[str, Any]
    rows: pd.DataFrame


@dataclass(frozen=True)
class Against:
    """A model beside the reference, on one metric.

    Attributes:
        difference: model minus reference with its 95 % interval.
        p: of a paired randomization test.
        p_holm: the same, adjusted for all models compared on this metric (Holm, 1979).
        effect: Cohen's d of the paired differences.
        wins, ties, losses: users for whom the model is better, equal, worse.
    """

    difference: Interval
    p: float
    p_holm: float
    effect: float
    wins: int
    ties: int
    losses: int


@dataclass(frozen=True)
class Result:
    """One model on one metric.

    Attributes:
        mean: over users, with its 95 % interval.
        over_seeds: standard deviation of the seeds' means; None for one seed.
        against: the reference; None for the reference itself.
    """

    mean: Interval
    over_seeds: float | None
    against: Against | None


@dataclass(frozen=True)
class Entry:
    """One model of a comparison.

    Attributes:
        name: of the model.
        seeds: that were run.
        folders: run folders, in the order of the seeds.
        parameters: weights, the backbone's included.
        seconds: of training, mean over seeds.
        results: metric -> result.
        groups: group -> (mean, difference to the reference or None) on the first metric.
    """

    name: str
    seeds: list[int]
    folders: list[str]
    parameters: int
    seconds: float
    results: dict[str, Result]
    groups: dict[str, tuple[float, Interval | None]]


@dataclass(frozen=True)
class Comparison:
    """Models side by side.

    Attributes:
        dataset, split, hide_seen, candidates, users: what was ranked.
        metrics: compared, the first one also by group.
        reference: name of the model that the others are compared with.
        entries: the models, in the order given.
        groups: group -> number of its users.
    """

    dataset: str
    split: str
    hide_seen: bool
    candidates: int
    users: int
    metrics: list[str]
    reference: str
    entries: list[Entry]
    groups: dict[str, int]


def read_run(folder: str | Path, split: str = "test") -> Run:
    """Reads a finished run.

    Raises:
        RunFolderError: the folder holds none.
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
    return Run(path, facts, read_yaml(path / "config.yaml"), read_rows(path, split))


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


def compare(
    runs: Mapping[str, Sequence[Run]],
    metrics: Sequence[str] = ("ndcg@10", "hit@10"),
    reference: str | None = None,
    split: str = "test",
    draws: int = 10_000,
) -> Comparison:
    """Compares models.

    Args:
        runs: name of a model -> its runs, one a seed.
        metrics: `ndcg@K`, `hit@K` or `mrr@K`.
        reference: name of the model that the others are compared with; the first if None.
        split: that the runs were read for.
        draws: of bootstrap and randomization.

    Raises:
        RunFolderError: the runs cannot be compared, and why; a seed stands twice; there is no such reference.
    """
    names = list(runs)
    reference = names[0] if reference is None else reference
    if reference not in runs:
        raise RunFolderError(
            f"There is no model `{reference}` to compare with.{did_you_mean(reference, names)} There are {names}."
        )
    _refuse_unequal([run for its in runs.values() for run in its])
    for name, its in runs.items():
        seeds = [run.facts["seed"] for run in its]
        if len(set(seeds)) < len(seeds):
            raise RunFolderError(
                f"{name} has two runs of one seed (seeds {seeds}): {', '.join(str(run.folder) for run in its)}."
            )
    first = runs[names[0]][0]
    values = {
        name: {
            metric: np.array([metric_values(run.rows["rank"].to_numpy(), metric) for run in its]) for metric in metrics
        }
        for name, its in runs.items()
    }
    by_user = {name: {metric: table.mean(axis=0) for metric, table in own.items()} for name, own in values.items()}
    others = [name for name in names if name != reference]
    against: dict[tuple[str, str], Against] = {}
    for metric in metrics:
        theirs = by_user[reference][metric]
        p = [paired_randomization(by_user[name][metric], theirs, draws) for name in others]
        for name, own_p, adjusted in zip(others, p, holm(p), strict=True):
            ours = by_user[name][metric]
            against[name, metric] = Against(
                paired_bootstrap(ours, theirs, draws=draws),
                own_p,
                adjusted,
                effect_size(ours, theirs),
                int((ours > theirs).sum()),
                int((ours == theirs).sum()),
                int((ours < theirs).sum()),
            )
    groups = groups_of(first.rows)
    entries = []
    for name, its in runs.items():
        results = {
            metric: Result(
                mean_interval(by_user[name][metric], draws=draws),
                float(values[name][metric].mean(axis=1).std(ddof=1)) if len(its) > 1 else None,
                against.get((name, metric)),
            )
            for metric in metrics
        }
        ours, theirs = by_user[name][metrics[0]], by_user[reference][metrics[0]]
        entries.append(
            Entry(
                name,
                [int(run.facts["seed"]) for run in its],
                [str(run.folder) for run in its],
                int(its[0].facts["parameters"] + its[0].facts.get("backbone", {}).get("parameters", 0)),
                float(np.mean([_training_seconds(run.facts) for run in its])),
                results,
                {
                    group: (
                        float(ours[rows].mean()),
                        None if name == reference else paired_bootstrap(ours[rows], theirs[rows], draws=draws),
                    )
                    for group, rows in groups.items()
                },
            )
        )
    return Comparison(
        dataset=first.facts["dataset"],
        split=split,
        hide_seen=first.facts["hide_seen"],
        candidates=first.facts["candidates"],
        users=len(first.rows),
        metrics=list(metrics),
        reference=reference,
        entries=entries,
        groups={group: int(rows.sum()) for group, rows in groups.items()},
    )


def groups_of(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """Rows by the activity of their user and by the popularity of their target, each in thirds, and cold targets.

    Args:
        rows: with `user_activity` and `item_popularity`; without these columns (an old run) there are no groups.

    Returns:
        group -> mask over the rows; empty groups are left out.
    """
    if "user_activity" not in rows or "item_popularity" not in rows:
        return {}
    found = {}
    for what, column, kept in (
        ("users with", "user_activity", rows["user_activity"] >= 0),
        ("targets with", "item_popularity", rows["item_popularity"] > 0),
    ):
        numbers = rows[column].to_numpy()
        if not kept.any():
            continue
        low, high = (int(cut) for cut in np.quantile(numbers[kept], [1 / 3, 2 / 3]))
        found[f"{what} up to {low:,} interactions"] = kept & (numbers <= low)
        found[f"{what} {low + 1:,} to {high:,}"] = kept & (numbers > low) & (numbers <= high)
        found[f"{what} more than {high:,}"] = kept & (numbers > high)
    found["cold targets"] = rows["item_popularity"] == 0
    return {name: np.asarray(mask) for name, mask in found.items() if mask.any()}


def _training_seconds(facts: Mapping[str, Any]) -> float:
    return sum(stage["seconds"] for name, stage in facts["stages"].items() if name not in ("data", "evaluation"))


def _refuse_unequal(runs: Sequence[Run]) -> None:
    first, problems = runs[0], []
    for run in runs[1:]:
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
    if problems:
        raise RunFolderError("These runs cannot be compared:\n  " + "\n  ".join(problems))
