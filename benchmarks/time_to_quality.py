"""How long the trunk needs to reach the validation NDCG@10 that RecBole's SASRec ends with.

    python benchmarks/time_to_quality.py [--dataset=ml-100k] [--data_path=DIR] [--length=50] [--epochs=30] [--seed=2020]
                                         [--out=saved/time_to_quality.json]

Both run in this process, one after the other, with the same length, width, depth, heads and feed-forward size, both
validated after every epoch; the clock counts training and validation. SASRec has RecBole's own defaults otherwise
(cross-entropy, dropout 0.5, learning rate 0.001), the trunk the defaults of `properties/model/RPORec.yaml`. A finished
half is kept in the output file and not run again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from time import perf_counter
from typing import Any

from rporec_recbole.recbole_bridge import build_config, build_model, build_trainer
from rporec_recbole.recbole_data import build_data
from rporec_recbole.run_folder import logging_to, versions


def curve(model: str, dataset: str, overrides: dict[str, Any]) -> list[tuple[float, float]]:
    """(seconds since training began, validation score) after every epoch."""
    config = build_config(model, dataset, overrides=overrides)
    points: list[tuple[float, float]] = []
    with logging_to(None):
        _, train, valid, _ = build_data(config)
        trainer = build_trainer(config, build_model(config, train))
        start = perf_counter()
        trainer.fit(
            train,
            valid,
            saved=False,
            show_progress=False,
            callback_fn=lambda epoch, score: (
                points.append((perf_counter() - start, float(score))),
                print(f"{model} epoch {epoch + 1}: {points[-1][0]:.1f} s, NDCG@10 {score:.4f}", flush=True),
            ),
        )
    return points


def first_at(points: list[tuple[float, float]], wanted: float) -> float | None:
    return next((seconds for seconds, score in points if score >= wanted), None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--data_path")
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=2020)
    parser.add_argument("--out", default="saved/time_to_quality.json")
    options = parser.parse_args()
    shared: dict[str, Any] = {
        "MAX_ITEM_LIST_LENGTH": options.length,
        "epochs": options.epochs,
        "seed": options.seed,
        "eval_step": 1,
        "stopping_step": 5,
        "hidden_size": 64,
        "inner_size": 256,
        "n_layers": 2,
        "n_heads": 2,
        "show_progress": False,
        **({"data_path": options.data_path} if options.data_path else {}),
    }
    out = Path(options.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    kept = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
    question = {"dataset": options.dataset, **shared}
    report: dict[str, Any] = kept if kept.get("settings") == question else {"settings": question}
    for model, extra in (("SASRec", {}), ("RPORec", {"stages": ["1a"]})):
        if model not in report:
            report[model] = curve(model, options.dataset, {**shared, **extra})
            out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    wanted = max(score for _, score in report["SASRec"])
    theirs, ours = first_at(report["SASRec"], wanted), first_at(report["RPORec"], wanted)
    report |= {"wanted": wanted, "seconds_SASRec": theirs, "seconds_RPORec": ours, "versions": versions()}
    out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"\n{options.dataset}, length {options.length}: NDCG@10 {wanted:.4f} on validation is reached")
    print("\n| model | seconds |\n|---|---|")
    print(f"| RecBole's SASRec | {theirs:.1f} |\n| trunk | {'never' if ours is None else f'{ours:.1f}'} |")
    if ours and theirs:
        print(f"\n{theirs / ours:.1f} times faster.")


if __name__ == "__main__":
    main()
