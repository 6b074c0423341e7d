"""A crash-safe store of generated texts: one SQLite file, one row a completion, keyed by all that determines it.

Several processes of one machine may share a file, which SQLite's WAL mode does not allow across a network: each claims keys
before it writes their texts, so no text is written twice. Every row carries a digest, which is checked whenever it is read: a
row that is not what was kept is missing. A damaged file is set aside when it is opened, and whatever of it can be read goes
into a new one.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from rporec_recbole.cot.opening import alone, can_be_written, read_only
from rporec_recbole.cot.owners import is_dead, is_here, new_owner
from rporec_recbole.cot.salvage import FORMAT, ROWS, UNREADABLE, checked, row_digest, set_aside_if_damaged
from rporec_recbole.errors import StoreError

# Seconds without a sign of life after which a claim of another host is void. A store belongs to one machine, but containers
# on it have names of their own, and after a crash one comes back under another name.
_LEASE = 600.0
_TAKEN_AT_ONCE = 1 << 13  # texts


@dataclass(frozen=True)
class Decoding:
    """How completions are drawn.

    Attributes:
        temperature: 0 is greedy.
        max_new_tokens: a completion that has not ended by then is cut off.
        seed: seed of the draws; greedy decoding ignores it.
        sample: index of the draw when one prompt gets several.
        instead: how a completion that came out malformed is drawn again; None leaves it.
        guesses: how many lines of the catalogue are guessed for the answer; 0 leaves the answer to free writing.
        lines: digest of those lines (`Grounding.digest`).
        top_p: below 1, draws are from the likeliest tokens that together have this probability.
    """

    temperature: float = 0.0
    max_new_tokens: int = 96
    seed: int = 0
    sample: int = 0
    instead: Decoding | None = None
    guesses: int = 0
    lines: str = ""
    top_p: float = 1.0

    @property
    def identity(self) -> dict[str, float | int | str]:
        """The fields that determine the text; those of grounded answers only where there are such, as in older stores."""
        named = ["temperature", "max_new_tokens"]
        named += ["seed", "sample"] if self.temperature > 0 else []
        named += ["top_p"] if self.temperature > 0 and self.top_p < 1 else []
        named += ["guesses", "lines"] if self.guesses else []
        return {name: getattr(self, name) for name in named}


def completion_key(prompt: str, generator: str, decoding: Decoding) -> str:
    """SHA-256 over the prompt, the generator's fingerprint and the decoding, as a list in JSON."""
    identity = f"{_start_of_key(generator, decoding)}, {json.dumps(prompt, ensure_ascii=False)}]"
    return hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()


@lru_cache(maxsize=64)
def _start_of_key(generator: str, decoding: Decoding) -> str:
    """What all prompts have in common."""
    return json.dumps([generator, decoding.identity], ensure_ascii=False, sort_keys=True)[:-1]


@dataclass(frozen=True)
class StoredText:
    """One row of a store.

    Attributes:
        key: see `completion_key`.
        prompt: what was completed.
        text: what was written.
        generator: fingerprint of the writer.
        decoding: JSON of `Decoding.identity`.
    """

    key: str
    prompt: str
    text: str
    generator: str
    decoding: str


