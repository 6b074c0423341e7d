"""MovieLens 20M, 25M and 32M, and the `latest` ones: CSV with a header, in UTF-8; titles with commas stand in quotes, quotes inside are doubled."""

from __future__ import annotations

from functools import partial

from rporec_recbole.tables.delimited import Delimited
from rporec_recbole.tables.products import Field
from rporec_recbole.tables.sources.cleaning import film_genres, film_title, film_year
from rporec_recbole.tables.sources.source import Described, Interactions, Source

_READ = partial(Delimited, separator=",")
_FIELDS = (
    Field("movie_title", "title", film_title),
    Field("genre", "genres", film_genres),
    Field("release_year", "title", film_year),
)

SOURCES = tuple(
    Source(
        name,
        f"MovieLens {name[3:].upper()}",
        (f"https://files.grouplens.org/datasets/movielens/{page}",),
        (Interactions(r"ratings\.csv", "userId", "movieId", "timestamp", _READ, "rating"),),
        Described(r"movies\.csv", "movieId", _READ, _FIELDS),
    )
    for name, page in (
        ("ml-20m", "ml-20m-README.html"),
        ("ml-25m", "ml-25m-README.html"),
        ("ml-32m", "ml-32m-README.html"),
        ("ml-latest-small", "ml-latest-small-README.html"),
    )
)
