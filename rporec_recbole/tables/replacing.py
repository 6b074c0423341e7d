"""A folder that stands in its place when it is whole, or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing_folder(folder: Path, *, hidden: bool = False) -> Iterator[Path]:
    """A new folder that takes the place of `folder`, with all that it holds, at the end of this block.

    A kill between two renamings leaves `folder.PID.old` beside the new one.

    Args:
        folder: what stands there is removed; its parent exists.
        hidden: meanwhile the new folder and the old one have names that begin with a dot.
    """
    folder = folder.resolve()  # of a link, what it points to is replaced
    start = f"{'.' if hidden else ''}{folder.name}.{os.getpid()}"
    growing, old = (folder.with_name(f"{start}.{end}") for end in ("writing", "old"))
    shutil.rmtree(growing, ignore_errors=True)
    try:
        growing.mkdir()
        yield growing
        if folder.exists():
            os.rename(folder, old)
        try:
            os.rename(growing, folder)
        except OSError:
            if old.exists():
                os.rename(old, folder)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(growing, ignore_errors=True)
