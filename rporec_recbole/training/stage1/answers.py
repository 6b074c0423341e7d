"""What the writer itself knows of a split, while a model is trained and afterwards."""

from __future__ import annotations

from typing import Any

from rporec_recbole.data.seen import past_items
from rporec_recbole.evaluation.answers import AnswerMeasure
from rporec_recbole.model.rporec import RPORec


def answer_measure(model: RPORec, dataset: Any) -> AnswerMeasure:
    """Measures answers against the model's catalogue and the popularity of its training part.

    Args:
        model: has item text.
        dataset: the `RPORecDataset` of the training part.
    """
    assert model.catalogue is not None, "answers need item text"
    return AnswerMeasure(model.catalogue.lines, dataset.interaction_counts())


def answers_of(model: RPORec, measure: AnswerMeasure, dataset: Any, *, hide_seen: bool, desc: str) -> dict[str, float]:
    """The measure of the texts that an evaluation of a split reads; they are written where they are missing.

    Args:
        model: has its backbone.
        measure: see `answer_measure`.
        dataset: the `RPORecDataset` of the split.
        hide_seen: as in the evaluation.
        desc: label of the progress bar.
    """
    rows = dataset.inter_feat
    hidden = past_items(dataset, rows) if hide_seen else None
    return measure(model.completions(rows, model.evaluation_decoding, desc), rows[model.ITEM_ID], hidden)
