"""A config as plain values, from which the same one can be made again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rporec_recbole.settings.known import recbole_dir
from rporec_recbole.settings.named_code import written_name
from rporec_recbole.settings.places import STARTED_IN

_MADE = frozenset(
    (
        "run_dir",
        "checkpoint_dir",
        "device",
        "MODEL_TYPE",
        "MODEL_INPUT_TYPE",
        "eval_type",
        "valid_metric_bigger",
        "local_rank",
        "single_spec",
        "valid_neg_sample_args",
        "test_neg_sample_args",
    )
)
"""What RecBole or a run makes of other settings."""


def repeatable_config(config: Any) -> dict[str, Any]:
    """The complete config as plain YAML values, enough to build it again from any working folder (`settings.places`).

    Data that come with RecBole are named by their name alone, so that the config holds in any environment.

    Args:
        config: RecBole's Config.
    """
    values = {key: value for key, value in config.final_config_dict.items() if key not in _MADE}
    values["model"] = written_name(config.model_class)
    parent = Path(values.pop("data_path")).parent
    if recbole_dir().resolve() not in parent.resolve().parents:
        values["data_path"] = os.path.abspath(parent)
    values[STARTED_IN] = os.getcwd()
    if (values.get("train_neg_sample_args") or {}).get("distribution") == "none":
        values["train_neg_sample_args"] = None
    return {key: _plain(value) for key, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)
