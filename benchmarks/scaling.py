"""Does the cost of the trunk grow linearly? Seconds per epoch against interactions, seconds per step against catalogue size.

    python benchmarks/scaling.py --data_path=DIR [--dataset=ml-1m] [--out=saved/scaling]

Interactions: random users of the data set until 10 k, 32 k, 100 k, 316 k and all of its interactions are reached, one
epoch of all-position training at length 200 after a warm-up step. Catalogue: synthetic histories over 1 k to 1 M items,
batch 128 x 50; the full softmax up to 50 k items, the sampled one from there on, as the model itself chooses. Writes
scaling.json and scaling.png; points that are there already are not measured again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from rporec_recbole.host.bridge import build_config, build_model
from rporec_recbole.host.data import build_data
from rporec_recbole.model.fusedhead import FusedHead
from rporec_recbole.model.losses import recommendation_loss, sampled_recommendation_loss
from rporec_recbole.model.rechead import distinct
from rporec_recbole.settings.reader import default_settings

INTERACTIONS = (10_000, 31_600, 100_000, 316_000, 1_000_000)
ITEMS = (1_000, 3_160, 10_000, 31_600, 49_000, 100_000, 316_000, 1_000_000)


def seconds_per_epoch(table: pd.DataFrame, wanted: int) -> tuple[int, float]:
    """(interactions, seconds) of the fastest epoch on random users of the data set."""
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
    """The fastest of three training steps at 128 x 50 positions."""
    limits = default_settings().head
    torch.manual_seed(0)
    head = FusedHead(
        items, None, hidden_size=64, layers=2, heads=2, inner_size=256, dropout=0.2,
        initializer_range=0.02, history_bias=True,
    )  # fmt: skip
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3)
    exact = items <= limits.full_softmax_items
    rows, steps = torch.arange(128).repeat_interleave(50), torch.arange(50).repeat(128)
    times = []
    for _ in range(4):
        histories, targets = torch.randint(1, items, (128, 50)), torch.randint(1, items, (128, 50))
        start = perf_counter()
        vectors = head.item_vectors()
        users = head.states(histories, vectors).flatten(0, 1)
        loss = (recommendation_loss if exact else sampled_recommendation_loss)(
            users, vectors, targets.flatten(), distinct(histories), rows, steps, head.history_offset(users),
            limits.logit_budget if exact else limits.sampled_negatives,
        )  # fmt: skip
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        times.append(perf_counter() - start)
    return min(times[1:])


def slope(points: list[tuple[float, float]]) -> float:
    """Exponent of the power law through the points: 1 is linear."""
    x, y = np.log(np.array(points)).T
    return float(np.polyfit(x, y, 1)[0])


def draw(report: dict[str, Any], path: Path) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="ml-1m")
    parser.add_argument("--data_path", required=True, help="parent folder of the data set")
    parser.add_argument("--out", default="saved/scaling")
    options = parser.parse_args()
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    file = out / "scaling.json"
    report = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"interactions": [], "items": []}
    columns = ["user_id:token", "item_id:token", "timestamp:float"]
    table = pd.read_csv(Path(options.data_path) / options.dataset / f"{options.dataset}.inter", sep="\t")[columns]
    for wanted in INTERACTIONS[len(report["interactions"]) :]:
        report["interactions"].append(seconds_per_epoch(table, min(wanted, len(table) - 1)))
        print("{:>10,} interactions {:8.2f} s an epoch".format(*report["interactions"][-1]), flush=True)
        file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    for items in ITEMS[len(report["items"]) :]:
        report["items"].append((items, seconds_per_step(items)))
        print("{:>10,} items        {:8.3f} s a step".format(*report["items"][-1]), flush=True)
        file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"\nexponent in interactions {slope(report['interactions']):.2f}, in items {slope(report['items']):.2f}")
    draw(report, out / "scaling.png")


if __name__ == "__main__":
    main()
