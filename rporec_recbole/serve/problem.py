"""What a request can do wrong, in the one form in which the service says it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rporec_recbole.errors import RPORecError

_SHOWN = 60  # characters of what was given


class Problem(RPORecError):
    """A request that gets no answer.

    Args:
        status: of HTTP, 4xx for what the client can repair.
        code: one word for programs.
        message: what was given, what is allowed, what to do.
        headers: more headers of the response.
    """

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        """`{"error": {"code": ..., "message": ...}}`, in ASCII: a message may quote any text."""
        return json.dumps({"error": {"code": self.code, "message": str(self)}}).encode("ascii")


def shown(value: Any) -> str:
    """What was given, short enough for a message."""
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=repr)
    except ValueError:  # a whole number with more digits than Python prints
        text = "a number of very many digits"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
