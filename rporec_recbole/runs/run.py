"""One run from settings to a run folder, for RPORec and for RecBole's own models; `finished.py` is the way back."""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import pandas as pd
import torch

from rporec_recbole.data import digest
from rporec_recbole.data.cuts import described_cuts
from rporec_recbole.errors import ConfigError, first_line
from rporec_recbole.evaluation.answers import described
from rporec_recbole.evaluation.comparable import mode_of
from rporec_recbole.evaluation.plots import plot_curves
from rporec_recbole.evaluation.ranks import together
from rporec_recbole.host import baseline
from rporec_recbole.host.beside import beside
from rporec_recbole.host.bridge import build_config, build_model, build_trainer, said_by_model
from rporec_recbole.host.data import build_data, check_dataset_files
from rporec_recbole.host.ranked import RankCollector, evaluated
from rporec_recbole.host.short_rows import remark
from rporec_recbole.runs.controls import Contrast, check_controls, run_controls
from rporec_recbole.runs.finished import LoadedRun
from rporec_recbole.runs.folder import (
    CHECKPOINTS,
    CURVES,
    METRICS,
    RESUME,
    configured,
    finish,
    held,
    logging_to,
    make_run_folder,
    read_results,
    saying_when_full,
    write_results,
)
from rporec_recbole.runs.known import lists_of
from rporec_recbole.runs.start_from import check_start
from rporec_recbole.runs.trackers import check_trackers, results_of, texts_of, tracking
from rporec_recbole.settings.bars import recboles_watched, showing
from rporec_recbole.settings.repeated import repeatable_config
from rporec_recbole.training.helpers import Helpers, help_with
from rporec_recbole.training.state.processes import Processes
from rporec_recbole.version import versions


@dataclass(frozen=True)
class RunResult:
    """What a run left.

    Attributes:
        run_dir: the run folder.
        metrics: the content of `metrics.json`.
        controls: the full model and its controls, if `controls` is on.
    """

    run_dir: Path
    metrics: dict[str, Any]
    controls: list[Contrast] = field(default_factory=list)


Tell = Callable[[LoadedRun, dict[str, list[tuple[int, float]]]], None]
"""Gets a run whose results are written, as it is in memory, and its curves: name -> (step, value)."""


def run(
    model: str | type,
    dataset: str,
    config_files: Iterable[str] = (),
    overrides: Mapping[str, Any] | None = None,
    *,
    test: bool = True,
    watch: Callable[[int, float], None] | None = None,
    tell: Tell | None = None,
) -> RunResult:
    """Trains and evaluates a model and writes everything into a run folder.

    Args:
        model: `RPORec`, one of RecBole's models, or one of your own: its class, or `package.module:Class`, which is imported.
        dataset: name of the data set.
        config_files: YAML files, later ones win.
        overrides: settings that win over the files; `run_dir` chooses the folder.
        test: rank the test split too. A search leaves it out and calls `finished.add_test` for what it chose.
        watch: gets (epoch, score) at each validation while the model trains (RPORec: in stage 1a), epochs counted from 1.
            What it raises ends the run, and leaves the folder of an interrupted run.
        tell: called once, when the results are written. What it raises is one warning.

    Raises:
        RPORecError: whatever the user can repair; the message says how.
    """
    config = build_config(model, dataset, config_files, overrides)
    if config["fitted_from"]:
        raise ConfigError(
            f"These are the settings of `rporec fit`, which trains on everything and measures nothing. To do that again: "
            f"rporec fit {config['fitted_from']}. To train and measure, leave `fitted_from` out and give `eval_args` a split."
        )
    controls = config["model"] == "RPORec" and config["controls"]
    if controls:
        check_controls(config["stages"], config["ids_only"])
    check_trackers(config["trackers"])
    check_dataset_files(config)  # before anything is written
    written = repeatable_config(config)
    if config["model"] == "RPORec":
        check_start(written)
    folder = make_run_folder(config["run_dir"], written)
    config["run_dir"], config["checkpoint_dir"] = str(folder), str(folder / CHECKPOINTS)
    shown = showing(bool(config["show_progress"]))
    with held(folder), logging_to(folder), saying_when_full(folder), configured(folder, written), shown:
        (folder / RESUME).mkdir(exist_ok=True)
        if (folder / METRICS).is_file():  # killed while it made its controls
            metrics = _results_of(config, folder)
        else:
            metrics = _run(config, written, folder, ("valid", "test") if test else ("valid",), watch, tell)
        made = run_controls(folder) if controls else []
        finish(folder)
        return RunResult(folder, metrics, made)


def help_run(
    model: str, dataset: str, config_files: Iterable[str] = (), overrides: Mapping[str, Any] | None = None
) -> None:
    """What a process does that a launcher started beside the one that runs: it helps with stage 2.

    Args:
        model, dataset, config_files, overrides: as for `run`.

    Raises:
        RPORecError: as `run`, and if the process has nothing to help with.
    """
    config = build_config(model, dataset, config_files, overrides)
    if config["model"] != "RPORec":
        raise ConfigError(f"Only RPORec shares its training among processes; start {model} without a launcher.")
    check_dataset_files(config)
    with logging_to(None), showing(bool(config["show_progress"])), tempfile.TemporaryDirectory() as scratch:
        config["run_dir"], config["checkpoint_dir"] = None, scratch
        _, train, valid, _ = build_data(config)
        built = build_model(config, train)
        trainer = build_trainer(config, built)
        help_with(trainer, train, valid)
        _close(trainer, built)


