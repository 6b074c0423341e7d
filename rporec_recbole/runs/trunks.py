"""Trunks that are trained for a control: one alone, and a second one beside the run's own."""

from __future__ import annotations

import shutil
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from rporec_recbole.host.bridge import build_config, build_model, build_trainer
from rporec_recbole.runs.finished import LoadedRun
from rporec_recbole.runs.folder import CHECKPOINTS, RESUME, logging_to, read_config
from rporec_recbole.runs.refit import ranks_with
from rporec_recbole.training.state import checkpoint

_ANOTHER = 1000  # added to the run's seed for a second trunk: the next seeds are those of other runs


def ranks_of_trunk_alone(loaded: LoadedRun) -> pd.DataFrame:
    """Test ranks of a trunk that was trained by itself, on all positions, with as many epochs as the run gives its own."""
    return _trained(loaded, "trunk-alone", 0).evaluate("test")[1]


def ranks_of_two_trunks(loaded: LoadedRun) -> pd.DataFrame:
    """Test ranks of the run's trunk and one of another seed: their log-probabilities, mixed.

    The weight of the second is one of the run's `fusion_strengths`, the best on validation, as for the reasoning.
    """
    model, other = loaded.model, _trained(loaded, "second-trunk", _ANOTHER).model
    metric, bigger = loaded.config["valid_metric"].lower(), loaded.config["valid_metric_bigger"]
    own, on = model.full_sort_predict, model.reasoning_on

    def mixed(weight: float) -> Any:
        def scores(interaction: Any) -> Tensor:
            both = [torch.log_softmax(one(interaction), dim=1) for one in (own, other.full_sort_predict)]
            return both[0].mul_(1 - weight).add_(both[1], alpha=weight) if 0 < weight < 1 else both[int(weight)]

        return scores

    try:
        model.reasoning_on = False
        found = {}
        for weight in sorted(model.settings.fusion.fusion_strengths):
            model.full_sort_predict = mixed(weight)
            found[weight] = loaded.evaluate("valid")[0][metric]
        model.full_sort_predict = mixed(max(found, key=lambda one: found[one] if bigger else -found[one]))
        return ranks_with(loaded, None)
    finally:
        del model.full_sort_predict  # the class's own comes back
        model.reasoning_on = on


def _trained(loaded: LoadedRun, name: str, more: int) -> LoadedRun:
    """A trunk on the run's data, kept in the folder of its controls; `more` is added to the run's seed."""
    stage, values = loaded.model.settings.stage, read_config(loaded.run_dir)
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
