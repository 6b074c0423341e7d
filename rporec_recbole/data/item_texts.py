"""What the `.item` file says of each item, letter by letter: RecBole's own columns have numbers in place of what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rporec_recbole.data.atomic import read_header, read_table
from rporec_recbole.errors import DatasetError


def item_texts(config: Any, fields: Sequence[str], tokens: Sequence[str]) -> list[list[str]]:
    """The named columns, each with one text a token; empty where the file says nothing.

    Args:
        config: RecBole's config.
        fields: columns of the `.item` file of any type; the parts of a sequence are joined with spaces.
        tokens: the items' ids as in the file; ids that are not there, such as padding, have no text.

    Raises:
        DatasetError: there is no such file or column.
    """
    path, key = Path(config["data_path"]) / f"{config['dataset']}.item", config["ITEM_ID_FIELD"]
    form = config["field_separator"], config["encoding"] or "utf-8"
    kinds = read_header(path, *form)
    missing = [field for field in (key, *fields) if field not in kinds]
    if missing:
        raise DatasetError(f"{path} has the columns {list(kinds)}, and no {missing}. Name text columns that are there.")
    table = read_table(path, *form, header=0, names=list(kinds), dtype=str, na_filter=False)
    table = table.drop_duplicates(key).set_index(key).reindex(list(tokens), fill_value="")
    joins = {field for field in fields if kinds[field].endswith("_seq")}
    return [
        [" ".join(text.split(config["seq_separator"])) if field in joins else text for text in table[field]]
        for field in fields
    ]
