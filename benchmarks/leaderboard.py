"""All models on all data sets in one table, from the finished runs of benchmarks/accuracy.py; nothing is trained.

    python benchmarks/leaderboard.py [--seed=2020] [--grid=benchmarks/accuracy.yaml] [--results=benchmarks/results]
                                     [--out=docs/leaderboard.md]

The grid names data sets, models and candidates, as many candidates for every model of a data set. A cell is NDCG@10 / HR@10
on the test split of the candidate with the best validation NDCG@10, among all items and with seen items hidden. Where
candidates have not been run, the cell says how many have.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from accuracy import CHOSEN_BY, METRICS, PROTOCOLS, file_name, values
from harness import RESULTS_DIR, new_parser, read_grid, table_head, table_row

TIME = "seconds"
RESULTS = {"docs/leaderboard.md": "python benchmarks/leaderboard.py"}
MISSING = "not yet run"


def cells(own: Mapping[str, Any], label: str, results: Path, seed: int) -> list[str]:
    """A model's cell for each protocol."""
    files = [results / file_name(label, candidate, seed) for candidate in own["candidates"]]
    there = [file for file in files if file.is_file()]
    if not there:
        return [MISSING] * len(PROTOCOLS)
    tried, found = [pd.read_parquet(file) for file in there], []
    tuned = "" if len(there) == len(files) else f" ({len(there)} of {len(files)} candidates)"
    for protocol in PROTOCOLS:
        best = int(np.argmax([values(ranks, protocol, "valid", CHOSEN_BY).mean() for ranks in tried]))
        scores = [values(tried[best], protocol, "test", metric).mean() for metric in METRICS]
        found.append(" / ".join(f"{score:.4f}"[1:] for score in scores) + tuned)
    return found


def table(grid: Mapping[str, Any], results: Path, seed: int) -> str:
    """Rows are models, columns data sets, one table for each protocol; Markdown."""
    models = list(dict.fromkeys(label for own in grid.values() for label in own))
    rows: dict[str, dict[str, list[str]]] = {label: {} for label in models}
    for dataset, own in grid.items():
        for label in own:
            rows[label][dataset] = cells(own[label], label, results / dataset, seed)
    lines = []
    for number, protocol in enumerate(PROTOCOLS):
        lines += [f"Test, {protocol}, NDCG@10 / HR@10, seed {seed}:", "", table_head("model", *grid)]
        for label in models:
            mine = [rows[label][dataset][number] if dataset in rows[label] else "" for dataset in grid]
            lines.append(table_row(label, *mine))
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--seed", type=int, default=2020)
    parser.add_argument("--grid", default=Path(__file__).with_name("accuracy.yaml"))
    parser.add_argument("--results", type=Path, default=RESULTS_DIR)
    parser.add_argument("--out", default="docs/leaderboard.md")
    options = parser.parse_args()
    text = table(read_grid(options.grid)[1], options.results, options.seed)
    head = "# Leaderboard\n\nMade by `python benchmarks/leaderboard.py`; see there what a cell is.\n\n"
    Path(options.out).write_text(head + text, encoding="utf-8")
    print(f"{text}\nWritten to {options.out}")


if __name__ == "__main__":
    main()
