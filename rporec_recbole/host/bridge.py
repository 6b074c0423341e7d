"""RecBole's configs, models and trainers, as this package makes them: with one message for whatever RecBole refuses."""

from __future__ import annotations

import ast
import contextlib
import functools
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import recbole
from recbole.config import Config
from recbole.utils import get_model, get_trainer, init_seed

from rporec_recbole.errors import ConfigError, did_you_mean, first_line, translating
from rporec_recbole.host import kinds, rules
from rporec_recbole.host.registration import register
from rporec_recbole.host.without_effect import effect_problems, unread_problems
from rporec_recbole.settings.places import STARTED_IN, settled
from rporec_recbole.settings.properties import layered_properties, read_yaml

_PACKAGES = (
    "sequential_recommender",
    "general_recommender",
    "context_aware_recommender",
    "knowledge_aware_recommender",
    "exlib_recommender",
)
RECBOLE = Path(recbole.__file__).parent
_OF_TWO_TYPES = ("topk", "metrics", "stages", "reranker_CAN_NUM")
_CONFIG_KEY = re.compile(r"""config\[\s*["'](\w+)["']\s*\]""")


@functools.cache
def model_names() -> tuple[str, ...]:
    """Names of all models that can be run: RecBole's classes and RPORec."""
    names = {"RPORec"}
    for package in _PACKAGES:
        for path in (RECBOLE / "model" / package).glob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            names |= {
                node.name for node in tree.body if isinstance(node, ast.ClassDef) and node.name.lower() == path.stem
            }
    return tuple(sorted(names))


def known_keys(model: str, dataset: str) -> dict[str, Any]:
    """Config keys that mean something for this model and data set, with their default values."""
    keys: dict[str, Any] = dict.fromkeys({"config_files", "encoding", STARTED_IN} | _keys_in_code(model))
    for name in ("overall", "dataset/sample", f"dataset/{dataset}", f"model/{model}"):
        path = RECBOLE / f"properties/{name}.yaml"
        if path.is_file():
            keys.update(read_yaml(path))
    keys.update(layered_properties(model, dataset))
    keys.pop("device", None)  # RecBole makes it of `gpu_id`
    return keys


