"""What a night of a million histories takes: prompts, texts, import, recommendations and vectors, each in a process of its own.

    python benchmarks/night.py [--rows=1000000] [--steps=histories,prompts,write,import,recommend,export] [--top_k=10]
                               [--asked=ROWS] [--dir=saved/night] [--output=benchmarks/results/night.json]

The run is RPORec on ml-100k with the embedded backbone, trained for a moment: what it recommends means nothing, what it costs is real. Histories are
drawn: 5 to 20 items of ml-100k each, popular ones more often. The writer answers at once, with a text of the form and length of a grounded answer and
its guesses, so that what is measured is all but the language model. One thread. Each step is the command of that name (`write`: its
loop over shards, with this writer in the backbone's place); the last two take --asked of the histories, if not all. Seconds are split into those until the run is loaded and the rest. A step
whose figures stand in the output for the same number of rows is not measured again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from harness import (
    RESULTS_DIR,
    new_parser,
    one_thread,
    own_process,
    read_json,
    run_once,
    table_head,
    table_row,
    write_json,
)

TIME = "an hour"
RESULTS = {
    "benchmarks/results/night.json": "python benchmarks/night.py --asked=100000; beside other jobs, so its processor seconds count"
}
STEPS = ("histories", "prompts", "write", "import", "recommend", "export")
ROWS_A_FILE = 100_000
SETTINGS = {
    "epochs": 1, "stages": ["1a", "1b", "1c"], "stream_passes": 0, "warmup_examples": 256, "fusion_positions": 1,
    "fusion_epochs": 1, "max_new_tokens": 64, "cot_retries": 1, "fusion_strengths": [1],
}  # fmt: skip


class Instant:
    """Answers at once: a text that depends on the prompt, with guesses behind the answer as a grounded one has them.

    Args:
        fingerprint: of the backbone in whose place it writes.
        lines: of the catalogue, by item id.
        guesses: how many.
    """

    def __init__(self, fingerprint: str, lines: tuple[str, ...], guesses: int) -> None:
        from rporec_recbole.text.completions import render_guesses

        self.fingerprint = fingerprint
        count = len(lines) - 1
        self._tails = [
            f"<answer>{lines[1 + item]}</answer>"
            + render_guesses([(lines[1 + (item + step) % count], -1.0 - 0.3 * step) for step in range(guesses)])
            for item in range(count)
        ]

    def generate(self, prompts: Any, decoding: Any, on_batch: Any = None, desc: str = "") -> list[str]:
        found = []
        for prompt in prompts:
            shown = prompt.splitlines()[-3:]
            tail = self._tails[sum(prompt.encode()) % len(self._tails)]
            found.append(
                f"<think>evidence: {'; '.join(shown)}. preference: more of the like. intent: the next.</think>{tail}"
            )
        return found


def write_histories(folder: Path, rows: int) -> None:
    """Draws histories into Parquet files."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for number, first in enumerate(range(0, rows, ROWS_A_FILE)):
        count = min(ROWS_A_FILE, rows - first)
        lengths = rng.integers(5, 21, count)
        items = 1 + (1682 * rng.random(int(lengths.sum())) ** 2).astype(np.int64)
        lists = pa.ListArray.from_arrays(np.concatenate([[0], lengths.cumsum()]).astype(np.int32), pa.array(items))
        users = pa.array(np.char.add("n", np.arange(first, first + count).astype(str)))
        pq.write_table(pa.table({"user": users, "items": lists}), folder / f"part-{number:05d}.parquet")


