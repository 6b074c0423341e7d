"""A crash-safe store of generated texts: one SQLite file, one row a completion, keyed by all that determines it."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from rporec_recbole.errors import StoreError


@dataclass(frozen=True)
class Decoding:
    """How completions are drawn.

    Attributes:
        temperature: 0 is greedy.
        max_new_tokens: a completion that has not ended by then is cut off.
        seed: seed of the draws; greedy decoding ignores it.
        sample: index of the draw when one prompt gets several.
    """

    temperature: float = 0.0
    max_new_tokens: int = 96
    seed: int = 0
    sample: int = 0

    @property
    def identity(self) -> dict[str, float | int]:
        """The fields that determine the text."""
        return asdict(self) if self.temperature > 0 else {"temperature": 0.0, "max_new_tokens": self.max_new_tokens}


def completion_key(prompt: str, generator: str, decoding: Decoding) -> str:
    """SHA-256 over the prompt, the generator's fingerprint and the decoding."""
    identity = json.dumps([generator, decoding.identity, prompt], ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()


class CoTStore:
    """Maps keys to completions, on disk or in memory.

    Every `put` is one transaction: after a crash the store holds all completed puts and nothing else. Several
    processes may share a file.

    Args:
        path: the SQLite file, made if missing; None keeps the store in memory.

    Raises:
        StoreError: the file exists and is no store, or cannot be opened.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = None if path is None else Path(path)
        try:
            self._db = sqlite3.connect(":memory:" if path is None else str(path), timeout=60)
            if path is not None:
                self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS completions (key TEXT PRIMARY KEY, prompt TEXT NOT NULL, text TEXT NOT NULL,"
                " generator TEXT NOT NULL, decoding TEXT NOT NULL)"
            )
            self._db.commit()
        except sqlite3.Error as error:
            raise StoreError(
                f"The store of reasoning texts at {path} cannot be opened ({error}). Move it away to start a new one."
            ) from error

    def __len__(self) -> int:
        return int(self._db.execute("SELECT COUNT(*) FROM completions").fetchone()[0])

    def get(self, keys: Iterable[str]) -> dict[str, str]:
        """The texts of those keys that the store has."""
        wanted = list(dict.fromkeys(keys))
        found: dict[str, str] = {}
        for start in range(0, len(wanted), 500):
            part = wanted[start : start + 500]
            marks = ",".join("?" * len(part))
            found.update(self._db.execute(f"SELECT key, text FROM completions WHERE key IN ({marks})", part).fetchall())
        return found

    def put(self, texts: Mapping[str, tuple[str, str]], generator: str, decoding: Decoding) -> None:
        """Keeps completions.

        Args:
            texts: key -> (prompt, text).
            generator: fingerprint of what wrote them.
            decoding: how they were drawn.

        Raises:
            StoreError: the disk is full or the file cannot be written; nothing of this call is kept.
        """
        decoded = json.dumps(decoding.identity, sort_keys=True)
        rows = [(key, prompt, text, generator, decoded) for key, (prompt, text) in texts.items()]
        try:
            with self._db:
                self._db.executemany("INSERT OR IGNORE INTO completions VALUES (?, ?, ?, ?, ?)", rows)
        except sqlite3.Error as error:
            raise StoreError(
                f"The store of reasoning texts at {self.path} cannot be written ({error}). Free disk space or fix its permissions."
            ) from error

    def close(self) -> None:
        """Writes everything into the one file and closes it."""
        if self.path is not None:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._db.execute("PRAGMA journal_mode=DELETE")
        self._db.close()
