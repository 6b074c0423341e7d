"""Files that stand in their place when they are whole, or not at all: after a full disk or a kill the old one is there, never half a new one."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from rporec_recbole.errors import RunFolderError, first_line, translating
from rporec_recbole.tables.replacing import replacing_folder as replacing_folder  # for this room and those below

MODEL_WEIGHTS = "model.safetensors"
"""In the folder of a finished run of any model but RPORec."""
BACKBONE = "backbone"
"""The folder of its language model in that of a finished run."""


@contextlib.contextmanager
def replacing(path: Path, *, alone: bool = False) -> Iterator[Path]:
    """A file beside `path`, to be written in this block; at its end it is on disk and takes the place of `path`.

    Args:
        path: of a link, what it points to is replaced; a terminal or a pipe is written to as it is.
        alone: no other process writes this file, so what a killed one left is written over.
    """
    if path.exists() and not path.is_file():
        yield path
        return
    path = path.resolve()
    growing = path.with_name(path.name + (".writing" if alone else f".{os.getpid()}.writing"))
    try:
        yield growing
        with growing.open("r+b") as file:
            os.fsync(file.fileno())
        os.replace(growing, path)
    finally:
        growing.unlink(missing_ok=True)


def new_folder(stem: Path) -> Path:
    """Makes a folder of this name, with a number behind it if that exists.

    Args:
        stem: the wanted path; its parents are made.
    """
    for number in itertools.count(1):
        folder = stem if number == 1 else stem.with_name(f"{stem.name}-{number}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            break
    return folder


def unwritable(
    what: str, option: str = "--run_dir", *others: type[Exception]
) -> contextlib.AbstractContextManager[None]:
    """One message in the place of whatever keeps a block from writing.

    Args:
        what: cannot be written.
        option: names another place.
        others: kinds that a library raises, beside those of files and safetensors.

    Raises:
        RunFolderError: says so.
    """
    return translating(
        lambda error: RunFolderError(f"{what}: {first_line(error)}. Free disk space or choose another {option}."),
        OSError,
        SafetensorError,
        *others,
    )


def write_text(path: Path, text: str) -> None:
    """Writes a text file."""
    with replacing(path) as growing:
        growing.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file for people and programs."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Writes a Parquet file; tables that are too large for memory go through `outputs/table_file.py`."""
    with replacing(path) as growing:
        table.to_parquet(growing, index=False)


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any] | None = None, *, alone: bool = False
) -> None:
    """Writes a safetensors file that whoever may read the folder's other files may read too.

    Args:
        path: the file.
        tensors: on any device.
        facts: JSON values to keep beside them.
        alone: see `replacing`.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path, alone=alone) as growing:
        growing.write_bytes(b"")
        mode = growing.stat().st_mode
        save_file(plain, growing, None if facts is None else {"facts": json.dumps(facts)})
        growing.chmod(mode)  # safetensors lets nobody but its owner read a file


def read_tensors(path: Path, then: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write_tensors` wrote: (tensors on the CPU, facts).

    Args:
        path: the file.
        then: what its reader can do where that fails.

    Raises:
        RunFolderError: there is none, or it is damaged.
    """
    try:
        # At once and from one open file: `safe_open` opens it twice, and another process may have replaced it in between.
        data = path.read_bytes()
        tensors = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        return tensors, json.loads(header.get("__metadata__", {}).get("facts", "{}"))
    except (OSError, SafetensorError, ValueError) as error:
        what = "cannot be read" if isinstance(error, OSError) else "is damaged"
        raise RunFolderError(f"{path} {what}: {first_line(error)}. {then}") from error