def _run(
    config: Any,
    written: Mapping[str, Any],
    folder: Path,
    splits: tuple[str, ...],
    watch: Callable[[int, float], None] | None,
    tell: Tell | None,
) -> dict[str, Any]:
    log = logging.getLogger()
    name = config["model"]
    start = perf_counter()
    data, train, valid, test = build_data(config)
    loaders = {"train": train, "valid": valid, "test": test}
    model = build_model(config, train)
    trainer = build_trainer(config, model)
    closing = contextlib.ExitStack()
    closing.callback(_close, trainer, model)  # a search goes on in this process
    trainer.eval_collector = collector = RankCollector(config, data)
    processes = Processes(torch.device(config["device"]))
    if name == "RPORec" and processes.count > 1:
        trainer.helpers = Helpers(processes, trainer)
        model.ask_helpers = trainer.helpers.write
    log.info(
        f"{name} on {config['dataset']}: {data.user_num - 1:,} users, {data.item_num - 1:,} items, seen items {'hidden' if config['hide_seen'] else 'ranked too'}, {config['device']}; writing to {folder}"
    )
    if said := remark(config, model):
        log.info(said)
    by_time = data.time_split.facts() if hasattr(data, "time_split") else None
    if by_time:
        log.info(described_cuts(by_time))
    with (
        closing,
        tracking(config["trackers"], config["tracker_project"], folder, written, trainer.tensorboard) as trackers,
    ):
        if hasattr(trainer, "recorder"):
            trainer.recorder.tell(trackers.add)
        prepared = perf_counter() - start

        validations: list[dict[str, float]] = []
        start = perf_counter()

        def validated(epoch: int, score: float) -> None:
            validations.append({"epoch": epoch + 1, "seconds": perf_counter() - start, "score": float(score)})
            if watch is not None:
                watch(epoch + 1, float(score))

        with said_by_model(config, "cannot be trained"), saying_when_full(folder):
            trainer.fit(train, valid, saved=True, show_progress=recboles_watched(), callback_fn=validated)
        trained = perf_counter() - start
        collector.take("training")

        results: dict[str, dict[str, float]] = {}
        tables: list[pd.DataFrame] = []
        answers: dict[str, dict[str, float]] = {}
        start = perf_counter()
        for split in splits:
            results[split], table = evaluated(trainer, loaders[split], split, best=True, lists=split == "test")
            tables.append(table)
            # Validation has its texts from the training; for the test split none are written that no score reads.
            if getattr(model, "reads_reasoning" if split == "test" else "reasoning_on", False):
                answers[split] = trainer.answers(train, loaders[split])
                log.info(f"{split}: {described(answers[split])}")
        if getattr(trainer, "helpers", None) is not None:
            trainer.helpers.end()
        lists, beyond = lists_of(config, data, loaders, collector.take_lists(), tables[-1])
        others = beside(trainer, {split: loaders[split] for split in splits}, data) if "test" in splits else {}
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
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
        stages["evaluation"] = {"name": "final evaluation", "seconds": perf_counter() - start}
        metrics = {
            "model": name,
            "dataset": config["dataset"],
            "seed": config["seed"],
            "users": int(data.user_num - 1),
            "candidates": int(data.item_num - 1),
            "hide_seen": bool(config["hide_seen"]),
            "mode": mode_of(config["eval_args"], "test"),
            **({"samples": data.samples} if data.samples else {}),
            **({"time_split": by_time} if by_time else {}),
            digest.KEY: data.digest,
            **({digest.WORDS: digest.digest_of_words(data, model.catalogue)} if hasattr(model, "catalogue") else {}),
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            **results,
            **({"beyond": {"test": beyond}} if beyond else {}),
            **({"beside": others} if others else {}),
            "validations": validations,
            "valid_after_stage": getattr(trainer, "stage_results", {}),
            **({"rounds": trainer.rounds} if getattr(trainer, "rounds", None) else {}),
            "stages": stages,
            "versions": versions(),
        }
        if getattr(model, "backbone", None) is not None:
            metrics["backbone"] = model.backbone.facts
        if answers:
            metrics["answers"] = answers
        plot_curves(curves, f"{name} on {config['dataset']}, seed {config['seed']}").savefig(folder / CURVES, dpi=110)
        if not hasattr(trainer, "recorder"):
            trackers.add_all(curves)
        trackers.end(results_of(metrics), texts_of(folder))
        write_results(folder, metrics, together(tables), lists)
        if tell is not None:
            try:
                tell(LoadedRun(folder, config, data, loaders, model), curves)
            except Exception as error:
                log.warning(f"what the run shows could not be made ({first_line(error)}); the run itself is whole")
        return metrics


def _results_of(config: Any, folder: Path) -> dict[str, Any]:
    """What a run wrote that has all but its controls; nobody has anything to help with then."""
    metrics, _ = read_results(folder)
    logging.getLogger().info(f"training and evaluation in {folder} are done; going on after them")
    processes = Processes(torch.device(config["device"]))
    if processes.count > 1:
        Helpers(processes, None).end()
    return metrics


def _close(trainer: Any, model: Any) -> None:
    trainer.tensorboard.close()
    if getattr(model, "reasoner", None) is not None:
        model.reasoner.store.close()
