"""Finished runs side by side: many models, several seeds, one comparison. Reads run folders and trains nothing.

A model's metrics are averaged over its seeds user by user; differences to the reference are paired over users. Intervals and
tests resample users, so they say how results would vary over other users; the spread over seeds stands beside them. A user with
several ranked lists counts once for each in the means, which so are RecBole's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from rporec_recbole.errors import RunFolderError, did_you_mean
from rporec_recbole.evaluation.comparable import Run, mode_of, refuse_unequal
from rporec_recbole.evaluation.ranks import user_values
from rporec_recbole.evaluation.significance import (
    Interval,
    effect_size,
    holm,
    mean_interval,
    paired_bootstrap,
    paired_randomization,
)


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
        seeds: that were run; none of another system's lists, which are one file.
        folders: run folders, in the order of the seeds.
        parameters: weights, the backbone's included; None where nobody knows.
        seconds: of training, mean over seeds; likewise.
        results: metric -> result.
        groups: group -> (mean, difference to the reference or None) on the first metric.
        beyond: measure of the lists (`evaluation.beyond`) -> mean over seeds, and its standard deviation; gaps where a run has no lists.
    """

    name: str
    seeds: list[int]
    folders: list[str]
    parameters: int | None
    seconds: float | None
    results: dict[str, Result]
    groups: dict[str, tuple[float, Interval | None]]
    beyond: dict[str, tuple[float, float | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """Models side by side.

    Attributes:
        dataset, split, hide_seen, candidates, users: what was ranked.
        mode: `full`, or of which samples of the candidates (`uni100`).
        metrics: compared, the first one also by group.
        reference: name of the model that the others are compared with.
        entries: the models, in the order given.
        groups: group -> number of its users.
        notes: what a reader of the numbers has to know.
        lists: what was found in the lists of other systems (`runs.outside.Checked`).
    """

    dataset: str
    split: str
    hide_seen: bool
    candidates: int
    mode: str
    users: int
    metrics: list[str]
    reference: str
    entries: list[Entry]
    groups: dict[str, int]
    notes: list[str] = field(default_factory=list)
    lists: list[dict[str, Any]] = field(default_factory=list)


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
        metrics: as `ranks.metric_values` has them.
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
    refuse_unequal(runs)
    for name, its in runs.items():
        seeds = [run.facts["seed"] for run in its]
        if len(set(seeds)) < len(seeds):
            raise RunFolderError(
                f"{name} has two runs of one seed (seeds {seeds}): {', '.join(str(run.folder) for run in its)}."
            )
    first = runs[names[0]][0]
    lists = user_values(first.rows, metrics[0])["lists"].to_numpy()
    values = {
        name: {metric: np.array([user_values(run.rows, metric)["value"] for run in its]) for metric in metrics}
        for name, its in runs.items()
    }
    by_user = {name: {metric: table.mean(axis=0) for metric, table in own.items()} for name, own in values.items()}
    others = [name for name in names if name != reference]
    against: dict[tuple[str, str], Against] = {}
    for metric in metrics:
        theirs = by_user[reference][metric]
        p = [paired_randomization(by_user[name][metric], theirs, draws, weights=lists) for name in others]
        for name, own_p, adjusted in zip(others, p, holm(p), strict=True):
            ours = by_user[name][metric]
            against[name, metric] = Against(
                paired_bootstrap(ours, theirs, draws=draws, weights=lists),
                own_p,
                adjusted,
                effect_size(ours, theirs, lists),
                int((ours > theirs).sum()),
                int((ours == theirs).sum()),
                int((ours < theirs).sum()),
            )
    groups = groups_of(first.rows)
    in_groups = {
        group: {name: _over_seeds(its, metrics[0], rows) for name, its in runs.items()}
        for group, rows in groups.items()
    }
    entries = []
    for name, its in runs.items():
        results = {
            metric: Result(
                mean_interval(by_user[name][metric], draws=draws, weights=lists),
                float(np.average(values[name][metric], axis=1, weights=lists).std(ddof=1)) if len(its) > 1 else None,
                against.get((name, metric)),
            )
            for metric in metrics
        }
        entries.append(
            Entry(
                name,
                [int(run.facts["seed"]) for run in its if run.facts["seed"] is not None],
                [str(run.folder) for run in its],
                _parameters(its[0].facts),
                float(np.mean([_training_seconds(run.facts) for run in its])) if its[0].facts["stages"] else None,
                results,
                {
                    group: _in_group(found[name], None if name == reference else found[reference], draws)
                    for group, found in in_groups.items()
                },
            )
        )
    return Comparison(
        dataset=first.facts["dataset"],
        split=split,
        hide_seen=first.facts["hide_seen"],
        candidates=first.facts["candidates"],
        mode=mode_of(first.config.get("eval_args"), split),
        users=len(lists),
        metrics=list(metrics),
        reference=reference,
        entries=entries,
        groups={group: len(found[reference]) for group, found in in_groups.items()},
    )


def _over_seeds(runs: Sequence[Run], metric: str, rows: np.ndarray) -> pd.DataFrame:
    """`user_values` of some rows, averaged over runs."""
    found = [user_values(run.rows[rows], metric) for run in runs]
    return found[0].assign(value=np.mean([one["value"] for one in found], axis=0))


def _in_group(ours: pd.DataFrame, theirs: pd.DataFrame | None, draws: int) -> tuple[float, Interval | None]:
    lists = ours["lists"].to_numpy()
    mean = float(np.average(ours["value"], weights=lists))
    return mean, None if theirs is None else paired_bootstrap(
        ours["value"].to_numpy(), theirs["value"].to_numpy(), draws=draws, weights=lists
    )


def groups_of(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """Rows by the activity of their user and by the popularity of their target, each in thirds, and cold targets.

    Args:
        rows: with `user_activity` and `item_popularity`; without these columns (an old run) there are no groups. Where a list has
            several targets, it is of no one popularity, and there are groups of users alone.

    Returns:
        group -> mask over the rows; empty groups are left out.
    """
    if "user_activity" not in rows or "item_popularity" not in rows:
        return {}
    found, alone = {}, bool((rows["targets"] == 1).all())
    for what, column, kept in (
        ("users with", "user_activity", rows["user_activity"] >= 0),
        ("targets with", "item_popularity", (rows["item_popularity"] > 0) & alone),
    ):
        numbers = rows[column].to_numpy()
        if not kept.any():
            continue
        low, high = (int(cut) for cut in np.quantile(numbers[kept], [1 / 3, 2 / 3]))
        few = f"up to {low:,} interactions" if low else "no interactions"
        found[f"{what} {few}"] = kept & (numbers <= low)
        found[f"{what} {low + 1:,} to {high:,}"] = kept & (numbers > low) & (numbers <= high)
        found[f"{what} more than {high:,}"] = kept & (numbers > high)
    found["cold targets"] = (rows["item_popularity"] == 0) & alone
    return {name: np.asarray(mask) for name, mask in found.items() if mask.any()}


def _parameters(facts: Mapping[str, Any]) -> int | None:
    own = facts["parameters"]
    return None if own is None else int(own + facts.get("backbone", {}).get("parameters", 0))


def _training_seconds(facts: Mapping[str, Any]) -> float:
    return sum(stage["seconds"] for name, stage in facts["stages"].items() if name not in ("data", "evaluation"))
