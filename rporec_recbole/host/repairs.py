"""Repairs that let RecBole 1.2.1 run, and run correctly, on NumPy 2, pandas 3, SciPy 1.13+ and torch 2.6+.

Each repair states its symptom, its cause and when it can go. `install_repairs` applies all of them once, when
`rporec_recbole` is imported; nothing in site-packages is touched on disk. `rporec doctor` lists them.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch


@dataclass(frozen=True)
class Repair:
    """One change to RecBole's behaviour at run time.

    Attributes:
        name: short handle, used in tests and in `rporec doctor`.
        symptom: what a user sees without it.
        cause: where in RecBole 1.2.1 it comes from.
        remove_when: the condition under which this entry can be deleted.
        apply: makes the change; called once.
    """

    name: str
    symptom: str
    cause: str
    remove_when: str
    apply: Callable[[], None]


REPAIRS: list[Repair] = []
_installed = False


def install_repairs() -> None:
    """Applies every repair in `REPAIRS`; later calls do nothing."""
    global _installed
    if _installed:
        return
    _installed = True
    for repair in REPAIRS:
        repair.apply()
    # What these warn of is repaired above, or harmless: RecBole never writes into the arrays it shares.
    warnings.filterwarnings(
        "ignore", category=getattr(pd.errors, "ChainedAssignmentError", FutureWarning), module=r"recbole\."
    )
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable", module=r"recbole\.")


def _repair(
    name: str, *, symptom: str, cause: str, remove_when: str
) -> Callable[[Callable[[], None]], Callable[[], None]]:
    def register(apply: Callable[[], None]) -> Callable[[], None]:
        REPAIRS.append(Repair(name, symptom, cause, remove_when, apply))
        return apply

    return register


@_repair(
    "numpy-aliases",
    symptom="AttributeError: `np.float_` was removed, as soon as a Config is made",
    cause="config/configurator.py `compatibility_settings` assigns names that NumPy 2 no longer has",
    remove_when="RecBole stops using np.float, np.object, np.str and np.unicode",
)
def _numpy_aliases() -> None:
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


class _PandasForAtomicFiles:
    """What `recbole.data.dataset.dataset` sees as `pd`: pandas, with a `read_csv` fit for atomic files."""

    def __getattr__(self, name: str) -> Any:
        return getattr(pd, name)

    @staticmethod
    def read_csv(filepath: str, *, engine: str = "c", **options: Any) -> pd.DataFrame:
        frame = pd.read_csv(
            filepath,
            **options,
            engine="c",
            quoting=csv.QUOTE_NONE,
            keep_default_na=False,
            na_values=[""],
            float_precision="round_trip",
        )
        for header in frame.columns:
            if header.split(":")[-1] in ("token_seq", "float_seq"):
                frame[header] = frame[header].fillna("")
        return frame


@_repair(
    "atomic-file-reader",
    symptom="a title that starts with a quote swallows the lines after it; a missing title has no `.split`; a title or "
    "token spelt `NA` vanishes",
    cause="data/dataset/dataset.py:486 reads with quoting and pandas' list of NA words, :501 fills gaps through a chained "
    "in-place call that pandas 3 ignores",
    remove_when="RecBole reads with csv.QUOTE_NONE and assigns the result of fillna",
)
def _atomic_file_reader() -> None:
    import recbole.data.dataset.dataset as module

    module.pd = _PandasForAtomicFiles()


def _lengths(column: pd.Series) -> list[int]:
    return [len(value) for value in column]


@_repair(
    "pandas-agg-len",
    symptom="token sequences are split at the wrong places, or IndexError while loading them",
    cause="data/dataset/dataset.py:1217 and :712, kg_dataset.py:316: `Series.agg(len)` now gets the whole column",
    remove_when="RecBole takes lengths row by row",
)
def _agg_len() -> None:
    from recbole.data.dataset import Dataset
    from recbole.utils.enum_type import FeatureType

    remap, normalize = Dataset._remap, Dataset._normalize

    class RowwiseColumn(pd.Series):
        """A column whose `agg(len)` is row by row, as it was up to pandas 2."""

        def agg(self, func: Any = None, *args: Any, **kwargs: Any) -> Any:
            return pd.Series(_lengths(self)) if func is len else super().agg(func, *args, **kwargs)

    class RowwiseFrame:
        """A view of a feature table that hands out `RowwiseColumn`s."""

        def __init__(self, frame: pd.DataFrame) -> None:
            self.frame = frame

        def __getitem__(self, field: str) -> pd.Series:
            return RowwiseColumn(self.frame[field])

        def __setitem__(self, field: str, values: Any) -> None:
            self.frame[field] = values

    @functools.wraps(remap)
    def remap_rowwise(self: Any, remap_list: list) -> None:
        remap(
            self,
            [
                (RowwiseFrame(f), field, ftype) if ftype == FeatureType.TOKEN_SEQ else (f, field, ftype)
                for f, field, ftype in remap_list
            ],
        )

    @functools.wraps(normalize)
    def normalize_rowwise(self: Any) -> None:
        original = self.field2feats
        self.field2feats = lambda field: [
            RowwiseFrame(feat) if self.field2type[field] == FeatureType.FLOAT_SEQ else feat for feat in original(field)
        ]
        try:
            normalize(self)
        finally:
            del self.field2feats

    Dataset._remap = remap_rowwise
    Dataset._normalize = normalize_rowwise


@_repair(
    "pad-row-features",
    symptom="silent: the padding row of item and user features holds INT64_MIN or NaN, and embeddings index out of range",
    cause="data/dataset/dataset.py:648 and :650 fill gaps through a chained in-place call that pandas 3 ignores",
    remove_when="RecBole assigns the result of fillna",
)
def _pad_row_features() -> None:
    from recbole.data.dataset import Dataset
    from recbole.utils.enum_type import FeatureType

    def fill_nan(self: Any) -> None:
        for name in self.feat_name_list:
            feat = getattr(self, name)
            for field in feat:
                kind = self.field2type[field]
                if kind == FeatureType.TOKEN:
                    feat[field] = feat[field].fillna(0)
                elif kind == FeatureType.FLOAT:
                    feat[field] = feat[field].fillna(feat[field].mean())
                else:
                    empty = np.array([], dtype=np.int64 if kind == FeatureType.TOKEN_SEQ else np.float64)
                    feat[field] = [empty if isinstance(value, float) else value for value in feat[field]]

    Dataset._fill_nan = fill_nan


@_repair(
    "benchmark-item-length",
    symptom="silent: with `benchmark_filename`, every history has the number of rows as its length",
    cause="data/dataset/sequential_dataset.py:163: `Series.agg(len)` now gets the whole column",
    remove_when="RecBole takes lengths row by row",
)
def _benchmark_item_length() -> None:
    from recbole.data.dataset import SequentialDataset
    from recbole.utils.enum_type import FeatureSource, FeatureType

    def benchmark_presets(self: Any) -> None:
        suffix = self.config["LIST_SUFFIX"]
        for field in self.inter_feat:
            if field + suffix in self.inter_feat:
                setattr(self, f"{field}_list_field", field + suffix)
        self.set_field_property(self.item_list_length_field, FeatureType.TOKEN, FeatureSource.INTERACTION, 1)
        self.inter_feat[self.item_list_length_field] = _lengths(self.inter_feat[self.item_id_list_field])

    SequentialDataset._benchmark_presets = benchmark_presets


@_repair(
    "time-order",
    symptom="silent: users get another test item than their last one (149 of 943 on ml-100k without normalisation)",
    cause="data/dataset/dataset.py turns Unix seconds into float32 (64 s or 131 s steps) before it sorts by them",
    remove_when="RecBole sorts before it rounds; `legacy_time_order: True` gives its old order meanwhile",
)
def _time_order() -> None:
    from recbole.data.dataset import Dataset

    to_interaction = Dataset._dataframe_to_interaction

    @functools.wraps(to_interaction)
    def sorted_to_interaction(self: Any, data: pd.DataFrame) -> Any:
        # Rounding is monotone and RecBole's own sorts are stable: rows that are in order before they are rounded stay
        # so. Only for time-ordered splits, so that random splits draw as they always did.
        time = self.time_field
        in_time = self.config["eval_args"]["order"] == "TO" and not self.config["legacy_time_order"]
        if in_time and data is self.inter_feat and time in data and pd.api.types.is_numeric_dtype(data[time]):
            data = data.sort_values(time, kind="stable", ignore_index=True)
        return to_interaction(self, data)

    Dataset._dataframe_to_interaction = sorted_to_interaction


@_repair(
    "coverage-metrics",
    symptom="AttributeError: 'int' object has no attribute 'cpu' with ItemCoverage, AveragePopularity, GiniIndex, TailPercentage",
    cause="evaluator/collector.py:227 calls `.cpu()` on counts that are no tensors",
    remove_when="RecBole moves tensors only",
)
def _coverage_metrics() -> None:
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


@_repair(
    "first-download",
    symptom="the first automatic download of a data set ends in an error about process groups; the second run works",
    cause="data/dataset/dataset.py:252 waits at a barrier although there is only one process",
    remove_when="RecBole skips the barrier in single-process runs",
)
def _first_download() -> None:
    import recbole.data.dataset.dataset as module

    class Distributed:
        def __getattr__(self, name: str) -> Any:
            return getattr(torch.distributed, name)

        @staticmethod
        def barrier(*args: Any, **kwargs: Any) -> None:
            if torch.distributed.is_available() and torch.distributed.is_initialized():
                torch.distributed.barrier(*args, **kwargs)

    class Torch:
        distributed = Distributed()

        def __getattr__(self, name: str) -> Any:
            return getattr(torch, name)

    module.torch = Torch()


@_repair(
    "scipy-dok-update",
    symptom="AttributeError: dok_matrix has no `_update` in LightGCN, NGCF, NCL, GCMC, SpectralCF, KGIN, MCCLK",
    cause="SciPy 1.13 removed the private method that these models call",
    remove_when="RecBole builds its adjacency matrices another way",
)
def _dok_update() -> None:
    from scipy.sparse import dok_matrix

    if not hasattr(dok_matrix, "_update"):

        def update(self: Any, entries: dict) -> None:
            for index, value in entries.items():
                self[index] = value

        dok_matrix._update = update


@_repair(
    "own-checkpoints",
    symptom="UnpicklingError: weights only load failed, when RecBole loads the best epoch of the model it has just trained",
    cause="trainer/trainer.py:583 relies on torch.load's old default; its checkpoints pickle the whole Config",
    remove_when="RecBole saves what torch.load(weights_only=True) accepts",
)
def _own_checkpoints() -> None:
    from recbole.trainer import Trainer

    save, evaluate = Trainer._save_checkpoint, Trainer.evaluate
    written: set[str] = set()

    @functools.wraps(save)
    def save_and_remember(self: Any, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        save(self, epoch, verbose=verbose, **kwargs)
        written.add(os.path.realpath(kwargs.get("saved_model_file", self.saved_model_file)))

    @functools.wraps(evaluate)
    def evaluate_own(
        self: Any,
        eval_data: Any,
        load_best_model: bool = True,
        model_file: str | None = None,
        show_progress: bool = False,
    ) -> Any:
        # Only a file that this very process wrote is unpickled; a checkpoint from elsewhere meets torch's safe default.
        own = load_best_model and os.path.realpath(model_file or self.saved_model_file) in written
        with _unpickling_allowed() if own else contextlib.nullcontext():
            return evaluate(self, eval_data, load_best_model, model_file, show_progress)

    Trainer._save_checkpoint = save_and_remember
    Trainer.evaluate = evaluate_own


@contextlib.contextmanager
def _unpickling_allowed() -> Iterator[None]:
    import recbole.trainer.trainer as module

    class Torch:
        @staticmethod
        def load(*args: Any, **kwargs: Any) -> Any:
            return torch.load(*args, **{"weights_only": False, **kwargs})

        def __getattr__(self, name: str) -> Any:
            return getattr(torch, name)

    original = module.torch
    module.torch = Torch()
    try:
        yield
    finally:
        module.torch = original


@_repair(
    "tensorboard-folder",
    symptom="every trainer makes a `log_tensorboard` folder in whatever folder it was started from",
    cause="utils/utils.py `get_tensorboard` has a fixed path",
    remove_when="RecBole takes the folder from the config",
)
def _tensorboard_folder() -> None:
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


@_repair(
    "anomaly-detection",
    symptom="silent: every backward pass of every model checks all gradients for NaN and runs up to a third slower",
    cause="model/sequential_recommender/sine.py:25 turns on autograd's debug mode when it is imported, and the package "
    "imports it together with all other models",
    remove_when="sine.py no longer calls torch.autograd.set_detect_anomaly",
)
def _anomaly_detection() -> None:
    before = torch.is_anomaly_enabled()
    import recbole.model.sequential_recommender  # noqa: F401

    torch.autograd.set_detect_anomaly(before)
