"""MovieLens 1M and 10M: fields between two colons, no header. The films of 1M are in Latin-1, those of 10M in UTF-8, and titles hold single colons and
quotes that mean nothing."""

from __future__ import annotations

from functools import partial

from rporec_recbole.tables.delimited import Delimited
from rporec_recbole.tables.opening import Place
from rporec_recbole.tables.products import Field
from rporec_recbole.tables.sources.cleaning import film_genres, film_title, film_year
from rporec_recbole.tables.sources.source import Described, Interactions, Source
from rporec_recbole.tables.table import Table


def _read(place: Place, encoding: str, columns: tuple[str, ...]) -> Table:
    return Delimited(place, encoding, "::", columns, quotes=False)


_RATINGS = partial(_read, encoding="utf-8", columns=("user_id", "movie_id", "rating", "timestamp"))
_FILMS = ("movie_id", "title", "genres")
_PEOPLE = ("user_id", "gender", "age", "occupation", "zip_code")
_FIELDS = (
    Field("movie_title", "title", film_title),
    Field("genre", "genres", film_genres),
    Field("release_year", "title", film_year),
)
_INTERACTIONS = (Interactions(r"ratings\.dat", "user_id", "movie_id", "timestamp", _RATINGS, "rating"),)

SOURCES = (
    Source(
        "ml-1m",
        "MovieLens 1M",
        ("https://files.grouplens.org/datasets/movielens/ml-1m-README.txt",),
        _INTERACTIONS,
        Described(r"movies\.dat", "movie_id", partial(_read, encoding="ISO-8859-1", columns=_FILMS), _FIELDS),
        Described(r"users\.dat", "user_id", partial(_read, encoding="ISO-8859-1", columns=_PEOPLE)),
    ),
    Source(
        "ml-10m",
        "MovieLens 10M",
        ("https://files.grouplens.org/datasets/movielens/ml-10m-README.html",),
        _INTERACTIONS,
        Described(r"movies\.dat", "movie_id", partial(_read, encoding="utf-8", columns=_FILMS), _FIELDS),
    ),
)
