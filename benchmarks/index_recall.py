"""A million items on one core: how much of the exact top-100 each kind of index finds, and how long a query takes.

    python benchmarks/index_recall.py [--items=1000000] [--queries=300] [--kinds=exact,hnsw,ivfpq] [--out=benchmarks/results/index_recall.json]

The vectors are drawn, but not uniformly, which would be harder than any catalogue and tell nothing. 2,000 cluster centres are random
directions; a cluster's share of the items falls off like a power of its rank (Zipf's law, exponent 1.3, capped), as genres and brands do. An
item is its centre plus noise of .8 times the centre's length in all 64 dimensions, brought to length 1, times a log-normal
length (sigma .25): trained item vectors differ in length by popularity, and the inner product sees that. A user is the centre of a random item's cluster
plus noise of the same kind, times 3. Users are not among the items.

Queries are asked one by one, as a service without batches would, on one thread. Each kind is built and asked in its own process;
memory is the growth of the resident set over the build, a copy of the vectors included where the kind keeps one. Each index is asked
twice: by itself, and as the service asks it, through `Retriever` with a history of 100 items, which asks for 100 more and scores what
comes with the exact product, so that most errors of ivfpq's codes are repaired (rescored).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from harness import (
    RESULTS_DIR,
    names,
    new_parser,
    one_thread,
    own_process,
    processor,
    read_json,
    table_head,
    table_row,
    write_json,
)

TIME = "half an hour"
RESULTS = {"benchmarks/results/index_recall.json": "python benchmarks/index_recall.py"}
DIMENSION, CLUSTERS, NOISE, K, HISTORY = 64, 2000, 0.8, 100, 100
GOAL_RECALL, GOAL_MS = 0.95, 5.0
SETTINGS: dict[str, tuple[str | None, tuple[int, ...]]] = {
    "exact": (None, (0,)),
    "hnsw": ("hnsw_search", (512, 1024, 2048)),
    "ivfpq": ("ivf_probes", (16, 64, 256)),
}
"""Kind -> the option that is varied, and its values."""


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def draw(items: int, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of items, `[N, H]` with the padding item, and of users, `[B, H]`."""
    rng = np.random.default_rng(0)

    def directions(x: np.ndarray) -> np.ndarray:
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    def noise(rows: int) -> np.ndarray:
        return rng.standard_normal((rows, DIMENSION), dtype=np.float32) * np.float32(NOISE / DIMENSION**0.5)

    centres = directions(rng.standard_normal((CLUSTERS, DIMENSION), dtype=np.float32))
    sizes = rng.zipf(1.3, CLUSTERS).clip(max=1000).astype(float)
    cluster = rng.choice(CLUSTERS, items, p=sizes / sizes.sum())
    vectors = directions(centres[cluster] + noise(items))
    vectors *= rng.lognormal(0, 0.25, (items, 1)).astype(np.float32)
    users = 3 * (centres[cluster[rng.integers(items, size=queries)]] + noise(queries))
    return np.concatenate([np.zeros((1, DIMENSION), np.float32), vectors]), users


def measure(kind: str, items: int, queries: int) -> list[dict[str, Any]]:
    import faiss
    import torch

    from rporec_recbole.serve.index import ItemIndex
    from rporec_recbole.serve.retriever import Retriever

    faiss.omp_set_num_threads(1)
    torch.set_num_threads(1)
    vectors, users = draw(items, queries)
    truth = ItemIndex.build(vectors).search(users, K)[1]
    before, start, busy = resident_mb(), perf_counter(), os.times().user
    index = ItemIndex.build(vectors, kind)
    built = {"build_seconds": perf_counter() - start, "build_cpu_seconds": os.times().user - busy}
    built["memory_mb"] = resident_mb() - before
    built["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    retriever = Retriever(torch.from_numpy(vectors), index)
    history = torch.arange(1, HISTORY + 1)[None]
    option, values = SETTINGS[kind]
    rows = []
    for value in values:
        if option:
            index = ItemIndex(index._index, kind, {**index.options, option: value}, index.vectors_hash)
            retriever.index = index
        row: dict[str, Any] = {"kind": kind, "setting": f"{option}={value}" if option else "", **built}
        asked = {
            "index": lambda user, index=index: index.search(user, K)[1],
            "retriever": lambda user: retriever.top(torch.from_numpy(user), history, None, None, K)[1].numpy(),
        }
        for name, ask in asked.items():
            times, found = [], []
            for user in users[:, None]:
                start = perf_counter()
                found.append(ask(user)[0])
                times.append(1000 * (perf_counter() - start))
            hits = [len(set(one) & set(other)) for one, other in zip(found, truth, strict=True)]
            row[f"recall_{name}"] = float(np.sum(hits) / truth.size)
            row[f"median_ms_{name}"], row[f"p99_ms_{name}"] = (float(q) for q in np.percentile(times, (50, 99)))
        rows.append(row)
    return rows


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--out", type=Path, default=RESULTS_DIR / "index_recall.json")
    kinds_help = "the others keep the rows that --out has of them"
    parser.add_argument("--kinds", type=names, default=",".join(SETTINGS), help=kinds_help)
    parser.add_argument("--kind", choices=SETTINGS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.kind:
        print(json.dumps(measure(options.kind, options.items, options.queries)))
        return

    from rporec_recbole.serve.index_options import DEFAULTS

    before = read_json(options.out, {})
    kept = before["rows"] if before.get("items") == options.items else []
    rows: list[dict[str, Any]] = [row for row in kept if row["kind"] not in options.kinds]
    print(
        f"{options.items:,} items, dimension {DIMENSION}, recall@{K}, {options.queries} queries one by one, one core\n"
    )
    asked = ("recall", "ms median", "ms p99", "recall, rescored", "ms median", "ms p99")
    print(table_head("index", *asked, "memory MB", "build s"))
    for kind in options.kinds:
        sizes = (f"--items={options.items}", f"--queries={options.queries}")
        for row in own_process(__file__, *sizes, f"--kind={kind}", env=one_thread()):
            rows.append(row)
            figures = [
                f"{row[f'{figure}_{way}']:{form}}"
                for way in ("index", "retriever")
                for figure, form in (("recall", ".3f"), ("median_ms", ".2f"), ("p99_ms", ".2f"))
            ]
            costs = (f"{row[cost]:,.0f}" for cost in ("memory_mb", "build_seconds"))
            print(table_row(f"{kind} {row['setting']}", *figures, *costs), flush=True)
        report = {
            "items": options.items,
            "dimension": DIMENSION,
            "queries": options.queries,
            "k": K,
            "options": DEFAULTS,
            "processor": processor(),
            "rows": rows,
        }
        write_json(options.out, report)
    met = [
        r for r in rows if r["kind"] == "hnsw" and r["recall_index"] >= GOAL_RECALL and r["median_ms_index"] < GOAL_MS
    ]
    print(
        f"\nHNSW with recall@{K} >= {GOAL_RECALL} at under {GOAL_MS:g} ms: {', '.join(r['setting'] for r in met) or 'none'}"
    )


if __name__ == "__main__":
    main()
