"""A million items on a CPU: one training step with the sampled softmax, and exact top-100 of 4,096 users.

    python benchmarks/catalogue_scale.py [--items=1000000] [--out=saved/catalogue_scale.json]

The rival of the retrieval is the bare matrix product, nothing kept, in whichever of several shapes of block is fastest here;
a second rival is `torch.topk` over the scores of each block of users. Each part runs in its own process, so that its peak memory
(resident, `ru_maxrss`) is its own; the memory of the item matrix and of the imports is given beside it.
"""

from __future__ import annotations

import argparse
import functools
import json
import resource
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

DIMENSION, BATCH, LENGTH, USERS, K = 64, 128, 50, 4096, 100
BLOCKS = ((512, 4096), (512, 8192), (1024, 1024), (1024, 2048), (2048, 1024))
"""(users, items) of the blocks of the bare product."""


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


def training_step(items: int) -> dict[str, Any]:
    import torch

    from rporec_recbole.model.fusedhead import FusedHead
    from rporec_recbole.model.losses import sampled_recommendation_loss
    from rporec_recbole.model.rechead import distinct

    torch.manual_seed(0)
    before = peak_gb()
    head = FusedHead(
        items, None, hidden_size=DIMENSION, layers=2, heads=2, inner_size=4 * DIMENSION, dropout=0.2,
        initializer_range=0.02, history_bias=True,
    )  # fmt: skip
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3)
    seconds, losses = [], []
    for _ in range(4):
        histories = torch.randint(1, items, (BATCH, LENGTH))
        targets = torch.randint(1, items, (BATCH, LENGTH))
        start = perf_counter()
        vectors = head.item_vectors()
        users = head.states(histories, vectors).flatten(0, 1)
        rows = torch.arange(BATCH).repeat_interleave(LENGTH)
        steps = torch.arange(LENGTH).repeat(BATCH)
        loss = sampled_recommendation_loss(
            users, vectors, targets.flatten(), distinct(histories), rows, steps, head.history_offset(users), 4096
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds.append(perf_counter() - start)
        losses.append(loss.item())
    return {"peak_gb": peak_gb(), "imports_gb": before, "seconds_per_step": min(seconds), "loss": losses[0]}


def retrieval(items: int) -> dict[str, Any]:
    import torch

    from rporec_recbole.model.retrieval import top_items

    torch.manual_seed(0)
    before = peak_gb()
    matrix, users = torch.randn(items, DIMENSION), torch.randn(USERS, DIMENSION)
    with_matrix = peak_gb()

    def product(at_once: tuple[int, int]) -> None:
        buffer = torch.empty(at_once)
        for part in users.split(at_once[0]):
            for block in matrix.split(at_once[1]):
                torch.mm(part, block.T, out=buffer) if len(block) == at_once[1] else part @ block.T

    def plain_topk() -> None:
        for part in users.split(128):
            (part @ matrix.T).topk(K, dim=1)

    def ours() -> None:
        top_items(users, matrix, K, first=0)

    rivals = {f"product {shape[0]} x {shape[1]}": functools.partial(product, shape) for shape in BLOCKS}
    times: dict[str, list[float]] = {name: [] for name in ("ours", *rivals)}
    for _ in range(4):  # in turn, so that a change of the machine's speed meets all of them
        for name, work in (("ours", ours), *rivals.items()):
            start = perf_counter()
            work()
            times[name].append(perf_counter() - start)
    ours_gb = peak_gb()
    fastest = min(rivals, key=lambda name: min(times[name]))
    start = perf_counter()
    plain_topk()
    plain = perf_counter() - start
    return {
        "peak_beside_matrix_gb": ours_gb - with_matrix,
        "matrix_gb": with_matrix - before,
        **{f"seconds_{name}".replace(" ", "_"): min(of_shape) for name, of_shape in times.items()},
        "ours_over_fastest_product": min(times["ours"]) / min(times[fastest]),
        "seconds_torch_topk": plain,
    }


PARTS = {"training_step": training_step, "retrieval": retrieval}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--out", default="saved/catalogue_scale.json")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(PARTS[options.part](options.items)))
        return
    report: dict[str, Any] = {"items": options.items}
    print(f"{options.items:,} items, dimension {DIMENSION}\n\n| part | figure | value |\n|---|---|---|")
    for part in PARTS:
        command = [sys.executable, __file__, f"--items={options.items}", f"--part={part}"]
        report[part] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for name, value in report[part].items():
            print(f"| {part} | {name} | {value:.3f} |", flush=True)
    out = Path(options.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
