"""Which of RecBole's models run in this harness: one epoch of each on ml-100k.

    python benchmarks/recbole_models.py [--dir=saved/models] [--models=SASRec,GRU4Rec,...] [--length=N]

Prints and writes `models.md`; models with a finished run folder are not run again.
"""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

from harness import metrics_of, names, new_parser, run_once, table_head, table_row

TIME = "half an hour"
RESULTS: dict[str, str] = {}
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
    parser = new_parser(__doc__)
    parser.add_argument("--dir", type=Path, default=Path("saved/models"))
    parser.add_argument("--models", type=names, default=",".join(MODELS))
    parser.add_argument("--length", type=int, help="MAX_ITEM_LIST_LENGTH; default: each model's own")
    options = parser.parse_args()
    lines = [table_head("model", "outcome", "test NDCG@10 after 1 epoch", "seconds")]
    for model in options.models:
        settings: dict[str, Any] = {"epochs": 1}
        if options.length:
            settings["MAX_ITEM_LIST_LENGTH"] = options.length
        if model == "RPORec":
            settings["stages"] = ["1a"]
        try:
            metrics = metrics_of(run_once(options.dir / model, model, "ml-100k", settings))
            seconds = sum(stage["seconds"] for stage in metrics["stages"].values())
            lines.append(table_row(model, "runs", f"{metrics['test']['ndcg@10']:.4f}", f"{seconds:.0f}"))
        except Exception as error:  # the table is about failures too
            traceback.print_exc()
            why = f"fails: {type(error).__name__}: {str(error).splitlines()[0][:100]}"
            lines.append(table_row(model, why, "", ""))
        print(lines[-1], flush=True)
    text = "\n".join(lines) + "\n"
    options.dir.mkdir(parents=True, exist_ok=True)
    (options.dir / "models.md").write_text(text, encoding="utf-8")
    print("\n" + text)


if __name__ == "__main__":
    main()
