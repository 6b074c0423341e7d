"""How does another system stand among runs? RecTools' SASRec, trained by RecTools, as an example of one.

    rporec split ml-100k --output=SPLIT --hide_seen=True
    python benchmarks/outside_lists.py SPLIT [--output=rectools.parquet] [--epochs=10] [--k=20] [--seed=2020]
    rporec compare saved/RUN --lists=RecTools:rectools.parquet

It needs an environment of its own, in which `pip install "rectools[torch]" "pyarrow<21"` has been run, and nothing of this package. RecTools learns
from train.parquet; the histories that it reads for the lists are train.parquet and valid.parquet. Where seen items are hidden, it leaves them out.
Prints RecTools' own NDCG@10 of the lists, which is what `compare` finds for them: with log_base=2 and divide_by_achievable=True it is divided by
the best that could be reached, and that is 1 for one target a user. By default it is divided by the sum over 10 places.
"""

from __future__ import annotations

import json
from pathlib import Path

from harness import new_parser

TIME = "minutes"
RESULTS: dict[str, str] = {}


def main() -> None:
    """Trains, recommends, and writes the lists."""
    parser = new_parser(__doc__)
    parser.add_argument("split", type=Path)
    parser.add_argument("--output", type=Path, default=Path("rectools.parquet"))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--seed", type=int, default=2020)
    given = parser.parse_args()

    import pandas as pd
    from pytorch_lightning import seed_everything
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.metrics import NDCG
    from rectools.models import SASRecModel

    seed_everything(given.seed)
    facts = json.loads((given.split / "split.json").read_text(encoding="utf-8"))
    parts = {part: pd.read_parquet(given.split / f"{part}.parquet") for part in ("train", "valid", "test")}
    for part, table in parts.items():
        time = table["timestamp"] if "timestamp" in table else pd.Series(range(len(table)))
        parts[part] = table.assign(**{Columns.Datetime: pd.to_datetime(time, unit="s"), Columns.Weight: 1.0})
    candidates = pd.read_parquet(given.split / "candidates.parquet")["item_id"]
    model = SASRecModel(
        n_factors=64, n_blocks=2, n_heads=2, session_max_len=50, epochs=given.epochs, recommend_torch_device="cpu"
    )
    model.fit(Dataset.construct(parts["train"]))
    before = Dataset.construct(pd.concat([parts["train"], parts["valid"]]))
    learned = candidates[candidates.isin(parts["train"]["item_id"])]  # it can rank no others
    lists = model.recommend(
        users=parts["test"]["user_id"].unique(),
        dataset=before,
        k=given.k,
        filter_viewed=facts["hide_seen"],
        items_to_recommend=learned.to_numpy(),
    )
    lists.to_parquet(given.output)
    ndcg = NDCG(k=10, log_base=2, divide_by_achievable=True)
    print(f"{len(lists):,} rows are in {given.output}. NDCG@10 by RecTools: {ndcg.calc(lists, parts['test'])!r}")


if __name__ == "__main__":
    main()
