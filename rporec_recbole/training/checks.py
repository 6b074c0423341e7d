"""What would stop a run in one of its later stages, found out before the first one: the trunk may take hours."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch

from rporec_recbole.backbone.load import check_backbone
from rporec_recbole.data import ladder
from rporec_recbole.errors import ConfigError
from rporec_recbole.model.rporec import RPORec
from rporec_recbole.settings.types import RLSettings, Settings
from rporec_recbole.training.stage2.head_reward import check_reward


def check_work(model: RPORec, dataset: Any, stages: Collection[str], processes: int) -> None:
    """Refuses what the coming stages cannot do.

    Args:
        model: gives settings and, once it has one, its backbone.
        dataset: the `RPORecDataset` of the training loader.
        stages: that are still to run.
        processes: that share stage 2.

    Raises:
        BackboneError: the backbone is not there or cannot be used.
        ConfigError: a stage has no positions to learn from, a step of stage 2 cannot be shared, or a reward part does not exist.
        RewardError: a reward part of somebody else's does not do what a part must.
    """
    if model.backbone is None and {"1b", "1c"} & set(stages):
        settings = model.settings
        check_backbone(settings.longest_texts if "2" in stages else settings.backbone, torch.device(model.device))
    _check_positions(model.settings, dataset, stages)
    if "2" in stages:
        _check_sharing(model.settings.rl, processes)
        check_reward(model)


def _check_positions(settings: Settings, dataset: Any, stages: Collection[str]) -> None:
    early = settings.stage.ladder_early
    if {"1c", "2b"} & set(stages) and not len(dataset.positions(ladder.FUSION)):
        raise ConfigError(
            f"No training position is left for the fusion: `ladder_early={early}` takes all. Lower it, or set `ladder=False` to let all "
            "stages share all positions."
        )
    left, needed = len(dataset.positions(ladder.RL)), settings.rl.rl_prompts
    if "2" in stages and left < needed:
        raise ConfigError(
            f"Only {left} training positions are left for stage 2, whose steps take `rl_prompts={needed}`. Raise `ladder_rl`, or lower "
            f"`ladder_early={early}` or `rl_prompts`."
        )


def _check_sharing(settings: RLSettings, processes: int) -> None:
    a_step = settings.rl_prompts * settings.group_size
    if a_step % processes:
        raise ConfigError(
            f"A step of stage 2 has rl_prompts * group_size = {a_step} completions, which {processes} processes cannot share equally. "
            "Change one of the three numbers."
        )
    if settings.rollout_engine == "vllm" and processes > 1:
        raise ConfigError(
            f"`rollout_engine=vllm` writes for one process, and there are {processes}. Start one, or leave it at `transformers`."
        )
