"""The service under load, on loopback, beside the bare model call.

    python benchmarks/serving.py [--run=RUN] [--seconds=60] [--clients=1,8,64] [--rate=500] [--batch_size=32]
                                 [--dir=saved/serving] [--output=benchmarks/results/serving.json]

Without --run a run is made: 3,706 items and 6,040 users as in MovieLens 1M, synthetic histories, the trunk with ml-1m's sizes
trained for one epoch; what it recommends means nothing, what it costs is real. Histories that are asked for are as long as
ml-1m's (log-normal, median 96, mean 165, at least 20), the newest 200 items of each are sent, and no two are alike. With --run
they are those of the run's test split.

The service runs as a process of its own, the load generator as another. Clients of the first rows ask again as soon as they
are answered; `paced` asks at --rate over 64 connections, whatever is answered. Overload asks at four times the rate that the
last row of clients sustained, then at half of it: how long until nothing is refused and all answers take less than 50 ms?
The bare model call is `last_state`, scores and top 10 of as many rows as the service's mean batch had, on one thread.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from harness import RESULTS_DIR, new_parser, numbers, one_thread, own_process, run_once, write_json
from load_generator import driven

TIME = "ten minutes"
RESULTS = {"benchmarks/results/serving.json": "python benchmarks/serving.py"}
ITEMS, USERS, LENGTH = 3706, 6040, 200


def drive(
    port: int, bodies: Path, clients: int, phases: list[tuple[float, float]], paced: bool
) -> list[dict[str, Any]]:
    """Load from a process of its own."""
    plan = {"port": port, "bodies": str(bodies), "clients": clients, "phases": phases, "paced": paced}
    return own_process(__file__, f"--drive={json.dumps(plan)}")


def make_run(folder: Path) -> Path:
    """A run of ml-1m's size on synthetic data; kept for the next time."""
    from rporec_recbole.settings.properties import properties_dir, read_yaml

    if (folder / "run" / "metrics.json").is_file():
        return folder / "run"
    data = folder / "data" / "synthetic"
    data.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    lines = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    for user in range(1, USERS + 1):
        for step, item in enumerate(draw(rng, 20)):
            lines.append(f"{user}\t{item}\t{rng.integers(1, 6)}\t{step}")
    lines += [f"{1 + item % USERS}\t{item}\t3\t100" for item in range(1, ITEMS + 1)]  # every item is known
    (data / "synthetic.inter").write_text("\n".join(lines) + "\n", encoding="utf-8")
    rows = [f"{item}\tFilm number {item}\tDrama\t{1950 + item % 50}" for item in range(1, ITEMS + 1)]
    header = "item_id:token\ttitle:token_seq\tgenre:token_seq\tyear:token"
    (data / "synthetic.item").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    settings = read_yaml(properties_dir() / "model" / "RPORec-ml-1m.yaml")
    settings |= {"data_path": str(folder / "data"), "item_text_fields": ["title", "genre", "year"], "stages": ["1a"]}
    settings |= {"epochs": 1, "eval_step": 1}
    return run_once(folder / "run", "RPORec", "synthetic", settings)


def draw(rng: np.random.Generator, length: int) -> list[int]:
    """Distinct items, popular ones more often."""
    return (rng.permutation(np.unique((ITEMS * rng.random(4 * length) ** 2).astype(int)))[:length] + 1).tolist()


def histories_of(run: Path | None, count: int = 5000) -> list[list[str]]:
    """What is asked for."""
    if run is None:
        rng = np.random.default_rng(1)
        lengths = np.clip(rng.lognormal(np.log(96), 1.04, count), 20, LENGTH).astype(int)
        return [[str(item) for item in draw(rng, int(length))] for length in lengths]
    from rporec_recbole import load_run

    loaded = load_run(run)
    rows, model = loaded.loaders["test"].dataset.inter_feat, loaded.model
    tokens = loaded.dataset.field2id_token[loaded.dataset.iid_field]
    if model.reasoner is not None:
        model.reasoner.store.close()
    return [[str(tokens[item]) for item in row if item] for row in rows[model.ITEM_SEQ].tolist()]


