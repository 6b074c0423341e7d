"""Code that a user names in words, as `package.module:name`: a model class, a part of the reward."""

from __future__ import annotations

import functools
import importlib
import os
import sys
from typing import Any

from rporec_recbole.errors import ConfigError


def names_code(text: Any) -> bool:
    """Whether a setting names code of somebody's own, rather than a thing that this package or RecBole knows."""
    return isinstance(text, str) and ":" in text


def find_code(text: str, what: str) -> Any:
    """Imports what a text names, which runs its module. Looks in the working folder too.

    Args:
        text: `package.module:name`.
        what: names it, for the message, such as "`--model`".

    Raises:
        ConfigError: it cannot be imported.
    """
    module, _, attribute = text.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # an installed command does not look beside itself, as `python script.py` does
    try:
        return functools.reduce(getattr, attribute.split("."), importlib.import_module(module))
    except Exception as error:  # whatever somebody else's module raises while it is imported
        raise ConfigError(
            f"{what} `{text}`, which cannot be imported ({type(error).__name__}: {error}). Install the package, start in the folder that holds "
            "the module, or put that on PYTHONPATH."
        ) from error


def written_name(cls: type) -> str:
    """How a `config.yaml` names a model class: by its name alone where RecBole knows it, otherwise as `package.module:Class`."""
    ours = cls.__module__.partition(".")[0] in ("recbole", "rporec_recbole")
    return cls.__name__ if ours else f"{cls.__module__}:{cls.__qualname__}"


def class_name(text: str) -> str:
    """The name of a class that is named alone or as `package.module:Class`."""
    return text.rpartition(":")[2].rpartition(".")[2]
