"""From tables to a data set: columns, one pass over the interactions, one over the items, and all files at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rporec_recbole.errors import ConfigError, DatasetError
from rporec_recbole.tables.columns import column_for, missing_message, named, plain, texts_among
from rporec_recbole.tables.plan import plan_for
from rporec_recbole.tables.products import Field, Products, TextsInPurchases, fields_of, write_products, write_users
from rporec_recbole.tables.purchases import REFUSE, SKIP, Chosen, Purchases, drop_repeated, read_purchases, within
from rporec_recbole.tables.summary import Imported, describe
from rporec_recbole.tables.table import Table
from rporec_recbole.tables.writing import check_target, whole_folder, write_interactions, write_settings

ROWS_IN_ORDER = "none"  # as `--time=none`
_TITLES_OF_PURCHASES = {"productname", "itemname", "producttitle", "movietitle", "booktitle"}
DEFAULT_PLACE = "dataset"
_PADDING = "[PAD]"


@dataclass(frozen=True)
class Request:
    """What an import is asked for.

    Attributes:
        name: of the data set.
        data_path: its parent folder.
        user, item, time, rating: columns; None finds them by their usual names, and time `none` means that rows stand in their order.
        text: columns that describe an item, the title first; None finds them.
        items_id, users_id: columns of the ids in the other two tables; None takes those of the interactions or usual names.
        time_format: see `times.Times`.
        since, until: microseconds; what lies before or at and after is left out.
        bad_rows: `refuse` or `skip`.
        duplicates: `drop` or `keep`.
        overwrite: replace a data set that is there.
        command: how the import is written, for messages.
        fields: item texts that are made of columns in their own way, in the place of `text`.
        only_chosen: leave out items that nobody chose.
        prepare: leaves out what is not wanted, and says so in sentences.
        settings: that the data set's YAML file gets in any case.
        notes: that stand in it.
    """

    name: str
    data_path: str | Path = DEFAULT_PLACE
    user: str | None = None
    item: str | None = None
    time: str | None = None
    rating: str | None = None
    text: tuple[str, ...] | None = None
    items_id: str | None = None
    users_id: str | None = None
    time_format: str | None = None
    since: int | None = None
    until: int | None = None
    bad_rows: str = REFUSE
    duplicates: str = "drop"
    overwrite: bool = False
    command: str = "rporec import"
    fields: tuple[Field, ...] | None = None
    only_chosen: bool = False
    prepare: Callable[[Purchases], list[str]] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for key, allowed in (("bad_rows", (REFUSE, SKIP)), ("duplicates", ("drop", "keep"))):
            if getattr(self, key) not in allowed:
                raise ConfigError(f"`--{key}={getattr(self, key)}` must be {' or '.join(allowed)}.")


def import_tables(interactions: Table, items: Table | None, users: Table | None, request: Request) -> Imported:
    """Writes a data set that runs find under its name, with its settings.

    Args:
        interactions: who chose what and when.
        items: what is said of each item; None looks for texts among the interactions.
        users: what is said of each user.
        request: everything else.

    Raises:
        RPORecError: the tables cannot be used as they are, and nothing was written; the message says what to do.
    """
    folder = check_target(request.data_path, request.name, request.overwrite)
    chosen, fields, key = _columns(interactions, items, request)
    user_key = None if users is None else _key(users, "user", request.users_id, chosen.user, "--users_id")
    collected = TextsInPurchases(fields) if fields and items is None else None
    purchases = read_purchases(
        interactions, chosen, request.time_format, request.bad_rows, collected.see if collected else None
    )
    _refuse_padding(purchases)
    drop_repeated(purchases, request.duplicates == "drop")
    within(purchases, request.since, request.until)
    notes = [*request.notes, *(request.prepare(purchases) if request.prepare else [])]

    names = purchases.items.array()
    chosen_items = set(names[np.unique(purchases.item)].tolist())
    with whole_folder(folder) as growing:
        products = None
        if items is not None and key is not None:
            wanted = chosen_items if request.only_chosen else None
            products = write_products(items, key, fields, growing / f"{folder.name}.item", wanted, request.bad_rows)
            _refuse_strangers(chosen_items, products, interactions, items, key)
        elif collected is not None:
            products = collected.write(names.tolist(), growing / f"{folder.name}.item")
        if users is not None and user_key is not None:
            present = set(purchases.users.array()[np.unique(purchases.user)].tolist())
            write_users(users, user_key, growing / f"{folder.name}.user", present)
        write_interactions(purchases, growing / f"{folder.name}.inter")
        has_texts = products is not None and any(products.described.get(item) for item in chosen_items)
        plan = plan_for(purchases.user, purchases.item, purchases.time, texts=has_texts, given=request.settings)
        settings = {
            "load_col": _load_col(purchases),
            **({"item_text_fields": list(products.fields)} if products and has_texts else {}),
        }
        origin = " and ".join(Path(table.name).name for table in (interactions, items) if table is not None)
        write_settings(growing / f"{folder.name}.yaml", origin, {**settings, **plan.settings}, [*notes, *plan.said])
        files = sorted(one.name for one in growing.iterdir())
    elsewhere = str(request.data_path) != DEFAULT_PLACE or request.name == "ml-100k"  # which RecBole brings itself
    place = f" --data_path={request.data_path}" if elsewhere else ""
    next_command = f"rporec --model={plan.model} --dataset={folder.name}{place}"
    hints = (
        ["Texts come from a table of items (--items=FILE), or from columns here (--text=COLUMN,COLUMN)."]
        if products is None and request.fields is None
        else []
    )
    summary = describe(
        folder, _took(chosen, fields, purchases, request), purchases, products, request.duplicates == "drop",
        [*notes, *plan.said, *hints], next_command, files,
    )  # fmt: skip
    return Imported(
        folder.name, folder, len(np.unique(purchases.user)), len(chosen_items), len(purchases), summary, next_command,
        purchases.bad.total, purchases.repeated,
    )  # fmt: skip


def _columns(interactions: Table, items: Table | None, request: Request) -> tuple[Chosen, list[Field], str | None]:
    """The columns of the interactions, the texts of the items, and where those have their ids."""
    columns, name = interactions.columns, interactions.name
    found = {part: column_for(part, getattr(request, part), columns, name) for part in ("user", "item")}
    in_order = request.time == ROWS_IN_ORDER and ROWS_IN_ORDER not in columns
    found["time"] = None if in_order else column_for("time", request.time, columns, name)
    missing = [part for part, column in found.items() if column is None and not (part == "time" and in_order)]
    if missing:
        told = missing_message(missing, columns, name, request.command)
        raise DatasetError(
            told + (" (--time=none where the rows stand in their order in time)" if missing == ["time"] else "")
        )
    rating = None if request.rating == "none" else column_for("rating", request.rating, columns, name)
    user, item, time = found["user"], found["item"], found["time"]
    assert user is not None
    assert item is not None
    named_twice = [one for one in (user, item, time, rating) if one is not None]
    if len(set(named_twice)) < len(named_twice):
        raise ConfigError(
            f"{name}: user, item, time and rating need a column each; given are {', '.join(named_twice)}."
        )
    key = None if items is None else _key(items, "item", request.items_id, item, "--items_id")
    fields = _texts(interactions, items, request, {*named_twice, *([key] if key else [])})
    return (
        Chosen(user, item, time, rating, tuple(dict.fromkeys(one.column for one in fields)) if items is None else ()),
        fields,
        key,
    )


def _key(table: Table, part: str, given: str | None, same: str, option: str) -> str:
    """The column of ids of another table: as named, called as in the interactions, or by a usual name."""
    if given is None and same in table.columns:
        given = same
    found = column_for(part, given, table.columns, table.name, option)
    if found is None and "id" in [plain(name) for name in table.columns]:
        found = next(name for name in table.columns if plain(name) == "id")
    if found is None:
        raise DatasetError(
            f"Which column of {table.name} is the {part}'s id? It has: {', '.join(table.columns)}; the interactions call theirs `{same}`. Add {option}=COLUMN."
        )
    return found


def _texts(interactions: Table, items: Table | None, request: Request, taken: set[str]) -> list[Field]:
    if request.fields is not None:
        return list(request.fields) if items is not None else []
    table = items or interactions
    if request.text is not None:
        for one in request.text:
            named(one, table.columns, table.name, "--text")
        return fields_of(request.text)
    found = texts_among(table.columns, taken)
    if items is None:
        found = [one for one in found if plain(one) in _TITLES_OF_PURCHASES][:1]
    elif not found:
        raise DatasetError(
            f"Which columns of {items.name} describe an item? It has: {', '.join(items.columns)}. Add --text=COLUMN,COLUMN, title first, or leave --items out."
        )
    return fields_of(found)


def _refuse_padding(purchases: Purchases) -> None:
    for names, what in ((purchases.users, "user"), (purchases.items, "item")):
        if _PADDING in names.number:
            raise DatasetError(
                f"One {what} is called `{_PADDING}`, a name that RecBole keeps for what fills up short histories. Rename it."
            )


def _refuse_strangers(chosen: set[str], products: Products, interactions: Table, items: Table, key: str) -> None:
    known = products.described.keys()
    if not products.fields or not known or chosen & known:
        return
    raise DatasetError(
        f"No item of {interactions.name} stands in {items.name}: the one has {', '.join(map(repr, sorted(chosen)[:3]))}, the other "
        f"{', '.join(map(repr, sorted(known)[:3]))} in `{key}`. Ids are compared letter by letter: `10` is neither `010` nor `10.0`, and `a` is not `A`. Name the right columns with --item and --items_id."
    )


def _load_col(purchases: Purchases) -> dict[str, list[str]]:
    rating = [] if purchases.rating is None else ["rating"]
    return {"inter": ["user_id", "item_id", *rating, "timestamp"]}


def _took(chosen: Chosen, fields: Sequence[Field], purchases: Purchases, request: Request) -> list[str]:
    time = f"time: {chosen.time} ({purchases.time_said})" if chosen.time else f"time: {purchases.time_said}"
    took = [f"user: {chosen.user}", f"item: {chosen.item}", time]
    if chosen.rating:
        took.append(f"rating: {chosen.rating}" + (" (names)" if purchases.rating_kind == "token" else ""))
    took.append(f"text: {', '.join(dict.fromkeys(one.column for one in fields))}" if fields else "text: none")
    return took
