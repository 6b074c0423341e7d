"""Side by side on ml-100k: RPORec, its trunk, RecBole's SASRec. Paired differences over users on the test split.

    python benchmarks/side_by_side.py [--dir=saved/side_by_side] [--seed=2020]

Runs what is missing (about 8, 2 and 15 minutes on two cores) and prints one table; finished runs are kept, so an
interrupted benchmark goes on where it stopped. Writes side_by_side.json beside the runs.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rporec_recbole import run
from rporec_recbole.evaluation.ranks import metric_values, read_ranks
from rporec_recbole.evaluation.significance import paired_bootstrap, paired_randomization, paired_ratio

RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "RPORec": ("RPORec", {}),
    "trunk": ("RPORec", {"stages": ["1a"]}),
    "SASRec": ("SASRec", {"MAX_ITEM_LIST_LENGTH": 20, "epochs": 30, "stopping_step": 5, "show_progress": False}),
}
METRICS = ("ndcg@10", "hit@10")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", default="saved/side_by_side", help="holds one run folder per model")
    parser.add_argument("--seed", type=int, default=2020)
    options = parser.parse_args()
    parent = Path(options.dir)
    for name, (model, settings) in RUNS.items():
        if not (parent / name / "metrics.json").is_file():
            run(model, "ml-100k", overrides={**settings, "seed": options.seed, "run_dir": str(parent / name)})
    ranks = {name: read_ranks(parent / name, "test") for name in RUNS}
    assert all(table.index.equals(ranks["RPORec"].index) for table in ranks.values()), "the runs have other test rows"
    report: dict[str, Any] = {}
    print(f"ml-100k, leave-one-out, full ranking, nothing hidden, {len(ranks['RPORec'])} users, seed {options.seed}\n")
    print("| metric | model | value | RPORec minus it [95 %] | RPORec over it [95 %] | p |\n|---|---|---|---|---|---|")
    for metric in METRICS:
        ours = metric_values(ranks["RPORec"].to_numpy(), metric)
        for name, table in ranks.items():
            values = metric_values(table.to_numpy(), metric)
            row: dict[str, Any] = {"value": values.mean()}
            cells = "| | | |"
            if name != "RPORec":
                gap, ratio, p = (
                    paired_bootstrap(ours, values),
                    paired_ratio(ours, values),
                    paired_randomization(ours, values),
                )
                row |= {"difference": gap._asdict(), "ratio": ratio._asdict(), "p": p}
                cells = f"| {gap.value:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}] | {ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}] | {p:.4f} |"
            print(f"| {metric} | {name} | {values.mean():.4f} {cells}")
            report.setdefault(metric, {})[name] = row
    (parent / "side_by_side.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
