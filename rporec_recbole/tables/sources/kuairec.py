"""KuaiRec, short films watched: `big_matrix.csv`, or `small_matrix.csv` if that is named; times are seconds, and some rows of the small one have none.

The table of captions is damaged: some captions break over lines, so that rows have no number of a film, and some bytes are no UTF-8. What was watched how
long (`watch_ratio`) stands for a rating. Texts are Chinese; `UNKNOWN` and `-124` stand for nothing.
"""

from __future__ import annotations

from functools import partial

from rporec_recbole.tables.delimited import Delimited
from rporec_recbole.tables.products import Field
from rporec_recbole.tables.purchases import SKIP
from rporec_recbole.tables.sources.cleaning import said
from rporec_recbole.tables.sources.source import Described, Interactions, Source

_READ = partial(Delimited, separator=",")

SOURCE = Source(
    "kuairec",
    "KuaiRec",
    ("https://kuairec.com/", "https://github.com/chongminggao/KuaiRec"),
    tuple(
        Interactions(rf"{size}_matrix\.csv", "user_id", "video_id", "timestamp", _READ, "watch_ratio") for size in ("big", "small")
    ),
    Described(
        r"kuairec_caption_category\.csv",
        "video_id",
        partial(Delimited, separator=",", mend=True),
        tuple(
            Field(name, column, said)
            for name, column in (
                ("caption", "caption"),
                ("category", "first_level_category_name"),
                ("subcategory", "second_level_category_name"),
                ("topics", "topic_tag"),
            )
        ),
    ),
    bad_rows=SKIP,
)  # fmt: skip
