"""MovieLens 100K, of 1998: `u.data` with tabs, `u.item` and `u.user` with bars, both in Latin-1.

`u.item` has an empty column (the release on video), dates such as 01-Jan-1995, and a genre for each of nineteen columns of 0 and 1. One film is called
`unknown` and has neither date nor year.
"""

from __future__ import annotations

from collections.abc import Sequence

from rporec_recbole.tables.delimited import Delimited
from rporec_recbole.tables.derived import Derived
from rporec_recbole.tables.opening import Place
from rporec_recbole.tables.products import Field
from rporec_recbole.tables.sources.cleaning import film_title, film_year
from rporec_recbole.tables.sources.source import Described, Interactions, Source
from rporec_recbole.tables.table import Table

_GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy", "Film-Noir", "Horror",
    "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip


def _ratings(place: Place) -> Table:
    return Delimited(place, "utf-8", "\t", ("user_id", "item_id", "rating", "timestamp"), quotes=False)


def _films(place: Place) -> Table:
    columns = ("movie_id", "title", "release_date", "video_release_date", "url", *_GENRES)
    return Derived(Delimited(place, "ISO-8859-1", "|", columns, quotes=False), "class", _GENRES, _class)


def _class(flags: Sequence[str]) -> str:
    return " ".join(name for name, flag in zip(_GENRES, flags, strict=True) if flag == "1" and name != "unknown")


def _people(place: Place) -> Table:
    return Delimited(place, "ISO-8859-1", "|", ("user_id", "age", "gender", "occupation", "zip_code"), quotes=False)


SOURCE = Source(
    "ml-100k",
    "MovieLens 100K",
    ("https://files.grouplens.org/datasets/movielens/ml-100k-README.txt",),
    (Interactions(r"u\.data", "user_id", "item_id", "timestamp", _ratings, "rating"),),
    Described(
        r"u\.item", "movie_id", _films, (Field("movie_title", "title", film_title), Field("class", "class"), Field("release_year", "title", film_year))
    ),
    Described(r"u\.user", "user_id", _people),
)  # fmt: skip
