"""Amazon reviews of 2023: reviews and products as JSON lines, or ratings as CSV with a header. Times are milliseconds.

Variants of a product share a `parent_asin`, by which products are described; reviews name the variant (`asin`) too. A review has a `title` of its own.
"""

from __future__ import annotations

from functools import partial

from rporec_recbole.tables.delimited import Delimited
from rporec_recbole.tables.products import Field
from rporec_recbole.tables.sources.cleaning import without_html
from rporec_recbole.tables.sources.source import Described, Interactions, Source

SOURCE = Source(
    "amazon-2023",
    "Amazon reviews of 2023, a category",
    ("https://amazon-reviews-2023.github.io/", "https://huggingface.co/datasets/McAuley-Lab/Amazon-Reviews-2023"),
    (
        Interactions(
            r"(?P<category>(?!meta_).+)\.jsonl",
            "user_id",
            "parent_asin",
            "timestamp",
            rating="rating",
            time_format="ms",
        ),
        Interactions(
            r"(?P<category>.+)\.csv",
            "user_id",
            "parent_asin",
            "timestamp",
            partial(Delimited, separator=","),
            "rating",
            "ms",
        ),
    ),
    Described(
        r"meta_{category}\.jsonl",
        "parent_asin",
        fields=tuple(Field(name, name, without_html) for name in ("title", "store", "main_category")),
    ),
)
