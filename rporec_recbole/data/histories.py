"""Histories that the data set does not have: read from a file, checked, and made into rows that a sequential model reads.

JSON lines   a file named .jsonl, .ndjson or .json: {"user": "...", "items": ["...", "..."]} on each line
plain text   any other file: `user<TAB>item item item` on each line; ids with spaces or tabs need the other form

Items stand oldest first, by their ids in the data files. Empty lines are skipped.
"""

from __future__ import annotations

import codecs
import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction

from rporec_recbole.data.atomic import text_lines
from rporec_recbole.errors import DatasetError

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
_NAMED = 5  # problems in a message


@dataclass(frozen=True)
class History:
    """What one user chose.

    Attributes:
        user: any name; it comes back beside the recommendations.
        items: RecBole's ids of the items, oldest first; at least one.
    """

    user: str
    items: np.ndarray


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
    lines = ((f"line {number}", user, tokens) for number, user, tokens in _lines(path, encoding))
    return _checked(lines, str(path), ids, skip_unknown, "--skip_unknown=True")


def histories_of(
    given: Mapping[str, Sequence[str | int]], ids: Mapping[str, int], skip_unknown: bool = False
) -> Histories:
    """The same of histories that a program has at hand.

    Args:
        given: name of a user -> its items, oldest first.
        ids, skip_unknown: as for `read_histories`.

    Raises:
        DatasetError: as `read_histories`.
    """
    wrong = "its items must be a list of ids, texts or whole numbers"
    rows = (
        (
            f"{user!r}",
            str(user),
            [str(item) for item in items]
            if not isinstance(items, str) and all(_is_id(_plain(item)) for item in items)
            else wrong,
        )
        for user, items in given.items()
    )
    return _checked(rows, "`histories`", ids, skip_unknown, "skip_unknown=True")


def _plain(item: Any) -> Any:
    """NumPy's own numbers as Python's."""
    return item.item() if isinstance(item, np.generic) else item


def _checked(
    rows: Iterable[tuple[str, str, list[str] | str]],
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
    for here, user, tokens in rows:
        if isinstance(tokens, str):
            problem: str | None = f"{here}: {tokens}"
        elif user in places:
            problem = f"{here}: the user {user!r} stands on {places[user]} already"
        elif not tokens:
            problem = f"{here}: the user {user!r} has no items"
        else:
            problem = None
            known = [ids[token] for token in tokens if ids.get(token, 0)]
            strange = [token for token in tokens if not ids.get(token, 0)]
            unknown += len(strange)
            if strange and not skip_unknown:
                shown = ", ".join(repr(token) for token in strange[:_NAMED])
                problem = f"{here}: the user {user!r} has {len(strange)} unknown item(s): {shown}"
            elif known:
                found.append(History(user, np.array(known, dtype=np.int64)))
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


def list_lines(path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    """Number and content of the lines of a file that a person or another program wrote, empty ones left out.

    Args:
        path: the file.
        encoding: of the file; UTF-8 may start with a byte order mark.
    """
    with contextlib.suppress(LookupError):  # the reader says it
        encoding = "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding
    return ((number, line) for number, line in text_lines(path, encoding) if line.strip())


def _lines(path: Path, encoding: str) -> Iterator[tuple[int, str, list[str] | str]]:
    """Line number, user and item tokens of each line; in place of the tokens a sentence that says what is wrong."""
    parse = _from_json if path.suffix.lower() in JSON_SUFFIXES else _from_text
    for number, line in list_lines(path, encoding):
        yield number, *parse(line)


def _from_json(line: str) -> tuple[str, list[str] | str]:
    form = 'must read {"user": "...", "items": ["...", "..."]}'
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return "", f"is no JSON; it {form}"
    if not isinstance(row, dict) or not _is_id(row.get("user")) or not isinstance(row.get("items"), list):
        return "", form
    if not all(_is_id(item) for item in row["items"]):
        return str(row["user"]), f"an item is neither text nor a whole number; it {form}"
    return str(row["user"]), [str(item) for item in row["items"]]


def _is_id(value: Any) -> bool:
    return (isinstance(value, str) and value != "") or type(value) is int


def _from_text(line: str) -> tuple[str, list[str] | str]:
    user, tab, items = line.partition("\t")
    if not tab or not user:
        hint = " (JSON lines need a file named .jsonl)" if line.startswith("{") else ""
        return user, f"must read `user<TAB>item item item`{hint}"
    return user, [item for item in items.replace("\t", " ").split(" ") if item]  # an id may hold any other white space


def interaction_of(histories: Sequence[History], length: int, item_list: str, length_field: str) -> Interaction:
    """Rows shaped like evaluation rows, but for users whom the data set does not know: the history and nothing else.

    Args:
        histories: B of them; of longer ones the newest `length` items are used.
        length: `MAX_ITEM_LIST_LENGTH` of the run.
        item_list: name of the column of histories.
        length_field: name of the column of their lengths.

    Returns:
        `item_list` `[B, length]`, padded on the right with 0, and `length_field` `[B]`.
    """
    items = torch.zeros(len(histories), length, dtype=torch.int64)
    lengths = torch.zeros(len(histories), dtype=torch.int64)
    for row, history in enumerate(histories):
        newest = torch.from_numpy(history.items[-length:])
        items[row, : len(newest)] = newest
        lengths[row] = len(newest)
    return Interaction({item_list: items, length_field: lengths})
