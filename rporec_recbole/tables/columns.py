"""Which column is the user, which the item, which the time: named, or found by the names that such columns usually have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from rporec_recbole.errors import ConfigError, DatasetError, did_you_mean

# Letters and digits in lower case. What stands in an earlier group is taken before what stands in a later one.
USUAL: dict[str, tuple[tuple[str, ...], ...]] = {
    "user": (
        ("userid", "customerid", "clientid", "buyerid", "reviewerid", "visitorid", "memberid", "accountid", "uid",
         "customernumber", "customerno", "customernr", "usernumber", "userno", "clientnumber", "clientno", "membernumber", "memberno"),
        ("user", "customer", "client", "buyer", "reviewer", "visitor", "member", "account", "username"),
    ),
    "item": (
        ("itemid", "productid", "sku", "asin", "movieid", "bookid", "articleid", "isbn", "stockcode", "gameid", "songid", "trackid",
         "videoid", "businessid", "itemcode", "productcode", "iid", "ean", "articlenumber",
         "articleno", "articlenr", "itemnumber", "itemno", "productnumber", "productno"),
        ("item", "product", "movie", "book", "article", "game", "song", "track", "video"),
    ),
    "time": (
        ("timestamp", "datetime", "unixreviewtime", "createdat", "orderedat", "purchasedat", "boughtat", "eventtime", "ts"),
        ("time", "date", "when", "purchasedate", "orderdate", "invoicedate", "reviewdate", "purchasetime", "ordertime", "transactiondate", "transactiondt", "tdat", "day"),
    ),
    "rating": (("rating", "stars", "overall", "score"),),
}  # fmt: skip

TITLES = ("title", "name", "productname", "itemname", "producttitle", "movietitle", "appname", "booktitle")
DETAILS = (
    "brand",
    "maker",
    "manufacturer",
    "author",
    "artist",
    "category",
    "categories",
    "genre",
    "genres",
    "description",
)

_OPTIONS = {"user": "--user", "item": "--item", "time": "--time", "rating": "--rating"}


def plain(name: str) -> str:
    """A name without what people write differently."""
    return re.sub(r"[\W_]+", "", name.lower())


def column_for(part: str, given: str | None, columns: Sequence[str], table: str, option: str = "") -> str | None:
    """The column of a table that holds the user, the item, the time or the rating.

    Args:
        part: `user`, `item`, `time` or `rating`.
        given: its name, if the user said it.
        columns: names in the table.
        table: what to call it.
        option: that names the column, where it is another one than usual.

    Returns:
        a name; None if nothing was said and no usual name is there.

    Raises:
        ConfigError: a column that was named is not there.
        DatasetError: several have usual names, or the name stands twice.
    """
    option = option or _OPTIONS[part]
    if given is not None:
        return named(given, columns, table, option)
    for group in USUAL[part]:
        found = [name for name in dict.fromkeys(columns) if plain(name) in group]
        if len(found) > 1:
            raise DatasetError(
                f"{table}: which column is the {part}? {' and '.join(f'`{name}`' for name in found)} may be. Say it with "
                f"{option}={found[0]}. All columns: {', '.join(columns)}."
            )
        if found:
            return named(found[0], columns, table, option)
    return None


def named(given: str, columns: Sequence[str], table: str, option: str) -> str:
    """A column by its name.

    Raises:
        ConfigError: it is not there.
        DatasetError: two columns have this name.
    """
    if given not in columns:
        hint = did_you_mean(given, columns)
        typed = f" `{table}` is RecBole's atomic file already: put it into dataset/NAME/." if _atomic(columns) else ""
        raise ConfigError(f"{table} has no column `{given}` ({option}).{hint} It has: {', '.join(columns)}.{typed}")
    if list(columns).count(given) > 1:
        raise DatasetError(f"{table} has two columns named `{given}`. Rename one of them.")
    return given


def missing_message(missing: Iterable[str], columns: Sequence[str], table: str, command: str) -> str:
    """What to say where columns were neither named nor found.

    Args:
        missing: parts, such as `user`.
        columns: names in the table.
        table: what to call it.
        command: how this import is written, without those options.
    """
    if _atomic(columns):
        return (
            f"{table} has typed columns ({', '.join(columns)}): it is one of RecBole's atomic files already. Put it into dataset/NAME/ as "
            "NAME.inter, and run `rporec --model=RPORec --dataset=NAME`; nothing is to be imported."
        )
    parts = list(missing)
    shown = " ".join(f"{_OPTIONS[part]}=COLUMN" for part in parts)
    said = f"Which column is the {' and which the '.join(parts)}? {table} has: {', '.join(columns)}."
    if len(columns) == 1:
        said += " That is one column: name what separates them with --separator=, such as --separator=semicolon."
    elif not any(re.search(r"[^\W\d]", name) for name in columns):
        said += " That looks like a row: where no line names the columns, name them with --columns=user,item,time."
    return f"{said} Write: {command} {shown}"


def _atomic(columns: Sequence[str]) -> bool:
    return any(re.search(r":(token|float)(_seq)?$", name) for name in columns)


def texts_among(columns: Sequence[str], taken: Iterable[str]) -> list[str]:
    """Columns that usually describe an item, the title first.

    Args:
        columns: names in the table.
        taken: those that are something else already.
    """
    free = [name for name in dict.fromkeys(columns) if name not in set(taken)]
    titles = [name for usual in TITLES for name in free if plain(name) == usual]
    details = [name for usual in DETAILS for name in free if plain(name) == usual]
    return titles[:1] + details