@functools.cache  # a search makes a config for every trial
def _keys_in_code(model: str) -> frozenset[str]:
    """Keys that RecBole's core or the model's own file reads, whether or not a YAML file names them."""
    core = [
        path
        for part in ("config", "data", "evaluator", "trainer", "utils", "sampler")
        for path in (RECBOLE / part).rglob("*.py")
    ]
    core += [RECBOLE / "model" / name for name in ("abstract_recommender.py", "layers.py")]
    own = [RECBOLE / "model" / package / f"{model.lower()}.py" for package in _PACKAGES]
    return frozenset(
        key for path in [*core, *own] if path.is_file() for key in _CONFIG_KEY.findall(path.read_text(encoding="utf-8"))
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


def check_overrides(model: str, dataset: str, overrides: Mapping[str, Any]) -> None:
    """Refuses keys that nothing reads and values of another type than the default.

    Raises:
        ConfigError: lists all problems, with the likely spelling.
    """
    allowed = known_keys(model, dataset)
    problems = [
        problem
        for key, value in overrides.items()
        if (problem := setting_problem(key, value, allowed, f"{model} on {dataset}"))
    ]
    if problems:
        raise ConfigError("Settings:\n  " + "\n  ".join(problems))


def setting_problem(key: str, value: Any, allowed: Mapping[str, Any], what: str) -> str | None:
    """What is wrong with one setting, None if nothing is.

    Args:
        key: its name.
        value: as given.
        allowed: `known_keys` of the model and the data set.
        what: these two, for the message.
    """
    if key not in allowed:
        return f"`{key}` is not a setting of {what}.{did_you_mean(key, allowed)}"
    default = allowed[key]
    kinds: tuple[type, ...] = (
        (int, float) if type(default) is float else (list, tuple) if isinstance(default, list) else (type(default),)
    )
    if default is None or value is None or key in _OF_TWO_TYPES:
        return None
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        return f"`{key}={value!r}` is of type {type(value).__name__}; expected {type(default).__name__}, such as {default!r}"
    return None


@contextlib.contextmanager
def hidden_arguments() -> Iterator[None]:
    """RecBole's Config reads `sys.argv` whenever it is made; inside this block it finds nothing there."""
    kept = sys.argv
    sys.argv = kept[:1]
    try:
        yield
    finally:
        sys.argv = kept


def build_config(
    model: str, dataset: str, config_files: Iterable[str] = (), overrides: Mapping[str, Any] | None = None
) -> Config:
    """RecBole's Config for a model and a data set.

    Args:
        model: a name among `model_names()`.
        dataset: name of the data set.
        config_files: YAML files; later ones win.
        overrides: win over the files.

    Raises:
        ConfigError: unknown model, misspelt key, value of the wrong type, unreadable file.
    """
    register()
    names = model_names()
    if model not in names:
        same = [name for name in names if name.lower() == model.lower()]
        hint = f" Did you mean `{same[0]}`?" if same else did_you_mean(model, names)
        raise ConfigError(
            f"There is no model `{model}`.{hint} `RPORec` and RecBole's {len(names) - 1} models can be run."
        )
    values: dict[str, Any] = {}
    for file in config_files:
        values.update(read_yaml(file))
    values.update(overrides or {})
    values = settled({key: value for key, value in values.items() if key not in ("model", "dataset")}, dataset)
    if type(values.get("gpu_id")) is int:
        values["gpu_id"] = str(values["gpu_id"])  # as YAML reads it
    if values.get("use_gpu") is False:
        values["gpu_id"] = ""  # RecBole reads this one alone
    if problems := effect_problems(model, values):
        raise ConfigError(f"Settings of {model} on {dataset}:\n  " + "\n  ".join(problems))
    check_overrides(model, dataset, values)
    if model in kinds.TREES:
        raise ConfigError(
            f"{model} learns trees that predict labels and ranks no items, so it is not run here, whether or not its packages (xgboost and "
            "lightgbm, RecBole asks for both) are installed. RecBole itself runs it."
        )
    if isinstance(values.get("val_interval"), Mapping):
        values["val_interval"] = {
            # RecBole filters names before it numbers them: they are texts, as in the file.
            field: [str(one) for one in wanted] if isinstance(wanted, (list, tuple)) else wanted
            for field, wanted in values["val_interval"].items()
        }
    try:
        get_model(model)
    except ImportError as error:
        raise ConfigError(
            f"{model} needs a package that is not installed: {error}. Install it and try again."
        ) from error
    try:
        with hidden_arguments():
            config = Config(model=model, dataset=dataset, config_dict=_protected(values))
    # The kinds that RecBole raises for bad settings while it makes a Config.
    except (ValueError, KeyError, NotImplementedError, RuntimeError, TypeError) as error:
        raise ConfigError(f"RecBole refuses these settings for {model} on {dataset}: {error}") from error
    problems = rules.setting_problems(config) + unread_problems(config, values)
    if problems:
        raise ConfigError(f"Settings of {model} on {dataset}:\n  " + "\n  ".join(problems))
    if missing := kinds.missing_package(config):
        raise ConfigError(f"{model} needs the package `{missing}`, which is not installed. Install it and try again.")
    return config


def _protected(values: Mapping[str, Any]) -> dict[str, Any]:
    # RecBole `eval`s every text in config_dict; a quoted literal comes back as the text itself.
    return {key: repr(value) if isinstance(value, str) else value for key, value in values.items()}


def repeatable_config(config: Config) -> dict[str, Any]:
    """The complete config as plain YAML values, enough to build it again from any working folder (`settings.places`).

    Data that comes with RecBole is named by its name alone, so that the config holds in any environment.
    """
    skipped = {
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
    }
    values = {key: value for key, value in config.final_config_dict.items() if key not in skipped}
    parent = Path(values.pop("data_path")).parent
    if Path(recbole.__file__).parent.resolve() not in parent.resolve().parents:
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


def build_model(config: Config, train_data: Any) -> Any:
    """A new model on the config's device; seeds first, so that equal seeds give equal weights.

    Raises:
        ConfigError: a model of RecBole's refuses its settings or its data.
    """
    if problem := kinds.size_problem(config, train_data.dataset):
        raise ConfigError(f"{config['model']} on `{config['dataset']}`: {problem}.")
    init_seed(config["seed"], config["reproducibility"])
    with said_by_model(config, "cannot be made", RuntimeError):  # NotImplementedError, and sizes that torch refuses
        return get_model(config["model"])(config, train_data.dataset).to(config["device"])


def said_by_model(config: Config, what: str, *more: type[Exception]) -> contextlib.AbstractContextManager[None]:
    """One message in the place of what a model of RecBole's raises at its settings and data; RPORec's own errors pass.

    Args:
        config: RecBole's config of the run.
        what: happens in this block, such as "cannot be made".
        more: kinds of exceptions that are a user's doing here, and elsewhere anything.
    """
    if config["model"] == "RPORec":
        return contextlib.nullcontext()

    def say(error: Exception) -> ConfigError:
        return ConfigError(
            f"{config['model']} {what} with these settings and data: {type(error).__name__}: {first_line(error)}.{kinds.naming(config, error)} Its own settings are "
            f"explained in RecBole's documentation; `--load_col` names the columns that it reads."
        )

    # What RecBole's models raise for settings and data that they cannot take.
    kinds_of_error = (ValueError, LookupError, TypeError, AttributeError, AssertionError, ImportError)
    return translating(say, *kinds_of_error, *more)


def build_trainer(config: Config, model: Any) -> Any:
    """The trainer that RecBole names for this model.

    Raises:
        ConfigError: it refuses its settings; a package that it logs to is missing.
    """
    with said_by_model(config, "cannot be trained"):
        return get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
