"""Public data sets whose raw files are known: each file says what one of them, or one family, looks like."""

from __future__ import annotations

from rporec_recbole.tables.sources import (
    amazon_2014,
    amazon_2018,
    amazon_2023,
    kuairec,
    movielens_100k,
    movielens_csv,
    movielens_dat,
    steam,
    yelp,
)
from rporec_recbole.tables.sources.source import Source

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        movielens_100k.SOURCE,
        *movielens_dat.SOURCES,
        *movielens_csv.SOURCES,
        amazon_2014.SOURCE,
        amazon_2018.SOURCE,
        amazon_2023.SOURCE,
        yelp.SOURCE,
        steam.SOURCE,
        kuairec.SOURCE,
    )
}
"""Name on the command line -> what it looks like."""
