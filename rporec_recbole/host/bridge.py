"""RecBole's configs, models and trainers, as this package makes them: with one message for whatever RecBole refuses."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from recbole.config import Config
from recbole.utils import get_trainer, init_seed

from rporec_recbole.errors import ConfigError, first_line, translating
from rporec_recbole.host import kinds, rules
from rporec_recbole.host.models import find_model, keys_of, known_as
from rporec_recbole.host.registration import register
from rporec_recbole.host.short_rows import shortened
from rporec_recbole.host.without_effect import effect_problems, unread_problems
from rporec_recbole.rivals.checks import rival_problems
from rporec_recbole.settings.known import OURS, check_data_set_file, check_overrides, model_names
from rporec_recbole.settings.places import settled
from rporec_recbole.settings.properties import read_yaml


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
    model: str | type, dataset: str, config_files: Iterable[str] = (), overrides: Mapping[str, Any] | None = None
) -> Config:
    """RecBole's Config for a model and a data set.

    Args:
        model: a name among `model_names()`, a class of a user's own, or `package.module:Class`, which is imported.
        dataset: name of the data set.
        config_files: YAML files; later ones win.
        overrides: win over the files.

    Raises:
        ConfigError: unknown model, misspelt key, value of the wrong type, unreadable file.
    """
    register()
    if model in kinds.TREES:
        raise ConfigError(
            f"{model} learns trees that predict labels and ranks no items, so it is not run here, whether or not its packages (xgboost and "
            "lightgbm, RecBole asks for both) are installed. RecBole itself runs it."
        )
    cls, allowed = find_model(model), keys_of(model, dataset)
    model = cls.__name__
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
    check_overrides(f"{model} on {dataset}", allowed, values)
    check_data_set_file(f"{model} on {dataset}", allowed, dataset, values.get("data_path"))
    if isinstance(values.get("val_interval"), Mapping):
        values["val_interval"] = {
            # RecBole filters names before it numbers them: they are texts, as in the file.
            field: [str(one) for one in wanted] if isinstance(wanted, (list, tuple)) else wanted
            for field, wanted in values["val_interval"].items()
        }
    try:
        with hidden_arguments():
            config = Config(model=cls, dataset=dataset, config_dict=_protected(values))
    # The kinds that RecBole raises for bad settings while it makes a Config.
    except (ValueError, KeyError, NotImplementedError, RuntimeError, TypeError) as error:
        raise ConfigError(f"RecBole refuses these settings for {model} on {dataset}: {error}") from error
    problems = rules.setting_problems(config) + unread_problems(config, values) + rival_problems(config)
    if problems:
        raise ConfigError(f"Settings of {model} on {dataset}:\n  " + "\n  ".join(problems))
    if missing := kinds.missing_package(config):
        raise ConfigError(f"{model} needs the package `{missing}`, which is not installed. Install it and try again.")
    return config


def _protected(values: Mapping[str, Any]) -> dict[str, Any]:
    # RecBole `eval`s every text in config_dict; a quoted literal comes back as the text itself.
    return {key: repr(value) if isinstance(value, str) else value for key, value in values.items()}


def build_model(config: Config, train_data: Any) -> Any:
    """A new model on the config's device; seeds first, so that equal seeds give equal weights.

    Raises:
        ConfigError: a model of RecBole's refuses its settings or its data.
    """
    if problem := kinds.size_problem(config, train_data.dataset):
        raise ConfigError(f"{config['model']} on `{config['dataset']}`: {problem}.")
    init_seed(config["seed"], config["reproducibility"])
    with said_by_model(config, "cannot be made", RuntimeError):  # NotImplementedError, and sizes that torch refuses
        return shortened(config)(config, train_data.dataset).to(config["device"])


def said_by_model(config: Config, what: str, *more: type[Exception]) -> contextlib.AbstractContextManager[None]:
    """One message in the place of what a model of RecBole's raises at its settings and data; errors of ours and of a user's own pass.

    Args:
        config: RecBole's config of the run.
        what: happens in this block, such as "cannot be made".
        more: kinds of exceptions that are a user's doing here, and elsewhere anything.
    """
    if config["model"] in OURS or config["model"] not in model_names():
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
    """The trainer that RecBole names for this model, or for the one that a user's own extends.

    Raises:
        ConfigError: it refuses its settings; a package that it logs to is missing.
    """
    name = known_as(config.model_class)
    with said_by_model(config, "cannot be trained"):
        return get_trainer(config["MODEL_TYPE"], name)(config, model)
