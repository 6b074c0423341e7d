"""The oracle of a finished run: texts that are right for a known share of the users, and what they could be worth.

What can be gained is known: an answer that is right can be put first, so a row that is told the truth gains what its trunk's NDCG
lacks to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from rporec_recbole.cot.substitutes import GivesReasoning, Histories, Oracle, Ratings
from rporec_recbole.data import ladder
from rporec_recbole.runs.finished import LoadedRun

TRUE = ("title", "attributes")
WRONG = ("writer", "popular", "history")
_POPULAR = 20  # items of which a wrong popular answer is drawn
_RECENT = 10  # newest items of which a wrong copy of the history is drawn


def oracle_of(
    loaded: LoadedRun,
    share: float,
    true: str = "title",
    wrong: str = "writer",
    seed: int = 0,
    reasoner: GivesReasoning | None = None,
    *,
    marked: bool = False,
) -> Oracle:
    """Texts that answer with the true next item for a share of the rows, in fusion, validation and test alike.

    Args:
        loaded: a run with reasoning.
        share: of the rows of each split, from 0 to 1.
        true: `title`: the item's line; `attributes`: its attributes alone.
        wrong: of the other rows: `writer`, what the backbone wrote; `popular`, one of the most popular items; `history`, one of
            the newest items of the history.
        seed: of the draws.
        reasoner: what the backbone wrote; None takes the run's own.
        marked: whether a replaced answer has a form of its own, see `Oracle`; a head then need not ask what it names.
    """
    model = loaded.model
    lines, items = model.catalogue.lines, model.catalogue.items
    counts = loaded.loaders["train"].dataset.target_counts(ladder.RL)
    popular = torch.argsort(counts, descending=True, stable=True)[:_POPULAR].tolist()
    answers: dict[str, Callable[[int], str]] = {
        "title": lambda item: lines[item],
        "attributes": lambda item: " | ".join(one for one in items[item].attributes if one) or lines[item],
    }
    wrongs: dict[str, Callable[[Sequence[int], np.random.Generator], str] | None] = {
        "writer": None,
        "popular": lambda history, rng: lines[popular[int(rng.integers(len(popular)))]],
        "history": lambda history, rng: lines[history[-1 - int(rng.integers(min(_RECENT, len(history))))]],
    }
    own = model.reasoner if reasoner is None else reasoner
    return Oracle(own, _splits(loaded), share, answers[true], wrongs[wrong], seed, marked)


def _splits(loaded: LoadedRun) -> list[tuple[Histories, Ratings, Sequence[int]]]:
    """Histories, ratings and targets of the rows that the fusion learns from, is chosen on, and is measured on."""
    model, dataset = loaded.model, loaded.loaders["train"].dataset
    ends = dataset.positions(ladder.FUSION, model.settings.fusion.fusion_positions)
    found = []
    for rows in (dataset.histories(ends), *(loaded.loaders[split].dataset.inter_feat for split in ("valid", "test"))):
        found.append((rows[model.ITEM_SEQ].tolist(), model.ratings_of(rows), rows[model.ITEM_ID].tolist()))
    return found