@contextlib.contextmanager
def served(run: Path, batch_size: int) -> Iterator[int]:
    """The service as a process; its port."""
    command = "import sys; from rporec_recbole.cli import main; sys.exit(main())"
    arguments = ["serve", str(run), "--port=0", f"--batch_size={batch_size}", "--worker=False"]
    with subprocess.Popen(
        [sys.executable, "-c", command, *arguments], stdout=subprocess.PIPE, text=True, env=one_thread()
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            yield int(line.rsplit(":", 1)[1])
        finally:
            process.terminate()
            process.wait(60)


def batches(port: int) -> tuple[float, float, float]:
    """Rows, model calls and seconds of them so far."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
        text = response.read().decode()
    names = ("rporec_batch_rows_sum", "rporec_batch_rows_count", "rporec_model_seconds_total")
    rows, calls, seconds = (float(re.search(rf"^{name} (.*)$", text, re.MULTILINE)[1]) for name in names)  # type: ignore[index]
    return rows, calls, seconds


def bare(run: Path, histories: list[list[str]], rows: int, seconds: float) -> float:
    """Milliseconds per row of the model alone, `rows` at once."""
    import torch

    from rporec_recbole import load_run
    from rporec_recbole.evaluation.ranking import top_of
    from rporec_recbole.model.rechead import distinct, score_items

    loaded = load_run(run)
    head, ids = loaded.model.head, loaded.dataset.field2token_id[loaded.dataset.iid_field]
    if loaded.model.reasoner is not None:
        loaded.model.reasoner.store.close()
    torch.set_num_threads(1)
    known = [[ids[token] for token in history] for history in histories]
    calls, spent = 0, 0.0
    with torch.inference_mode():
        items = head.item_vectors()
        while spent < seconds:
            part = [known[(calls * rows + row) % len(known)] for row in range(rows)]
            batch = torch.zeros(rows, max(len(one) for one in part), dtype=torch.int64)
            for row, one in enumerate(part):
                batch[row, : len(one)] = torch.tensor(one)
            start = time.perf_counter()
            state = head.last_state(batch, items)
            top_of(score_items(state, items, distinct(batch), head.history_offset(state)), 10)
            spent += time.perf_counter() - start
            calls += 1
    return 1000 * spent / calls / rows


def show(name: str, one: dict[str, Any], rows: float | None = None) -> None:
    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:,.1f}"

    figures = [
        one["answered_per_second"],
        one["p50_ms"],
        one["p99_ms"],
        one["refused_per_second"],
        one["refused_p99_ms"],
    ]
    total = one["answered_per_second"] + one["failed"] / one["seconds"]
    error = one["failed"] / one["seconds"] / total if total else 0.0
    print(
        f"{name:<22}" + "".join(f"{number(value):>10}" for value in figures) + f"{error:>9.2%}{number(rows):>8}",
        flush=True,
    )


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=numbers, default="1,8,64")
    parser.add_argument("--rate", type=float, default=500)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--dir", type=Path, default=Path("saved/serving"))
    parser.add_argument("--output", type=Path, default=RESULTS_DIR / "serving.json")
    parser.add_argument("--drive", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.drive:
        print(json.dumps(driven(json.loads(given.drive))))
        return
    given.dir.mkdir(parents=True, exist_ok=True)
    run = given.run or make_run(given.dir)
    histories = histories_of(given.run)
    bodies = given.dir / "questions.jsonl"
    bodies.write_text("\n".join(json.dumps({"history": one, "top_k": 10}) for one in histories) + "\n")
    mean = sum(len(one) for one in histories) / len(histories)
    print(f"{len(histories):,} histories of {mean:.0f} items on average\n")
    print(
        f"{'':<22}"
        + "".join(f"{name:>10}" for name in ("answers/s", "p50 ms", "p99 ms", "429/s", "429 p99"))
        + "   errors   batch"
    )
    results: dict[str, Any] = {"mean_history": mean, "clients": {}}
    with served(run, given.batch_size) as port:
        drive(port, bodies, 8, [(0, 2)], False)  # the first calls pay for things that later ones find
        for clients in given.clients:
            before = batches(port)
            one = drive(port, bodies, clients, [(0, given.seconds)], False)[0]
            after = batches(port)
            rows, calls, seconds = (new - old for new, old in zip(after, before, strict=True))
            one |= {"mean_batch": rows / calls, "model_ms_per_row": 1000 * seconds / rows}
            results["clients"][str(clients)] = one
            show(f"{clients} clients", one, one["mean_batch"])
        sustained = one["answered_per_second"]
        results["paced"] = drive(port, bodies, 64, [(given.rate, given.seconds)], True)[0]
        show(f"paced, {given.rate:.0f}/s", results["paced"])
        phases = [(4 * sustained, given.seconds), (sustained / 2, max(6.0, given.seconds / 2))]
        overload, calm = drive(port, bodies, 1000, phases, True)
        results["overload"], results["after"] = overload, calm
        show("overload, 4 times", overload)
        show("afterwards, half", calm)
    rows = max(1, round(one["mean_batch"]))
    alone = bare(run, histories, rows, min(10.0, given.seconds))
    overhead = 1000 / sustained / alone
    results["bare"] = {"rows": rows, "ms_per_row": alone, "service_ms_per_request": 1000 / sustained, "times": overhead}
    print(f"\nafter the overload all was well in {calm['calm_after_seconds']:.2f} s")
    print(
        f"bare model call, {rows} rows: {alone:.2f} ms a row; the service {1000 / sustained:.2f} ms a request, {overhead:.2f} times"
    )
    write_json(given.output, results)
    print(f"{given.output} has all of it")


if __name__ == "__main__":
    main()
