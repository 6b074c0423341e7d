"""What the stages learn from: training positions turned into prompts, examples, fusion rows and a scorer for rewards."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from rporec_recbole.cot.compose import compose_completion
from rporec_recbole.cot.store import Decoding
from rporec_recbole.data import ladder
from rporec_recbole.data.seen import Pairs, items_before
from rporec_recbole.model.rporec import RPORec
from rporec_recbole.rewards.rechead_reward import Score
from rporec_recbole.text.completions import Completion
from rporec_recbole.text.prompts import PromptTemplate, Rating
from rporec_recbole.training.stage1.fusion import FusionRows, RowTexts, fusion_rows

HistoryRow = tuple[list[int], list[Rating] | None]
"""A history and its ratings, None on a data set without ratings; `PromptTemplate.prompt` takes the two."""


def history_rows(model: RPORec, rows: Interaction) -> list[HistoryRow]:
    """The history of each row, as prompts take it. The target is not among what it returns."""
    histories = rows[model.ITEM_SEQ].tolist()
    ratings = model.ratings_of(rows)
    return [(history, None if ratings is None else ratings[row]) for row, history in enumerate(histories)]


class Lessons(NamedTuple):
    """Texts that teach the backbone (stage 1b).

    Attributes:
        ends: `[P]` timeline indices of the positions.
        prompts: of each position.
        completions: what it shall write.
    """

    ends: np.ndarray
    prompts: list[str]
    completions: list[str]


def early_order(dataset: Any, seed: int) -> np.ndarray:
    """The early positions, `[P]` timeline indices, in the random order in which stage 1b takes them."""
    ends = dataset.positions(ladder.EARLY)
    return ends[np.random.default_rng(seed).permutation(len(ends))]


def composed_lessons(model: RPORec, dataset: Any, ends: np.ndarray, template: PromptTemplate) -> Lessons:
    """What the backbone is warmed up with: composed texts, whose answer is the position's true next item.

    Args:
        model: gives catalogue and ratings.
        dataset: an `RPORecDataset`.
        ends: `[P]` timeline indices of early positions; they come back sorted.
        template: makes the prompts; the texts speak of what it shows and of nothing else.
    """
    assert model.catalogue is not None, "reasoning needs item text"
    ends = np.sort(ends)
    if not len(ends):
        return Lessons(ends, [], [])
    rows = dataset.histories(ends)
    histories = history_rows(model, rows)
    completions = [
        compose_completion(model.catalogue, template.shown(*row), target)
        for row, target in zip(histories, rows[model.ITEM_ID].tolist(), strict=True)
    ]
    return Lessons(ends, [template.prompt(*row) for row in histories], completions)


def reasoned_rows(
    model: RPORec, rows: Interaction, decoding: Decoding, desc: str
) -> tuple[FusionRows, list[Completion]]:
    """Fusion rows with reasoning that the backbone writes blind to the target, and its texts (stages 1c and 2b)."""
    reasoning, written = model.reasoning(rows, decoding, desc)
    histories, targets = rows[model.ITEM_SEQ].to(model.device), rows[model.ITEM_ID].to(model.device)
    found = fusion_rows(model.head, histories, model.clock_of(rows), reasoning, targets)
    if model.settings.fusion.fusion_learns == "head":
        cots, answers = model.read_sections([texts[0] for texts in written])
        found = dataclasses.replace(found, texts=RowTexts(histories, cots, answers))
    return found, [text for texts in written for text in texts]


def fusion_texts(model: RPORec, dataset: Any, ends: np.ndarray, desc: str) -> tuple[FusionRows, list[Completion]]:
    """What the fusion is fitted to: positions with sampled reasoning.

    Args:
        model: gives settings and reasoning.
        dataset: an `RPORecDataset`.
        ends: `[P]` timeline indices of the positions.
        desc: label of the progress bar.
    """
    found, written = reasoned_rows(model, dataset.histories(ends), model.fusion_decoding, desc)
    if model.settings.fusion.fusion_loss == "negatives":
        kept = model.negatives.of(torch.from_numpy(ends), found.targets)
        found = dataclasses.replace(found, negatives=kept)
    return found, written


def frozen_scorer(model: RPORec, dataset: Any, ends: np.ndarray, hide_seen: bool) -> Score:
    """Scores of training positions (stage 2).

    Args:
        model: its head stays as it is.
        dataset: an `RPORecDataset`.
        ends: timeline indices of the positions' targets.
        hide_seen: as in the evaluation, items of the user's past are no candidates.
    """
    hidden = None
    if hide_seen:
        users, items = (dataset.timeline[field].numpy() for field in (dataset.uid_field, dataset.iid_field))
        hidden = items_before(users, items, ends)
    return row_scorer(model, dataset.histories(ends), hidden)


def row_scorer(model: RPORec, rows: Interaction, hidden: Pairs | None) -> Score:
    """Scores `[B, N]` of the frozen head for completions of given rows: the evaluation path, with the trunk run once.

    Args:
        model: its head stays as it is.
        rows: `[R]` histories and targets.
        hidden: (row, item) of what is no candidate, sorted by row; its score is `-inf`.
    """
    left_out = torch.zeros(len(rows), 0, dtype=torch.int64)
    if hidden is not None:
        parts = hidden[1].split(torch.bincount(hidden[0], minlength=len(rows)).tolist())
        left_out = torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True)  # 0 is the padding item: -inf anyway
    left_out = left_out.to(model.device)
    histories = rows[model.ITEM_SEQ].to(model.device)
    nothing = model.encode_completions([Completion("")] * len(rows), histories)
    base = fusion_rows(model.head, histories, model.clock_of(rows), nothing, rows[model.ITEM_ID].to(model.device))

    @torch.no_grad()
    def score(numbers: Sequence[int], completions: Sequence[Completion]) -> Tensor:
        model.head.eval()  # whoever trains something beside this
        index = torch.as_tensor(list(numbers), device=model.device)
        reasoning = model.encode_completions(completions, histories[index])
        scores = model.head.scores_of(base.states[index], model.head.item_vectors(), base.seen[index], reasoning)
        return scores.scatter_(1, left_out[index], -torch.inf)

    return score
