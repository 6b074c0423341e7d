"""What reasoning is worth: the full model against its controls, over several seeds, paired over users.

    python benchmarks/reasoning_gain.py --dataset=ml-1m [--data_path=DIR] [--seeds=2020,2021,2022] [--attempts=default,...]
                                        [--controls="no CoT,history text"]
                                        [--grid=benchmarks/reasoning_gain.yaml] [--results=benchmarks/results]
                                        [--dir=saved/reasoning]

An attempt is a named set of settings in the grid; each is run with every seed, with all controls or those that --controls
names. The ranks of every user are kept in --results, and what is there is not run again, so the benchmark goes on where it
stopped, on another machine too. Prints one table an attempt (metrics are averaged over the seeds user by user, then compared),
draws its intervals, and writes both into --dir.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from harness import RESULTS_DIR, add_data, add_seeds, names, new_parser, read_grid, run_once, write_json

TIME = "ten minutes (ml-100k) to 80 (amazon-beauty) a seed and attempt; seconds where the ranks are kept"
RESULTS = {
    "benchmarks/results/*/reasoning/*.parquet": "python benchmarks/reasoning_gain.py --dataset=DATASET --attempts=ATTEMPT",
    "benchmarks/results/ml-100k/ablations/stage 1, *.json": (
        "python benchmarks/reasoning_gain.py --dataset=ml-100k --seeds=2020 --grid=benchmarks/stage1_ablations.yaml "
        '--controls="no CoT,answer only,history text"; copied from --dir'
    ),
}


def ranks_of(kept: Path, folder: Path, dataset: str, settings: dict[str, Any], only: list[str] | None) -> pd.DataFrame:
    """The ranks of one run and its controls; what is missing is made first."""
    from rporec_recbole.runs import controls

    if kept.is_file():
        return pd.read_parquet(kept)
    run_once(folder, "RPORec", dataset, {**settings, "controls": only is None})
    if not (folder / controls.RANKS).is_file():
        controls.run_controls(folder, only)
    table = pd.read_parquet(folder / controls.RANKS)[["control", "user_id", "item_id", "rank"]]
    kept.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(kept, index=False, compression="zstd")
    return table


def main() -> None:
    parser = new_parser(__doc__)
    add_data(parser)
    add_seeds(parser)
    parser.add_argument("--attempts", type=names, help="only these of the grid")
    parser.add_argument("--controls", type=names, help="only these")
    parser.add_argument("--grid", type=Path, default=Path(__file__).with_suffix(".yaml"))
    parser.add_argument("--results", type=Path, default=RESULTS_DIR)
    parser.add_argument("--dir", type=Path, default=Path("saved/reasoning"))
    options = parser.parse_args()

    from rporec_recbole.evaluation.plots import plot_intervals
    from rporec_recbole.runs import controls

    shared, attempts = read_grid(options.grid, options.attempts)
    shared |= {"data_path": options.data_path} if options.data_path else {}
    seeds, parent = options.seeds, options.dir / options.dataset
    for attempt, own in attempts.items():
        tables = []
        for seed in seeds:
            kept = options.results / options.dataset / "reasoning" / f"{attempt}, seed {seed}.parquet"
            folder, settings = parent / f"{attempt},seed={seed}", {**shared, **own, "seed": seed}
            tables.append(ranks_of(kept, folder, options.dataset, settings, options.controls or None))
        contrasts = controls.contrasts_of(pd.concat(tables, ignore_index=True))
        print(f"\n{options.dataset}, attempt `{attempt}`, seeds {seeds}\n{controls.table_of(contrasts)}", flush=True)
        write_json(parent / f"{attempt}.json", {one.control: one._asdict() for one in contrasts})
        bars = {one.control: one.differences["ndcg@10"] for one in contrasts[1:]}
        title = f"{options.dataset}, `{attempt}`, seeds {seeds}: NDCG@10 of RPORec minus each control, 95 % intervals"
        plot_intervals(bars, title).savefig(parent / f"{attempt}.png", dpi=110)
    print(f"\nWritten to {parent}")


if __name__ == "__main__":
    main()
