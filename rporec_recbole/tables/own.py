"""The user's own tables, as the command line names them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rporec_recbole.errors import ConfigError
from rporec_recbole.tables.delimited import Delimited, separator_of
from rporec_recbole.tables.importing import Request, import_tables
from rporec_recbole.tables.opening import find
from rporec_recbole.tables.purchases import REFUSE
from rporec_recbole.tables.reading import open_table
from rporec_recbole.tables.summary import Imported
from rporec_recbole.tables.table import Table
from rporec_recbole.tables.times import moment
from rporec_recbole.tables.writing import check_target

_REPEATED = (
    "items", "users", "name", "user", "item", "time", "rating", "text", "items_id", "users_id", "time_format", "since", "until", "separator",
    "encoding", "columns",
)  # fmt: skip
"""Options that a message repeats which says what to type."""


def import_own(path: str, options: Mapping[str, Any]) -> Imported:
    """Imports a table of interactions, with those of items and users where they are named.

    Args:
        path: of the table of interactions.
        options: of `rporec import`.

    Raises:
        RPORecError: see `importing.import_tables`.
    """
    if options["as_in_paper"]:
        raise ConfigError(
            "`--as_in_paper` goes with a source: `rporec import amazon-2023 REVIEWS --items=META --as_in_paper`."
        )
    typed = "".join(f" --{key}={_quoted(options[key])}" for key in _REPEATED if options[key] is not None)
    request = request_of(options, options["name"] or _name_of(path), f"rporec import {_quoted(path)}{typed}")
    if request.name and not options["overwrite"]:
        check_target(request.data_path, request.name, False)  # before any file is looked at
    encoding, quotes = options["encoding"] or "utf-8", options["quotes"]
    separator = None if options["separator"] is None else separator_of(options["separator"])
    interactions: Table
    if options["columns"] is not None:
        header = listed(options["columns"])
        interactions = Delimited(find(path), encoding, separator, header, quotes)
    else:
        interactions = open_table(path, encoding, separator, quotes)
    others = [
        None if options[key] is None else open_table(options[key], encoding, None, quotes) for key in ("items", "users")
    ]
    return import_tables(interactions, others[0], others[1], request)


def request_of(options: Mapping[str, Any], name: str, command: str) -> Request:
    """The options that hold for all imports."""
    return Request(
        name=name,
        data_path=options["data_path"],
        user=options["user"],
        item=options["item"],
        time=options["time"],
        rating=options["rating"],
        text=None if options["text"] is None else tuple(listed(options["text"])),
        items_id=options["items_id"],
        users_id=options["users_id"],
        time_format=options["time_format"],
        since=None if options["since"] is None else moment(options["since"], "--since"),
        until=None if options["until"] is None else moment(options["until"], "--until"),
        bad_rows=options["bad_rows"] or REFUSE,
        duplicates=options["duplicates"],
        overwrite=options["overwrite"],
        command=command,
    )


def listed(text: str) -> list[str]:
    """Names that stand between commas."""
    return [name.strip() for name in text.strip("[]").split(",") if name.strip()]


def _name_of(path: str) -> str:
    name = Path(path).name
    while Path(name).suffix.lower() in {
        ".csv",
        ".tsv",
        ".txt",
        ".json",
        ".jsonl",
        ".ndjson",
        ".parquet",
        ".gz",
        ".bz2",
        ".xz",
        ".zst",
        ".zip",
        ".tar",
        ".tgz",
        ".dat",
    }:
        name = Path(name).stem
    return re.sub(r"[^\w.+-]+", "-", name).strip("-.") or "shop"


def _quoted(path: str) -> str:
    return f"'{path}'" if re.search(r"\s", path) else path
