"""Trunks that are trained for a control: one alone, and a second one beside the run's own."""

from __future__ import annotations

import shutil
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from rporec_recbole.host.bridge import build_config, build_model, build_trainer
from rporec_recbole.runs.finished import LoadedRun
from rporec_recbole.runs.folder import CHECKPOINTS, RESUME, logging_to
from rporec_recbole.runs.refit import ranks_with
from rporec_recbole.settings.repeated import repeatable_config
from rporec_recbole.training.state import checkpoint

_ANOTHER = 1000  # added to the run's seed for a second trunk: the next seeds are those of other runs


def ranks_of_trunk_alone(loaded: LoadedRun) -> pd.DataFrame:
    """Test ranks of a trunk that was trained by itself, on all positions, with as many epochs as the run gives its own."""
    return _trained(loaded, "trunk-alone", 0).evaluate("test")[1]


def ranks_of_two_trunks(loaded: LoadedRun) -> pd.DataFrame:
    """Test ranks of the run's trunk and one of another seed: the mean of their log-probabilities.

    Two equals count for the same, so nothing is left to choose; and validation, which has chosen the best epoch of both, would be a
    poor judge of what they do together.
    """
    model, other = loaded.model, _trained(loaded, "second-trunk", _ANOTHER).model
    own = model.full_sort_predict

    def mean(interaction: Any) -> Tensor:
        both = [torch.log_softmax(one(interaction), dim=1) for one in (own, other.full_sort_predict)]
        return both[0].add_(both[1]).div_(2)

    try:
        model.full_sort_predict = mean
        return ranks_with(loaded, None)
    finally:
        del model.full_sort_predict  # the class's own comes back


def _trained(loaded: LoadedRun, name: str, more: int) -> LoadedRun:
    """A trunk on the run's data, kept in the folder of its controls; `more` is added to the run's seed."""
    stage, values = loaded.model.settings.stage, repeatable_config(loaded.config)
    epochs = stage.refresh_epochs if "refresh" in stage.stages else values["epochs"]
    folder = loaded.run_dir / checkpoint.CONTROLS / name
    (folder / RESUME).mkdir(parents=True, exist_ok=True)
    own = {**values, "stages": ["1a"], "epochs": epochs, "controls": False, "start_from": None}
    config = build_config("RPORec", values["dataset"], overrides={**own, "seed": values["seed"] + more})
    config["run_dir"], config["checkpoint_dir"] = str(folder), str(folder / CHECKPOINTS)
    model = build_model(config, loaded.loaders["train"])
    trained = LoadedRun(folder, config, loaded.dataset, loaded.loaders, model)
    if (folder / checkpoint.STATE).is_file():
        checkpoint.restore(model, folder)
    else:
        with logging_to(None):
            trainer = build_trainer(config, model)
            trainer.fit(loaded.loaders["train"], loaded.loaders["valid"])
            trainer.tensorboard.close()
    shutil.rmtree(folder / RESUME, ignore_errors=True)
    return trained
