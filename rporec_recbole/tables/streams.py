"""Bytes on their way to pyarrow, which reads UTF-8 alone and separates by one character."""

from __future__ import annotations

import codecs
import io
from typing import Any, BinaryIO

STAND_IN = "\x1f"
"""Stands for a separator of several characters; it is in no text."""


class Mended(io.RawIOBase):
    """Bytes as UTF-8, with the sign for what is no letter where they were none."""

    def __init__(self, file: BinaryIO, encoding: str) -> None:
        self._file, self._left = file, b""
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = b" "
        while piece and not self._left:
            piece = self._file.read(1 << 20)
            self._left = self._decoder.decode(piece, final=not piece).encode("utf-8")
        taken = self._left[: len(buffer)]
        self._left = self._left[len(taken) :]
        buffer[: len(taken)] = taken
        return len(taken)


class Separated(io.RawIOBase):
    """Bytes in which a separator of several characters is one character; read in whole lines."""

    def __init__(self, file: BinaryIO, separator: bytes) -> None:
        self._file, self._separator, self._left = file, separator, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left:
            piece = self._file.read(1 << 20)
            self._left = (piece + self._file.readline() if piece else b"").replace(
                self._separator, STAND_IN.encode("ascii")
            )
        taken = self._left[: len(buffer)]
        self._left = self._left[len(taken) :]
        buffer[: len(taken)] = taken
        return len(taken)
