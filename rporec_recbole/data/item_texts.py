"""What the `.item` file says of each item, letter by letter: RecBole's own columns have numbers in place of what is missing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rporec_recbole.data.atomic import read_header, read_table
from rporec_recbole.errors import DatasetError


def item_file(config: Any) -> Path:
    """Where RecBole looks for what is known of a data set's items; there need not be such a file.

    Args:
        config: RecBole's config.
    """
    return Path(config["data_path"]) / f"{config['dataset']}.item"


def item_texts(config: Any, fields: Sequence[str], tokens: Sequence[str]) -> list[list[str]]:
    """The named columns, each with one text a token; empty where the file says nothing.

    Args:
        config: RecBole's config.
        fields: columns of the `.item` file of any type; the parts of a sequence are joined with spaces.
        tokens: the items' ids as in the file; ids that are not there, such as padding, have no text.

    Raises:
        DatasetError: there is no such file or column.
    """
    table, kinds = _columns(config, fields, tokens)
    joins = {field for field in fields if kinds[field].endswith("_seq")}
    return [
        [" ".join(text.split(config["seq_separator"])) if field in joins else text for text in table[field]]
        for field in fields
    ]


CATEGORIES = ("class", "genre", "genres", "category", "categories", "maincategory")
"""What a column of categories is called, letters alone."""


def item_categories(config: Any, tokens: Sequence[str]) -> list[list[str]] | None:
    """The categories of each item; none where the file says nothing, and None where it has no column that is called so.

    A text with commas or bars in it is taken apart there, other ones as RecBole does: a `token_seq` into its parts, a `token` not at all.

    Args:
        config: RecBole's config.
        tokens: the items' ids as in the file.

    Raises:
        DatasetError: there is no such file.
    """
    path = item_file(config)
    kinds = read_header(path, config["field_separator"], config["encoding"] or "utf-8")
    plain = {re.sub(r"[\W_]+", "", name.lower()): name for name in kinds}
    field = next((plain[name] for name in CATEGORIES if kinds.get(plain.get(name, ""), "").startswith("token")), None)
    if field is None:
        return None
    texts = _columns(config, [field], tokens)[0][field].tolist()
    if any("," in text or "|" in text for text in texts):
        parts = [re.split(r"[,|]", text) for text in texts]
    elif kinds[field] == "token_seq":
        parts = [text.split(config["seq_separator"]) for text in texts]
    else:
        parts = [[text] for text in texts]
    return [sorted({part.strip() for part in own} - {""}) for own in parts]


def _columns(config: Any, fields: Sequence[str], tokens: Sequence[str]) -> tuple[pd.DataFrame, dict[str, str]]:
    """Columns of the `.item` file, a row a token, and the types of all columns there."""
    path, key = item_file(config), config["ITEM_ID_FIELD"]
    form = config["field_separator"], config["encoding"] or "utf-8"
    kinds = read_header(path, *form)
    missing = [field for field in (key, *fields) if field not in kinds]
    if missing:
        raise DatasetError(f"{path} has the columns {list(kinds)}, and no {missing}. Name text columns that are there.")
    table = read_table(path, *form, header=0, names=list(kinds), dtype=str, na_filter=False)
    return table.drop_duplicates(key).set_index(key).reindex(list(tokens), fill_value=""), kinds
