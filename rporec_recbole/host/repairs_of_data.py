"""Repairs of how RecBole downloads, reads, fills and sorts data."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from rporec_recbole.data.atomic import read_table
from rporec_recbole.host.repair import ModuleWith, repair


@repair(
    "atomic-file-reader",
    symptom="a title that starts with a quote swallows the lines after it; a missing title has no `.split`; a title or "
    "token spelt `NA` vanishes; a row ends at a carriage return inside a title",
    cause="data/dataset/dataset.py:486 reads with quoting, pandas' list of NA words and its ends of lines, :501 fills gaps through a "
    "chained in-place call that pandas 3 ignores",
    remove_when="RecBole reads with csv.QUOTE_NONE and line feeds, and assigns the result of fillna",
)
def atomic_file_reader() -> None:
    import recbole.data.dataset.dataset as module

    module.pd = ModuleWith(pd, read_csv=_read_atomic_file)


def _read_atomic_file(
    filepath: str, *, delimiter: str, encoding: str | None = None, engine: str = "c", **options: Any
) -> pd.DataFrame:
    """`pandas.read_csv`, fit for atomic files."""
    frame = read_table(Path(filepath), delimiter, encoding or "utf-8", **options)
    for header in frame.columns:
        if header.split(":")[-1] in ("token_seq", "float_seq"):
            frame[header] = frame[header].fillna("")
    return frame


@repair(
    "pandas-agg-len",
    symptom="token sequences are split at the wrong places, or IndexError while loading them",
    cause="data/dataset/dataset.py:1217, :712, :792 and :809, kg_dataset.py:316: `Series.agg(len)` now gets the whole column",
    remove_when="RecBole takes lengths row by row",
)
def agg_len() -> None:
    from recbole.data.dataset import Dataset
    from recbole.utils.enum_type import FeatureType

    remap = Dataset._remap

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

    def rowwise_floats(change: Any) -> Any:
        @functools.wraps(change)
        def change_rowwise(self: Any) -> None:
            original = self.field2feats
            self.field2feats = lambda field: [
                RowwiseFrame(feat) if self.field2type[field] == FeatureType.FLOAT_SEQ else feat
                for feat in original(field)
            ]
            try:
                change(self)
            finally:
                del self.field2feats

        return change_rowwise

    Dataset._remap = remap_rowwise
    Dataset._normalize = rowwise_floats(Dataset._normalize)
    Dataset._discretization = rowwise_floats(Dataset._discretization)


@repair(
    "pad-row-features",
    symptom="silent: the padding row of item and user features holds INT64_MIN or NaN, and embeddings index out of range",
    cause="data/dataset/dataset.py:648 and :650 fill gaps through a chained in-place call that pandas 3 ignores",
    remove_when="RecBole assigns the result of fillna",
)
def pad_row_features() -> None:
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


@repair(
    "benchmark-histories",
    symptom="silent: with `benchmark_filename`, every history has the number of rows as its length; histories longer than "
    "MAX_ITEM_LIST_LENGTH are read whole, or end in an IndexError",
    cause="data/dataset/sequential_dataset.py:163: `Series.agg(len)` now gets the whole column, and nothing cuts it",
    remove_when="RecBole takes lengths row by row and cuts the lists of files as it cuts its own",
)
def benchmark_histories() -> None:
    from recbole.data.dataset import SequentialDataset
    from recbole.utils.enum_type import FeatureSource, FeatureType

    def benchmark_presets(self: Any) -> None:
        suffix, newest = self.config["LIST_SUFFIX"], self.max_item_list_len
        for field in list(self.inter_feat):
            listed = field + suffix
            if listed in self.inter_feat:
                setattr(self, f"{field}_list_field", listed)
                self.inter_feat[listed] = [row[-newest:] for row in self.inter_feat[listed]]
                self.field2seqlen[listed] = min(newest, self.field2seqlen[listed])
        self.set_field_property(self.item_list_length_field, FeatureType.TOKEN, FeatureSource.INTERACTION, 1)
        self.inter_feat[self.item_list_length_field] = _lengths(self.inter_feat[self.iid_field + suffix])

    SequentialDataset._benchmark_presets = benchmark_presets


@repair(
    "time-order",
    symptom="silent: users get another test item than their last one (149 of 943 on ml-100k without normalisation)",
    cause="data/dataset/dataset.py turns Unix seconds into float32 (64 s or 131 s steps) before it sorts by them",
    remove_when="RecBole sorts before it rounds; `legacy_time_order: True` gives its old order meanwhile",
)
def time_order() -> None:
    from recbole.data.dataset import Dataset
    from recbole.utils.enum_type import FeatureType

    to_interaction, build = Dataset._dataframe_to_interaction, Dataset.build

    @functools.wraps(to_interaction)
    def to_exact_interaction(self: Any, data: pd.DataFrame) -> Any:
        # Only where RecBole sorts by time: random splits draw as they always did, and a user's own split
        # (`benchmark_filename`) is cut by the lengths of its files.
        found, time, config = to_interaction(self, data), self.time_field, self.config
        by_time = config["eval_args"]["order"] == "TO" and config["benchmark_filename"] is None
        by_time = by_time and data is self.inter_feat and not config["legacy_time_order"]
        if by_time and self.field2type.get(time) == FeatureType.FLOAT and pd.api.types.is_numeric_dtype(data[time]):
            found.interaction[time] = torch.from_numpy(data[time].to_numpy(dtype=np.float64, copy=True))
        return found

    @functools.wraps(build)
    def build_then_round(self: Any) -> Any:
        parts = build(self)
        times = (self.time_field, f"{self.time_field}{self.config['LIST_SUFFIX']}")
        for owner in (self, *parts):
            for table in (owner.inter_feat, getattr(owner, "timeline", owner.inter_feat)):
                for field in times:  # lists that are not written yet will be cut from a timeline that is rounded then
                    if field in table.interaction and table[field].dtype == torch.float64:
                        table.interaction[field] = table[field].float()
        return parts

    Dataset._dataframe_to_interaction = to_exact_interaction
    Dataset.build = build_then_round


@repair(
    "duplicates",
    symptom="silent: `rm_dup_inter` puts data without any duplicate into another order (271 of 943 test items of ml-100k), and another "
    "one of two duplicates may stay",
    cause="data/dataset/dataset.py: `_remove_duplication` sorts by time with an unstable sort, and leaves the rows in that order",
    remove_when="RecBole sorts stably there; `legacy_time_order: True` gives its old order meanwhile",
)
def duplicates() -> None:
    from recbole.data.dataset import Dataset

    remove = Dataset._remove_duplication

    @functools.wraps(remove)
    def remove_and_keep_order(self: Any) -> None:
        keep, table = self.config["rm_dup_inter"], self.inter_feat
        if keep is None or self.config["legacy_time_order"] or self.time_field not in table:
            remove(self)  # without times, which sorts nothing
            return
        in_time = table[self.time_field].sort_values(kind="stable").index
        again = table.loc[in_time, [self.uid_field, self.iid_field]].duplicated(keep=keep)
        table.drop(again.index[again], inplace=True)

    Dataset._remove_duplication = remove_and_keep_order


@repair(
    "first-download",
    symptom="the first automatic download of a data set ends in an error about process groups; the second run works",
    cause="data/dataset/dataset.py:252 waits at a barrier although there is only one process",
    remove_when="RecBole skips the barrier in single-process runs",
)
def first_download() -> None:
    import recbole.data.dataset.dataset as module

    def barrier(*args: Any, **kwargs: Any) -> None:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.barrier(*args, **kwargs)

    module.torch = ModuleWith(torch, distributed=ModuleWith(torch.distributed, barrier=barrier))


def _lengths(column: pd.Series) -> list[int]:
    return [len(value) for value in column]
