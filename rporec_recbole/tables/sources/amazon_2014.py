"""Amazon reviews of 2014: reviews as JSON lines or as ratings without a header (user first), products as Python dictionaries, one a line.

Titles are those of web pages, with entities. Times are days, in seconds.
"""

from __future__ import annotations

from functools import partial

from rporec_recbole.tables.products import Field
from rporec_recbole.tables.sources.amazon_ratings import ratings
from rporec_recbole.tables.sources.cleaning import without_html
from rporec_recbole.tables.sources.source import Described, Interactions, Source

SOURCE = Source(
    "amazon-2014",
    "Amazon reviews of 2014, a category",
    ("https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html", "https://jmcauley.ucsd.edu/data/amazon/"),
    (
        Interactions(r"reviews_(?P<category>.+?)(_5)?\.json", "reviewerID", "asin", "unixReviewTime", rating="overall"),
        Interactions(
            r"ratings_(?P<category>.+)\.csv",
            "user",
            "item",
            "timestamp",
            partial(ratings, header=("user", "item", "rating", "timestamp"), other="amazon-2018"),
            "rating",
        ),
    ),
    Described(
        r"meta_{category}\.json",
        "asin",
        fields=tuple(Field(name, name, without_html) for name in ("title", "brand", "categories")),
    ),
)
