"""Ids of interactions that a table of features writes another way, which every join would lose in silence."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from rporec_recbole.data.atomic import read_table
from rporec_recbole.errors import DatasetError


def check_ids(
    interactions: Sequence[Path], table: Path, key: str, separator: str = "\t", encoding: str = "utf-8"
) -> None:
    """Refuses a table that knows nothing of what the interactions are with, or writes half of their ids in another case. Of fewer it
    warns: `q7` and `Q7` may be two.

    Args:
        interactions: files of interactions.
        table: the file of features.
        key: the column of ids, `token`, in all of them.
        separator: between fields.
        encoding: of the files.

    Raises:
        DatasetError: says which ids match nothing, and in what they differ.
    """
    used = set().union(*(_ids(path, key, separator, encoding) for path in interactions))
    known = _ids(table, key, separator, encoding)
    lost, spare = sorted(used - known), {_plain(one): one for one in sorted(known - used, reverse=True)}
    alike = [(one, spare[_plain(one)]) for one in lost if _plain(one) in spare]
    where = f"the {len(used):,} `{key}`s of {interactions[0].name}"
    if alike:
        pairs = ", ".join(f"{one!r} and {other!r}" for one, other in alike[:3])
        cased = any(one.strip() != other.strip() for one, other in alike)
        message = (
            f"{len(alike):,} of {where} stand in {table.name} {'in another case' if cased else 'with other blanks'}: {pairs}. RecBole takes ids as they are written. "
            "Where they are the same, write them alike in both files."
        )
        if 2 * len(alike) >= len(used):
            raise DatasetError(message)
        logging.getLogger().warning(message)
    if lost and len(lost) == len(used):
        raise DatasetError(
            f"None of {where} stands in {table.name}: {', '.join(map(repr, lost[:3]))} match nothing, and {table.name} has "
            f"{', '.join(map(repr, sorted(known)[:3])) or 'no row'}. Write ids alike in both files, or leave {table.name} out of `load_col`."
        )


def _ids(path: Path, key: str, separator: str, encoding: str) -> set[str]:
    column = f"{key}:token"
    return set(read_table(path, separator, encoding, usecols=[column], dtype={column: str})[column].dropna())


def _plain(name: str) -> str:
    return name.strip().casefold()
