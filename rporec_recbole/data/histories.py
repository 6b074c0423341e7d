"""Histories that the data set does not have: read from a file, checked, and made into rows that a sequential model reads.

JSON lines   a file named .jsonl, .ndjson or .json: {"user": "...", "items": ["...", "..."]} on each line, and with "times": [..., ...]
             also when each item was chosen
plain text   any other file: `user<TAB>item item item` on each line; ids with spaces or tabs need the other form

Items stand oldest first, by their ids in the data files, and times are counted as there. Empty lines are skipped.
"""

from __future__ import annotations

import codecs
import contextlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction

from rporec_recbole.data.atomic import text_lines
from rporec_recbole.data.clock import Clock, seconds_of
from rporec_recbole.errors import DatasetError

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
_NAMED = 5  # problems in a message
_LATEST = 1e20  # no time of any unit is as far away, and neither infinity nor what is no number is below it


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


@dataclass(frozen=True)
class Histories:
    """The content of a file.

    Attributes:
        found: in the order of the file.
        skipped_items: how many entries name an unknown item and were left out.
        without: users who have no known item, by name; where unknown items are left out.
    """

    found: list[History]
    skipped_items: int
    without: list[str]


def read_histories(
    path: str | Path, ids: Mapping[str, int], skip_unknown: bool = False, encoding: str = "utf-8"
) -> Histories:
    """Reads and checks a whole file, before anything is made of it.

    Args:
        path: see above for the forms.
        ids: item token -> RecBole's id; 0 is padding and no item.
        skip_unknown: leave unknown items out, and users who have no other.
        encoding: of the file.

    Raises:
        DatasetError: the file cannot be read in this encoding; names the first few lines that are malformed, repeat a user, have no items or
            unknown ones.
    """
    path = Path(path)
    lines = ((f"line {number}", user, tokens, times) for number, user, tokens, times in _lines(path, encoding))
    return _checked(lines, str(path), ids, skip_unknown, "--skip_unknown=True")


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
    times = times or {}
    if strangers := [repr(user) for user in times if user not in given]:
        raise DatasetError(
            f"`times` names users who have no history: {', '.join(strangers[:_NAMED])}. Give times of users in `histories` alone."
        )
    wrong = "its items must be a list of ids, texts or whole numbers"
    rows = (
        (
            f"{user!r}",
            str(user),
            [str(item) for item in items]
            if not isinstance(items, str) and all(_is_id(_plain(item)) for item in items)
            else wrong,
            None if times.get(user) is None else [_plain(time) for time in times[user]],
        )
        for user, items in given.items()
    )
    return _checked(rows, "`histories`", ids, skip_unknown, "skip_unknown=True")


def _plain(item: Any) -> Any:
    """NumPy's own numbers as Python's."""
    return item.item() if isinstance(item, np.generic) else item


def _checked(
    rows: Iterable[tuple[str, str, list[str] | str, Any]],
    source: str,
    ids: Mapping[str, int],
    skip_unknown: bool,
    option: str,
) -> Histories:
    found: list[History] = []
    problems: list[str] = []
    places: dict[str, str] = {}
    wrong = unknown = 0
    without: list[str] = []
    for here, user, tokens, times in rows:
        if isinstance(tokens, str):
            problem: str | None = f"{here}: {tokens}"
        elif user in places:
            problem = f"{here}: the user {user!r} stands on {places[user]} already"
        elif not tokens:
            problem = f"{here}: the user {user!r} has no items"
        elif times is not None and (fault := times_fault(times, len(tokens))):
            problem = f"{here}: the times of the user {user!r} {fault}"
        else:
            problem = None
            known = [place for place, token in enumerate(tokens) if ids.get(token, 0)]
            strange = [token for token in tokens if not ids.get(token, 0)]
            unknown += len(strange)
            if strange and not skip_unknown:
                shown = ", ".join(repr(token) for token in strange[:_NAMED])
                problem = f"{here}: the user {user!r} has {len(strange)} unknown item(s): {shown}"
            elif known:
                items = np.array([ids[tokens[place]] for place in known], dtype=np.int64)
                own = None if times is None else np.array([times[place] for place in known], dtype=np.float64)
                found.append(History(user, items, own))
            else:
                without.append(user)
        places.setdefault(user, here)
        if problem is not None:
            wrong += 1
            problems += [problem] if len(problems) < _NAMED else []
    if wrong:
        more = f"\n  and {wrong - len(problems)} more" if wrong > len(problems) else ""
        advice = f" {option} leaves unknown items out." if unknown and not skip_unknown else ""
        raise DatasetError(
            f"{source} has lines that cannot be used; correct or remove them. Item ids are those of the data files; items that the "
            f"run never met are unknown to it.{advice}\n  " + "\n  ".join(problems) + more
        )
    if not found and not without:
        raise DatasetError(
            f"{source} holds no history with known items. Write one user a line; see `rporec recommend --help`."
        )
    return Histories(found, unknown if skip_unknown else 0, without)


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


def list_lines(path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    """Number and content of the lines of a file that a person or another program wrote, empty ones left out.

    Args:
        path: the file.
        encoding: of the file; UTF-8 may start with a byte order mark.
    """
    with contextlib.suppress(LookupError):  # the reader says it
        encoding = "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding
    return ((number, line) for number, line in text_lines(path, encoding) if line.strip())


def _lines(path: Path, encoding: str) -> Iterator[tuple[int, str, list[str] | str, Any]]:
    """Line number, user, item tokens and times (or None) of each line; in place of the tokens a sentence that says what is wrong."""
    parse = _from_json if path.suffix.lower() in JSON_SUFFIXES else _from_text
    for number, line in list_lines(path, encoding):
        yield number, *parse(line)


def _from_json(line: str) -> tuple[str, list[str] | str, Any]:
    form = 'must read {"user": "...", "items": ["...", "..."]}'
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return "", f"is no JSON; it {form}", None
    if not isinstance(row, dict) or not _is_id(row.get("user")) or not isinstance(row.get("items"), list):
        return "", form, None
    if not all(_is_id(item) for item in row["items"]):
        return str(row["user"]), f"an item is neither text nor a whole number; it {form}", None
    return str(row["user"]), [str(item) for item in row["items"]], row.get("times")


def _is_id(value: Any) -> bool:
    return (isinstance(value, str) and value != "") or type(value) is int


def _from_text(line: str) -> tuple[str, list[str] | str, None]:
    user, tab, items = line.partition("\t")
    if not tab or not user:
        hint = " (JSON lines need a file named .jsonl)" if line.startswith("{") else ""
        return user, f"must read `user<TAB>item item item`{hint}", None
    return (
        user,
        [item for item in items.replace("\t", " ").split(" ") if item],
        None,
    )  # an id may hold any other white space


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
    items = torch.zeros(len(histories), length, dtype=torch.int64)
    lengths = torch.zeros(len(histories), dtype=torch.int64)
    for row, history in enumerate(histories):
        newest = torch.from_numpy(history.items[-length:])
        items[row, : len(newest)] = newest
        lengths[row] = len(newest)
    columns = {item_list: items, length_field: lengths}
    if times is not None and any(one.times is not None for one in histories):
        name, clock = times
        columns[name] = seconds_of(
            [None if one.times is None else clock.seconds(one.times) for one in histories], length
        )
    return Interaction(columns)
