"""A million items on a CPU: one training step with the sampled softmax, exact top-100 of 4,096 users, and an evaluation of RecBole's SASRec.

    python benchmarks/catalogue_scale.py [--items=1000000] [--parts=evaluation] [--out=saved/catalogue_scale.json]

The rival of the retrieval is the bare matrix product, nothing kept, in whichever of several shapes of block is fastest here;
a second rival is `torch.topk` over the scores of each block of users. Each part runs in its own process, so that its peak memory
(resident, `ru_maxrss`) is its own; the memory of the item matrix and of the imports is given beside it.

The evaluation is a whole run of SASRec as the command line starts it, with one negative an epoch of training (BPR: RecBole's cross-entropy needs the
scores of all items for each row of a batch), validation and test of 2,000 users against all items.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import random
import resource
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

from harness import machine, metrics_of, names, new_parser, own_process, table_head, table_row, write_json
from trunk_steps import DIMENSION, timed_steps

TIME = "minutes"
RESULTS: dict[str, str] = {}
USERS, K = 4096, 100
EVALUATED = 2000
BLOCKS = ((512, 4096), (512, 8192), (1024, 1024), (1024, 2048), (2048, 1024))
"""(users, items) of the blocks of the bare product."""


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


def training_step(items: int) -> dict[str, Any]:
    import rporec_recbole  # noqa: F401  # imported before the peak is read: it is not the memory of a step

    before = peak_gb()
    seconds, losses = timed_steps(items, exact=False)
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


def evaluation(items: int) -> dict[str, Any]:
    from rporec_recbole.cli import main as rporec

    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "large")
        folder.mkdir()
        lines = "\n".join(f"i{item}" for item in range(items))
        (folder / "large.item").write_text(f"item_id:token\n{lines}\n", encoding="utf-8")
        rows = [f"u{user}\ti{rng.randrange(items)}\t{step}" for user in range(EVALUATED) for step in range(10)]
        head = "user_id:token\titem_id:token\ttimestamp:float"
        (folder / "large.inter").write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
        asked = [
            "--model=SASRec", "--dataset=large", f"--data_path={scratch}", f"--run_dir={scratch}/run", "--epochs=1", "--show_progress=False",
            "--item_inter_num_interval=[0,inf)", "--load_col={inter: [user_id,item_id,timestamp], item: [item_id]}",
            "--loss_type=BPR", "--train_neg_sample_args={distribution: uniform, sample_num: 1, alpha: 1.0, dynamic: False, candidate_num: 0}",
        ]  # fmt: skip
        with contextlib.redirect_stdout(io.StringIO()):
            code = rporec(asked)
        if code:
            raise SystemExit(code)
        metrics = metrics_of(Path(scratch, "run"))
    return {
        "peak_gb": peak_gb(),
        "candidates": metrics["candidates"],
        "seconds_training": metrics["stages"]["train"]["seconds"],
        "seconds_evaluation": metrics["stages"]["evaluation"]["seconds"],
    }


PARTS = {"training_step": training_step, "retrieval": retrieval, "evaluation": evaluation}


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--out", default="saved/catalogue_scale.json")
    parser.add_argument("--parts", type=names, default=",".join(PARTS))
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(PARTS[options.part](options.items)))
        return
    report: dict[str, Any] = {"items": options.items}
    print(f"{options.items:,} items, dimension {DIMENSION}\n\n{table_head('part', 'figure', 'value')}")
    for part in options.parts:
        report[part] = own_process(__file__, f"--items={options.items}", f"--part={part}")
        for name, value in report[part].items():
            print(table_row(part, name, f"{value:.3f}"), flush=True)
    write_json(options.out, {**report, "machine": machine()})


if __name__ == "__main__":
    main()
