"""What every command reads its arguments with: words, and options as `--key=value`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rporec_recbole.errors import ConfigError, did_you_mean

TEXTS = frozenset(
    [
        "model",
        "dataset",
        "preset",
        "config_files",
        "run_dir",
        "data_path",
        "gpu_id",
        "backbone",
        "text_encoder",
        "compare",
        "reference",
        "sweep",
        "storage",
        "study",
        "sampler",
        "pruner",
        "metric",
    ]
)
"""Options of a run whose values are never read as anything but text."""

PLACES: dict[str, Any] = dict.fromkeys(("data_path", "backbone", "text_encoder"))
"""Options of every command that loads a finished run, see `runs.finished.load_run`; their values are texts."""

PLACES_HELP = """
What moved since the run was made: --data_path=DIR, --backbone=FOLDER_OR_ID_OR_GGUF, --text_encoder=FOLDER_OR_ID say where it is.
"""


def split_arguments(
    arguments: Sequence[str], texts: Iterable[str] = TEXTS, switches: Iterable[str] = ()
) -> tuple[list[str], dict[str, Any]]:
    """Words, and `--key=value` pairs as Python values.

    Args:
        arguments: of the command line.
        texts: options whose values stay texts; the others are read as RecBole reads its own.
        switches: options that may stand without a value, which means True.

    Raises:
        ConfigError: an option has no value, or stands twice with different ones.
    """
    from rporec_recbole.host.bridge import parse_value

    words: list[str] = []
    values: dict[str, Any] = {}
    for argument in arguments:
        if not argument.startswith("--"):
            words.append(argument)
            continue
        key, equals, text = argument[2:].partition("=")
        if not equals and key in switches:
            equals, text = "=", "True"
        if not equals or not key:
            raise ConfigError(f"Cannot read the argument `{argument}`. Write --{key or 'key'}=VALUE.")
        value = text if key in texts else parse_value(text)
        if key in values and values[key] != value:
            raise ConfigError(f"`--{key}` is given twice, as {values[key]!r} and {value!r}. Give it once.")
        values[key] = value
    return words, values


def options_of(command: str, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a command: what was given, over the defaults.

    Raises:
        ConfigError: an option does not exist, or one whose default is a whole number is none of at least 0.
    """
    for key, value in given.items():
        if key not in defaults:
            known = ", ".join(f"--{name}" for name in defaults) or "none"
            raise ConfigError(f"`{command}` has no option --{key}.{did_you_mean(key, defaults)} Its options: {known}.")
        if type(defaults[key]) is int and (type(value) is not int or value < 0):
            raise ConfigError(f"`--{key}={value!r}` must be a whole number of at least 0.")
    return {**defaults, **given}
