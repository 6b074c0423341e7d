"""A finished run, restored from its folder: the same data, the same model, the same scores."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd
import torch

from rporec_recbole.cot.reasoner import SHARED
from rporec_recbole.data.digest import WORDS, check_digest, digest_of_words
from rporec_recbole.data.files import BACKBONE
from rporec_recbole.errors import ConfigError, RunFolderError
from rporec_recbole.evaluation.lists import TopLists
from rporec_recbole.evaluation.ranks import together
from rporec_recbole.host import baseline
from rporec_recbole.host.bridge import build_config, build_model, build_trainer
from rporec_recbole.host.data import build_data
from rporec_recbole.host.models import trusted
from rporec_recbole.host.ranked import RankCollector, evaluated
from rporec_recbole.rivals.text_vectors import restored_from
from rporec_recbole.runs.folder import CONFIG, logging_to, read_config, read_results, write_results
from rporec_recbole.runs.known import lists_of
from rporec_recbole.runs.located import located
from rporec_recbole.training.stage1.answers import answer_measure, answers_of
from rporec_recbole.training.state import checkpoint

_MAY_LACK = (checkpoint.ENCODER, BACKBONE)
_MAKES_SCORES = (CONFIG, checkpoint.STATE, checkpoint.HEAD, *_MAY_LACK)


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
        return self.ranked(split, lists=False)[:2]

    def ranked(self, split: str, lists: bool = True) -> tuple[dict[str, float], pd.DataFrame, TopLists | None]:
        """As `evaluate`, with the best items of each list; None where they are not wanted or the run ranks no full lists."""
        with logging_to(None):
            trainer = build_trainer(self.config, self.model)
            trainer.eval_collector = collector = RankCollector(self.config, self.dataset)
            collector.data_collect(self.loaders["train"])
            found = evaluated(trainer, self.loaders[split], split, best=False, lists=lists)
            trainer.tensorboard.close()
        shutil.rmtree(self.config["checkpoint_dir"], ignore_errors=True)
        return *found, collector.take_lists()

    def answers(self, split: str) -> dict[str, float]:
        """What the writer itself knows of a split, see `AnswerMeasure`; missing texts are written."""
        return answers_of(
            self.model,
            answer_measure(self.model, self.loaders["train"].dataset),
            self.loaders[split].dataset,
            hide_seen=bool(self.config["hide_seen"]),
            desc="Reasoning for answers",
        )

    def write_reasoning(self, split: str) -> int:
        """Writes the completions that the evaluation of a split needs and the run's store lacks.

        Processes that do this at the same time share the work: each text is written by one of them, and all of them come
        back when the last text is there.

        Args:
            split: `valid` or `test`.

        Returns:
            how many texts this process wrote.

        Raises:
            RunFolderError: the scores of this run use no reasoning, or its store cannot be written.
        """
        if not self.model.reads_reasoning:
            raise RunFolderError(f"The scores of {self.run_dir} use no reasoning, so its evaluation needs no texts.")
        reasoner = self.model.reasoner
        if reasoner.store.path is None:
            raise RunFolderError(
                f"The store of {self.run_dir} cannot be written. Copy the run, or give yourself the right to write there."
            )
        reasoner.at_once = SHARED
        before = reasoner.written
        rows = self.loaders[split].dataset.inter_feat
        self.model.reasoning(rows, self.model.evaluation_decoding, f"Reasoning for {split}")
        return reasoner.written - before


def load_run(
    path: str | Path,
    gpu: str | None = None,
    *,
    model: str | type | None = None,
    data_path: str | None = None,
    backbone: str | None = None,
    text_encoder: str | None = None,
) -> LoadedRun:
    """Restores a finished run. Nothing is unpickled, and nothing in the folder changes.

    Args:
        path: the run folder.
        gpu: number of the GPU to use, where there are any; None takes the one that the run used.
        model: for a run of a model of somebody's own, its class or `package.module:Class`: code that a folder names is run only if you
            name it too, here or earlier in this process.
        data_path: where its data lie now, if they moved; so for the next two.
        backbone: the language model that it names: a folder, a hub id or a .gguf file.
        text_encoder: the sentence encoder that it names: a folder or a hub id.

    Raises:
        RunFolderError: the folder holds no finished run, a file of it is damaged, or the data set has changed since.
        ConfigError: the model that is named is not that of the run, or cannot be imported.
        BackboneError: the base of its adapter is not there, or is another one.
        RPORecError: the data set of the run is not there any more.
    """
    folder = Path(path)
    values = located(folder, {"data_path": data_path, "backbone": backbone, "text_encoder": text_encoder})
    if gpu is not None:
        values["gpu_id"] = gpu
    config = build_config(
        trusted(folder, str(values.get("model")), model), str(values.get("dataset")), overrides=values
    )
    restored_from(config, folder)
    config["run_dir"], config["checkpoint_dir"] = str(folder), str(Path(tempfile.gettempdir(), f"rporec-{uuid4().hex}"))
    with logging_to(None):
        dataset, train, valid, test = build_data(config)
        check_digest(folder, dataset.digest)
        built = build_model(config, train)
    if hasattr(built, "catalogue"):  # it reads texts each time
        check_digest(folder, digest_of_words(dataset, built.catalogue), WORDS)
    if config["model"] == "RPORec":
        checkpoint.restore(built, folder)
    else:
        baseline.restore(built, folder)
    with torch.no_grad():
        built.eval()
    return LoadedRun(folder, config, dataset, {"train": train, "valid": valid, "test": test}, built)


def check_rporec(path: str | Path, purpose: str) -> dict[str, Any]:
    """The config of a run of RPORec; nothing is loaded.

    Args:
        path: the run folder.
        purpose: what it is wanted for, for the message, such as "vectors".

    Raises:
        ConfigError: the run is one of another model.
        RunFolderError: there is no run.
    """
    config = read_config(Path(path))
    if config.get("model") != "RPORec":
        raise ConfigError(
            f"{path} holds a run of {config.get('model')}, and {purpose} can be had of RPORec's runs only. A trunk alone will do "
            '(--stages="[1a]"), but for controls. `rporec recommend` writes the best items of any model.'
        )
    return config


def load_rporec(path: str | Path, purpose: str, **places: str | None) -> LoadedRun:
    """As `load_run`, for what only RPORec's runs can give.

    Args:
        path: the run folder.
        purpose: as for `check_rporec`.
        places: as for `load_run`.

    Raises:
        ConfigError: the run is one of another model.
        RPORecError: as `load_run`.
    """
    check_rporec(path, purpose)
    return load_run(path, **places)


def hash_of_run(path: str | Path, names: Iterable[str] = _MAKES_SCORES) -> str:
    """SHA-256 over files of a run, with their names: another one means other scores.

    Args:
        path: the folder of an RPORec run.
        names: files and folders in it; the default is all that scores are made from, stored reasoning left out.

    Raises:
        RunFolderError: a file cannot be read.
    """
    folder, digest = Path(path), hashlib.sha256()
    try:
        for name in names:
            place = folder / name
            for file in sorted(one for one in place.rglob("*") if one.is_file()) if place.is_dir() else [place]:
                if name in _MAY_LACK and not file.exists():
                    continue
                digest.update(f"{file.relative_to(folder).as_posix()}\n{file.stat().st_size}\n".encode())
                with file.open("rb") as opened:
                    while block := opened.read(1 << 20):
                        digest.update(block)
    except OSError as error:
        raise RunFolderError(f"A file of the run {folder} cannot be read: {error}.") from error
    return digest.hexdigest()


def add_test(path: str | Path) -> dict[str, Any]:
    """Ranks the test split of a run that left it out, and writes that into the run folder.

    Args:
        path: the run folder; where the test split stands already, nothing happens.

    Returns:
        the content of `metrics.json`.

    Raises:
        RPORecError: as `load_run`.
    """
    folder = Path(path)
    metrics, ranks = read_results(folder)
    if "test" in metrics:
        return metrics
    run = load_run(folder)
    found, table, kept = run.ranked("test")
    lists, beyond = lists_of(run.config, run.dataset, run.loaders, kept, table)
    if getattr(run.model, "reads_reasoning", False):
        metrics.setdefault("answers", {})["test"] = run.answers("test")
    if getattr(run.model, "reasoner", None) is not None:
        run.model.reasoner.store.close()
    metrics["test"] = found
    if beyond:
        metrics["beyond"] = {"test": beyond}
    others = ranks[ranks["split"] != "test"]  # a process that died between the two files
    write_results(folder, metrics, together([others, table]), lists)
    return metrics
