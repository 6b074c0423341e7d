"""What each part of stage 2 is worth: variants that share one stage 1, paired over users.

    python benchmarks/rl_ablations.py --dataset=ml-100k [--data_path=DIR] [--seeds=2020,2021,2022] [--variants=...]
                                      [--grid=benchmarks/rl_ablations.yaml] [--dir=saved/rl-ablations]

For each seed stages 1a to 1c run once; every variant goes on from there (`start_from`), so it has the same trunk, the same
backbone and the same texts before stage 2. A finished run is not run again. Prints, for each variant: the reward of the first and the
last ten steps, NDCG@10 on validation, NDCG@10 and HR@10 on the test split, and the difference to stage 1 in NDCG@10; metrics
are averaged over the seeds before they are paired. Written to --dir as JSON.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from harness import (
    add_data,
    add_seeds,
    interval,
    metrics_of,
    names,
    new_parser,
    read_grid,
    run_once,
    table_head,
    table_row,
    write_json,
)

TIME = "hours"
RESULTS = {
    "benchmarks/results/ml-100k/ablations/stage 2.json": (
        "python benchmarks/rl_ablations.py --dataset=ml-100k --seeds=2020; copied from --dir"
    ),
}
FIRST = ["1a", "1b", "1c"]
TAG, TEN = "2_reinforcement_learning/reward", 10


def rewards_of(run: Path) -> np.ndarray:
    """Mean reward of each step of stage 2, `[S]`, from the run's TensorBoard files.

    Raises:
        SystemExit: the run has no stage 2.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    if TAG not in events.Tags()["scalars"]:
        raise SystemExit(f"{run} has no rewards of stage 2 in its tensorboard/.")
    by_step = {one.step: one.value for one in events.Scalars(TAG)}  # a run that went on wrote some steps twice
    return np.array([by_step[step] for step in sorted(by_step)])


def values_of(folders: list[Path], metric: str) -> pd.Series:
    """A metric of each test row, by user and item, mean over some runs."""
    from rporec_recbole.evaluation.ranks import metric_values

    tables = [pd.read_parquet(folder / "ranks.parquet") for folder in folders]
    table = pd.concat(tables).query("split == 'test'")
    table = table.assign(value=metric_values(table["rank"].to_numpy(), metric))
    return table.groupby(["user_id", "item_id"])["value"].mean().sort_index()


def row_of(name: str, folders: list[Path], base: list[Path]) -> dict[str, Any]:
    """The figures of a variant."""
    from rporec_recbole.evaluation.significance import paired_bootstrap, paired_randomization

    metrics = [metrics_of(folder) for folder in folders]
    own, other = values_of(folders, "ndcg@10"), values_of(base, "ndcg@10")
    assert own.index.equals(other.index), "a variant ranked other rows than stage 1"
    row: dict[str, Any] = {
        "variant": name,
        "seeds": len(folders),
        "valid": float(np.mean([one["valid"]["ndcg@10"] for one in metrics])),
        "ndcg@10": float(own.mean()),
        "hit@10": float(values_of(folders, "hit@10").mean()),
    }
    if folders != base:
        rewards = np.stack([(one[:TEN].mean(), one[-TEN:].mean()) for one in map(rewards_of, folders)])
        row |= {"reward_first": float(rewards[:, 0].mean()), "reward_last": float(rewards[:, 1].mean())}
        row["difference"] = paired_bootstrap(own.to_numpy(), other.to_numpy())._asdict()
        row["p"] = paired_randomization(own.to_numpy(), other.to_numpy())
        row["seconds_of_stage_2"] = float(np.mean([one["stages"]["2"]["seconds"] for one in metrics]))
    return row


def show(row: dict[str, Any]) -> None:
    reward = f"{row['reward_first']:.3f} to {row['reward_last']:.3f}" if "reward_first" in row else ""
    gap = row.get("difference")
    difference = "" if gap is None else f"{interval(**gap)}, p {row['p']:.2f}"
    metrics = (f"{row[name]:.4f}" for name in ("valid", "ndcg@10", "hit@10"))
    print(table_row(row["variant"], reward, *metrics, difference), flush=True)


def main() -> None:
    parser = new_parser(__doc__)
    add_data(parser)
    add_seeds(parser)
    parser.add_argument("--variants", type=names, help="only these of the grid")
    parser.add_argument("--grid", type=Path, default=Path(__file__).with_suffix(".yaml"))
    parser.add_argument("--dir", type=Path, default=Path("saved/rl-ablations"))
    options = parser.parse_args()
    (shared, variants), seeds = read_grid(options.grid, options.variants), options.seeds
    shared |= {"data_path": options.data_path} if options.data_path else {}
    parent = options.dir / options.dataset
    base = [parent / f"stage 1,seed={seed}" for seed in seeds]
    for folder, seed in zip(base, seeds, strict=True):
        run_once(folder, "RPORec", options.dataset, {**shared, "stages": FIRST, "seed": seed})
    print(table_head("variant", "reward", "validation", "NDCG@10", "HR@10", "minus stage 1, NDCG@10"))
    rows = [row_of("stage 1", base, base)]
    show(rows[0])
    for name, own in variants.items():
        folders = []
        for first, seed in zip(base, seeds, strict=True):
            settings = {"stages": [*FIRST, "2", "2b"], **shared, **own, "seed": seed, "start_from": str(first)}
            folders.append(run_once(parent / f"{name},seed={seed}", "RPORec", options.dataset, settings))
        rows.append(row_of(name, folders, base))
        show(rows[-1])
    target = parent / "rl_ablations.json"
    write_json(target, {"dataset": options.dataset, "seeds": seeds, "rows": rows})
    print(f"\nWritten to {target}")


if __name__ == "__main__":
    main()
