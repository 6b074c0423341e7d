"""Does the cost of the trunk grow linearly? Seconds per epoch against interactions, seconds per step against catalogue size.

    python benchmarks/scaling.py --data_path=DIR [--dataset=ml-1m] [--out=saved/scaling]

Interactions: random users of the data set until 10 k, 32 k, 100 k, 316 k and all of its interactions are reached, one
epoch of all-position training at length 200 after a warm-up step. Catalogue: synthetic histories over 1 k to 1 M items,
batch 128 x 50; the full softmax up to 50 k items, the sampled one from there on, as the model itself chooses. Writes
scaling.json and scaling.png; points that are there already are not measured again.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
from harness import machine, new_parser, read_json, write_json
from trunk_steps import timed_steps

TIME = "ml-1m: a quarter of an hour"
RESULTS: dict[str, str] = {}
INTERACTIONS = (10_000, 31_600, 100_000, 316_000, 1_000_000)
ITEMS = (1_000, 3_160, 10_000, 31_600, 49_000, 100_000, 316_000, 1_000_000)


def seconds_per_epoch(table: pd.DataFrame, wanted: int) -> tuple[int, float]:
    """(interactions, seconds) of the fastest epoch on random users of the data set."""
    import torch

    from rporec_recbole.host.bridge import build_config, build_model
    from rporec_recbole.host.data import build_data

    sizes = table.groupby("user_id:token", sort=False).size().sample(frac=1, random_state=0)
    users = sizes.index[: int(np.searchsorted(sizes.cumsum().to_numpy(), wanted)) + 1]
    part = table[table["user_id:token"].isin(users)]
    with tempfile.TemporaryDirectory() as parent:
        (Path(parent) / "part").mkdir()
        part.to_csv(Path(parent) / "part/part.inter", sep="\t", index=False)
        config = build_config(
            "RPORec",
            "part",
            overrides={
                "data_path": parent,
                "ids_only": True,
                "MAX_ITEM_LIST_LENGTH": 200,
                "train_batch_size": 32,
                "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
            },
        )
        _, train, _, _ = build_data(config)
        model = build_model(config, train)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

        def step(batch: Any) -> None:
            loss = model.calculate_loss(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        model.train()
        step(next(iter(train)))
        times: list[float] = []
        while sum(times) < 5 or len(times) < 2:  # a short epoch alone would measure the machine's first touch of memory
            start = perf_counter()
            for batch in train:
                step(batch)
            times.append(perf_counter() - start)
        return len(part), min(times)


def seconds_per_step(items: int) -> float:
    """The fastest of three training steps at 128 x 50 positions, with the softmax that the model would choose."""
    from rporec_recbole.settings.reader import default_settings

    return min(timed_steps(items, exact=items <= default_settings().head.full_softmax_items)[0][1:])


def slope(points: list[tuple[float, float]]) -> float:
    """Exponent of the power law through the points: 1 is linear."""
    x, y = np.log(np.array(points)).T
    return float(np.polyfit(x, y, 1)[0])


def draw(report: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    from rporec_recbole.settings.reader import default_settings

    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, key, x, y in (
        (axes[0], "interactions", "interactions", "seconds per epoch"),
        (axes[1], "items", "items in the catalogue", "seconds per step of 128 x 50"),
    ):
        points = np.array(report[key])
        axis.loglog(points[:, 0], points[:, 1], "o-", color="#1f4e79", label="measured")
        axis.loglog(points[:, 0], points[-1, 1] * points[:, 0] / points[-1, 0], "--", color="grey", label="linear")
        axis.set_xlabel(x)
        axis.set_ylabel(y)
        axis.grid(alpha=0.3, which="both")
        axis.legend()
    limit = default_settings().head.full_softmax_items
    axes[1].axvline(limit, color="#c0504d", linewidth=1)
    axes[1].text(limit * 1.1, axes[1].get_ylim()[0] * 1.2, "sampled softmax", color="#c0504d")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--dataset", default="ml-1m")
    parser.add_argument("--data_path", required=True, help="parent folder of the data set")
    parser.add_argument("--out", type=Path, default=Path("saved/scaling"))
    options = parser.parse_args()
    file = options.out / "scaling.json"
    report = read_json(file, {"interactions": [], "items": []})
    columns = ["user_id:token", "item_id:token", "timestamp:float"]
    table = pd.read_csv(Path(options.data_path) / options.dataset / f"{options.dataset}.inter", sep="\t")[columns]
    for wanted in INTERACTIONS[len(report["interactions"]) :]:
        report["interactions"].append(seconds_per_epoch(table, min(wanted, len(table) - 1)))
        print("{:>10,} interactions {:8.2f} s an epoch".format(*report["interactions"][-1]), flush=True)
        write_json(file, {**report, "machine": machine()})
    for items in ITEMS[len(report["items"]) :]:
        report["items"].append((items, seconds_per_step(items)))
        print("{:>10,} items        {:8.3f} s a step".format(*report["items"][-1]), flush=True)
        write_json(file, {**report, "machine": machine()})
    print(f"\nexponent in interactions {slope(report['interactions']):.2f}, in items {slope(report['items']):.2f}")
    draw(report, options.out / "scaling.png")


if __name__ == "__main__":
    main()
