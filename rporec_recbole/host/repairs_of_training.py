"""Repairs of what RecBole does once data are there: configs, models, trainers, evaluation."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from rporec_recbole.host.repair import ModuleWith, repair


@repair(
    "numpy-aliases",
    symptom="AttributeError: `np.float_` was removed, as soon as a Config is made",
    cause="config/configurator.py `compatibility_settings` assigns names that NumPy 2 no longer has",
    remove_when="RecBole stops using np.float, np.object, np.str and np.unicode",
)
def numpy_aliases() -> None:
    from recbole.config import Config

    aliases = {
        "float": np.float64,
        "int": np.int64,
        "complex": np.complex128,
        "object": np.object_,
        "str": np.str_,
        "unicode": np.str_,
    }

    def set_aliases(self: Any = None) -> None:
        # Only names that NumPy lacks: np.bool and np.long are NumPy 2's own.
        for alias, dtype in aliases.items():
            if alias not in vars(np):
                setattr(np, alias, dtype)

    Config.compatibility_settings = set_aliases
    set_aliases()


@repair(
    "coverage-metrics",
    symptom="AttributeError: 'int' object has no attribute 'cpu' with ItemCoverage, AveragePopularity, GiniIndex, TailPercentage",
    cause="evaluator/collector.py:227 calls `.cpu()` on counts that are no tensors",
    remove_when="RecBole moves tensors only",
)
def coverage_metrics() -> None:
    from recbole.evaluator import collector

    original = collector.Collector.get_data_struct

    class Count(int):
        def cpu(self) -> Count:
            return self

    class Counts(dict):
        def cpu(self) -> Counts:
            return self

    @functools.wraps(original)
    def get_data_struct(self: Any) -> Any:
        held = self.data_struct._data_dict
        for key, value in held.items():
            if isinstance(value, int):
                held[key] = Count(value)
            elif isinstance(value, dict):
                held[key] = Counts(value)
        return original(self)

    collector.Collector.get_data_struct = get_data_struct


@repair(
    "pop-counts",
    symptom="silent: Pop ranks by how many batches an item stands in, sampled negatives included: its figures change with "
    "`train_batch_size`",
    cause="model/general_recommender/pop.py:47 adds 1 through an index, which counts an item once a batch, and the batches of "
    "training hold negatives",
    remove_when="RecBole counts every training interaction once",
)
def pop_counts() -> None:
    from recbole.model.general_recommender import Pop

    make = Pop.__init__

    @functools.wraps(make)
    def make_with_counts(self: Any, config: Any, dataset: Any) -> None:
        make(self, config, dataset)
        counts = torch.bincount(dataset.inter_feat[self.ITEM_ID], minlength=self.n_items)
        self.item_cnt = counts.unsqueeze(1).to(self.device)
        self.max_cnt = self.item_cnt.max(dim=0)[0]

    def nothing_to_learn(self: Any, interaction: Any) -> torch.Tensor:
        return torch.nn.Parameter(torch.zeros(1)).to(self.device)

    Pop.__init__ = make_with_counts
    Pop.calculate_loss = nothing_to_learn


@repair(
    "scipy-dok-update",
    symptom="AttributeError: dok_matrix has no `_update` in LightGCN, NGCF, NCL, GCMC, SpectralCF, KGIN, MCCLK",
    cause="SciPy 1.13 removed the private method that these models call",
    remove_when="RecBole builds its adjacency matrices another way",
)
def dok_update() -> None:
    from scipy.sparse import dok_matrix

    if not hasattr(dok_matrix, "_update"):

        def update(self: Any, entries: dict) -> None:
            for index, value in entries.items():
                self[index] = value

        dok_matrix._update = update


_written: set[str] = set()


def was_written_here(path: str | os.PathLike[str]) -> bool:
    """Whether a checkpoint of RecBole's was written by this very process."""
    return os.path.realpath(path) in _written


@repair(
    "own-checkpoints",
    symptom="UnpicklingError: weights only load failed, when RecBole loads the best epoch of the model it has just trained",
    cause="trainer/trainer.py:583 relies on torch.load's old default; its checkpoints pickle the whole Config",
    remove_when="RecBole saves what torch.load(weights_only=True) accepts",
)
def own_checkpoints() -> None:
    from recbole.trainer import Trainer

    save, evaluate = Trainer._save_checkpoint, Trainer.evaluate

    @functools.wraps(save)
    def save_and_remember(self: Any, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        save(self, epoch, verbose=verbose, **kwargs)
        _written.add(os.path.realpath(kwargs.get("saved_model_file", self.saved_model_file)))

    @functools.wraps(evaluate)
    def evaluate_own(
        self: Any,
        eval_data: Any,
        load_best_model: bool = True,
        model_file: str | None = None,
        show_progress: bool = False,
    ) -> Any:
        # Only a file that this very process wrote is unpickled; a checkpoint from elsewhere meets torch's safe default.
        own = load_best_model and was_written_here(model_file or self.saved_model_file)
        with _unpickling_allowed() if own else contextlib.nullcontext():
            return evaluate(self, eval_data, load_best_model, model_file, show_progress)

    Trainer._save_checkpoint = save_and_remember
    Trainer.evaluate = evaluate_own


@contextlib.contextmanager
def _unpickling_allowed() -> Iterator[None]:
    import recbole.trainer.trainer as module

    def load(*args: Any, **kwargs: Any) -> Any:
        return torch.load(*args, **{"weights_only": False, **kwargs})

    original = module.torch
    module.torch = ModuleWith(torch, load=load)
    try:
        yield
    finally:
        module.torch = original


@repair(
    "tensorboard-folder",
    symptom="every trainer makes a `log_tensorboard` folder in whatever folder it was started from",
    cause="utils/utils.py `get_tensorboard` has a fixed path",
    remove_when="RecBole takes the folder from the config",
)
def tensorboard_folder() -> None:
    import recbole.trainer.trainer as module
    from torch.utils.tensorboard import SummaryWriter

    original = module.get_tensorboard

    @functools.wraps(original)
    def get_tensorboard(logger: Any) -> Any:
        for handler in logger.handlers:
            folder = getattr(handler, "tensorboard_dir", None)
            if folder is not None:
                return SummaryWriter(folder)
        return original(logger)

    module.get_tensorboard = get_tensorboard


@repair(
    "anomaly-detection",
    symptom="silent: every backward pass of every model checks all gradients for NaN and runs up to a third slower",
    cause="model/sequential_recommender/sine.py:25 turns on autograd's debug mode when it is imported, and the package "
    "imports it together with all other models",
    remove_when="sine.py no longer calls torch.autograd.set_detect_anomaly",
)
def anomaly_detection() -> None:
    before = torch.is_anomaly_enabled()
    import recbole.model.sequential_recommender  # noqa: F401

    torch.autograd.set_detect_anomaly(before)
