"""One run from settings to a run folder, for RPORec and for RecBole's own models; and its way back, `load_run`."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import pandas as pd
import torch

from rporec_recbole import baseline
from rporec_recbole.errors import RunFolderError
from rporec_recbole.evaluation.plots import plot_curves
from rporec_recbole.properties import read_yaml
from rporec_recbole.recbole_bridge import build_config, build_model, build_trainer, repeatable_config
from rporec_recbole.recbole_data import RankCollector, build_data, check_dataset_files
from rporec_recbole.run_folder import (
    CONFIG,
    CURVES,
    RESUME,
    held,
    logging_to,
    make_run_folder,
    versions,
    write_config,
    write_results,
)
from rporec_recbole.training import checkpoint

_CHECKPOINTS = "checkpoints"
_SHARED = (
    128  # texts that a process takes at once when others may help: some batches, yet little to wait for at the end
)


@dataclass(frozen=True)
class RunResult:
    """What a run left.

    Attributes:
        run_dir: the run folder.
        metrics: the content of `metrics.json`.
    """

    run_dir: Path
    metrics: dict[str, Any]


def run(
    model: str, dataset: str, config_files: Iterable[str] = (), overrides: Mapping[str, Any] | None = None
) -> RunResult:
    """Trains and evaluates a model and writes everything into a run folder.

    Args:
        model: `RPORec` or one of RecBole's models.
        dataset: name of the data set.
        config_files: YAML files, later ones win.
        overrides: settings that win over the files; `run_dir` chooses the folder.

    Raises:
        RPORecError: whatever the user can repair; the message says how.
    """
    config = build_config(model, dataset, config_files, overrides)
    check_dataset_files(config)  # before anything is written
    written = repeatable_config(config)
    folder = make_run_folder(config["run_dir"], written)
    config["run_dir"], config["checkpoint_dir"] = str(folder), str(folder / _CHECKPOINTS)
    with held(folder), logging_to(folder):
        write_config(folder, written)
        (folder / RESUME).mkdir(exist_ok=True)
        return _run(config, folder)


def _run(config: Any, folder: Path) -> RunResult:
    log = logging.getLogger()
    name = config["model"]
    start = perf_counter()
    data, train, valid, test = build_data(config)
    model = build_model(config, train)
    trainer = build_trainer(config, model)
    trainer.eval_collector = collector = RankCollector(config, data)
    log.info(
        f"{name} on {config['dataset']}: {data.user_num - 1:,} users, {data.item_num - 1:,} items, seen items {'hidden' if config['hide_seen'] else 'ranked too'}, {config['device']}; writing to {folder}"
    )
    prepared = perf_counter() - start

    validations: list[dict[str, float]] = []
    start = perf_counter()

    def watch(epoch: int, score: float) -> None:
        validations.append({"epoch": epoch + 1, "seconds": perf_counter() - start, "score": float(score)})

    trainer.fit(train, valid, saved=True, show_progress=config["show_progress"], callback_fn=watch)
    trained = perf_counter() - start
    collector.take("training")

    results: dict[str, dict[str, float]] = {}
    tables: list[pd.DataFrame] = []
    start = perf_counter()
    for split, loader in (("valid", valid), ("test", test)):
        found = trainer.evaluate(loader, load_best_model=True, show_progress=False) or {}
        results[split] = {metric: float(value) for metric, value in found.items()}
        tables.append(collector.take(split))
    stages = {"data": {"name": "data and model", "seconds": prepared}}
    if isinstance(getattr(trainer, "stages", None), dict):
        stages.update(trainer.stages)
        curves = trainer.recorder.curves
    else:
        stages["train"] = {"name": "training", "seconds": trained}
        losses = getattr(trainer, "train_loss_dict", {})
        curves = {
            f"train/{config['valid_metric']}": [(int(one["epoch"]), one["score"]) for one in validations],
            "train/loss": [(epoch + 1, float(loss)) for epoch, loss in losses.items() if loss is not None],
        }
        curves = {name: points for name, points in curves.items() if points}
        baseline.save(model, folder)
    shutil.rmtree(folder / _CHECKPOINTS, ignore_errors=True)
    stages["evaluation"] = {"name": "final evaluation", "seconds": perf_counter() - start}
    metrics = {
        "model": name,
        "dataset": config["dataset"],
        "seed": config["seed"],
        "users": int(data.user_num - 1),
        "candidates": int(data.item_num - 1),
        "hide_seen": bool(config["hide_seen"]),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        **results,
        "validations": validations,
        "valid_after_stage": getattr(trainer, "stage_results", {}),
        "stages": stages,
        "versions": versions(),
    }
    if getattr(model, "backbone", None) is not None:
        metrics["backbone"] = model.backbone.facts
    plot_curves(curves, f"{name} on {config['dataset']}, seed {config['seed']}").savefig(folder / CURVES, dpi=110)
    trainer.tensorboard.close()
    if getattr(model, "reasoner", None) is not None:
        model.reasoner.store.close()
    write_results(folder, metrics, pd.concat(tables, ignore_index=True))
    return RunResult(folder, metrics)


@dataclass(frozen=True)
class LoadedRun:
    """A finished run, restored: the same data, the same model, the same scores.

    Attributes:
        run_dir: the run folder.
        config: RecBole's Config of the run.
        dataset: RecBole's data set.
        loaders: split -> RecBole's loader (`train`, `valid`, `test`).
        model: the trained model, in eval mode.
    """

    run_dir: Path
    config: Any
    dataset: Any
    loaders: dict[str, Any]
    model: Any

    def evaluate(self, split: str = "test") -> tuple[dict[str, float], pd.DataFrame]:
        """Evaluates again with RecBole's evaluator.

        Args:
            split: `valid` or `test`.

        Returns:
            the metrics, and the ranks as in `ranks.parquet`.
        """
        with logging_to(None):
            trainer = build_trainer(self.config, self.model)
            trainer.eval_collector = collector = RankCollector(self.config, self.dataset)
            collector.data_collect(self.loaders["train"])
            found = trainer.evaluate(self.loaders[split], load_best_model=False)
            trainer.tensorboard.close()
        shutil.rmtree(self.config["checkpoint_dir"], ignore_errors=True)
        return {metric: float(value) for metric, value in found.items()}, collector.take(split)

    def write_reasoning(self, split: str) -> int:
        """Writes the completions that the evaluation of a split needs and the run's store lacks.

        Processes that do this at the same time share the work: each text is written by one of them, and all of them come
        back when the last text is there.

        Args:
            split: `valid` or `test`.

        Returns:
            how many texts this process wrote.

        Raises:
            RunFolderError: the scores of this run use no reasoning.
        """
        if not self.model.reasoning_on:
            raise RunFolderError(f"The scores of {self.run_dir} use no reasoning, so its evaluation needs no texts.")
        reasoner = self.model.reasoner
        reasoner.at_once = _SHARED
        before = reasoner.written
        rows = self.loaders[split].dataset.inter_feat
        self.model.completions(rows, self.model.evaluation_decoding, f"Reasoning for {split}")
        return reasoner.written - before


def load_run(path: str | Path, gpu: str | None = None) -> LoadedRun:
    """Restores a finished run. Nothing is unpickled.

    Args:
        path: the run folder.
        gpu: number of the GPU to use, where there are any; None takes the one that the run used.

    Raises:
        RunFolderError: the folder holds no finished run, or a file of it is damaged.
        RPORecError: the data set of the run is not there any more.
    """
    folder = Path(path)
    if not (folder / CONFIG).is_file():
        raise RunFolderError(
            f"{folder} holds no run: there is no {CONFIG} in it. Name the folder that a run said it wrote to."
        )
    values = read_yaml(folder / CONFIG)
    if gpu is not None:
        values["gpu_id"] = gpu
    config = build_config(str(values.get("model")), str(values.get("dataset")), overrides=values)
    config["run_dir"], config["checkpoint_dir"] = str(folder), str(folder / _CHECKPOINTS)
    with logging_to(None):
        dataset, train, valid, test = build_data(config)
        model = build_model(config, train)
    if config["model"] == "RPORec":
        checkpoint.restore(model, folder)
    else:
        baseline.restore(model, folder)
    with torch.no_grad():
        model.eval()
    return LoadedRun(folder, config, dataset, {"train": train, "valid": valid, "test": test}, model)