def some_of(folder: Path, rows: int) -> Path:
    """The first files of a folder of histories, as a folder."""
    some = folder.with_name(f"{folder.name}-{rows}")
    if not some.is_dir():
        some.mkdir()
        for file in sorted(folder.iterdir())[: -(-rows // ROWS_A_FILE)]:
            (some / file.name).symlink_to(file.resolve())
    return some


def step(name: str, place: Path, run: Path, histories: Path, top_k: int) -> dict[str, Any]:
    """One step in this process, from the import of the package to its end."""
    begun, loaded = time.perf_counter(), [0.0]
    import torch

    from rporec_recbole.cli import main as rporec
    from rporec_recbole.outputs import shards, writing
    from rporec_recbole.runs import finished

    torch.set_num_threads(1)
    load_run = finished.load_run

    def timed(*arguments: Any, **options: Any) -> Any:
        found = load_run(*arguments, **options)
        loaded[0] = time.perf_counter() - begun
        return found

    finished.load_run = timed
    given, texts = f"--histories={histories}", place / "texts"
    if name == "write":
        with shards.run_that_writes(run) as (one, draws):
            model = one.model
            writer = Instant(draws.writer, model.catalogue.lines, draws.all[0].guesses)
            parse = model.reasoner.parse
            done = writing.write_shards(texts, writing.TextWriter(writer, draws, parse), draws, parse)
            print_facts = {"texts": done.texts}
    else:
        words = {
            "prompts": ["cots", "prompts", str(run), given, f"--output={texts}"],
            "import": ["cots", "import", str(run), str(texts)],
            "recommend": ["recommend", str(run), given, f"--output={place / 'recs'}", f"--top_k={top_k}", "--missing_texts=trunk"],
            "export": ["export", str(run), given, f"--output={place / 'vectors'}", "--what=users", "--missing_texts=trunk"],
        }[name]  # fmt: skip
        assert rporec(words) == 0
        print_facts = {}
    end, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": end - begun,
        "until_loaded": loaded[0],
        "processor_seconds": used.ru_utime + used.ru_stime,
        "peak_mb": used.ru_maxrss / 1024,
        **print_facts,
    }


def size_of(path: Path) -> float:
    """Megabytes of a file or of all files of a folder."""
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return sum(one.stat().st_size for one in files) / 2**20


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--steps", default=",".join(STEPS))
    parser.add_argument("--asked", type=int, help="histories that recommend and export take; default all")
    parser.add_argument("--top_k", type=int, default=10)
    parser.add_argument("--dir", type=Path, default=Path("saved/night"))
    parser.add_argument("--output", type=Path, default=RESULTS_DIR / "night.json")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    given = parser.parse_args()
    place, asked = given.dir / str(given.rows), given.asked or given.rows
    if given.step:
        with contextlib.redirect_stdout(sys.stderr):
            if given.step == "run":
                run_once(given.dir / "run", "RPORec", "ml-100k", SETTINGS)
                found = {}
            else:
                all_of_them = place / "histories"
                histories = some_of(all_of_them, asked) if asked < given.rows else all_of_them
                found = step(given.step, place, place / "run", histories, given.top_k)
        print(json.dumps(found))
        return
    place.mkdir(parents=True, exist_ok=True)
    if not (given.dir / "run" / "metrics.json").is_file():
        own_process(__file__, "--step=run", f"--dir={given.dir}")  # what it takes must not count for the others
    if not (place / "run").is_dir():
        shutil.copytree(given.dir / "run", place / "run")
    results = read_json(given.output, {})
    own = results.setdefault(str(given.rows), {})
    left = {
        "histories": "histories", "prompts": "texts/prompts", "write": "texts/texts", "import": "run/reasoning.sqlite", "recommend": "recs",
        "export": "vectors",
    }  # fmt: skip
    print(table_head("step", "rows", "seconds", "until loaded", "processor s", "rows/s", "peak MB", "MB on disk"))
    for name in given.steps.split(","):
        if name == "histories":
            if not (place / name).is_dir():
                write_histories(place / name, given.rows)
            continue
        rows = asked if name in ("recommend", "export") else given.rows
        if own.get(name, {}).get("rows") != rows:
            words = [
                f"--step={name}",
                f"--rows={given.rows}",
                f"--asked={rows}",
                f"--dir={given.dir}",
                f"--top_k={given.top_k}",
            ]
            one = {"rows": rows, **own_process(__file__, *words, env=one_thread())}
            one["rows_per_second"] = rows / (one["seconds"] - one["until_loaded"])
            own[name] = {**one, "disk_mb": size_of(place / left[name])}
            write_json(given.output, results)
        one = own[name]
        print(
            table_row(
                name, f"{one['rows']:,}", f"{one['seconds']:,.0f}", f"{one['until_loaded']:,.0f}", f"{one['processor_seconds']:,.0f}",
                f"{one['rows_per_second']:,.0f}", f"{one['peak_mb']:,.0f}", f"{one['disk_mb']:,.0f}",
            ),
            flush=True,
        )  # fmt: skip
    print(f"{given.output} has all of it")


if __name__ == "__main__":
    main()
