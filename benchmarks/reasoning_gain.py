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

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd

from rporec_recbole import run
from rporec_recbole.evaluation.plots import plot_intervals
from rporec_recbole.runs import controls
from rporec_recbole.settings.properties import read_yaml


def ranks_of(kept: Path, folder: Path, dataset: str, settings: dict[str, Any], only: list[str] | None) -> pd.DataFrame:
    """The ranks of one run and its controls; what is missing is made first."""
    if kept.is_file():
        return pd.read_parquet(kept)
    if not (folder / "metrics.json").is_file():
        run("RPORec", dataset, overrides={**settings, "controls": only is None, "run_dir": str(folder)})
    if not (folder / controls.RANKS).is_file():
        controls.run_controls(folder, only)
    table = pd.read_parquet(folder / controls.RANKS)[["control", "user_id", "item_id", "rank"]]
    kept.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(kept, index=False, compression="zstd")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--data_path")
    parser.add_argument("--seeds", default="2020,2021,2022")
    parser.add_argument("--attempts", help="only these of the grid")
    parser.add_argument("--controls", help="only these")
    parser.add_argument("--grid", default=str(Path(__file__).with_suffix(".yaml")))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--dir", default="saved/reasoning")
    options = parser.parse_args()
    grid = read_yaml(options.grid)
    shared, seeds = grid.pop("all"), [int(seed) for seed in options.seeds.split(",")]
    only = options.controls.split(",") if options.controls else None
    parent = Path(options.dir) / options.dataset
    for attempt in options.attempts.split(",") if options.attempts else grid:
        tables = []
        for seed in seeds:
            settings = {**shared, **(grid[attempt] or {}), "seed": seed, "show_progress": False}
            if options.data_path:
                settings["data_path"] = options.data_path
            kept = options.results / options.dataset / "reasoning" / f"{attempt}, seed {seed}.parquet"
            tables.append(ranks_of(kept, parent / f"{attempt},seed={seed}", options.dataset, settings, only))
        contrasts = controls.contrasts_of(pd.concat(tables, ignore_index=True))
        print(f"\n{options.dataset}, attempt `{attempt}`, seeds {seeds}\n{controls.table_of(contrasts)}", flush=True)
        parent.mkdir(parents=True, exist_ok=True)
        facts = {one.control: one._asdict() for one in contrasts}
        (parent / f"{attempt}.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        bars = {one.control: one.differences["ndcg@10"] for one in contrasts[1:]}
        title = f"{options.dataset}, `{attempt}`, seeds {seeds}: NDCG@10 of RPORec minus each control, 95 % intervals"
        plot_intervals(bars, title).savefig(parent / f"{attempt}.png", dpi=110)
    print(f"\nWritten to {parent}")


if __name__ == "__main__":
    main()
