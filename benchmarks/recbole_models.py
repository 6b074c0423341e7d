"""Which of RecBole's models run in this harness: one epoch of each on ml-100k.

    python benchmarks/recbole_models.py [--dir=saved/models] [--models=SASRec,GRU4Rec,...] [--length=N]

Prints and writes `models.md`; models with a finished run folder are not run again.
"""

from __future__ import annotations

import argparse
import json
import traceback
from pathlib import Path

from rporec_recbole import run

MODELS = [
    "SASRec",
    "GRU4Rec",
    "BERT4Rec",
    "NARM",
    "LightSANs",
    "CORE",
    "FEARec",
    "STAMP",
    "Caser",
    "NextItNet",
    "SINE",
    "GCSAN",
    "SASRecF",
    "Pop",
    "BPR",
    "ItemKNN",
    "LightGCN",
    "RPORec",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", default="saved/models")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--length", type=int, help="MAX_ITEM_LIST_LENGTH; default: each model's own")
    options = parser.parse_args()
    parent = Path(options.dir)
    lines = ["| model | outcome | test NDCG@10 after 1 epoch | seconds |", "|---|---|---|---|"]
    for model in options.models.split(","):
        folder = parent / model
        settings = {"epochs": 1, "show_progress": False, "run_dir": str(folder)}
        if options.length:
            settings["MAX_ITEM_LIST_LENGTH"] = options.length
        if model == "RPORec":
            settings["stages"] = ["1a"]
        try:
            if not (folder / "metrics.json").is_file():
                run(model, "ml-100k", overrides=settings)
            metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
            seconds = sum(stage["seconds"] for stage in metrics["stages"].values())
            lines.append(f"| {model} | runs | {metrics['test']['ndcg@10']:.4f} | {seconds:.0f} |")
        except Exception as error:  # the table is about failures too
            traceback.print_exc()
            lines.append(f"| {model} | fails: {type(error).__name__}: {str(error).splitlines()[0][:100]} | | |")
        print(lines[-1], flush=True)
    text = "\n".join(lines) + "\n"
    parent.mkdir(parents=True, exist_ok=True)
    (parent / "models.md").write_text(text, encoding="utf-8")
    print("\n" + text)


if __name__ == "__main__":
    main()
