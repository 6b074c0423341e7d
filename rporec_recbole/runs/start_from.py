"""Which finished run another one may go on from (`start_from`): one with the same settings up to stage 1c, and no further."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rporec_recbole.errors import ConfigError
from rporec_recbole.runs.folder import read_config
from rporec_recbole.settings.places import changed
from rporec_recbole.settings.types import STAGES, RLSettings

_LATER = {
    *(field.name for field in dataclasses.fields(RLSettings)),
    "stages",
    "start_from",
    "realign_learning_rate_factor",
    "refresh_epochs",
    "fusion_strengths",
    "controls",
    "seed",
}
"""What may differ: the stages up to 1c do not depend on it, or (`seed`) other draws are wanted from here on."""

_ELSEWHERE = {
    "data_path",
    "gpu_id",
    "show_progress",
    "state",
    "log_wandb",
    "trackers",
    "tracker_project",
    "worker",
    "metrics",
    "topk",
}
"""What changes nothing that is learned."""


def check_start(config: Mapping[str, Any]) -> None:
    """Refuses a `start_from` that the run cannot go on from; nothing happens without one.

    Args:
        config: what the run's `config.yaml` will say.

    Raises:
        ConfigError: that run is of another model, had other settings, or ran other stages than those up to 1c.
        RunFolderError: there is no run.
    """
    if config.get("start_from") is None:
        return
    folder = Path(str(config["start_from"]))
    before = read_config(folder)
    if before.get("model") != "RPORec":
        raise ConfigError(f"`start_from={folder}` holds a run of {before.get('model')}; name one of RPORec.")
    there, wanted = ([str(stage) for stage in one["stages"]] for one in (before, config))
    first = [stage for stage in STAGES if stage in wanted and stage not in ("2", "2b", "refresh")]
    if "1c" not in there or set(there) != set(first):
        raise ConfigError(
            f"`start_from={folder}` ran the stages {there}. A run with `stages={wanted}` can start from one that ran exactly {first}, "
            "with 1c among them."
        )
    other = [
        f"{key}: {before.get(key)!r} there, {config.get(key)!r} here"
        for key in changed(before, config)
        if key not in _LATER | _ELSEWHERE
    ]
    if other:
        raise ConfigError(
            f"`start_from={folder}` was run with other settings, and its stages cannot be made again: {'; '.join(other)}. Give the same, or "
            "leave `start_from` out."
        )
