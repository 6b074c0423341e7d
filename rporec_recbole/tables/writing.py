"""A data set's folder: atomic files and the YAML file with its settings, all of them or none."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from rporec_recbole.errors import ConfigError, RunFolderError, first_line, translating
from rporec_recbole.tables.purchases import Purchases
from rporec_recbole.tables.replacing import replacing_folder
from rporec_recbole.tables.times import seconds

_ROWS = 1 << 17
_OURS = ("inter", "item", "user", "yaml")


def check_target(data_path: str | Path, name: str, overwrite: bool) -> Path:
    """The folder of a data set that is about to be written.

    Raises:
        ConfigError: the name is none for a data set, or something is there already.
    """
    if not re.fullmatch(r"[\w][\w.+-]*", name):
        better = re.sub(r"[^\w.+-]+", "-", name).strip("-.") or "shop"
        raise ConfigError(
            f"`{name}` is no name for a data set: letters, digits, `-`, `_` and `.` are. Write --name={better}."
        )
    folder = Path(data_path) / name
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file. Choose another --name or --data_path.")
    there = sorted(one.name for one in folder.iterdir()) if folder.is_dir() else []
    others = [one for one in there if one not in {f"{name}.{end}" for end in _OURS}]
    if there and not overwrite:
        raise ConfigError(
            f"The data set `{name}` is there already: {folder} holds {', '.join(there[:6])}. Choose another --name, or replace it with --overwrite."
        )
    if others:
        raise ConfigError(
            f"{folder} holds {', '.join(others[:6])}, which no import wrote and --overwrite would lose. Move them away, or choose another --name."
        )
    return folder


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder to write into, which is at its place when this block has ended well, and nowhere if not.

    Raises:
        RunFolderError: it cannot be written.
    """
    with translating(
        lambda error: RunFolderError(
            f"{folder} cannot be written: {first_line(error)}. Free disk space, or choose another --data_path."
        ),
        OSError,
    ):
        folder.resolve().parent.mkdir(parents=True, exist_ok=True)
        with replacing_folder(folder, hidden=True) as growing:
            yield growing
            for path in growing.iterdir():
                with path.open("rb") as file:
                    os.fsync(file.fileno())


def write_interactions(purchases: Purchases, path: Path) -> None:
    """Writes an `.inter` file, rows in their order, times in seconds."""
    users, items = purchases.users.array(), purchases.items.array()
    header = ["user_id:token", "item_id:token", "timestamp:float"]
    if purchases.rating is not None:
        header.insert(2, f"rating:{purchases.rating_kind}")
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write("\t".join(header) + "\n")
        for start in range(0, len(purchases), _ROWS):
            part = slice(start, start + _ROWS)
            columns: list[Any] = [
                users[purchases.user[part]],
                items[purchases.item[part]],
                seconds(purchases.time[part]),
            ]
            if purchases.rating is not None:
                columns.insert(2, purchases.rating[part])
            file.writelines("\t".join(row) + "\n" for row in zip(*columns, strict=True))


def write_settings(path: Path, origin: str, settings: Mapping[str, Any], notes: list[str]) -> None:
    """Writes the data set's own YAML file, which every run on it reads.

    Args:
        path: of the file.
        origin: what the data were made of.
        settings: key -> value.
        notes: sentences that stand above them.
    """
    lines = [
        f"# Written by `rporec import` from {origin}. Every run on this data set reads it; --key=value wins over it."
    ]
    lines += [f"# {note}" for note in notes]
    text = yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)
    path.write_text("\n".join(" ".join(line.split()) for line in lines) + "\n" + text, encoding="utf-8")


def first_rows(purchases: Purchases, rows: int = 3) -> list[tuple[str, ...]]:
    """The first rows as the file has them, below their header."""
    ids = purchases.users.array(), purchases.items.array()
    found = [("user_id", "item_id", *(("rating",) if purchases.rating is not None else ()), "timestamp")]
    for row in range(min(rows, len(purchases))):
        rating = () if purchases.rating is None else (str(purchases.rating[row]),)
        found.append(
            (
                ids[0][purchases.user[row]],
                ids[1][purchases.item[row]],
                *rating,
                seconds(purchases.time[row : row + 1])[0],
            )
        )
    return found


def lengths_of(purchases: Purchases) -> np.ndarray:
    """How many interactions each user has, `[U]`, those without one left out."""
    counts = np.bincount(purchases.user, minlength=1)
    return counts[counts > 0]
