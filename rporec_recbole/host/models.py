"""Model classes: those that have a name here, and a user's own, as `package.module:Class` or as the class itself."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import ModelType, get_model

from rporec_recbole.errors import ConfigError, RunFolderError
from rporec_recbole.settings.known import CONFIG_KEY, check_model, known_keys, model_names
from rporec_recbole.settings.named_code import class_name, find_code, names_code, written_name
from rporec_recbole.settings.properties import layered_properties

_own: dict[str, type] = {}
"""Classes that somebody named in this process, by how a `config.yaml` names them."""


def find_model(model: str | type) -> type:
    """The class of a model. A module that a user names is imported, which runs its code.

    Args:
        model: a name among `model_names()`, `package.module:Class`, or a class.

    Raises:
        ConfigError: there is no such model, it cannot be imported, or it is no model.
    """
    if isinstance(model, str) and not names_code(model):
        check_model(model)
        return _recboles(model)
    found = find_code(model, "`--model` names") if isinstance(model, str) else model
    if isinstance(found, type) and _has_a_name(found):
        return found
    _refuse_others(model, found)
    _own[written_name(found)] = found
    return found


def trusted(folder: Path, written: str, given: str | type | None) -> str | type:
    """The model of a run folder; code that the folder names is not imported on its word.

    Args:
        folder: of the run.
        written: what its `config.yaml` says.
        given: what the user names; None where nobody did.

    Raises:
        RunFolderError: the run is of a class of somebody's own that nobody has named in this process.
        ConfigError: the user names another model.
    """
    if given is not None:
        named = given if isinstance(given, str) else written_name(given)
        if class_name(named) != class_name(written):
            raise ConfigError(f"The run {folder} is of the model `{written}`, not of `{named}`. Name that one.")
        return given
    if not names_code(written):
        return written
    if written in _own:
        return _own[written]
    raise RunFolderError(
        f"The run {folder} is of a model of somebody's own, `{written}`, and to bring it back that code has to be run. If you trust it, name it: "
        f"load_run(..., model={written!r}), or --model={written} on the command line."
    )


def known_as(cls: type) -> str:
    """The name that settings of a class go by: its own; for a user's, that of the model of RecBole's that it extends, if it does."""
    for one in cls.__mro__:
        if _has_a_name(one):
            return one.__name__
    return cls.__name__


def _has_a_name(cls: type) -> bool:
    """Whether a class is RecBole's or ours, and one that can be named."""
    return cls.__name__ in model_names() and written_name(cls) == cls.__name__


def keys_of(model: str | type, dataset: str) -> dict[str, Any]:
    """`known_keys`, of a user's own class too: what its code and that of what it extends read.

    Args:
        model: as for `find_model`.
        dataset: name of the data set.

    Raises:
        ConfigError: as `find_model`.
    """
    if isinstance(model, str) and not names_code(model):
        return known_keys(model, dataset)
    cls = find_model(model)
    keys = known_keys(known_as(cls), dataset)
    return {**dict.fromkeys(_keys_of_class(cls)), **keys, **layered_properties(cls.__name__, dataset)}


@functools.cache  # a search makes a config for every trial
def _keys_of_class(cls: type) -> frozenset[str]:
    found: set[str] = set()
    for one in cls.__mro__:
        if one.__module__.partition(".")[0] in ("builtins", "torch", "rporec_recbole"):
            continue  # RPORec's settings stand in a YAML file of their own
        try:
            module = inspect.getsourcefile(one)
            text = Path(str(module)).read_text(encoding="utf-8")
            found.update(CONFIG_KEY.findall(text))
        except (OSError, TypeError):  # a class that was typed into a shell has no file
            found.update(word for method in vars(one).values() for word in _words(getattr(method, "__code__", None)))
    return frozenset(found)


def _words(code: Any) -> Iterator[str]:
    """Texts in compiled code that could be keys."""
    for constant in code.co_consts if isinstance(code, CodeType) else ():
        if isinstance(constant, str) and constant.isidentifier():
            yield constant
        yield from _words(constant)


def _recboles(name: str) -> type:
    try:
        return get_model(name)
    except ImportError as error:
        raise ConfigError(
            f"{name} needs a package that is not installed: {error}. Install it and try again."
        ) from error


def _refuse_others(model: str | type, found: Any) -> None:
    text = f"`{model if isinstance(model, str) else getattr(model, '__name__', model)}`"
    if not isinstance(found, type) or not issubclass(found, AbstractRecommender):
        raise ConfigError(
            f"{text} is no model: name a class that extends SequentialRecommender, GeneralRecommender or another one of "
            "recbole.model.abstract_recommender."
        )
    from rporec_recbole.model.rporec import RPORec

    if issubclass(found, RPORec):
        raise ConfigError(
            f"{text} extends RPORec, whose stages know it by its name. Change its head instead: CONTRIBUTING.md says how."
        )
    if getattr(found, "type", ModelType.DECISIONTREE) == ModelType.DECISIONTREE:
        raise ConfigError(f"{text} has no `type` of a model that ranks items, such as ModelType.SEQUENTIAL.")
    if "<locals>" in found.__qualname__:
        raise ConfigError(
            f"{text} is defined inside a function, where RecBole cannot save its best epoch from. Define it at the top of a module or script."
        )
    if found.__name__ in model_names():
        raise ConfigError(
            f"{text} has the name of a model of RecBole's, {found.__name__}, and results would be mixed up. Give the class another name."
        )
