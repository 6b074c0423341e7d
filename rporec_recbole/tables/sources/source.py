"""How a public data set is described: which files it has, how they are read, which columns mean what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rporec_recbole.tables.lines import Lines
from rporec_recbole.tables.opening import Place
from rporec_recbole.tables.products import Field
from rporec_recbole.tables.purchases import REFUSE
from rporec_recbole.tables.table import Table


@dataclass(frozen=True)
class Interactions:
    """One form in which the interactions come.

    Attributes:
        file: a regular expression for the whole name of the file, without `.gz`; its group `category` names a part of the data set.
        user, item, time: columns.
        read: makes a table of the file.
        rating: None where there are none.
        time_format: see `times.Times`.
    """

    file: str
    user: str
    item: str
    time: str
    read: Callable[[Place], Table] = Lines
    rating: str | None = None
    time_format: str | None = "s"


@dataclass(frozen=True)
class Described:
    """The file that describes items, or users.

    Attributes:
        file: as in `Interactions`; `{category}` stands for what was found there.
        key: the column of the id.
        read: makes a table of the file.
        fields: texts of an item, the title first; nothing for users, whose columns are all kept.
    """

    file: str
    key: str
    read: Callable[[Place], Table] = Lines
    fields: tuple[Field, ...] = ()


@dataclass(frozen=True)
class Source:
    """One public data set.

    Attributes:
        name: on the command line.
        about: in a line.
        documented: where its format is described.
        interactions: its forms; the first one whose file is there is read.
        items, users: None where there is no such file.
        bad_rows: what is done with rows that cannot be used, if the user says nothing.
    """

    name: str
    about: str
    documented: tuple[str, ...]
    interactions: tuple[Interactions, ...]
    items: Described | None = None
    users: Described | None = None
    bad_rows: str = REFUSE
