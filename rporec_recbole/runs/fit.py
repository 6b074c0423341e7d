"""A run trained once more on everything, validation and test items too, with what validation chose in a finished run: for production.

Nothing is chosen and nothing measured: no interaction is left to do it with. What was chosen stays: for how many epochs the model learns,
whether and how much texts count, which policy writes them.

A model of RecBole's and a trunk alone train for as many epochs as were best. Of a run with texts the language model and how far its answers
are trusted are taken over as they are; the trunk is trained anew, as in the stage `refresh`. The map of the fusion lives in the space of the
old trunk, so it has to have no say (it has none after a refresh).
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from rporec_recbole.backbone.load import load_backbone
from rporec_recbole.cot.store import CoTStore
from rporec_recbole.data import digest
from rporec_recbole.data.files import BACKBONE, read_tensors
from rporec_recbole.errors import ConfigError, RunFolderError
from rporec_recbole.evaluation.ranks import rank_table
from rporec_recbole.host import baseline
from rporec_recbole.host.bridge import build_config, build_model, build_trainer, said_by_model
from rporec_recbole.host.data import build_data, check_dataset_files
from rporec_recbole.host.models import trusted
from rporec_recbole.runs.folder import (
    CHECKPOINTS,
    RESUME,
    configured,
    finish,
    finished,
    held,
    logging_to,
    make_run_folder,
    read_results,
    saying_when_full,
    write_results,
)
from rporec_recbole.runs.located import located
from rporec_recbole.settings.bars import recboles_watched, showing
from rporec_recbole.settings.repeated import repeatable_config
from rporec_recbole.training.state import checkpoint
from rporec_recbole.version import versions

FITTED_FROM = "fitted_from"


@dataclass(frozen=True)
class Recipe:
    """What is taken over from a finished run.

    Attributes:
        epochs: of the training.
        reasoned: whether its language model and its trust in answers come along.
    """

    epochs: int
    reasoned: bool


@dataclass(frozen=True)
class Fitted:
    """What was made.

    Attributes:
        run_dir: the new run folder.
        recipe: what was taken over.
        interactions: how many were trained on, of how many users and items.
        users: see above.
        items: see above.
    """

    run_dir: Path
    recipe: Recipe
    interactions: int
    users: int
    items: int


def fit(
    path: str | Path, output: str | None = None, *, model: str | type | None = None, **places: str | None
) -> Fitted:
    """Trains on all interactions that the data files have now.

    Args:
        path: folder of a finished run.
        output: the new folder; None chooses one in `saved/`.
        model, places: as for `load_run`.

    Raises:
        RunFolderError: there is no finished run, or the new folder cannot be used.
        ConfigError: this run cannot be fitted on everything; the message says why.
        RPORecError: as `run`.
    """
    source = Path(path)
    values = located(source, places)
    if not finished(source):
        raise RunFolderError(f"{source} holds no finished run. Let it come to its end first: its command goes on.")
    metrics, _ = read_results(source)
    recipe = recipe_of(source, values, metrics)
    config = build_config(
        trusted(source, str(values["model"]), model),
        str(values["dataset"]),
        overrides=_overrides(source, values, recipe, output),
    )
    check_dataset_files(config)
    written = repeatable_config(config)
    folder = make_run_folder(config["run_dir"], written)
    config["run_dir"], config["checkpoint_dir"] = str(folder), str(folder / CHECKPOINTS)
    shown = showing(bool(config["show_progress"]))
    with held(folder), logging_to(folder), saying_when_full(folder), configured(folder, written), shown:
        (folder / RESUME).mkdir(exist_ok=True)
        done = _train(config, folder, source, recipe, metrics)
        finish(folder)
    return done


def recipe_of(source: Path, config: Mapping[str, Any], metrics: Mapping[str, Any]) -> Recipe:
    """What a finished run has chosen.

    Args:
        source: its folder.
        config: its settings.
        metrics: content of its `metrics.json`.

    Raises:
        ConfigError: it cannot be fitted on everything.
    """
    if config.get(FITTED_FROM):
        raise ConfigError(
            f"{source} was fitted on everything itself. Name the run that it came from, {config[FITTED_FROM]}."
        )
    if config.get("benchmark_filename") is not None:
        raise ConfigError(
            f"{source} has its split in files (benchmark_filename), which says what is trained on. Train it with files that hold everything."
        )
    if config["model"] != "RPORec":
        scores = metrics.get("validations") or []
        bigger = _bigger(str(config["valid_metric"]))
        best = max(scores, key=lambda one: one["score"] if bigger else -one["score"], default=None)
        return Recipe(int(best["epoch"]) if best else int(config["epochs"]), reasoned=False)
    stages = metrics["stages"]
    if "1a" not in stages:
        raise ConfigError(
            f"{source} trained its trunk beside its texts (no stage 1a), so no number of epochs was chosen for it."
        )
    refreshed = stages.get("refresh", {}) if "note" not in stages.get("refresh", {}) else {}
    epochs = refreshed.get("best_epoch") or stages["1a"].get("best_epoch") or stages["1a"].get("epochs")
    state = json.loads((source / checkpoint.STATE).read_text(encoding="utf-8"))
    reasoned = bool(state.get("has_backbone") and state.get("reasoning_on"))
    if reasoned and float(read_tensors(source / checkpoint.HEAD, "Train it again.")[0]["head.strength"]) > 0:
        raise ConfigError(
            f"The texts of {source} move the ranking by a map that belongs to its own trunk, and a trunk trained on everything is another one. "
            'A run whose texts act through answers alone, as after the stage `refresh`, can be fitted; so can --stages="[1a]".'
        )
    return Recipe(max(1, int(epochs or 1)), reasoned)


def _bigger(metric: str) -> bool:
    return metric.lower() not in ("rmse", "mae", "logloss")


def _overrides(source: Path, values: Mapping[str, Any], recipe: Recipe, output: str | None) -> dict[str, Any]:
    found = {key: value for key, value in values.items() if key not in ("model", "dataset", "run_dir")}
    kept = {key: value for key, value in (values.get("eval_args") or {}).items() if key != "targets"}
    found |= {
        "eval_args": {**kept, "split": {"RS": [1, 0, 0]}, "mode": "full"},
        "epochs": recipe.epochs,
        "eval_step": 0,
        "run_dir": output,
        FITTED_FROM: str(source.resolve()),
    }
    if values["model"] == "RPORec":
        found |= {"stages": ["1a"], "controls": False, "start_from": None, "rounds": 1}
    return found


def _train(config: Any, folder: Path, source: Path, recipe: Recipe, before: Mapping[str, Any]) -> Fitted:
    log, name = logging.getLogger(), config["model"]
    start = perf_counter()
    data, train, _, _ = build_data(config)
    users, items = int(data.user_num - 1), int(data.item_num - 1)
    count = int(data.training_counts[data.iid_field].sum())
    model = build_model(config, train)
    trainer = build_trainer(config, model)
    log.info(
        f"{name} on all of {config['dataset']}: {count:,} interactions of {users:,} users and {items:,} items, {recipe.epochs} epochs as {source.name} "
        f"chose them; writing to {folder}"
    )
    prepared = perf_counter() - start
    start = perf_counter()
    with said_by_model(config, "cannot be trained"), saying_when_full(folder):
        trainer.fit(train, None, saved=name != "RPORec", show_progress=recboles_watched())
    if name == "RPORec":
        if recipe.reasoned:
            _take_over(model, source, folder)
        checkpoint.save(model, folder)
        if model.reasoner is not None:
            model.reasoner.store.close()
    else:
        baseline.save(model, folder)
    trainer.tensorboard.close()
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    metrics = {
        "model": name,
        "dataset": config["dataset"],
        "seed": config["seed"],
        "users": users,
        "candidates": items,
        "interactions": count,
        "hide_seen": bool(config["hide_seen"]),
        "mode": "full",
        FITTED_FROM: {
            "run": str(source.resolve()),
            **{split: before[split] for split in ("valid", "test") if split in before},
        },
        digest.KEY: data.digest,
        **({digest.WORDS: digest.digest_of_words(data, model.catalogue)} if hasattr(model, "catalogue") else {}),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "stages": {
            "data": {"name": "data and model", "seconds": prepared},
            "train": {"name": "training on everything", "seconds": perf_counter() - start, "epochs": recipe.epochs},
        },
        "versions": versions(),
    }
    write_results(folder, metrics, rank_table("test", [], [], [], [], []))
    return Fitted(folder, recipe, count, users, items)


@torch.no_grad()
def _take_over(model: Any, source: Path, folder: Path) -> None:
    """The language model, how far its answers are trusted and how much that counts; popularity was counted anew."""
    weights, _ = read_tensors(source / checkpoint.HEAD, "Train it again.")
    learned = dict(model.head.expert.named_parameters()) if model.head.expert is not None else {}
    for name, parameter in learned.items():
        parameter.copy_(weights[f"head.expert.{name}"])
    for name, buffer in model.head.named_buffers():
        if name in ("strength", "expert.strength"):
            buffer.copy_(weights[f"head.{name}"])
    backbone = load_backbone(source / BACKBONE, model.settings.backbone, torch.device(model.device))
    model.connect(backbone, CoTStore(folder / checkpoint.STORE))
    model.reasoning_on = True
