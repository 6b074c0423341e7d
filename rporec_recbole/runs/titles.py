"""What people read in place of an item id, for every model alike."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from rporec_recbole.data.atomic import read_header
from rporec_recbole.data.item_texts import item_file, item_texts
from rporec_recbole.errors import DatasetError
from rporec_recbole.runs.finished import LoadedRun
from rporec_recbole.runs.known import text_fields
from rporec_recbole.text.catalogue import Catalogue, build_catalogue


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
    catalogue = getattr(run.model, "catalogue", None) or _catalogue_of_the_file(run, tokens)
    if catalogue is None:
        return [Item(token, token, "") for token in tokens]
    return [
        Item(token, text.title, " · ".join(part for part in text.attributes if part))
        for token, text in zip(tokens, catalogue.items, strict=True)
    ]


def raw_titles(run: LoadedRun) -> list[str]:
    """The title of each item letter by letter as the `.item` file has it, by RecBole's internal id; empty where it says none.

    The column is the first of the run's `item_text_fields`, or of those that RPORec would take on this data set; where nobody named
    one, a column called `title` or `name`.
    """
    tokens = [str(token) for token in run.dataset.field2id_token[run.dataset.iid_field]]
    path, field = item_file(run.config), next(iter(text_fields(run.config) or ()), None)
    if not path.is_file():
        return [""] * len(tokens)
    try:
        if field is None:
            there = read_header(path, run.config["field_separator"], run.config["encoding"] or "utf-8")
            field = next((name for name in ("title", "name") if there.get(name, "").startswith("token")), None)
        titles = [""] * len(tokens) if field is None else item_texts(run.config, [field], tokens)[0]
    except (DatasetError, ValueError) as error:
        logging.getLogger().warning("Items go without titles: %s", error)
        return [""] * len(tokens)
    return ["", *titles[1:]]


def _catalogue_of_the_file(run: LoadedRun, tokens: list[str]) -> Catalogue | None:
    """Item texts of a run whose model loads none; None if the file or its columns are not there."""
    wanted = text_fields(run.config)
    if not wanted or not item_file(run.config).is_file():
        return None
    try:
        return build_catalogue(item_texts(run.config, wanted, tokens), tokens, wanted)
    except (DatasetError, ValueError) as error:  # titles are a comfort: the page says ids without them
        logging.getLogger().warning("Items are shown by their ids: %s", error)
        return None
