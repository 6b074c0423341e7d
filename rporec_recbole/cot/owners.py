"""Who has claimed something, in a word that other processes can read, and whether that process still lives."""

from __future__ import annotations

import itertools
import os
import socket
from pathlib import Path

_NUMBERS = itertools.count()


def new_owner() -> str:
    """`host:process@began#number`, another one at each call."""
    number = os.getpid()
    return f"{socket.gethostname()}:{number}@{_began(number) or ''}#{next(_NUMBERS)}"


def is_here(owner: str) -> bool:
    """Whether it is, or was, a process of this host."""
    return owner.rpartition(":")[0] == socket.gethostname()


def is_dead(owner: str) -> bool:
    """Whether it is a process of this host that has ended."""
    if not is_here(owner):
        return False
    number, _, since = owner.rpartition(":")[2].partition("#")[0].partition("@")
    try:
        os.kill(int(number), 0)
    except (ProcessLookupError, OverflowError, ValueError):  # ValueError: the word is damaged
        return True
    except OSError:  # somebody else's, so it lives
        pass
    began = _began(int(number))
    return began == "" or (began is not None and since not in ("", began))


def _began(number: int) -> str | None:
    """When a process of this host began, in the system's ticks, which tells it from an earlier one with its number.

    Empty for one that has ended and that nobody has waited for; None where the system does not say.
    """
    try:
        state, *fields = Path(f"/proc/{number}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return "" if state in ("Z", "X") else fields[18]
    except (OSError, ValueError, IndexError):
        return None
