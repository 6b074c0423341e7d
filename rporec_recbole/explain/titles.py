"""What people read in place of an item id, for every model alike."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rporec_recbole.data.atomic import read_header, read_table
from rporec_recbole.runs.finished import LoadedRun
from rporec_recbole.settings.properties import layered_properties
from rporec_recbole.text.catalogue import build_catalogue


@dataclass(frozen=True)
class Item:
    """One item. All of it is untrusted text.

    Attributes:
        item_id: as in the data files.
        title: its title; the item id where nothing else is known.
        details: its attributes, joined; may be empty.
    """

    item_id: str
    title: str
    details: str


def items_of(run: LoadedRun) -> list[Item]:
    """All items of a run by RecBole's internal id; number 0 is padding.

    RPORec's come as its prompts have them. Other models load no titles, so theirs are read from the `.item` file, where RPORec
    would know its text columns on this data set.
    """
    tokens = [str(token) for token in run.dataset.field2id_token[run.dataset.iid_field]]
    catalogue = getattr(run.model, "catalogue", None)
    if catalogue is None:
        columns = _columns_of_the_file(run, tokens)
        if columns is None:
            return [Item(token, token, "") for token in tokens]
        catalogue = build_catalogue(list(columns.values()), tokens, list(columns))
    return [
        Item(token, text.title, " · ".join(part for part in text.attributes if part))
        for token, text in zip(tokens, catalogue.items, strict=True)
    ]


def _columns_of_the_file(run: LoadedRun, tokens: list[str]) -> dict[str, list[str]] | None:
    """Texts by column, one for each token; None if the file or its columns are not there."""
    config: Any = run.config
    path = Path(config["data_path"]) / f"{config['dataset']}.item"
    form = config["field_separator"], config["encoding"] or "utf-8"
    wanted = config["item_text_fields"] or layered_properties("RPORec", str(config["dataset"])).get("item_text_fields")
    key = config["ITEM_ID_FIELD"]
    if not wanted or not path.is_file():
        return None
    try:
        kinds = read_header(path, *form)
        if not {key, *wanted} <= set(kinds):
            return None
        table = read_table(path, *form, header=0, names=list(kinds), dtype=str, na_filter=False)
    except ValueError as error:  # `DatasetError` is one. Titles are a comfort: the page says ids without them
        logging.getLogger().warning("Items are shown by their ids: %s", error)
        return None
    table = table.drop_duplicates(key).set_index(key).reindex(tokens, fill_value="")
    return {name: table[name].tolist() for name in wanted}
