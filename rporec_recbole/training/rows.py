"""What the stages learn from: training positions turned into prompts, examples, fusion rows and a scorer for rewards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from rporec_recbole.cot.compose import compose_completion
from rporec_recbole.cot.store import Decoding
from rporec_recbole.data import ladder
from rporec_recbole.data.seen import items_before
from rporec_recbole.model.rechead import score_items
from rporec_recbole.model.rporec import RPORec
from rporec_recbole.text.completions import Completion
from rporec_recbole.training.fusion import FusionRows, fusion_rows

HistoryRow = tuple[list[int], list[float] | None]
"""A history and its ratings, None on a data set without ratings; `PromptTemplate.prompt` takes the two."""


def history_rows(model: RPORec, rows: Interaction) -> list[HistoryRow]:
    """The history of each row, as prompts take it. The target is not among what it returns."""
    histories = rows[model.ITEM_SEQ].tolist()
    ratings = rows[model.rating_list].tolist() if model.rating_list else [None] * len(histories)
    return list(zip(histories, ratings, strict=True))


def composed_examples(model: RPORec, dataset: Any, count: int, seed: int) -> tuple[list[HistoryRow], list[str]]:
    """What the backbone is warmed up with (stage 1b).

    Args:
        model: gives catalogue and prompt length.
        dataset: an `RPORecDataset`.
        count: at most so many examples, drawn without replacement from the early positions.
        seed: seed of the draw.

    Returns:
        histories and the completions composed for them, whose answer is the position's true next item.
    """
    assert model.catalogue is not None, "reasoning needs item text"
    ends = dataset.positions(ladder.EARLY)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(ends))[:count])
    rows = dataset.histories(ends[chosen])
    shown, size = history_rows(model, rows), model.settings.text.prompt_items
    completions = [
        compose_completion(model.catalogue, [item for item in history if item][-size:], target)
        for (history, _), target in zip(shown, rows[model.ITEM_ID].tolist(), strict=True)
    ]
    return shown, completions


def reasoned_rows(
    model: RPORec, rows: Interaction, decoding: Decoding, desc: str
) -> tuple[FusionRows, list[Completion]]:
    """Fusion rows with reasoning that the backbone writes blind to the target, and that reasoning (stages 1c and 2b)."""
    written = model.completions(rows, decoding, desc)
    reasoning = model.encode_completions(written)
    histories, targets = rows[model.ITEM_SEQ].to(model.device), rows[model.ITEM_ID].to(model.device)
    return fusion_rows(model.head, histories, reasoning, targets), written


def fusion_texts(model: RPORec, dataset: Any, desc: str) -> tuple[FusionRows, list[Completion]]:
    """What the fusion is fitted to: the fusion rung, with sampled reasoning; empty if the rung is.

    Args:
        model: gives settings and reasoning.
        dataset: an `RPORecDataset`, the training part.
        desc: label of the progress bar.
    """
    settings = model.settings
    ends = dataset.positions(ladder.FUSION, settings.fusion.fusion_positions)
    decoding = Decoding(settings.backbone.cot_temperature, settings.backbone.max_new_tokens, model.seed)
    return reasoned_rows(model, dataset.histories(ends), decoding, desc)


def frozen_scorer(
    model: RPORec, dataset: Any, ends: np.ndarray, hide_seen: bool
) -> Callable[[Sequence[int], Sequence[Completion]], Tensor]:
    """Scores `[B, N]` of the frozen head for completions of given positions: the evaluation path, with the trunk run
    once (stage 2; see `rewards.Score`).

    Args:
        model: its head stays as it is.
        dataset: an `RPORecDataset`.
        ends: timeline indices of the positions' targets.
        hide_seen: as in the evaluation, items of the user's past are no candidates (their score is `-inf`).
    """
    rows = dataset.histories(ends)
    hidden = torch.zeros(len(rows), 0, dtype=torch.int64)
    if hide_seen:
        users, items = (dataset.timeline[field].numpy() for field in (dataset.uid_field, dataset.iid_field))
        row, item = items_before(users, items, ends)
        parts = item.split(torch.bincount(row, minlength=len(rows)).tolist())
        hidden = torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True)  # 0 is the padding item: -inf anyway
    hidden = hidden.to(model.device)
    nothing = model.encode_completions([Completion("")] * len(rows))
    base = fusion_rows(model.head, rows[model.ITEM_SEQ].to(model.device), nothing, rows[model.ITEM_ID].to(model.device))

    @torch.no_grad()
    def score(positions: Sequence[int], completions: Sequence[Completion]) -> Tensor:
        index = torch.as_tensor(list(positions), device=model.device)
        state = base.states[index]
        users = model.head.user_vectors(state, model.encode_completions(completions))
        scores = score_items(users, model.head.item_vectors(), base.seen[index], model.head.history_offset(state))
        return scores.scatter_(1, hidden[index], -torch.inf)

    return score
