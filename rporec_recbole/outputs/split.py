"""The split and the candidates that models are ranked on here, as files for a system outside.

train.parquet, valid.parquet, test.parquet   user_id, item_id, timestamp, rating (where the data set has them), by user, then in order of time
candidates.parquet                           item_id: what is ranked
split.json                                   what was split, how, of which files

Users and items are those of the data files. `rporec compare RUN --lists=NAME:FILE.parquet` ranks the lists that come back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rporec_recbole.data.files import replacing_folder, unwritable, write_json, write_table
from rporec_recbole.data.parts import SPLITS, part_tables
from rporec_recbole.errors import ConfigError
from rporec_recbole.evaluation.comparable import mode_of
from rporec_recbole.host.bridge import build_config
from rporec_recbole.host.data import build_data
from rporec_recbole.runs.folder import logging_to
from rporec_recbole.version import versions

FACTS, CANDIDATES = "split.json", "candidates.parquet"
_OURS = {FACTS, CANDIDATES, *(f"{part}.parquet" for part in ("train", *SPLITS))}
_DECIDE = (
    "eval_args",
    "hide_seen",
    "user_inter_num_interval",
    "item_inter_num_interval",
    "val_interval",
    "rm_dup_inter",
    "filter_inter_by_user_or_item",
    "legacy_time_order",
    "seed",
)
"""Settings that say which rows are where, and what is ranked."""
_TIME, _RATING = "time as given", "rating as given"
_SEEN = {
    True: "Hidden: an item that the user has before the target is not ranked, unless it is the target.",
    False: "Ranked: an item that the user has before the target is ranked like any other.",
}


def write_split(
    dataset: str,
    output: str | Path,
    model: str = "RPORec",
    overrides: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes a split; an older one there is replaced when the new one is complete.

    Args:
        dataset: name of the data set.
        output: a new folder, an empty one, or one with an older split and nothing else.
        model: whose split it is; with the usual filter of users (at least 4 interactions) all models have the same.
        overrides: settings, as for a run.

    Returns:
        the content of `split.json`.

    Raises:
        ConfigError: a setting is wrong, or this evaluation has no split that could be handed out.
        DatasetError: the data set cannot be read.
        RunFolderError: the folder cannot be written.
    """
    output = Path(output)
    _check(output)
    own = {"ids_only": True, "stages": ["1a"], "controls": False} if model == "RPORec" else {}
    config = build_config(model, dataset, overrides={**(overrides or {}), **own})
    _refuse_others(config)
    with logging_to(None):
        data, train, valid, test = build_data(config, keep_rows=True)
    tables = part_tables(data, {"train": train, "valid": valid, "test": test}, _named(config, data))
    tokens = {field: np.array(data.field2id_token[field], dtype=object) for field in (data.uid_field, data.iid_field)}
    tables = {part: _told(table, data, tokens) for part, table in tables.items()}
    facts = _facts(config, data, tables)
    with unwritable(f"{output} cannot be written", "--output"), replacing_folder(output) as folder:
        for part, table in tables.items():
            write_table(folder / f"{part}.parquet", table)
        write_table(folder / CANDIDATES, pd.DataFrame({"item_id": tokens[data.iid_field][1:]}))
        write_json(folder / FACTS, facts)
    return facts


def _check(output: Path) -> None:
    if output.exists() and not output.is_dir():
        raise ConfigError(f"`--output={output}` is a file. Name a folder.")
    if not output.resolve().parent.is_dir():
        raise ConfigError(f"`--output={output}`: the folder {output.parent} does not exist. Make it, or name another.")
    others = sorted({one.name for one in output.iterdir()} - _OURS) if output.is_dir() else []
    if others:
        raise ConfigError(
            f"`--output={output}` holds other files than a split, such as `{others[0]}`, and would be replaced. Name a new folder."
        )


def _refuse_others(config: Any) -> None:
    if config["benchmark_filename"] is not None:
        raise ConfigError(
            f"With `benchmark_filename={list(config['benchmark_filename'])}` the split stands in your own files. Give these to the other system."
        )
    for split in SPLITS:
        mode = mode_of(config["eval_args"], split)
        if mode != "full":
            raise ConfigError(
                f"`eval_args` ranks each {split} target against a sample of its own (`{mode}`), so there are no candidates that all share, and no "
                "list of another system could be ranked. Use the mode `full`."
            )


def _named(config: Any, data: Any) -> pd.DataFrame:
    """The rows with the columns that go out. Times stand there twice: as the file has them, and as they are split, which may be scaled. A gap
    among the ratings is a gap again."""
    time, rating, given = data.time_field, config["RATING_FIELD"], data.rows_given
    found = data.rows_read[[one for one in (data.uid_field, data.iid_field, time) if one in data.rows_read]].copy()
    if time in given:
        found[_TIME] = given[time].to_numpy()
    if rating in given:
        values: Any = given[rating].to_numpy()
        named = rating in data.field2id_token
        if named:
            values = np.array([None, *data.field2id_token[rating][1:]], dtype=object)[values]
        unrated = getattr(data, "unrated", lambda: None)()
        values = values if unrated is None else np.where(unrated, None, values)
        found[_RATING] = values if named else values.astype(float)
    return found


def _told(table: pd.DataFrame, data: Any, tokens: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """The same rows with the names that they have outside."""
    found = {
        name: tokens[field][table[field]] for field, name in ((data.uid_field, "user_id"), (data.iid_field, "item_id"))
    }
    for column, name in ((_TIME, "timestamp"), (_RATING, "rating"), ("target", "target")):
        if column in table:
            found[name] = table[column].to_numpy()
    return pd.DataFrame(found)


def _facts(config: Any, data: Any, tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    folder, name = Path(config["data_path"]), config["dataset"]
    return {
        "dataset": str(name),
        "model": str(config["model"]),
        "settings": {key: config[key] for key in _DECIDE},
        "files": {file.name: _sha256(file) for file in sorted(folder.glob(f"{name}.*")) if file.is_file()},
        "rows": {part: len(table) for part, table in tables.items()},
        "users": int(data.user_num - 1),
        "candidates": int(data.item_num - 1),
        "hide_seen": bool(config["hide_seen"]),
        "seen items": _SEEN[bool(config["hide_seen"])],
        "columns": {part: list(table.columns) for part, table in tables.items()},
        "versions": versions(),
    }


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
