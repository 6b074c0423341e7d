"""A GGUF file without its vocabulary: the same model for whoever reads it, in no time.

transformers asks the metadata of a GGUF file anew for its config, its tokenizer and its weights, and gguf takes a vocabulary apart word by
word in Python: seconds each time. Only the tokenizer needs it.

The format is that of ggml's page on GGUF (github.com/ggml-org/ggml).
"""

from __future__ import annotations

import math
import mmap
import struct
from pathlib import Path
from typing import NamedTuple

from transformers.integrations import GGUF_CONFIG_MAPPING

from rporec_recbole.errors import BackboneError

_MAGIC, _VERSIONS = b"GGUF", (2, 3)
_START = struct.Struct("<4sIQQ")  # magic, version, number of tensors, number of entries
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes of a number, by its kind
_NUMBER, _TEXT, _ARRAY = 4, 8, 9
_VOCABULARY, _TOKENS = "tokenizer.", "tokenizer.ggml.tokens"
_ALIGNMENT = 32  # bytes, where the file names no other


class _Entry(NamedTuple):
    """One entry of the metadata: where it begins, where its value does, and where it ends."""

    kind: int
    start: int
    value: int
    end: int


def write_lean(source: Path, target: Path) -> bool:
    """Writes a copy without the lists that only a tokenizer needs.

    Args:
        source: a GGUF file.
        target: of the copy.

    Returns:
        Whether it was written: False for a file of another version or kind, and where only the list says how many words there are.

    Raises:
        BackboneError: the file is cut off or damaged.
    """
    if source.stat().st_size == 0:
        return False
    with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            parts = _lean_parts(data)
        except (KeyError, ValueError, RecursionError):  # of a kind that is not known here
            return False
        except (struct.error, EOFError) as error:
            raise BackboneError(
                f"`backbone={source}` is cut off or damaged: it has {len(data):,} bytes, and what it says of itself does not fit them. Copy "
                "or download it again."
            ) from error
        if not parts:
            return False
        header, numbers = parts
        with target.open("wb") as copy:
            copy.write(header)
            with memoryview(data) as whole, whole[numbers:] as weights:
                copy.write(weights)
    return True


def _lean_parts(data: mmap.mmap) -> tuple[bytes, int] | None:
    """The header of the copy, padded, and where the weights begin in the source; None where there can be no copy."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType  # an extra

    if data[: len(_MAGIC)] != _MAGIC or struct.unpack_from("<I", data, len(_MAGIC))[0] not in _VERSIONS:
        return None
    magic, version, tensors, count = _START.unpack_from(data, 0)
    entries, at = {}, _START.size
    for _ in range(count):
        start, (name, at) = at, _text(data, at)
        (kind,) = struct.unpack_from("<I", data, at)
        end = _end(data, kind, at + 4)
        entries[name] = _Entry(kind, start, at + 4, end)
        at = end
    infos, needed = at, 0
    for _ in range(tensors):
        _, at = _text(data, at)
        (dimensions,) = struct.unpack_from("<I", data, at)
        *shape, kind, offset = struct.unpack_from(f"<{dimensions}QIQ", data, at + 4)
        weights, stored = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]  # of a block: how many, and in how many bytes
        needed = max(needed, offset + math.prod(shape) // weights * stored)
        at += 4 + 8 * dimensions + 4 + 8
    architecture, _ = _text(data, entries["general.architecture"].value)
    kept = [
        data[one.start : one.end]
        for name, one in entries.items()
        if not (name.startswith(_VOCABULARY) and one.kind == _ARRAY)
    ]
    size = f"{architecture}.vocab_size"
    if size not in entries:
        if "vocab_size" not in GGUF_CONFIG_MAPPING[architecture]:
            return None
        (words,) = struct.unpack_from("<Q", data, entries[_TOKENS].value + 4)
        kept.append(struct.pack("<Q", len(size)) + size.encode() + struct.pack("<II", _NUMBER, words))
    alignment = _ALIGNMENT
    if "general.alignment" in entries:
        (alignment,) = struct.unpack_from("<I", data, entries["general.alignment"].value)
    header = _START.pack(magic, version, tensors, len(kept)) + b"".join(kept) + data[infos:at]
    numbers = at + -at % alignment
    if len(data) < numbers + needed:
        raise EOFError
    return header + bytes(-len(header) % alignment), numbers


def _text(data: mmap.mmap, at: int) -> tuple[str, int]:
    """A text, and where it ends."""
    (length,) = struct.unpack_from("<Q", data, at)
    if at + 8 + length > len(data):
        raise EOFError
    return data[at + 8 : at + 8 + length].decode(), at + 8 + length


def _end(data: mmap.mmap, kind: int, at: int) -> int:
    """Where a value ends."""
    if kind == _TEXT:
        (length,) = struct.unpack_from("<Q", data, at)
        return int(at + 8 + length)
    if kind != _ARRAY:
        return at + _SIZES[kind]
    kind, count = struct.unpack_from("<IQ", data, at)
    at += 12
    if kind in _SIZES:
        return int(at + count * _SIZES[kind])
    for _ in range(count):
        at = _end(data, kind, at)
    return at
