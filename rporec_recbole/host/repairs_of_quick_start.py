"""Repairs of `recbole.quick_start`, the functions that RecBole's own documentation begins with."""

from __future__ import annotations

import functools
import importlib
import logging
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from rporec_recbole.errors import RunFolderError
from rporec_recbole.host.repair import repair
from rporec_recbole.host.repairs_of_training import was_written_here

_DOOR = "recbole.quick_start.quick_start"


class _Tune:
    """What `recbole.quick_start` needs of `ray.tune`: results of a trial go to Ray where Ray is at work, otherwise nowhere."""

    @staticmethod
    def report(**results: Any) -> None:
        """Hands the results of a trial on."""
        if "ray" in sys.modules:  # whoever searches with Ray has imported it
            importlib.import_module("ray.tune").report(**results)


def _quick_start() -> Any:
    """RecBole's module, imported with the Ray that is at work, or with none."""
    if _DOOR in sys.modules or "ray" in sys.modules:
        return importlib.import_module(_DOOR)
    stand_in = ModuleType("ray")
    stand_in.tune = _Tune  # type: ignore[attr-defined]
    sys.modules["ray"] = stand_in
    try:
        return importlib.import_module(_DOOR)
    finally:
        del sys.modules["ray"]  # nobody else is to believe that Ray is there


@repair(
    "quick-start",
    symptom="ModuleNotFoundError: No module named 'ray' (or 'pkg_resources', inside ray) from `import recbole.quick_start`",
    cause="quick_start/quick_start.py:20 imports Ray for one line of `objective_function`, and RecBole's `ray<=2.6.3` neither exists for "
    "Python 3.12 nor can be imported beside a setuptools of today",
    remove_when="RecBole imports Ray only where a search with Ray asks for it",
)
def quick_start() -> None:
    _quick_start()


@repair(
    "flops",
    symptom="`run_recbole` ends before the training where the FLOPs of a model cannot be counted",
    cause="quick_start/quick_start.py counts them for one line of the log; utils/utils.py `get_flops` predicts the second row of the data, "
    "and not every model can",
    remove_when="RecBole trains on where that count fails",
)
def flops() -> None:
    module = _quick_start()
    count = module.get_flops

    @functools.wraps(count)
    def count_or_say(model: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return count(model, *args, **kwargs)
        except Exception as error:  # whatever a model raises at a row that is none of its own
            name = type(model).__name__
            logging.getLogger().warning(f"The FLOPs of {name} cannot be counted: {type(error).__name__}: {error}")
            return float("nan")

    module.get_flops = count_or_say


@repair(
    "load-data-and-model",
    symptom="UnpicklingError: weights only load failed, from `load_data_and_model`; and RPORec has no such file",
    cause="quick_start/quick_start.py relies on torch.load's old default; RecBole's checkpoints pickle the whole Config",
    remove_when="RecBole saves what torch.load(weights_only=True) accepts, and lets a model bring a way back of its own",
)
def load_data_and_model() -> None:
    module = _quick_start()

    @functools.wraps(module.load_data_and_model)
    def load_safely(model_file: str | os.PathLike[str]) -> tuple[Any, ...]:
        path = Path(model_file)
        if path.is_dir():
            import rporec_recbole  # the front door: what brings a run back stands in a room below this one

            run = rporec_recbole.load_run(path)
            return (run.config, run.model, run.dataset, *(run.loaders[part] for part in ("train", "valid", "test")))
        if not was_written_here(path):
            wrong = "is a checkpoint of RecBole's, a pickle: opening it runs whatever code is in it. Such a file is read only by the process that wrote it"
            raise RunFolderError(
                f"{path} {wrong if path.is_file() else 'does not exist'}. Give the folder of a run, which `rporec` and `rporec_recbole.run` "
                "write for every model."
            )
        return _restored(path)

    owners: list[Any] = [module, importlib.import_module("recbole.quick_start")]
    for owner in owners:
        owner.load_data_and_model = load_safely


def _restored(path: Path) -> tuple[Any, ...]:
    """What `load_data_and_model` returns, of a checkpoint that this process wrote."""
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import init_seed

    kept = torch.load(path, weights_only=False)
    config = kept["config"]
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    loaders = data_preparation(config, dataset)
    init_seed(config["seed"], config["reproducibility"])
    model = config.model_class(config, loaders[0].dataset).to(config["device"])
    model.load_state_dict(kept["state_dict"])
    model.load_other_parameter(kept.get("other_parameter"))
    return (config, model, dataset, *loaders)
