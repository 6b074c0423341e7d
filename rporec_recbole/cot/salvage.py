"""What happens to a damaged store: it is set aside, and whatever of it is still what was kept is read from a copy."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import shutil
import sqlite3
import tempfile
from collections.abc import Sequence
from pathlib import Path

FORMAT = 2
COLUMNS = "key, prompt, text, generator, decoding"
_UNREADABLE = (sqlite3.Error, UnicodeDecodeError)


def row_digest(row: Sequence[str]) -> str:
    """What a row of `COLUMNS` carries to show that it is what was kept."""
    whole = json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return hashlib.sha256(whole).hexdigest()


def set_aside_if_damaged(path: Path) -> list[tuple[str, ...]]:
    """Nothing for a sound file; a damaged one is renamed, and its readable rows are returned, digests included.

    Raises:
        sqlite3.Error: the file cannot be opened, or another version wrote it.
        OSError: it cannot be renamed or copied.
    """
    if _is_sound(path):
        return []
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{suffix}").rename(f"{aside}{suffix}")
    with tempfile.TemporaryDirectory() as scratch:  # reading may write into a file's journal
        copy = Path(scratch) / "store"
        for suffix in ("", "-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(f"{aside}{suffix}", f"{copy}{suffix}")
        _fill_up(copy)
        rows = list(_readable(copy).values())
    logging.getLogger().warning(
        f"The store of reasoning texts {path} is damaged and was moved to {aside}. {len(rows)} of its texts could be read and "
        "are kept; what is missing will be written again."
    )
    return rows


def _is_sound(path: Path) -> bool:
    with contextlib.closing(sqlite3.connect(path, timeout=60)) as db:
        db.text_factory = bytes
        try:
            if not db.execute("SELECT 1 FROM sqlite_master").fetchone():
                return True  # empty: nothing was kept yet
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version != FORMAT:
                raise sqlite3.NotSupportedError(f"another version of rporec_recbole wrote it, in format {version}")
            if db.execute("PRAGMA integrity_check(1)").fetchone()[0] != b"ok":
                return False
            return all(_checked(row) for row in db.execute(f"SELECT {COLUMNS}, digest FROM completions"))
        except sqlite3.NotSupportedError:
            raise
        except UnicodeDecodeError:  # sqlite3 fails to show a name that is no text any more
            return False
        except sqlite3.DatabaseError as error:
            # A lock or a missing permission is no damage.
            if type(error) is sqlite3.DatabaseError or "malformed" in str(error) or "no such" in str(error):
                return False
            raise


def _checked(row: Sequence[bytes]) -> tuple[str, ...] | None:
    """The row as text, with its digest; None if it is not what was kept."""
    try:
        *fields, digest = (value.decode("utf-8") for value in row)
    except (UnicodeDecodeError, AttributeError):
        return None
    return (*fields, digest) if row_digest(tuple(fields)) == digest else None


def _fill_up(path: Path) -> None:
    """Gives a file that was cut its length again, with empty pages: SQLite reads nothing of a shorter one."""
    with path.open("r+b") as file:
        header = file.read(32)
        if len(header) == 32:
            page = int.from_bytes(header[16:18], "big")
            size = (65536 if page == 1 else page) * int.from_bytes(header[28:32], "big")
            if path.stat().st_size < size <= 100 * path.stat().st_size:
                file.truncate(size)


def _readable(path: Path) -> dict[int, tuple[str, ...]]:
    """All rows of a damaged file that are what was kept, by number."""
    found: dict[int, tuple[str, ...]] = {}
    select = f"SELECT rowid, {COLUMNS}, digest FROM completions NOT INDEXED"
    try:
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.text_factory = bytes
            reached: list[int] = []
            for order in ("ASC", "DESC"):  # each way up to the first page that cannot be read
                number = 0
                with contextlib.suppress(*_UNREADABLE):
                    for number, *row in db.execute(f"{select} ORDER BY rowid {order}"):
                        if checked := _checked(row):
                            found[number] = checked
                reached.append(number)
            for number in range(reached[0] + 1, reached[1]):  # and what lies between two of them
                with contextlib.suppress(*_UNREADABLE):
                    for _, *row in db.execute(f"{select} WHERE rowid = {number}"):
                        if checked := _checked(row):
                            found[number] = checked
    except _UNREADABLE:
        pass
    return dict(sorted(found.items()))
