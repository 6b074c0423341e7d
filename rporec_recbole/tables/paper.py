"""Amazon reviews of 2023 as RPORec's paper prepared them (its public release, `preprocess_2023_cds.py`; R2ec's is the same with K = 0).

The last year, 2022-10 to 2023-10, and three more months before it until there are 10,000 items; no core filter; products that have a title of at most 50
words and a price; a split by time, 8:1:1; histories of at most 20 items. An item's text is title, mean rating, number of ratings, description.
"""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pandas as pd

from rporec_recbole.errors import DatasetError
from rporec_recbole.tables.importing import Request
from rporec_recbole.tables.plan import CHRONOLOGICAL
from rporec_recbole.tables.products import Field
from rporec_recbole.tables.purchases import Purchases
from rporec_recbole.tables.sources.cleaning import without_html
from rporec_recbole.tables.table import Table, as_texts
from rporec_recbole.tables.times import day, moment
from rporec_recbole.tables.values import id_of

FIRST, END = "2022-10-01", "2023-10-01"
ITEMS, MONTHS, TITLE_WORDS, HISTORY = 10000, 3, 50, 20


def as_in_paper(request: Request, products: Table) -> Request:
    """A request that prepares the data as the paper did.

    Args:
        request: of a source.
        products: its table of products; read once here and once again.
    """
    fine = _products(products)

    def prepare(purchases: Purchases) -> list[str]:
        names = purchases.items.array()
        known = np.array([name in fine for name in names], dtype=bool)
        without = int((~known[purchases.item]).sum())
        purchases.keep(known[purchases.item])
        since = _since(purchases)
        rows = (purchases.time >= since) & (purchases.time < moment(END, "--until"))
        if not rows.any():
            raise DatasetError(
                f"No review lies between {FIRST} and {END}, which --as_in_paper takes. Leave it out, or take the newest reviews."
            )
        purchases.outside = int((~rows).sum())
        purchases.keep(rows)
        return [
            f"As in the paper: {day(since)} to {END}, no core filter; {without:,} reviews of products without a title of at most {TITLE_WORDS} words or "
            "without a price left out."
        ]

    fields = ("title", "average_rating", "rating_number", "description")
    return dataclasses.replace(
        request,
        prepare=prepare,
        fields=tuple(Field(name, name, _paper_text) for name in fields),
        settings={
            "eval_args": CHRONOLOGICAL,
            "user_inter_num_interval": "[2,inf)",
            "MAX_ITEM_LIST_LENGTH": HISTORY,
        },
    )


def _products(table: Table) -> set[str]:
    """Ids of the products that the paper takes."""
    found = set()
    columns = [name for name in ("parent_asin", "title", "price") if name in table.columns]
    if len(columns) < 3:
        raise DatasetError(
            f"{table.name} has no {', '.join({'parent_asin', 'title', 'price'} - set(columns))}, which --as_in_paper needs."
        )
    for batch in table.batches(columns):
        for item, title, price in zip(*(as_texts(batch[name]).to_pylist() for name in columns), strict=True):
            if title is None or "<span id" in title or len(title.split(" ")) > TITLE_WORDS or not _is_price(price):
                continue
            found.add(id_of(item))
    return found


def _is_price(text: str | None) -> bool:
    try:
        return text is not None and not np.isnan(float(text))
    except ValueError:
        return False


def _since(purchases: Purchases) -> int:
    """The start: earlier by three months at a time while there are too few items, and while data of earlier years are left."""
    start, end = pd.Timestamp(FIRST), moment(END, "--until")
    oldest = pd.Timestamp(int(purchases.time.min()), unit="us").year if len(purchases) else start.year
    while True:
        since = moment(start.strftime("%Y-%m-%d"), "--since")
        rows = (purchases.time >= since) & (purchases.time < end)
        if len(np.unique(purchases.item[rows])) >= ITEMS or start.year <= oldest:
            return since
        start -= pd.DateOffset(months=MONTHS)


def _paper_text(text: str) -> str:
    """Entities and tags gone, and a blank in the place of every letter beyond ASCII, as in the release."""
    return re.sub(r"[^\x00-\x7F]", " ", without_html(text))
