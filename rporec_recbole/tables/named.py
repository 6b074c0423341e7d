"""The raw files of a public data set, known by its name."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rporec_recbole.errors import ConfigError, DatasetError
from rporec_recbole.tables.importing import import_tables
from rporec_recbole.tables.opening import Place, find, is_archive, members
from rporec_recbole.tables.own import request_of
from rporec_recbole.tables.paper import as_in_paper
from rporec_recbole.tables.sources import SOURCES
from rporec_recbole.tables.sources.source import Described, Interactions, Source
from rporec_recbole.tables.summary import Imported
from rporec_recbole.tables.table import Table

_KNOWN_BY_SOURCE = (
    "user",
    "item",
    "time",
    "rating",
    "text",
    "items_id",
    "users_id",
    "time_format",
    "separator",
    "columns",
    "encoding",
)


def import_source(name: str, words: Sequence[str], options: Mapping[str, Any]) -> Imported:
    """Imports a public data set from its files as they are downloaded.

    Args:
        name: of the source.
        words: the path of its archive, of its folder, or of its file of interactions.
        options: of `rporec import`.

    Raises:
        RPORecError: see `importing.import_tables`.
    """
    source = SOURCES[name]
    if len(words) != 1:
        raise ConfigError(
            f"Write `rporec import {name} FILE` with the archive, the folder or the file of {source.about} as it is downloaded. Where it is, and what is in it: "
            f"{source.documented[0]}"
        )
    needless = [key for key in _KNOWN_BY_SOURCE if options[key] is not None]
    if needless:
        raise ConfigError(
            f"`--{needless[0]}` is not for `rporec import {name}`, whose files are known. Leave it out, or import the file as a table of your own."
        )
    if options["as_in_paper"] and name != "amazon-2023":
        raise ConfigError(f"`--as_in_paper` is for amazon-2023, not for {name}. Leave it out.")
    interactions, place, category = _interactions(source, words[0])
    items = _beside(source.items, options["items"], place, category)
    users = _beside(source.users, options["users"], place, category)
    default = f"{name}-{category}" if category else name
    request = dataclasses.replace(
        request_of({**options, "bad_rows": options["bad_rows"] or source.bad_rows}, options["name"] or default, f"rporec import {name} {words[0]}"),
        user=interactions.user,
        item=interactions.item,
        time=interactions.time,
        rating=interactions.rating or "none",
        time_format=interactions.time_format,
        items_id=source.items.key if source.items else None,
        users_id=source.users.key if source.users else None,
        fields=source.items.fields if source.items else None,
        only_chosen=True,
    )  # fmt: skip
    tables: list[Table | None] = [interactions.read(place)]
    tables += [
        described.read(found) if described and found else None
        for described, found in ((source.items, items), (source.users, users))
    ]
    if options["as_in_paper"]:
        if tables[1] is None:
            raise ConfigError(
                "`--as_in_paper` is for amazon-2023, and needs its products: add --items=meta_CATEGORY.jsonl.gz."
            )
        request = as_in_paper(request, tables[1])
    assert tables[0] is not None
    missing = "" if tables[1] is not None or source.items is None else _no_items(source, category)
    return import_tables(
        tables[0],
        tables[1],
        tables[2],
        dataclasses.replace(request, notes=(*request.notes, *([missing] if missing else []))),
    )


def _no_items(source: Source, category: str) -> str:
    assert source.items is not None
    file = _plain(source.items.file.replace("{category}", category))
    return f"There is no {file} beside it, so items have no texts. Put it there, or name it with --items=FILE."


def _interactions(source: Source, text: str) -> tuple[Interactions, Place, str]:
    """Which form the interactions have, where they lie, and of which part of the data set they are."""
    there = _places(text)
    for form in source.interactions:
        found = [(place, match) for place in there if (match := re.fullmatch(form.file, place.name))]
        categories = {match.groupdict().get("category") or "" for _, match in found}
        if len(categories) > 1:
            raise DatasetError(
                f"{text} holds several parts of {source.about}: {', '.join(sorted(categories)[:8])}. Name the file of one."
            )
        if found:
            return form, found[0][0], categories.pop()
    wanted = ", or ".join(_plain(form.file) for form in source.interactions)
    atomic = [place.name for place in there if place.name.endswith(".inter")]
    if atomic:
        name = atomic[0].removesuffix(".inter")
        raise DatasetError(
            f"{text} holds {atomic[0]}: these are RecBole's own files, which need no import. Put them into dataset/{name}/, and name "
            f"it: --dataset={name}."
        )
    holds = ", ".join(sorted(place.name for place in there)[:8]) or "nothing"
    raise DatasetError(
        f"{text} is not {source.about}: it holds {holds}, and {wanted} is looked for. Its format: {source.documented[0]}"
    )


def _places(text: str) -> list[Place]:
    """All files that a path may mean: itself, those of an archive, those of a folder and of the folders in it."""
    path = Path(text)
    if is_archive(path) and path.is_file():
        return [Place(path, member) for member in members(path)]
    place = find(text)
    if not place.member and path.is_dir():
        return [Place(one) for one in sorted(path.rglob("*")) if one.is_file()]
    return [place]


def _beside(described: Described | None, named: str | None, interactions: Place, category: str) -> Place | None:
    """The file of items or users: the one that is named, or the one beside the interactions."""
    if described is None:
        return None
    pattern = described.file.replace("{category}", re.escape(category))
    if named is not None:
        found = [place for place in _places(named) if re.fullmatch(pattern, place.name)]
        return found[0] if found else find(named)
    if interactions.member:
        folder = Path(interactions.member).parent
        near = [Place(interactions.path, one) for one in members(interactions.path) if Path(one).parent == folder]
    else:
        near = [Place(one) for one in sorted(interactions.path.parent.iterdir()) if one.is_file()]
    return next((place for place in near if re.fullmatch(pattern, place.name)), None)


def _plain(pattern: str) -> str:
    """A pattern of names as people read it."""
    text = re.sub(r"\(\?P<category>[^)]*\)*?\.\+\??\)|\(\?P<category>\.\+\??\)", "CATEGORY", pattern)
    text = re.sub(r"\(\?:([^)]*)\)\?|\([^)]*\)\?", r"\1", text)
    return text.replace("\\", "")
