"""Questions in a run's own numbers: tokens to ids, users to their histories, what is hidden."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rporec_recbole.data.profiles import Profiles
from rporec_recbole.data.seen import past_items
from rporec_recbole.runs.finished import LoadedRun
from rporec_recbole.serve.problem import Problem, shown
from rporec_recbole.serve.question import Question
from rporec_recbole.text.prompts import Rating

_NAMED = 5  # unknown items in a message


@dataclass(frozen=True)
class Row:
    """A question in the run's own numbers.

    Attributes:
        items: the newest T item ids, oldest first.
        ratings: of each, or None.
        hidden: ids that are left out.
        top_k: how many items are wanted.
        seconds: when each item was chosen (`data.clock`); None where nobody knows, or the run reads none.
    """

    items: list[int]
    ratings: list[Rating] | None
    hidden: np.ndarray
    top_k: int
    seconds: np.ndarray | None = None


class Rows:
    """What a run knows of items and users.

    Args:
        run: the run; users have the histories of their rows of its test split, the last one where there are several. Of a run on everything
            (`rporec fit`) they have their whole profiles.
    """

    def __init__(self, run: LoadedRun) -> None:
        self._model: Any = run.model
        self._hide_seen = bool(run.config["hide_seen"])
        self._length = int(run.config["MAX_ITEM_LIST_LENGTH"])
        self._split = run.loaders["test"].dataset
        self._ids = run.dataset.field2token_id[run.dataset.iid_field]
        self._clock = None if run.model.times is None else run.dataset.clock
        self._users = run.dataset.field2token_id[run.dataset.uid_field]
        self._profiles = Profiles(run.dataset, self._length) if run.config["fitted_from"] else None
        owners = (
            self._split.inter_feat[self._split.uid_field].numpy() if self._profiles is None else self._profiles.users
        )
        self._row_of = np.full(run.dataset.user_num, -1, dtype=np.int64)
        self._row_of[owners] = np.arange(len(owners))

    def read(self, question: Question) -> Row | Problem:
        """A question in the run's own numbers, or what is wrong with it."""
        hide = self._hide_seen if question.hide_seen is None else question.hide_seen
        if question.history is None:
            return self._of_user(str(question.user), hide, question.top_k)
        tokens = [str(token) for token in question.history]
        ids = [self._ids.get(token, 0) for token in tokens]
        if 0 in ids:
            strange = [token for token, number in zip(tokens, ids, strict=True) if not number]
            named = ", ".join(f"`{shown(token)}`" for token in strange[:_NAMED])
            more = f" and {len(strange) - _NAMED:,} more" if len(strange) > _NAMED else ""
            return Problem(
                422,
                "unknown_items",
                f"The run knows no item {named}{more}. Name items as item_id of the data files has them, and leave out those that "
                "the run never met.",
            )
        hidden = np.array(ids if hide else [], dtype=np.int64)  # the whole past, longer than what the model reads
        seconds = None
        if self._clock is not None and question.times is not None:
            seconds = self._clock.seconds(question.times)[-self._length :]
        return Row(ids[-self._length :], None, hidden, question.top_k, seconds)

    def _of_user(self, user: str, hide: bool, top_k: int) -> Row | Problem:
        number = self._users.get(user, 0)
        row = int(self._row_of[number]) if number else -1
        if row < 0:
            few = "nothing in the time of" if hasattr(self._split, "time_split") else "too few interactions for"
            why = f"has {few} the test split" if number else "is not in the data"
            return Problem(
                422,
                "unknown_user",
                f"The user `{shown(user)}` {why}. Name a user as user_id of the data files has it, or send the items as `history`.",
            )
        place, split = np.array([row]), self._split
        one = split.inter_feat[row : row + 1] if self._profiles is None else self._profiles.rows(place)
        steps = int(one[self._model.ITEM_SEQ_LEN][0])
        items = one[self._model.ITEM_SEQ][0, :steps].tolist()
        rated = self._model.ratings_of(one)
        ratings = None if rated is None else rated[0][:steps]
        hidden = np.zeros(0, dtype=np.int64)
        if hide:
            hidden = (past_items(split, one) if self._profiles is None else self._profiles.had(place))[1].numpy()
        clock = self._model.clock_of(one)
        return Row(items, ratings, hidden, top_k, None if clock is None else clock[0, :steps].cpu().numpy())
