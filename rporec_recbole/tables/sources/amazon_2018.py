"""Amazon reviews of 2018: reviews as JSON lines or as ratings without a header (the item first, not the user as in 2014), products as JSON lines.

Some titles and categories are pieces of the page's HTML and scripts; brands begin with `by`. Some reviews stand there twice. Times are days, in seconds.
"""

from __future__ import annotations

from functools import partial

from rporec_recbole.tables.products import Field
from rporec_recbole.tables.sources.amazon_ratings import ratings
from rporec_recbole.tables.sources.cleaning import brand, without_html
from rporec_recbole.tables.sources.source import Described, Interactions, Source

SOURCE = Source(
    "amazon-2018",
    "Amazon reviews of 2018, a category",
    ("https://nijianmo.github.io/amazon/index.html", "https://cseweb.ucsd.edu/~jmcauley/datasets/amazon_v2/"),
    (
        Interactions(
            r"(?P<category>(?!meta_).+?)(_5)?\.json", "reviewerID", "asin", "unixReviewTime", rating="overall"
        ),
        Interactions(
            r"(?P<category>.+)\.csv",
            "user",
            "item",
            "timestamp",
            partial(ratings, header=("item", "user", "rating", "timestamp"), other="amazon-2014"),
            "rating",
        ),
    ),
    Described(
        r"meta_{category}\.json",
        "asin",
        fields=(
            Field("title", "title", without_html),
            Field("brand", "brand", brand),
            Field("category", "category", without_html),
        ),
    ),
)
