"""Small tables that the tests of imports share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rporec_recbole.tables.importing import Request, import_tables
from rporec_recbole.tables.reading import open_table
from rporec_recbole.tables.summary import Imported


def write(path: Path, content: str | bytes) -> Path:
    """Writes a file as it is, line ends too."""
    path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return path


def imported(folder: Path, interactions: Any, items: Any = None, name: str = "shop", **options: Any) -> Imported:
    """Imports tables into a folder of data sets, from contents or from whatever else a table can be.

    Args:
        folder: gets the files and `data/`.
        interactions, items: the content of a file (`str` or `bytes`), or what `open_table` takes.
        name: of the data set.
        options: of `Request`, and those of a text table.
    """
    reading = {key: options.pop(key) for key in ("encoding", "separator", "quotes") if key in options}
    tables = []
    for content, called in ((interactions, "purchases.csv"), (items, "products.csv")):
        if isinstance(content, (str, bytes)):
            content = write(folder / called, content)
        tables.append(None if content is None else open_table(content, **reading))
    return import_tables(tables[0], tables[1], None, Request(name, folder / "data", **options))


def rows(done: Imported, kind: str = "inter") -> list[list[str]]:
    """The fields of a written file, header and all."""
    text = (done.folder / f"{done.name}.{kind}").read_text(encoding="utf-8")
    return [line.split("\t") for line in text.removesuffix("\n").split("\n")]
