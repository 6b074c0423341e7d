"""Ratings as a user gave them: shown in prompts and on pages, never computed with.

RecBole puts the column's mean where a rating is missing, and a number of its own in place of a name. Here a gap stays a gap, a name
stays a name, and a number is the file's. The data set keeps the place of each rating among the distinct ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from recbole.utils.enum_type import FeatureType

from rporec_recbole.errors import DatasetError
from rporec_recbole.text.catalogue import clean_text
from rporec_recbole.text.prompts import Rating

_LONGEST = 40  # characters of a rating that is a name


@dataclass(frozen=True)
class Ratings:
    """The distinct ratings of a data set.

    Attributes:
        field: the column of an interaction's rating, which holds places in `values`.
        list_field: the column of the ratings of a history.
        values: what was given, numbers or names; `values[0]` is None, no rating.
    """

    field: str
    list_field: str
    values: tuple[Rating, ...]

    def of(self, rows: Any) -> list[list[Rating]] | None:
        """The ratings of each row's history, `[B, T]`; None where the rows come without, as those of new users do."""
        if self.list_field not in rows:
            return None
        return [[self.values[place] for place in row] for row in rows[self.list_field].tolist()]

    def single(self, rows: Any) -> list[Rating]:
        """The rating of each interaction, `[B]`."""
        return [self.values[place] for place in rows[self.field].tolist()]


def distinct_ratings(dataset: Any, field: str) -> tuple[np.ndarray, tuple[Rating, ...]]:
    """Places among the distinct ratings, `[R]`, and these; 0 is no rating. Call it before RecBole fills gaps.

    Args:
        dataset: RecBole's data set, with tables of pandas.
        field: the column of ratings.

    Raises:
        DatasetError: the column holds several values a row.
    """
    column, kind = dataset.inter_feat[field], dataset.field2type[field]
    if kind == FeatureType.TOKEN:
        names = [clean_text(str(name), _LONGEST) or None for name in dataset.field2id_token[field][1:]]
        return column.fillna(0).to_numpy(dtype=np.int64), (None, *names)
    if kind != FeatureType.FLOAT:
        raise DatasetError(
            f"The ratings `{field}` of {dataset.dataset_name} are of type {kind.value}, several a row. Declare them as `{field}:float` or "
            f"`{field}:token`, or name another column with --RATING_FIELD."
        )
    places, values = pd.factorize(column, sort=True)
    return places.astype(np.int64) + 1, (None, *(float(value) for value in values))
