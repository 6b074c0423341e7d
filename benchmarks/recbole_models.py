"""Which of RecBole's models run in this harness, every one of them: one epoch, loaded again, ranked again.

    python benchmarks/recbole_models.py [--dataset=ml-100k] [--dir=saved/models] [--models=SASRec,GRU4Rec,...] [--length=N]

Without --dataset the data are made: a small set with features, a knowledge graph and vectors, so that every kind of model has what it
reads. Prints and writes `models.md`; models with a finished run folder are not run again.
"""

from __future__ import annotations

import logging
import traceback
from pathlib import Path
from time import perf_counter
from typing import Any

from harness import metrics_of, names, new_parser, run_once, table_head, table_row

TIME = "three minutes"
RESULTS: dict[str, str] = {}
MADE = "made"
KINDS = {
    "sequential_recommender": "sequential",
    "general_recommender": "general",
    "context_aware_recommender": "context-aware",
    "knowledge_aware_recommender": "knowledge-aware",
    "exlib_recommender": "trees",
}
NEEDS: dict[str, dict[str, Any]] = {
    **{model: {"selected_features": ["genre", "words"]} for model in ("FDSA", "GRU4RecF", "SASRecF")},
    "S3Rec": {"item_attribute": "words", "pretrain_epochs": 1},
    "RaCT": {"pretrain_epochs": 1, "metrics_k": 10},
    "NCL": {"num_clusters": 5},
    **{model: {"reranker_CAN_NUM": 10} for model in ("GRU4RecCPR", "SASRecCPR")},
    "RPORec": {"stages": ["1a"], "ids_only": True},
    "R2ec": {
        "item_text_fields": ["words"],
        "backbone": "tiny-nano",
        "warmup_examples": 40,
        "head_positions": 20,
        "max_new_tokens": 16,
        "epoch_steps": 1,
    },
    "TextSASRec": {"item_text_fields": ["words"]},
    "TIGER": {"item_text_fields": ["words"], "codebook_size": 8},
}
"""What a model has to be told on data that are as small as these, or whose columns have other names than RecBole expects."""


def write_made(parent: Path, users: int = 40, items: int = 30, seed: int = 0) -> Path:
    """Writes the data set `made` with all tables that a model of RecBole's reads.

    Args:
        parent: becomes `data_path`.
        users, items: how many.
        seed: of everything that is drawn.

    Returns:
        `parent`.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    times = (
        (user, item, 880_000_000 + 1000 * user + step)
        for user in range(users)
        for step, item in enumerate(rng.permutation(items)[: int(rng.integers(6, 14))])
    )
    triples = [(f"e{item}", relation, f"{relation}{item % 4}") for item in range(items) for relation in ("genre", "by")]
    entities = sorted({one for head, _, tail in triples for one in (head, tail)})

    def vector() -> str:
        return " ".join(f"{number:.3f}" for number in rng.normal(size=64))

    tables: dict[str, tuple[str, list[tuple[Any, ...]]]] = {
        "inter": (
            "user_id:token item_id:token rating:float timestamp:float",
            [(f"u{user}", f"i{item}", int(rng.integers(1, 6)), time) for user, item, time in times],
        ),
        "user": ("user_id:token age:token", [(f"u{user}", f"a{user % 4}") for user in range(users)]),
        "item": (
            "item_id:token genre:token price:float words:token_seq",
            [(f"i{item}", f"g{item % 4}", 1.5 * item, f"w{item % 3} w{item % 5}") for item in range(items)],
        ),
        "link": ("item_id:token entity_id:token", [(f"i{item}", f"e{item}") for item in range(items)]),
        "kg": ("head_id:token relation_id:token tail_id:token", triples),
        "ent": ("ent_id:token ent_emb:float_seq", [(entity, vector()) for entity in entities]),
        "rel": ("rel_id:token rel_emb:float_seq", [(relation, vector()) for relation in ("genre", "by")]),
    }
    folder = parent / MADE
    folder.mkdir(parents=True, exist_ok=True)
    for kind, (head, rows) in tables.items():
        lines = [head.replace(" ", "\t"), *("\t".join(map(str, row)) for row in rows)]
        (folder / f"{MADE}.{kind}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return parent


def kind_of(model: str) -> str:
    """A kind of RecBole's, by the folder that holds the model."""
    from rporec_recbole.settings.known import recbole_dir

    found = next((recbole_dir() / "model").glob(f"*/{model.lower()}.py"), None)
    return KINDS[found.parent.name] if found else "sequential"


def outcome(
    folder: Path, model: str, dataset: str, settings: dict[str, Any], data_path: Path | None
) -> tuple[str, str]:
    """What came out of a model, in words, and its NDCG@10."""
    from rporec_recbole import load_run
    from rporec_recbole.errors import RPORecError

    try:
        metrics = metrics_of(run_once(folder, model, dataset, settings, str(data_path) if data_path else None))
        again, ranks = load_run(folder).evaluate("test")
    except RPORecError as error:
        return "refused: " + " ".join(str(error).split()), ""
    except Exception as error:  # the table is about failures too
        traceback.print_exc()
        return f"fails: {type(error).__name__}: {str(error).splitlines()[0][:100]}", ""
    same = again == metrics["test"] and len(ranks) > 0
    return "runs" if same else "runs, and comes back with other scores", f"{metrics['test']['ndcg@10']:.4f}"


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--dataset", default=MADE)
    parser.add_argument("--dir", type=Path, default=Path("saved/models"))
    parser.add_argument("--models", type=names, help="default: all")
    parser.add_argument("--length", type=int, help="MAX_ITEM_LIST_LENGTH; default: each model's own")
    options = parser.parse_args()

    from rporec_recbole.settings.known import model_names

    logging.disable(logging.INFO)
    made = options.dataset == MADE
    data_path = write_made(options.dir / "data") if made else None
    lines = [table_head("model", "kind", "outcome", "test NDCG@10 after 1 epoch", "seconds")]
    for model in options.models or model_names():
        settings: dict[str, Any] = {"epochs": 1, **(NEEDS.get(model, {}) if made else {})}
        if options.length:
            settings["MAX_ITEM_LIST_LENGTH"] = options.length
        if model == "RPORec":
            settings["stages"] = ["1a"]
        start = perf_counter()
        words, value = outcome(options.dir / options.dataset / model, model, options.dataset, settings, data_path)
        lines.append(table_row(model, kind_of(model), words, value, f"{perf_counter() - start:.1f}"))
        print(lines[-1], flush=True)
    text = "\n".join(lines) + "\n"
    options.dir.mkdir(parents=True, exist_ok=True)
    (options.dir / "models.md").write_text(text, encoding="utf-8")
    print("\n" + text)


if __name__ == "__main__":
    main()
