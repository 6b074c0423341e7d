"""Histories that the data set does not have: checked before anything is made of them, read piece by piece, and made into rows that a
sequential model reads. Their files: `data/history_files.py`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction

from rporec_recbole.data.clock import Clock, seconds_of
from rporec_recbole.data.history_files import HistoryFiles, Row, files_named, is_id, plain
from rporec_recbole.data.met import Met
from rporec_recbole.errors import DatasetError

_NAMED = 5  # problems in a message
_LATEST = 1e20  # no time of any unit is as far away, and neither infinity nor what is no number is below it
_NAMES_AT_ONCE = 1 << 16  # users among whom a second one of the same name is told where the first one stands
_PIECE = 1 << 14


@dataclass(frozen=True)
class History:
    """What one user chose.

    Attributes:
        user: any name; it comes back beside the recommendations.
        items: RecBole's ids of the items, oldest first; at least one.
        times: of each item, as the data files count; None where nobody knows.
    """

    user: str
    items: np.ndarray
    times: np.ndarray | None = None


class Histories:
    """Histories that are sound, read as often as they are asked for; no more than a piece of them is in memory.

    What grows with their number is sixteen bytes a user, while they are checked.

    Args:
        rows: gives all of them, from the first.
        source: what to call them.
        ids: item token -> RecBole's id; 0 is padding and no item.
        skip_unknown: leave unknown items out, and users who have no other.
        option: how a user says that.

    Attributes:
        count: how many users have a known item.
        skipped_items: how many entries name an unknown item and are left out.
        without: users who have no known item, by name; where unknown items are left out.

    Raises:
        DatasetError: names the first few that are malformed, repeat a user, have no items or unknown ones.
    """

    def __init__(
        self, rows: Callable[[], Iterable[Row]], source: str, ids: Mapping[str, int], skip_unknown: bool, option: str
    ) -> None:
        self._rows, self._source, self._ids, self._skip_unknown = rows, source, ids, skip_unknown
        self._option = option
        self.count = self.skipped_items = 0
        self.without: list[str] = []
        self._check()

    @property
    def found(self) -> list[History]:
        """All of them at once, in their order."""
        return [one for piece in self.pieces(_PIECE) for one in piece]

    def pieces(self, size: int) -> Iterator[list[History]]:
        """Them in their order, `size` at a time.

        Raises:
            DatasetError: they have changed since they were checked, and are not sound any more.
        """
        piece: list[History] = []
        for here, user, tokens, times in self._rows():
            known, problem = self._known(user, tokens, times)
            if problem is not None:
                raise DatasetError(f"{self._source} has changed while it was read. {here}: {problem}. Start again.")
            if known:
                piece.append(self._history(user, known, tokens, times))
            if len(piece) == size:
                yield piece
                piece = []
        if piece:
            yield piece

    def _history(self, user: str, known: list[int], tokens: list[str] | str, times: Any) -> History:
        if times is not None:
            times = np.array(times, dtype=np.float64)[[self._ids.get(token, 0) != 0 for token in tokens]]
        return History(user, np.array(known, dtype=np.int64), times)

    def _known(self, user: str, tokens: list[str] | str, times: Any) -> tuple[list[int], str | None]:
        """Ids of a row's items that are known, and what is wrong with it."""
        if isinstance(tokens, str):
            return [], tokens
        if not tokens:
            return [], f"the user {user!r} has no items"
        if times is not None and (fault := times_fault(times, len(tokens))):
            return [], f"the times of the user {user!r} {fault}"
        known = [number for token in tokens if (number := self._ids.get(token, 0))]
        if len(known) < len(tokens) and not self._skip_unknown:
            strange = [token for token in tokens if not self._ids.get(token, 0)]
            shown = ", ".join(repr(token) for token in strange[:_NAMED])
            return known, f"the user {user!r} has {len(strange)} unknown item(s): {shown}"
        return known, None

    def _check(self) -> None:
        problems: list[str] = []
        wrong = unknown = 0
        met, places = Met(), dict[str, str]()
        for here, user, tokens, times in self._rows():
            known, problem = self._known(user, tokens, times)
            if user in places and not isinstance(tokens, str):
                problem = f"the user {user!r} stands on {places[user]} already"
            elif problem is None and known:
                self.count += 1
            elif problem is None:
                self.without.append(user)
            unknown += 0 if isinstance(tokens, str) else len(tokens) - len(known)
            if problem is not None:
                wrong += 1
                problems += [f"{here}: {problem}"] if len(problems) < _NAMED else []
            places.setdefault(user, here)
            if len(places) == _NAMES_AT_ONCE:
                wrong += _add_again(met, places, problems)
                places = {}
        wrong += _add_again(met, places, problems)
        if wrong:
            more = f"\n  and {wrong - len(problems)} more" if wrong > len(problems) else ""
            advice = f" {self._option} leaves unknown items out." if unknown and not self._skip_unknown else ""
            raise DatasetError(
                f"{self._source} has lines that cannot be used; correct or remove them. Item ids are those of the data files; items that the "
                f"run never met are unknown to it.{advice}\n  " + "\n  ".join(problems) + more
            )
        if not self.count and not self.without:
            raise DatasetError(
                f"{self._source} holds no history with known items. Write one user a line; see `rporec recommend --help`."
            )
        self.skipped_items = unknown if self._skip_unknown else 0


