"""Memory of the training data: our windows against RecBole's one padded row per prefix.

    python benchmarks/training_data.py --dataset=ml-1m --data_path=DIR [--length=200] [--out=saved/training_data.json]

Counts the bytes of every tensor of the training part, for RPORec and for RecBole's SASRec under the same settings and
the same columns, and the seconds that `create_dataset` and the split take. The timeline, from which RPORec makes the
histories of the reasoning stages, is counted as ours.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

from harness import add_data, machine, new_parser, table_head, table_row, write_json

TIME = "ml-1m: a minute"
RESULTS: dict[str, str] = {}


def measure(model: str, dataset: str, overrides: dict[str, Any]) -> dict[str, float]:
    from rporec_recbole.host.bridge import build_config
    from rporec_recbole.host.data import build_data

    config = build_config(model, dataset, overrides=overrides)
    start = perf_counter()
    _, train, _, _ = build_data(config)
    seconds = perf_counter() - start
    tables = [train.dataset.inter_feat]
    if model == "RPORec":
        tables.append(train.dataset.timeline)
    size = sum(tensor.numel() * tensor.element_size() for table in tables for tensor in table.interaction.values())
    return {"rows": len(train.dataset.inter_feat), "megabytes": size / 1e6, "seconds": seconds}


def main() -> None:
    parser = new_parser(__doc__)
    add_data(parser, "ml-100k")
    parser.add_argument("--length", type=int, default=200, help="MAX_ITEM_LIST_LENGTH")
    parser.add_argument("--out", default="saved/training_data.json")
    options = parser.parse_args()
    shared: dict[str, Any] = {
        "MAX_ITEM_LIST_LENGTH": options.length,
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    }
    if options.data_path:
        shared["data_path"] = options.data_path
    ours = measure("RPORec", options.dataset, {**shared, "ids_only": True})
    theirs = measure("SASRec", options.dataset, shared)
    report = {"dataset": options.dataset, "length": options.length, "RPORec": ours, "SASRec": theirs}
    report["ratio"] = theirs["megabytes"] / ours["megabytes"]
    print(f"{options.dataset}, length {options.length}\n\n{table_head('', 'rows', 'MB', 'seconds')}")
    for name, row in (("RPORec", ours), ("RecBole's SASRec", theirs)):
        print(table_row(name, f"{row['rows']:,}", f"{row['megabytes']:,.1f}", f"{row['seconds']:.1f}"))
    print(f"\nRecBole's training data is {report['ratio']:.1f} times as large.")
    write_json(options.out, {**report, "machine": machine()})


if __name__ == "__main__":
    main()
