"""The reward of stage 2 for a model as it stands: its positions, its encoder, its backbone, its settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from rporec_recbole.backbone.entropy import cot_entropies
from rporec_recbole.backbone.summaries import Summarizer
from rporec_recbole.cot.quality import QualityLimits
from rporec_recbole.model.rporec import RPORec
from rporec_recbole.rewards.parts import SUMMARIZED, check_parts
from rporec_recbole.rewards.rechead_reward import RecheadReward, Score, trial_record
from rporec_recbole.rewards.record import Positions, TextVectors
from rporec_recbole.text.completions import Completion
from rporec_recbole.training.stage1.rows import history_rows


def head_reward(
    model: RPORec,
    rows: Interaction,
    score: Score,
    *,
    folder: Path,
    observe: Callable[[dict[str, float]], None] | None = None,
    candidates: Tensor | None = None,
) -> RecheadReward:
    """What the settings pay for on given positions.

    Args:
        model: has its backbone.
        rows: histories and targets of R positions (`RPORecDataset.histories`).
        score: `rows.frozen_scorer` of the same positions.
        folder: where a failure is written.
        observe: see `RecheadReward`.
        candidates: see `RecheadReward`.

    Raises:
        ConfigError: a part does not exist.
    """
    assert model.reasoner is not None, "no backbone is connected"
    assert model.catalogue is not None, "reasoning needs item text"
    assert model.backbone is not None, "no backbone is connected"
    settings = model.settings.rl
    histories, template = history_rows(model, rows), model.reasoner.template

    def entropies(prompts: Sequence[str], tokens: Sequence[Sequence[int]]) -> list[Tensor]:
        assert model.backbone is not None, "no backbone is connected"
        return cot_entropies(model.backbone, prompts, tokens, settings.rl_temperature)

    return RecheadReward(
        Positions(
            [template.prompt(*row) for row in histories],
            [[item for item in history if item] for history, _ in histories],
            [template.shown(*row) for row in histories],
            rows[model.ITEM_ID],
        ),
        score,
        encode=lambda completions: _vectors(model, completions),
        entropies=entropies,
        catalogue=model.catalogue,
        weights=settings.reward_weights,
        gates=settings.reward_gates,
        k=settings.reward_k,
        limits=QualityLimits(**model.settings.backbone.quality_limits),
        folder=folder,
        observe=observe,
        summarize=Summarizer(model.backbone) if SUMMARIZED & settings.reward_weights.keys() else None,
        candidates=candidates,
        tag_reading=model.settings.text.tag_reading,
    )


def kept_candidates(model: RPORec, ends: Tensor, targets: Tensor) -> Tensor | None:
    """What the targets of positions are ranked among, `[R, 1 + K]` item ids, the target first; None: the whole catalogue.

    Args:
        model: gives settings and negatives.
        ends: `[R]` timeline indices.
        targets: `[R]` item ids.
    """
    if model.settings.rl.reward_candidates == "catalogue":
        return None
    targets = targets.cpu()
    return torch.cat([targets[:, None], model.negatives.of(ends, targets)], dim=1)


def check_reward(model: RPORec) -> None:
    """Finds and tries what `reward_weights` names, before anything is trained.

    Raises:
        ConfigError: a part does not exist or cannot be imported.
        RewardError: a part of somebody else's does not do what a part must.
    """
    assert model.catalogue is not None, "reasoning needs item text"
    settings = model.settings.rl
    limits = QualityLimits(**model.settings.backbone.quality_limits)
    trial = trial_record(model.catalogue, lambda completions: _vectors(model, completions), settings.reward_k, limits)
    check_parts(settings.reward_weights, trial)


def _vectors(model: RPORec, completions: Sequence[Completion]) -> TextVectors:
    """Under the frozen text encoder, whatever the head reads them with."""
    assert model.encoder is not None, "reasoning needs item text"
    cot, answer = (
        torch.from_numpy(model.encoder.encode(texts))
        for texts in ([one.cot for one in completions], [one.answer for one in completions])
    )
    return TextVectors(cot, answer)
