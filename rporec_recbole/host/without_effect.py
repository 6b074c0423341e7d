"""Settings of RecBole's that do nothing in this harness: given another value than RecBole's own, they are refused with what to use instead."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

from rporec_recbole.host.kinds import STAGES

_PICKLED = "is a pickle, and nothing is unpickled here. Data are read from their files each time"
_PROCESSES = "comes from a launcher. Start `torchrun --nproc-per-node=N --no-python rporec ...` for several processes (RPORec alone)"
_MADE = "is made by RecBole of other settings"

_INSTEAD: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("save_dataset", "save_dataloaders"), (lambda value: not value, f"{_PICKLED}. Leave it out")),
    **dict.fromkeys(
        ("dataset_save_path", "dataloaders_save_path"), (lambda value: value is None, f"{_PICKLED}. Leave it out")
    ),
    **dict.fromkeys(
        ("world_size", "nproc", "local_rank", "offset", "group_offset", "ip", "port"),
        (lambda value: value is None, _PROCESSES),
    ),
    "checkpoint_dir": (
        lambda value: str(value).strip("./") == "saved",
        "has no effect: a run keeps its model in its folder. Name that with --run_dir=DIR",
    ),
    "config_file": (lambda value: value is None, "has no effect. The name is --config_files"),
    **dict.fromkeys(
        ("MODEL_TYPE", "MODEL_INPUT_TYPE", "eval_type"),
        (lambda value: value is None, f"{_MADE}, the model's class first. Leave it out"),
    ),
    **dict.fromkeys(
        ("valid_neg_sample_args", "test_neg_sample_args"),
        (lambda value: value is None, f"{_MADE}. Sampled evaluation is --eval_args with `mode: uni100`"),
    ),
}
_NOT_OF_OURS: dict[str, Any] = {"shuffle": True, "enable_amp": False, "enable_scaler": False, "require_pow": False}
_NOT_READ: dict[str, tuple[dict[str, Any], str]] = {
    "RPORec": ({"learner": "adam", **_NOT_OF_OURS}, "whose stages have an optimiser and batches of their own"),
    "R2ec": (_NOT_OF_OURS, "whose epochs have batches of their own"),
}
"""What RecBole's trainer reads and a trainer of ours does not, with RecBole's own values, and why."""


def effect_problems(model: str, given: Mapping[str, Any]) -> list[str]:
    """What was given and does nothing.

    Args:
        model: its name.
        given: settings of the user's, files and arguments together.

    Returns:
        a sentence for each.
    """
    found = [
        f"`{key}={given[key]!r}` {instead}"
        for key, (harmless, instead) in _INSTEAD.items()
        if key in given and not harmless(given[key])
    ]
    if given.get("log_wandb") and importlib.util.find_spec("wandb") is None:
        found.append(
            "`log_wandb=True` needs the package `wandb`, which is not installed. Install it, or leave the setting out"
        )
    if stages := STAGES.get(model):
        told = f"the stages of {model}, {', '.join(stages)}, run one after another in one run. Leave it out"
        allowed = {"train_stage": stages[0], "pre_model_path": ""}
        found += [f"`{key}={given[key]!r}`: {told}" for key, only in allowed.items() if given.get(key, only) != only]
    return found


def unread_problems(config: Any, given: Mapping[str, Any]) -> list[str]:
    """What was given and is not read by this model, or follows from other settings.

    Args:
        config: RecBole's Config made of it.
        given: as for `effect_problems`.

    Returns:
        a sentence for each.
    """
    unread, why = _NOT_READ.get(config["model"], ({}, ""))
    found = [
        f"`{key}={given[key]!r}` has no effect on {config['model']}, {why}. Leave it out"
        for key, value in unread.items()
        if given.get(key, value) != value
    ]
    bigger = config["valid_metric_bigger"]
    if given.get("valid_metric_bigger", bigger) != bigger:
        better = "more" if bigger else "less"
        found.append(
            f"`valid_metric_bigger={not bigger}` has no effect: of {config['valid_metric']}, {better} is better. Leave it out"
        )
    return found
