"""What a sweep leaves for people: a table, `trials.csv`, two plots, and `best.yaml`, which repeats the best trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from rporec_recbole.data.files import write_text
from rporec_recbole.evaluation.plots import plot_history, plot_shares
from rporec_recbole.runs.folder import read_config
from rporec_recbole.settings.named_code import names_code
from rporec_recbole.settings.places import PLACES, STARTED_IN
from rporec_recbole.sweep.plan import Plan
from rporec_recbole.sweep.study import Record

TABLE, HISTORY, IMPORTANCE, BEST = "trials.csv", "history.png", "importance.png", "best.yaml"
_STATES = ("complete", "pruned", "failed", "running", "waiting")


def ranking(plan: Plan, records: Sequence[Record]) -> list[Record]:
    """Best first: what came to its end by score, then the pruned, then the rest; equal scores in the order of places."""

    def key(one: Record) -> tuple[int, float, bool, int]:
        score = 0.0 if one.score is None else -one.score if plan.bigger else one.score
        return _STATES.index(one.state), score, one.same_as is not None, one.slot

    return sorted(records, key=key)


def table_of(plan: Plan, records: Sequence[Record]) -> str:
    """The trials as text, best first, then what made trials fail."""
    ranked = ranking(plan, records)
    rows = [["trial", "state", plan.metric, "seconds", *(one.name for one in plan.space)]]
    for one in ranked:
        state = one.state if one.same_as is None else f"as {one.same_as}"
        values = [_short(one.values[p.name]) if p.name in one.values else "" for p in plan.space]
        score = "" if one.score is None else f"{one.score:.4f}"
        rows.append([str(one.slot), state, score, "" if one.seconds is None else f"{one.seconds:.1f}", *values])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines += [f"trial {one.slot} failed: {one.message}" for one in ranked if one.state == "failed"]
    return "\n".join(lines)


def write_report(plan: Plan, records: Sequence[Record], importance: Mapping[str, float]) -> None:
    """Writes everything but the run folders into the sweep's folder; `best.yaml` last.

    Args:
        plan: the sweep.
        records: of all places; at least one is complete.
        importance: parameter -> share.

    Raises:
        OSError: a file cannot be written.
    """
    folder, ranked = plan.folder, ranking(plan, records)
    pd.DataFrame([_row(plan, one) for one in ranked]).to_csv(folder / TABLE, index=False)
    title = f"{plan.model} on {plan.dataset}: {plan.metric} on validation"
    plot_history({one.slot: (one.score, one.state == "complete") for one in records}, plan.bigger, title).savefig(
        folder / HISTORY, dpi=110
    )
    plot_shares(importance, f"{plan.model} on {plan.dataset}: what made {plan.metric} differ").savefig(
        folder / IMPORTANCE, dpi=110
    )
    best = ranked[0]
    text = (
        f"# The best of {plan.trials} trials: trial {best.slot}, {plan.metric} {best.score:.6f} on validation.\n"
        f"# To repeat it: {_again(plan)}\n"
    )
    values = {"model": plan.model, "dataset": plan.dataset, **plan.definition["settings"], **best.values}
    values |= _places(plan.trial_folder(best.same_as or best.slot), values)
    write_text(folder / BEST, text + yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def _again(plan: Plan) -> str:
    own = (
        f" --model={plan.model}" if names_code(plan.model) else ""
    )  # code that a file names is run if the user names it too
    return f"rporec --config_files={plan.folder / BEST}{own}"


def _places(run: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Where the run of a trial found its data, and what else is named; so `best.yaml` holds from any working folder."""
    there = read_config(run)
    kept = {"data_path", STARTED_IN, *(PLACES & values.keys())}
    return {key: there[key] for key in sorted(kept & there.keys())}


def summary(plan: Plan, records: Sequence[Record], metrics: Mapping[str, Any]) -> str:
    """The last words of a sweep.

    Args:
        plan: the sweep.
        records: of all places.
        metrics: of the best trial, test split included.
    """
    best, folder = ranking(plan, records)[0], plan.folder
    counts = [f"{n} {state}" for state in _STATES if (n := sum(one.state == state for one in records))]
    shown = [name for name in metrics["test"] if name.split("@")[0] in ("ndcg", "hit", "mrr")] or list(metrics["test"])
    chosen = ", ".join(f"{name}={_short(value)}" for name, value in best.values.items())
    return "\n".join(
        [
            "",
            f"{plan.model} on {plan.dataset}: {len(records)} trials ({', '.join(counts)}), best first by {plan.metric} on validation",
            table_of(plan, records),
            "",
            f"The best is trial {best.slot}: {chosen}",
            "Test split, ranked for it alone: " + ", ".join(f"{name} {metrics['test'][name]:.4f}" for name in shown),
            f"To repeat it: {_again(plan)}",
            "",
            f"Everything is in {folder}: {BEST}, {TABLE}, {HISTORY}, {IMPORTANCE}, and a run folder for each trial; "
            f"the best run is {plan.trial_folder(best.slot)}",
        ]
    )


def _row(plan: Plan, one: Record) -> dict[str, Any]:
    return {
        "trial": one.slot,
        "state": one.state,
        plan.metric: one.score,
        "seconds": one.seconds,
        "validations": one.validations,
        **{p.name: one.values.get(p.name) for p in plan.space},
        "same_as": one.same_as,
        "worker": one.worker,
        "run_dir": str(Path(plan.trial_folder(one.same_as or one.slot).name)),
        "message": one.message,
    }


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
