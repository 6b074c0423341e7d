"""Data frames as a data set, from Python."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rporec_recbole.errors import DatasetError, RPORecError
from rporec_recbole.tables.importing import DEFAULT_PLACE, Request, import_tables
from rporec_recbole.tables.reading import open_table
from rporec_recbole.tables.summary import Imported


def from_frames(
    interactions: Any,
    items: Any = None,
    users: Any = None,
    *,
    name: str,
    user: str | None = None,
    item: str | None = None,
    time: str | None = None,
    rating: str | None = None,
    text: Sequence[str] | None = None,
    items_id: str | None = None,
    users_id: str | None = None,
    data_path: str | Path = DEFAULT_PLACE,
    time_format: str | None = None,
    bad_rows: str = "refuse",
    duplicates: str = "drop",
    overwrite: bool = False,
) -> Imported:
    """Writes tables as a data set, which `rporec_recbole.run("RPORec", name)` then finds; the same as `rporec import`.

    Args:
        interactions: who chose what and when: a pandas DataFrame, a pyarrow Table, a Hugging Face Dataset, or a path as on the command line.
        items: what is said of each item.
        users: what is said of each user.
        name: of the data set.
        user, item, time, rating: columns of `interactions`; None finds them by their usual names. `time="none"`: the rows stand in their order.
        text: columns that describe an item, the title first; of `items`, or of `interactions` where there are no items.
        items_id, users_id: columns of the ids in the other two tables, where they are called otherwise.
        data_path: parent folder of the data set.
        time_format: a pattern such as `%d/%m/%Y`, or `s`, `ms`, `us`, `ns`; None finds out.
        bad_rows: `refuse` or `skip` rows without a user, an item or a time.
        duplicates: `drop` or `keep` rows with the user, the item and the time of an earlier one.
        overwrite: replace a data set of this name.

    Returns:
        what was written; print its `summary`.

    Raises:
        RPORecError: the tables cannot be used as they are, and nothing was written; the message says what to do.
    """
    request = Request(
        name, data_path, user, item, time, rating, None if text is None else tuple(text), items_id, users_id, time_format,
        bad_rows=bad_rows, duplicates=duplicates, overwrite=overwrite, command="from_frames",
    )  # fmt: skip
    given = ((interactions, "interactions"), (items, "items"), (users, "users"))
    try:
        tables = [None if table is None else open_table(table, name=called) for table, called in given]
        if tables[0] is None:
            raise DatasetError("interactions is None. Give a table of who chose what and when.")
        return import_tables(tables[0], tables[1], tables[2], request)
    except RPORecError as error:  # messages name options of the command line
        raise type(error)(re.sub(r"--(\w+)(?:=([\w%-]+(?:,[\w%-]+)*))?", _argument, str(error))) from error


def _argument(option: re.Match[str]) -> str:
    """`--user=COLUMN` as an argument of `from_frames`."""
    name, value = option.groups()
    if name == "overwrite":
        return "overwrite=True"
    if value is None:
        return str(name)
    listed = name == "text" or "," in value
    return f"{name}={value.split(',')!r}".replace("'", '"') if listed else f'{name}="{value}"'
