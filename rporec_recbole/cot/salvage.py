"""What happens to a damaged store: it is set aside, and whatever of it is still what was kept is read from a copy."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import sqlite3
import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path

# Whoever raises it also lets `row_digest` depend on it: rows whose digests are right tell a damaged number from another version.
FORMAT = 2
COLUMNS = "key, prompt, text, generator, decoding"
_UTF8 = 1  # as SQLite numbers encodings
_SMALLEST_ROW = 64  # bytes, of the digest alone
ROWS = f"SELECT {COLUMNS}, digest FROM completions"
UNREADABLE = (sqlite3.Error, UnicodeDecodeError)
_DAMAGE = ("malformed", "no such", "unsupported file format")


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
        _mend_header(copy)
        rows = list(_readable(copy).values())
    logging.getLogger().warning(
        f"The store of reasoning texts {path} is damaged and was moved to {aside}. {len(rows)} of its texts could be read and "
        "are kept; what is missing will be written again."
    )
    return rows


def _is_sound(path: Path) -> bool:
    # Asks SQLite alone: closing the file after a look at its bytes would drop this process's locks on it, those of a store
    # that is open elsewhere in it among them.
    with contextlib.closing(sqlite3.connect(path, timeout=60)) as db:
        db.text_factory = bytes
        try:
            if not db.execute("SELECT 1 FROM sqlite_master").fetchone():
                return _is_intact(db)  # empty: nothing was kept yet
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version != FORMAT:
                if _has_our_rows(db):
                    return False
                raise sqlite3.NotSupportedError(f"another version of rporec_recbole wrote it, in format {version}")
            if not (_is_intact(db) and all(checked(row) for row in db.execute(ROWS))):
                return False
            db.execute("DELETE FROM completions WHERE 0")  # nothing; but a damaged header may say that nobody may write
            db.rollback()
            return True
        except sqlite3.NotSupportedError:
            raise
        except UnicodeDecodeError:  # sqlite3 fails to show a name that is no text any more
            return False
        except sqlite3.DatabaseError as error:
            # A lock or a missing permission is no damage.
            if "readonly" in str(error) and os.access(path, os.W_OK):
                return False
            if type(error) is sqlite3.DatabaseError or any(words in str(error) for words in _DAMAGE):
                return False
            raise


def _is_intact(db: sqlite3.Connection) -> bool:
    return bool(db.execute("PRAGMA integrity_check(1)").fetchone()[0] == b"ok")


def _has_our_rows(db: sqlite3.Connection) -> bool:
    """Whether this version wrote a row of it, whatever number the file bears."""
    with contextlib.suppress(*UNREADABLE):
        return any(checked(row) for row in db.execute(ROWS))
    return False


def checked(row: Sequence[bytes]) -> tuple[str, ...] | None:
    """A row of `ROWS` as text, digest included; None if it is not what was kept.

    It comes as bytes (`text_factory`), because sqlite3 raises at bytes that are no text any more.
    """
    try:
        *fields, digest = (value.decode("utf-8") for value in row)
    except (UnicodeDecodeError, AttributeError):
        return None
    return (*fields, digest) if row_digest(tuple(fields)) == digest else None


def _mend_header(path: Path) -> None:
    """Writes what the first 100 bytes must be (https://www.sqlite.org/fileformat.html, 1.3), whatever stands there.

    How many pages there are is left to the length of the file, by numbers of the last change that differ; a file that was
    cut within a page gets the rest of it, empty.
    """
    with path.open("r+b") as file:
        size, reserved = _layout(file.read(65536))
        # The two 2: a journal is read if there is one. 64, 32, 32 and 4 are the only values that SQLite takes.
        header = struct.pack(">16sH6B", b"SQLite format 3\0", size % 65535, 2, 2, reserved, 64, 32, 32)
        changes, schema, rest = (1, 0, 0, 0), (1, 4, 0, 0), (_UTF8, FORMAT, 0, 0)
        file.seek(0)
        file.write(header + struct.pack(">12I28x", *changes, *schema, *rest))
        file.truncate(-(-path.stat().st_size // size) * size)


def _layout(start: bytes) -> tuple[int, int]:
    """Bytes of a page, and how many of them SQLite leaves alone at its end.

    The first row of the schema ends where the used part of page 1 does. If page 1 is damaged too, what the header says.
    """
    end = 0
    with contextlib.suppress(IndexError):
        for number in range(int.from_bytes(start[103:105], "big")):
            place = int.from_bytes(start[108 + 2 * number :][:2], "big")
            length, place = _varint(start, place)
            _, place = _varint(start, place)
            end = max(end, place + length)
    size = 1 << max(9, (end - 1).bit_length())
    if end > 0 and size <= 65536 and size - end < 256:
        return size, size - end
    size = int.from_bytes(start[16:18], "big")
    size = 65536 if size == 1 else size
    return (size, start[20]) if size >= 512 and size.bit_count() == 1 else (4096, 0)


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """A number as SQLite writes it, and the place after it. Numbers of nine bytes are not read."""
    number = 0
    while True:
        number = number << 7 | data[place] & 127
        place += 1
        if data[place - 1] < 128:
            return number, place


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
                with contextlib.suppress(*UNREADABLE):
                    for number, *row in db.execute(f"{select} ORDER BY rowid {order}"):
                        if whole := checked(row):
                            found[number] = whole
                reached.append(number)
            # And what lies between two of them. A damaged number may be far beyond all that there can be.
            last = sum(one.stat().st_size for one in path.parent.iterdir()) // _SMALLEST_ROW
            for number in range(reached[0] + 1, min(reached[1], last)):
                with contextlib.suppress(*UNREADABLE):
                    for _, *row in db.execute(f"{select} WHERE rowid = {number}"):
                        if whole := checked(row):
                            found[number] = whole
    except UNREADABLE:
        pass
    return dict(sorted(found.items()))
