"""Steam's reviews and games: Python dictionaries, one a line, which are read as data and never run.

A user is a name (`username`); few reviews have a `user_id`. Some games have an `app_name` and no `title`. Times are days.
"""

from __future__ import annotations

from collections.abc import Sequence

from rporec_recbole.tables.derived import Derived
from rporec_recbole.tables.lines import Lines
from rporec_recbole.tables.opening import Place
from rporec_recbole.tables.products import Field
from rporec_recbole.tables.sources.cleaning import without_html
from rporec_recbole.tables.sources.source import Described, Interactions, Source
from rporec_recbole.tables.table import Table


def _games(place: Place) -> Table:
    return Derived(Lines(place), "called", ("title", "app_name"), _first)


def _first(names: Sequence[str]) -> str:
    return next((name for name in names if name.strip()), "")


SOURCE = Source(
    "steam",
    "Steam reviews and games",
    ("https://cseweb.ucsd.edu/~jmcauley/datasets.html#steam_data", "https://github.com/kang205/SASRec"),
    (Interactions(r"steam_reviews\.json", "username", "product_id", "date", time_format="iso"),),
    Described(
        r"steam_games\.json",
        "id",
        _games,
        (
            Field("title", "called", without_html),
            Field("genres", "genres", without_html),
            Field("developer", "developer", without_html),
        ),
    ),
)
