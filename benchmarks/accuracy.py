"""Accuracy of the trunk beside RecBole's own models, each tuned on validation with the same number of candidates.

    python benchmarks/accuracy.py --dataset=ml-100k [--data_path=DIR] [--seeds=2020,2021,2022] [--models=trunk,SASRec]
                                  [--grid=benchmarks/accuracy.yaml] [--dir=saved/accuracy] [--results=benchmarks/results]

The grid names the models, what they share and the candidates. Every candidate is trained with the first seed; the one
with the best validation NDCG@10 is trained with the other seeds too, and only its test figures are shown. Each trained
model is ranked twice, with the items of the user's past among the candidates and without them (`hide_seen`), and the
choice is made for each protocol by itself.

Run folders lie in --dir; the ranks of a finished run go to --results, one small table a run, users in the order of their
ids, from which everything here can be computed again. What is there is not run again, so an interrupted benchmark goes on
where it stopped, and several processes can share the work with --models. Prints one table per protocol, and writes
accuracy.json beside the ranks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from harness import (
    RESULTS_DIR,
    add_data,
    add_seeds,
    interval,
    names,
    new_parser,
    read_grid,
    run_once,
    table_head,
    table_row,
    write_json,
)

TIME = "ml-100k: minutes a trunk, hours the whole grid; seconds where the ranks are kept"
RESULTS = {
    "benchmarks/results/*/*.parquet": "python benchmarks/accuracy.py --dataset=DATASET",
    "benchmarks/results/*/accuracy.json": "python benchmarks/accuracy.py --dataset=DATASET",
    "benchmarks/results/trunk_clock/*/*": "python benchmarks/accuracy.py --dataset=DATASET --grid=benchmarks/trunk_clock.yaml "
    '--results=benchmarks/results/trunk_clock --seeds=2020,2021,2022 --models="with a clock,without"',
}
PROTOCOLS = {"seen items ranked": False, "seen items hidden": True}
CHOSEN_BY, METRICS = "ndcg@10", ("ndcg@10", "hit@10")


def name_of(candidate: dict[str, Any]) -> str:
    return ",".join(f"{key}={value}" for key, value in candidate.items()) or "default"


def file_name(label: str, candidate: dict[str, Any], seed: int) -> str:
    """Where the ranks of a run lie, below the folder of its data set."""
    return f"{label},{name_of(candidate)},seed={seed}.parquet".replace(" ", "-")


def both_ranks(folder: Path) -> pd.DataFrame:
    """Ranks of a finished run under both protocols: protocol, split, rank; users in the order of their ids."""
    from rporec_recbole import load_run

    loaded, tables = load_run(folder), []
    for protocol, hide in PROTOCOLS.items():
        loaded.config["hide_seen"] = hide
        tables += [loaded.evaluate(split)[1].assign(protocol=protocol) for split in ("valid", "test")]
    table = pd.concat(tables).sort_values(["protocol", "split", "user_id"])
    return table[["protocol", "split", "rank"]].astype({"rank": "int32"})


def values(ranks: pd.DataFrame, protocol: str, split: str, metric: str) -> np.ndarray:
    """One metric, user by user."""
    from rporec_recbole.evaluation.ranks import metric_values

    part = ranks[(ranks["protocol"] == protocol) & (ranks["split"] == split)]
    return metric_values(part["rank"].to_numpy(), metric)


def main() -> None:
    parser = new_parser(__doc__)
    add_data(parser)
    parser.add_argument("--dir", type=Path, default=Path("saved/accuracy"))
    parser.add_argument("--results", type=Path, default=RESULTS_DIR)
    add_seeds(parser, "2020")
    parser.add_argument("--models", type=names, help="only these of the grid")
    parser.add_argument("--grid", type=Path, default=Path(__file__).with_suffix(".yaml"))
    options = parser.parse_args()
    grid, seeds = read_grid(options.grid, [options.dataset])[1][options.dataset], options.seeds
    labels = options.models or list(grid)
    parent, results = (one / options.dataset for one in (options.dir, options.results))
    results.mkdir(parents=True, exist_ok=True)

    from rporec_recbole.evaluation.significance import paired_bootstrap, paired_ratio
    from rporec_recbole.version import versions

    def ranks_of(label: str, candidate: dict[str, Any], seed: int) -> pd.DataFrame:
        own, kept = grid[label], results / file_name(label, candidate, seed)
        if kept.is_file():
            return pd.read_parquet(kept)
        settings = {**own.get("settings", {}), **candidate, "seed": seed}
        ranks = both_ranks(run_once(parent / kept.stem, own["model"], options.dataset, settings, options.data_path))
        ranks.to_parquet(kept, index=False)
        return ranks

    report: dict[str, Any] = {"dataset": options.dataset, "seeds": seeds, "versions": versions()}
    by_user: dict[str, dict[str, dict[str, np.ndarray]]] = {protocol: {} for protocol in PROTOCOLS}
    for label in labels:
        tried = [(candidate, ranks_of(label, candidate, seeds[0])) for candidate in grid[label]["candidates"]]
        for protocol in PROTOCOLS:
            valid = [values(ranks, protocol, "valid", CHOSEN_BY).mean() for _, ranks in tried]
            best = tried[int(np.argmax(valid))][0]
            all_ranks = [ranks_of(label, best, seed) for seed in seeds]
            tests = {metric: [values(ranks, protocol, "test", metric) for ranks in all_ranks] for metric in METRICS}
            by_user[protocol][label] = {metric: np.mean(tests[metric], axis=0) for metric in METRICS}
            report.setdefault(protocol, {})[label] = {
                "validation": {name_of(candidate): score for (candidate, _), score in zip(tried, valid, strict=True)},
                "chosen": name_of(best),
                "test": {metric: [float(one.mean()) for one in tests[metric]] for metric in METRICS},
            }
    for protocol, found in by_user.items():
        print(
            f"\n{options.dataset}, test, {protocol}, mean of seeds {seeds}; {labels[0]} against each, 95 % interval\n"
        )
        print(table_head("model", "chosen of", "NDCG@10", "HR@10", "ratio of NDCG@10", "difference of NDCG@10"))
        for label, mine in found.items():
            entry = report[protocol][label]
            compared = ["", ""]
            if label != labels[0]:
                first, second = found[labels[0]][CHOSEN_BY], mine[CHOSEN_BY]
                ratio, gap = paired_ratio(first, second), paired_bootstrap(first, second)
                entry |= {"ratio": ratio._asdict(), "difference": gap._asdict()}
                compared = [interval(*ratio, form=".2f"), interval(*gap)]
            chosen = f"{entry['chosen']} ({len(entry['validation'])})"
            print(table_row(label, chosen, *(f"{mine[metric].mean():.4f}" for metric in METRICS), *compared))
    write_json(results / "accuracy.json", report)
    print(f"\nWritten to {results / 'accuracy.json'}")


if __name__ == "__main__":
    main()
