"""Yelp's open data set: JSON lines; dates without a zone; categories are one text with commas, or null."""

from __future__ import annotations

from rporec_recbole.tables.products import Field
from rporec_recbole.tables.sources.source import Described, Interactions, Source

_NAME = r"(?:yelp_academic_dataset_)?{}\.json"

SOURCE = Source(
    "yelp",
    "Yelp Open Dataset",
    ("https://business.yelp.com/data/resources/open-dataset/", "https://github.com/Yelp/dataset-examples"),
    (Interactions(_NAME.format("review"), "user_id", "business_id", "date", rating="stars", time_format="iso"),),
    Described(
        _NAME.format("business"),
        "business_id",
        fields=tuple(Field(name, name) for name in ("name", "categories", "city")),
    ),
)