def _add_again(met: Met, places: Mapping[str, str], problems: list[str]) -> int:
    """Users who came before these; how many."""
    names = [name for name in places if name]
    again = np.flatnonzero(met.again(names)) if names else ()
    for number in again[: _NAMED - len(problems)]:
        problems.append(f"{places[names[number]]}: the user {names[number]!r} stands further up already")
    return len(again)


def read_histories(
    given: str | Path,
    ids: Mapping[str, int],
    skip_unknown: bool = False,
    encoding: str | None = None,
    usual: str = "utf-8",
) -> Histories:
    """Reads and checks files from their start to their end, before anything is made of them.

    Args:
        given: a file, a folder of files or a pattern; their forms: `data.history_files`.
        ids, skip_unknown: see `Histories`.
        encoding, usual: see `HistoryFiles`.

    Raises:
        DatasetError: there is no such file, it cannot be read in this encoding, or as `Histories`.
    """
    files = HistoryFiles(str(given), tuple(files_named(given)), encoding, usual)
    rows = files.rows
    if not files.lasting:
        kept = list(files.rows())
        rows = lambda: iter(kept)  # noqa: E731
    return Histories(rows, str(given), ids, skip_unknown, "--skip_unknown=True")


def histories_of(
    given: Mapping[str, Sequence[str | int]],
    ids: Mapping[str, int],
    skip_unknown: bool = False,
    times: Mapping[str, Sequence[float]] | None = None,
) -> Histories:
    """The same of histories that a program has at hand.

    Args:
        given: name of a user -> its items, oldest first.
        ids, skip_unknown: as for `read_histories`.
        times: name of a user -> when each of its items was chosen, as the data files count; of some users, or of none.

    Raises:
        DatasetError: as `read_histories`, and for times of somebody without a history.
    """
    when = times or {}
    if strangers := [repr(user) for user in when if user not in given]:
        raise DatasetError(
            f"`times` names users who have no history: {', '.join(strangers[:_NAMED])}. Give times of users in `histories` alone."
        )
    wrong = "its items must be a list of ids, texts or whole numbers"

    def rows() -> Iterator[Row]:
        for user, items in given.items():
            sound = not isinstance(items, str) and all(is_id(item) for item in items)
            own = None if when.get(user) is None else [plain(time) for time in when[user]]
            yield f"{user!r}", str(user), [str(item) for item in items] if sound else wrong, own

    return Histories(rows, "`histories`", ids, skip_unknown, "skip_unknown=True")


def times_fault(times: Any, items: int) -> str | None:
    """What is wrong with the times of a history, in words that follow "the times"; None if nothing is.

    Args:
        times: as somebody gave them.
        items: how many items they are of.
    """
    if not isinstance(times, list) or not all(type(one) in (int, float) and abs(one) < _LATEST for one in times):
        return "must be a list of numbers, counted as in the data files"
    if len(times) != items:
        return f"are {len(times):,}, and there are {items:,} items: give one for each, or none at all"
    if any(later < earlier for earlier, later in itertools.pairwise(times)):
        return "go back somewhere, and the oldest item stands first"
    return None


def interaction_of(
    histories: Sequence[History], length: int, item_list: str, length_field: str, times: tuple[str, Clock] | None = None
) -> Interaction:
    """Rows shaped like evaluation rows, but for users whom the data set does not know: the history and nothing else.

    Args:
        histories: B of them; of longer ones the newest `length` items are used.
        length: `MAX_ITEM_LIST_LENGTH` of the run.
        item_list: name of the column of histories.
        length_field: name of the column of their lengths.
        times: name of the column of their seconds, and how the run's data count time; None for a model that reads none.

    Returns:
        `item_list` `[B, length]`, padded on the right with 0, and `length_field` `[B]`; the seconds `[B, length]`, if any history has times.
    """
    newest = [history.items[-length:] for history in histories]
    lengths = np.array([len(one) for one in newest], dtype=np.int64)
    items = np.zeros((len(newest), length), dtype=np.int64)
    items[np.arange(length) < lengths[:, None]] = np.concatenate(newest) if newest else ()
    columns = {item_list: torch.from_numpy(items), length_field: torch.from_numpy(lengths)}
    if times is not None and any(one.times is not None for one in histories):
        name, clock = times
        seconds = [None if one.times is None else clock.seconds(one.times) for one in histories]
        columns[name] = seconds_of(seconds, length)
    return Interaction(columns)
