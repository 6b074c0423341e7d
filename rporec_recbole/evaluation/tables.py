"""A comparison as text: for a terminal, as Markdown, CSV, LaTeX and JSON."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from typing import Any

from rporec_recbole.evaluation.beyond import MEASURES
from rporec_recbole.evaluation.compare import Comparison, Entry, Result
from rporec_recbole.evaluation.significance import Interval

_HEADER = ["model", "value [95 %]", "over seeds", "minus {reference} [95 %]", "p (Holm)", "d", "wins/ties/losses"]


def heading(comparison: Comparison) -> str:
    """What was compared, in one line."""
    sampled = "" if comparison.mode == "full" else f"samples (`{comparison.mode}`) of "
    return (
        f"{comparison.dataset}, {comparison.split}, {comparison.users:,} users, {sampled}{comparison.candidates:,} candidates, "
        f"seen items {'hidden' if comparison.hide_seen else 'ranked too'}"
    )


def to_terminal(comparison: Comparison) -> str:
    """Aligned columns, one block a metric, then groups and costs."""
    blocks = [heading(comparison)]
    blocks += [f"{title}\n{_aligned(table)}" for title, table in _tables(comparison)]
    if comparison.notes:
        blocks.append("\n".join(comparison.notes))
    return "\n\n".join(blocks)


def to_markdown(comparison: Comparison) -> str:
    """The same tables as Markdown."""
    parts = [f"# {heading(comparison)}"]
    for title, (head, *rows) in _tables(comparison):
        escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
        lines = [head, ["---"] * len(head), *escaped]
        parts.append(f"## {title}\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in lines))
    if comparison.notes:
        parts.append("## notes\n\n" + "\n".join(f"- {note}" for note in comparison.notes))
    return "\n\n".join(parts) + "\n"


def to_csv(comparison: Comparison) -> str:
    """One row for each model and metric, and for each measure of its lists, numbers in full."""
    out = io.StringIO()
    records = _records(comparison)
    writer = csv.DictWriter(out, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue()


def to_json(comparison: Comparison) -> str:
    """Everything."""
    return json.dumps(dataclasses.asdict(comparison), indent=2) + "\n"


def to_latex(comparison: Comparison) -> str:
    """A table for a paper (booktabs): models down, metrics across, the best bold, * where p (Holm) < .05."""
    best = {
        metric: max(entry.results[metric].mean.value for entry in comparison.entries) for metric in comparison.metrics
    }

    def cell(result: Result, metric: str) -> str:
        number = f"{result.mean.value:.4f}"
        number = rf"\textbf{{{number}}}" if result.mean.value == best[metric] else number
        spread = "" if result.over_seeds is None else rf" $\pm$ {result.over_seeds:.4f}"
        star = "$^{*}$" if result.against is not None and result.against.p_holm < 0.05 else ""
        return number + spread + star

    lines = [
        r"\begin{tabular}{l" + "r" * len(comparison.metrics) + "}",
        r"\toprule",
        " & ".join(["Model", *(_tex(metric.upper()) for metric in comparison.metrics)]) + r" \\",
        r"\midrule",
    ]
    for entry in comparison.entries:
        cells = [cell(entry.results[metric], metric) for metric in comparison.metrics]
        lines.append(" & ".join([_tex(entry.name), *cells]) + r" \\")
    lines += [
        r"\bottomrule",
        r"\end{tabular}",
        f"% {heading(comparison)}; $\\pm$: standard deviation over seeds; *: differs from {comparison.reference}, paired randomization test, Holm-adjusted p < .05",
    ]
    return "\n".join(lines) + "\n"


def _tables(comparison: Comparison) -> list[tuple[str, list[list[str]]]]:
    head = [column.format(reference=comparison.reference) for column in _HEADER]
    tables = [
        (metric, [head, *(_row(entry.name, entry.results[metric]) for entry in comparison.entries)])
        for metric in comparison.metrics
    ]
    if comparison.groups:
        title = f"{comparison.metrics[0]} by group (minus {comparison.reference}; * where its 95 % interval excludes 0)"
        tables.append((title, _by_group(comparison)))
    tables += _beyond_accuracy(comparison)
    if comparison.lists:
        tables.append(("lists of other systems", _checks(comparison)))
    costs = [["model", "seeds", "weights", "training seconds"]]
    costs += [
        [one.name, _seeds(one), _known(one.parameters, ","), _known(one.seconds, ",.1f")] for one in comparison.entries
    ]
    tables.append(("cost", costs))
    return tables


def _beyond_accuracy(comparison: Comparison) -> list[tuple[str, list[list[str]]]]:
    """A table for each k of which any lists are measured; a measure that no model has is no column."""
    tables = []
    there = {name for entry in comparison.entries for name in entry.beyond}
    for k in sorted({int(name.partition("@")[2]) for name in there}):
        names = [f"{measure}@{k}" for measure in MEASURES if f"{measure}@{k}" in there]
        rows = [["model", *(name.partition("@")[0] for name in names)]]
        for entry in comparison.entries:
            cells = [entry.beyond.get(name, (None, None)) for name in names]
            spreads = ["" if spread is None else f" ± {spread:.4f}" for _, spread in cells]
            rows.append(
                [
                    entry.name,
                    *(f"{_known(value, '.4f')}{spread}" for (value, _), spread in zip(cells, spreads, strict=True)),
                ]
            )
        tables.append((f"beyond accuracy, the best {k} (calibration_kl and gini: less is more even)", rows))
    return tables


def _checks(comparison: Comparison) -> list[list[str]]:
    """What was found in the lists of other systems, the zeros too."""
    names = [name for name in comparison.lists[0] if name not in ("name", "file", "deepest")]
    rows = [["system", *(name.replace("_", " ") for name in names)]]
    return rows + [[str(one["name"]), *(f"{one[name]:,}" for name in names)] for one in comparison.lists]


def _known(number: float | None, form: str) -> str:
    return "–" if number is None else f"{number:{form}}"


def _row(name: str, result: Result) -> list[str]:
    spread = "" if result.over_seeds is None else f"± {result.over_seeds:.4f}"
    if result.against is None:
        return [name, _interval(result.mean), spread, "", "", "", ""]
    one = result.against
    return [
        name,
        _interval(result.mean),
        spread,
        _interval(one.difference, "+.4f"),
        f"{one.p_holm:.4f}",
        f"{one.effect:+.2f}",
        f"{one.wins}/{one.ties}/{one.losses}",
    ]


def _by_group(comparison: Comparison) -> list[list[str]]:
    rows = [["group", "users", *(entry.name for entry in comparison.entries)]]
    for group, users in comparison.groups.items():
        cells = []
        for entry in comparison.entries:
            mean, difference = entry.groups[group]
            if difference is None:
                cells.append(f"{mean:.4f}")
            else:
                clear = "*" if difference.low > 0 or difference.high < 0 else ""
                cells.append(f"{mean:.4f} ({difference.value:+.4f}{clear})")
        rows.append([group, f"{users:,}", *cells])
    return rows


def _records(comparison: Comparison) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    for entry in comparison.entries:
        for metric, result in entry.results.items():
            one = result.against
            numbers = (
                [None] * 9
                if one is None
                else [*one.difference, one.p, one.p_holm, one.effect, one.wins, one.ties, one.losses]
            )
            columns = [
                "difference",
                "difference_low",
                "difference_high",
                "p",
                "p_holm",
                "effect",
                "wins",
                "ties",
                "losses",
            ]
            records.append(
                {
                    "model": entry.name,
                    "metric": metric,
                    "value": result.mean.value,
                    "low": result.mean.low,
                    "high": result.mean.high,
                    "over_seeds": result.over_seeds,
                    "reference": comparison.reference,
                    **dict(zip(columns, numbers, strict=True)),
                    **_costs(entry),
                }
            )
        for name, (value, spread) in entry.beyond.items():
            gaps = dict.fromkeys(records[0])
            records.append(
                {**gaps, "model": entry.name, "metric": name, "value": value, "over_seeds": spread, **_costs(entry)}
            )
    return records


def _costs(entry: Entry) -> dict[str, Any]:
    return {"seeds": _seeds(entry), "parameters": entry.parameters, "training_seconds": entry.seconds}


def _seeds(entry: Entry) -> str:
    return " ".join(str(seed) for seed in entry.seeds)


def _interval(one: Interval, form: str = ".4f") -> str:
    return f"{one.value:{form}} [{one.low:{form}}, {one.high:{form}}]"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _tex(text: str) -> str:
    return "".join(f"\\{letter}" if letter in "&%$#_{}" else letter for letter in text)