class CoTStore:
    """Maps keys to completions, on disk or in memory.

    Every `put` is one transaction: after a crash the store holds all completed puts and nothing else.

    Args:
        path: the SQLite file, made if missing; None keeps the store in memory. One that cannot be written is read into memory, and what is
            added to it there is not kept.

    Raises:
        StoreError: the file cannot be opened, or another version wrote it.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self._owner = new_owner()
        try:
            copied = None if path is None or can_be_written(Path(path)) else read_only(Path(path))
            self.path = None if path is None or copied else Path(path)
            with alone(self.path):
                rows = [] if self.path is None or not self.path.exists() else set_aside_if_damaged(self.path)
                self._db = copied or sqlite3.connect(":memory:" if path is None else str(path), timeout=60)
                self._db.text_factory = bytes  # see `checked`
                if self.path is not None:
                    self._db.execute("PRAGMA journal_mode=WAL")
                with self._db:
                    self._db.execute(
                        "CREATE TABLE IF NOT EXISTS completions (key TEXT PRIMARY KEY, prompt TEXT NOT NULL, text TEXT NOT"
                        " NULL, generator TEXT NOT NULL, decoding TEXT NOT NULL, digest TEXT NOT NULL)"
                    )
                    self._db.execute(
                        "CREATE TABLE IF NOT EXISTS claims (key TEXT PRIMARY KEY, owner TEXT NOT NULL, until REAL NOT NULL)"
                    )
                    self._db.execute(f"PRAGMA user_version={FORMAT}")
                    self._db.executemany("INSERT OR IGNORE INTO completions VALUES (?, ?, ?, ?, ?, ?)", rows)
        except (OSError, sqlite3.Error) as error:
            full = any(sign in str(error) for sign in ("disk I/O", "is full", "No space"))
            advice = "Free space on its disk." if full else "Move it away to start a new one."
            raise StoreError(f"The store of reasoning texts at {path} cannot be opened ({error}). {advice}") from error

    def __len__(self) -> int:
        """How many rows there are, damaged ones included; raises what `get` does."""
        with self._reading():
            return int(self._db.execute("SELECT COUNT(*) FROM completions").fetchone()[0])

    def __iter__(self) -> Iterator[StoredText]:
        """All completions, in the order in which they were kept.

        Raises:
            StoreError: the file cannot be read.
        """
        for row in self._all():
            yield StoredText(*row[:5])

    def get(self, keys: Iterable[str]) -> dict[str, str]:
        """The texts of those keys that the store has.

        Raises:
            StoreError: the file cannot be read.
        """
        found: dict[str, str] = {}
        with self._reading():
            for part in _parts(keys):
                for row in map(checked, self._db.execute(f"{ROWS} WHERE key IN ({_marks(part)})", part)):
                    if row is not None:
                        found[row[0]] = row[2]
        return found

    def claim(self, keys: Sequence[str], limit: int) -> list[str]:
        """Takes up to `limit` keys that have no text and that no living process is writing, in the given order.

        Texts of claimed keys are written by this store alone; `put` and `release` give claims back, and so does the death
        of the process. A key that this store has claimed before and has not written is free to it.

        Raises:
            StoreError: the file cannot be written.
        """
        with self._writing():
            now = time.time()
            for raw, until in self._db.execute("SELECT owner, MAX(until) FROM claims GROUP BY owner").fetchall():
                owner = raw.decode(errors="replace")
                if is_dead(owner) or (not is_here(owner) and until < now):
                    self._db.execute("DELETE FROM claims WHERE CAST(owner AS BLOB) = ?", (raw,))
            taken = {*self.get(keys), *self._claimed_by_others(keys)}
            free = [key for key in dict.fromkeys(keys) if key not in taken][:limit]
            claims = [(key, self._owner, now + _LEASE) for key in free]
            self._db.executemany("INSERT OR REPLACE INTO claims VALUES (?, ?, ?)", claims)
            return free

    def put(self, texts: Mapping[str, tuple[str, str]], generator: str, decoding: Decoding) -> None:
        """Keeps completions, in place of damaged ones too, and gives back the claims on them.

        Args:
            texts: key -> (prompt, text).
            generator: fingerprint of what wrote them.
            decoding: how they were drawn.

        Raises:
            StoreError: the disk is full or the file cannot be written; nothing of this call is kept.
        """
        decoded = json.dumps(decoding.identity, sort_keys=True)
        rows = [(key, prompt, text, generator, decoded) for key, (prompt, text) in texts.items()]
        with self._writing():
            kept = self.get(texts)
            new = [(*row, row_digest(row)) for row in rows if row[0] not in kept]
            self._db.executemany("INSERT OR REPLACE INTO completions VALUES (?, ?, ?, ?, ?, ?)", new)
            self._db.executemany("DELETE FROM claims WHERE key = ?", [(key,) for key in texts])
            self._db.execute("UPDATE claims SET until = ? WHERE owner = ?", (time.time() + _LEASE, self._owner))

    def take_from(self, other: CoTStore) -> None:
        """Keeps the completions of another store too.

        Raises:
            StoreError: the file cannot be written, or the other one cannot be read; nothing of this call is kept.
        """
        with self._writing():
            self._db.executemany("INSERT OR IGNORE INTO completions VALUES (?, ?, ?, ?, ?, ?)", other._all())

    def take(self, rows: Iterable[StoredText]) -> int:
        """Keeps texts that something else wrote, all of them or none, however many: one transaction, in the memory of a few thousand.

        Args:
            rows: a key may come again with the same text; what they raise undoes all.

        Returns:
            how many were new.

        Raises:
            StoreError: a key has another text already, in the store or further up; or the file cannot be written.
        """
        new, waiting = 0, iter(rows)
        clashes: list[str] = []
        self._db.execute("PRAGMA cache_size=-262144")  # KiB: keys come in no order, so all pages of their index change
        with self._writing():
            while piece := list(itertools.islice(waiting, _TAKEN_AT_ONCE)):
                there, fresh = self.get([row.key for row in piece]), list[tuple[str, ...]]()
                for row in piece:
                    if row.key not in there:
                        there[row.key] = row.text
                        whole = (row.key, row.prompt, row.text, row.generator, row.decoding)
                        fresh.append((*whole, row_digest(whole)))
                    elif there[row.key] != row.text:
                        clashes.append(row.key)
                fresh.sort()
                self._db.executemany("INSERT OR REPLACE INTO completions VALUES (?, ?, ?, ?, ?, ?)", fresh)
                self._db.executemany("DELETE FROM claims WHERE key = ?", [row[:1] for row in fresh])
                new += len(fresh)
            if clashes:
                raise StoreError(
                    f"{len(clashes):,} keys have two different texts; the first: {clashes[0]}. A key has one text, and what is stored stays: "
                    "leave those rows out. Nothing was kept."
                )
        return new

    def release(self) -> None:
        """Gives back all claims of this process, so that others need not wait for it."""
        with self._writing():
            self._db.execute("DELETE FROM claims WHERE owner = ?", (self._owner,))

    def close(self) -> None:
        """Writes everything into the one file and closes it."""
        if self.path is not None:
            with contextlib.suppress(sqlite3.Error):  # another process has it open, and will do this; or it is damaged
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                self._db.execute("PRAGMA journal_mode=DELETE")
        self._db.close()

    def _all(self) -> Iterator[tuple[str, ...]]:
        """Rows with their digests."""
        with self._reading():
            for row in map(checked, self._db.execute(f"{ROWS} ORDER BY rowid")):
                if row is not None:
                    yield row

    def _claimed_by_others(self, keys: Iterable[str]) -> set[str]:
        taken: set[str] = set()
        for part in _parts(keys):
            query = f"SELECT key FROM claims WHERE owner != ? AND key IN ({_marks(part)})"
            taken |= {key.decode(errors="replace") for (key,) in self._db.execute(query, [self._owner, *part])}
        return taken

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except UNREADABLE as error:
            raise StoreError(
                f"The store of reasoning texts at {self.path} cannot be read ({error}). Start again: a damaged file is set aside "
                "when it is opened, and what can be read of it is kept."
            ) from error

    def _writing(self) -> contextlib.AbstractContextManager[None]:
        return transaction(self._db, f"The store of reasoning texts at {self.path}")


def _parts(keys: Iterable[str]) -> Iterator[list[str]]:
    """Each key once, in lists that one query may name."""
    distinct = list(dict.fromkeys(keys))
    for start in range(0, len(distinct), 500):
        yield distinct[start : start + 500]


def _marks(part: Sequence[str]) -> str:
    return ",".join("?" * len(part))


@contextlib.contextmanager
def transaction(db: sqlite3.Connection, what: str) -> Iterator[None]:
    """One transaction that nobody else writes beside; all of it is kept, or nothing.

    Args:
        db: an open file.
        what: names the file in the message.

    Raises:
        StoreError: the file cannot be written.
    """
    try:
        db.execute("BEGIN IMMEDIATE")
        with db:
            yield
    except sqlite3.Error as error:
        advice = "Free disk space or fix its permissions."
        if type(error) is sqlite3.DatabaseError:  # not a lock or a full disk, which have classes of their own
            advice = "Start again: a damaged file is set aside when it is opened."
        raise StoreError(f"{what} cannot be written ({error}). {advice}") from error
