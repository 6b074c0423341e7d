"""What can be named: models, data sets, settings. Read off RecBole's files, since to import RecBole takes seconds."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from rporec_recbole.errors import ConfigError, did_you_mean
from rporec_recbole.settings.named_code import names_code
from rporec_recbole.settings.places import STARTED_IN
from rporec_recbole.settings.properties import data_set_file, layered_properties, read_yaml

KINDS = {
    "sequential": "sequential_recommender",
    "general": "general_recommender",
    "context-aware": "context_aware_recommender",
    "knowledge-aware": "knowledge_aware_recommender",
    "trees": "exlib_recommender",
}
"""Kind of model -> its folder in RecBole."""
RIVALS = ("HSTU", "R2ec", "TIGER", "TextSASRec")
"""Models of other people's papers that are built here; all are sequential (docs/rivals.md)."""
OURS = ("RPORec", *RIVALS)

_OF_TWO_TYPES = ("topk", "metrics", "stages", "reranker_CAN_NUM")
_CLASS = re.compile(r"^class (\w+)", re.MULTILINE)
CONFIG_KEY = re.compile(r"""config\[\s*["'](\w+)["']\s*\]""")


@cache
def recbole_dir() -> Path:
    """The folder of RecBole's package.

    Raises:
        ConfigError: RecBole is not installed.
    """
    found = importlib.util.find_spec("recbole")
    if found is None or not found.submodule_search_locations:
        raise ConfigError("The package `recbole` is not installed. Install this package again, with what it needs.")
    return Path(next(iter(found.submodule_search_locations)))


@cache
def models_by_kind() -> dict[str, tuple[str, ...]]:
    """Kind -> names of the models that can be named: RecBole's classes, and `OURS` among the sequential ones."""
    found = {}
    for kind, folder in KINDS.items():
        names = set(OURS) if kind == "sequential" else set()
        for path in (recbole_dir() / "model" / folder).glob("*.py"):
            classes = _CLASS.findall(path.read_text(encoding="utf-8"))
            names |= {name for name in classes if name.lower() == path.stem}
        found[kind] = tuple(sorted(names))
    return found


def model_names() -> tuple[str, ...]:
    """Names of all models."""
    return tuple(sorted(name for names in models_by_kind().values() for name in names))


def check_model(model: str) -> None:
    """Refuses a name that no model has. A class of somebody's own (`package.module:Class`) passes: it is seen when it is imported.

    Raises:
        ConfigError: with the likely name.
    """
    names = model_names()
    if model not in names and not names_code(model):
        same = [name for name in names if name.lower() == model.lower()]
        hint = f" Did you mean `{same[0]}`?" if same else did_you_mean(model, names)
        raise ConfigError(
            f"There is no model `{model}`.{hint} `RPORec`, {', '.join(RIVALS)} and RecBole's {len(names) - len(OURS)} models can be run, and a class of yours as "
            "package.module:Class."
        )


def known_keys(model: str, dataset: str) -> dict[str, Any]:
    """Config keys that mean something for this model and data set, with their default values; a file beside the data adds none."""
    keys: dict[str, Any] = dict.fromkeys({"config_files", "encoding", STARTED_IN} | _keys_in_code(model))
    for name in ("overall", "dataset/sample", f"dataset/{dataset}", f"model/{model}"):
        path = recbole_dir() / f"properties/{name}.yaml"
        if path.is_file():
            keys.update(read_yaml(path))
    keys.update(layered_properties(model, dataset))
    keys.pop("device", None)  # RecBole makes it of `gpu_id`
    return keys


@cache  # a search makes a config for every trial
def _keys_in_code(model: str) -> frozenset[str]:
    """Keys that RecBole's core or the model's own file reads, whether or not a YAML file names them."""
    core = [
        path
        for part in ("config", "data", "evaluator", "trainer", "utils", "sampler")
        for path in (recbole_dir() / part).rglob("*.py")
    ]
    core += [recbole_dir() / "model" / name for name in ("abstract_recommender.py", "layers.py")]
    own = [recbole_dir() / "model" / folder / f"{model.lower()}.py" for folder in KINDS.values()]
    return frozenset(
        key for path in [*core, *own] if path.is_file() for key in CONFIG_KEY.findall(path.read_text(encoding="utf-8"))
    )


def parse_value(text: str) -> Any:
    """A command-line value as Python sees it: numbers, True, False, None, lists, dicts; anything else is text."""
    with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):
        return ast.literal_eval(text)
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if text.lower() in ("none", "null", "~"):
        return None
    if text[:1] in "[{":
        import yaml

        with contextlib.suppress(yaml.YAMLError):
            return yaml.safe_load(text)
    return text


def check_names(model: str, dataset: str, names: Iterable[str], options: Iterable[str] = ()) -> None:
    """Refuses settings that nothing reads, whatever their values.

    Args:
        model, dataset: of the run.
        names: of the settings.
        options: what else may have been meant.

    Raises:
        ConfigError: lists them, with the likely spelling.
    """
    if names_code(model):
        return  # they stand in its code, which is not imported yet
    allowed = known_keys(model, dataset)
    what = f"{model} on {dataset}"
    if problems := [str(setting_problem(name, None, allowed, what, options)) for name in names if name not in allowed]:
        raise ConfigError("Settings:\n  " + "\n  ".join(problems))


def check_overrides(what: str, allowed: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
    """Refuses keys that nothing reads and values of another type than the default.

    Args:
        what: the model and the data set, for the message.
        allowed: `known_keys` of these two.
        overrides: settings.

    Raises:
        ConfigError: lists all problems, with the likely spelling.
    """
    problems = [problem for key, value in overrides.items() if (problem := setting_problem(key, value, allowed, what))]
    if problems:
        raise ConfigError("Settings:\n  " + "\n  ".join(problems))


def check_data_set_file(what: str, allowed: Mapping[str, Any], dataset: str, data_path: Any) -> None:
    """Refuses what nobody reads in the YAML file beside a data set, which may name settings of RPORec's and of the model's.

    Args:
        what: the model and the data set, for the message.
        allowed: settings of the model.
        dataset: its name.
        data_path: parent folder of the data set.

    Raises:
        ConfigError: lists all problems, with the likely spelling.
    """
    path = data_set_file(dataset, data_path)
    if path is None:
        return
    allowed = {**known_keys("RPORec", dataset), **allowed}
    found = [setting_problem(key, value, allowed, what) for key, value in read_yaml(path).items()]
    if problems := [problem for problem in found if problem]:
        raise ConfigError(f"Settings in {path}:\n  " + "\n  ".join(problems))


def setting_problem(
    key: str, value: Any, allowed: Mapping[str, Any], what: str, options: Iterable[str] = ()
) -> str | None:
    """What is wrong with one setting, None if nothing is.

    Args:
        key: its name.
        value: as given.
        allowed: `known_keys` of the model and the data set.
        what: these two, for the message.
        options: what else may have been meant.
    """
    if key not in allowed:
        return f"`{key}` is not a setting of {what}.{did_you_mean(key, [*allowed, *options])}"
    default = allowed[key]
    kinds: tuple[type, ...] = (
        (int, float) if type(default) is float else (list, tuple) if isinstance(default, list) else (type(default),)
    )
    if default is None or value is None or key in _OF_TWO_TYPES:
        return None
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        return f"`{key}={value!r}` is of type {type(value).__name__}; expected {type(default).__name__}, such as {default!r}"
    return None
