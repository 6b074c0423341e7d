"""How long the trunk needs to reach the validation NDCG@10 that RecBole's SASRec ends with.

    python benchmarks/time_to_quality.py [--dataset=ml-100k] [--data_path=DIR] [--length=50] [--epochs=40] [--seed=2020]
                                         [--rival=FOLDER] [--dir=saved/time_to_quality]

Both train on the same machine with the same length, width, depth, heads and feed-forward size and are validated after
every epoch; the clock counts training and validation. SASRec learns with batches of 256 rows: with RecBole's 2,048 an
epoch takes as long and teaches less. The trunk keeps the defaults of `properties/model/RPORec.yaml`. A finished half is
kept and not run again; --rival names a finished SASRec run to compare with. Give both halves the same number of threads
(OMP_NUM_THREADS) and nothing else to compete with. Writes time_to_quality.json into --dir.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness import add_data, machine, metrics_of, new_parser, run_once, table_head, table_row, write_json

TIME = "an hour, nearly all of it SASRec's"
RESULTS: dict[str, str] = {}
SAME = ("MAX_ITEM_LIST_LENGTH", "hidden_size", "inner_size", "n_layers", "n_heads", "seed", "data_path", "hide_seen")


def validations(folder: Path) -> list[dict[str, float]]:
    """Epoch, seconds since training began and score of every validation of a finished run."""
    return metrics_of(folder)["validations"]


def first_at(points: list[dict[str, float]], wanted: float) -> dict[str, float] | None:
    return next((point for point in points if point["score"] >= wanted), None)


def main() -> None:
    parser = new_parser(__doc__)
    add_data(parser, "ml-100k")
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=2020)
    parser.add_argument("--rival")
    parser.add_argument("--dir", type=Path, default=Path("saved/time_to_quality"))
    options = parser.parse_args()

    from rporec_recbole.settings.properties import read_yaml

    parent = options.dir
    rival, trunk = Path(options.rival or parent / "SASRec"), parent / "trunk"
    common: dict[str, Any] = {"epochs": options.epochs, "eval_step": 1, "stopping_step": 5}
    own = {"MAX_ITEM_LIST_LENGTH": options.length, "seed": options.seed, "train_batch_size": 256}
    run_once(rival, "SASRec", options.dataset, {**common, **own}, options.data_path)
    config = read_yaml(rival / "config.yaml")
    same = {key: config[key] for key in SAME}
    run_once(trunk, "RPORec", str(config["dataset"]), {**common, **same, "stages": ["1a"]})
    theirs, ours = validations(rival), validations(trunk)
    wanted = max(point["score"] for point in theirs)
    there, here = first_at(theirs, wanted), first_at(ours, wanted)
    report = {"dataset": config["dataset"], "same": same, "wanted": wanted, "SASRec": there, "trunk": here}
    print(f"\n{config['dataset']}: validation NDCG@10 {wanted:.4f}, the best of RecBole's SASRec, is reached after\n")
    print(table_head("model", "epochs", "seconds"))
    for name, point in (("RecBole's SASRec", there), ("trunk", here)):
        print(table_row(name, *((f"{point['epoch']:.0f}", f"{point['seconds']:.1f}") if point else ("never", ""))))
    if there and here:
        report["ratio"] = there["seconds"] / here["seconds"]
        print(f"\n{report['ratio']:.1f} times faster.")
    write_json(parent / "time_to_quality.json", {**report, **machine()})


if __name__ == "__main__":
    main()
