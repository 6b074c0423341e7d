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

import argparse
import json
from pathlib import Path
from typing import Any

from rporec_recbole import run
from rporec_recbole.settings.properties import read_yaml
from rporec_recbole.version import versions

SAME = ("MAX_ITEM_LIST_LENGTH", "hidden_size", "inner_size", "n_layers", "n_heads", "seed", "data_path", "hide_seen")


def validations(folder: Path) -> list[dict[str, float]]:
    """Epoch, seconds since training began and score of every validation of a finished run."""
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["validations"]


def first_at(points: list[dict[str, float]], wanted: float) -> dict[str, float] | None:
    return next((point for point in points if point["score"] >= wanted), None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--data_path")
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=2020)
    parser.add_argument("--rival")
    parser.add_argument("--dir", default="saved/time_to_quality")
    options = parser.parse_args()
    parent = Path(options.dir)
    rival, trunk = Path(options.rival or parent / "SASRec"), parent / "trunk"
    common: dict[str, Any] = {"epochs": options.epochs, "eval_step": 1, "stopping_step": 5, "show_progress": False}
    if not (rival / "metrics.json").is_file():
        own = {"MAX_ITEM_LIST_LENGTH": options.length, "seed": options.seed, "train_batch_size": 256}
        if options.data_path:
            own["data_path"] = options.data_path
        run("SASRec", options.dataset, overrides={**common, **own, "run_dir": str(rival)})
    config = read_yaml(rival / "config.yaml")
    same = {key: config[key] for key in SAME}
    if not (trunk / "metrics.json").is_file():
        settings = {**common, **same, "stages": ["1a"], "run_dir": str(trunk)}
        run("RPORec", str(config["dataset"]), overrides=settings)
    theirs, ours = validations(rival), validations(trunk)
    wanted = max(point["score"] for point in theirs)
    there, here = first_at(theirs, wanted), first_at(ours, wanted)
    report = {"dataset": config["dataset"], "same": same, "wanted": wanted, "SASRec": there, "trunk": here}
    print(f"\n{config['dataset']}: validation NDCG@10 {wanted:.4f}, the best of RecBole's SASRec, is reached after\n")
    print("| model | epochs | seconds |\n|---|---|---|")
    for name, point in (("RecBole's SASRec", there), ("trunk", here)):
        print(f"| {name} | {point['epoch']:.0f} | {point['seconds']:.1f} |" if point else f"| {name} | never | |")
    if there and here:
        report["ratio"] = there["seconds"] / here["seconds"]
        print(f"\n{report['ratio']:.1f} times faster.")
    parent.mkdir(parents=True, exist_ok=True)
    report["versions"] = versions()
    (parent / "time_to_quality.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
