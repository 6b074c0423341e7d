"""Progress bars: shown where somebody watches a terminal, silent in pipes, in files and under `--show_progress=False`."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from tqdm.auto import tqdm

_wanted = True


def watched() -> bool:
    """Whether bars are shown: standard error is a terminal, and nobody said no."""
    return _wanted and sys.stderr.isatty()


def recboles_watched() -> bool:
    """Whether RecBole's own bars are, whose labels are in colour: not with NO_COLOR (https://no-color.org) either."""
    return watched() and not os.environ.get("NO_COLOR")


@contextlib.contextmanager
def showing(wanted: bool) -> Iterator[None]:
    """Bars of this block are shown, if anybody watches, or not; those of libraries that draw with tqdm too.

    Args:
        wanted: a run's `show_progress`.
    """
    global _wanted
    before, _wanted = _wanted, wanted and _wanted
    try:
        yield
    finally:
        _wanted = before


def progress_bar(iterable: Any = None, *, disable: bool = False, **options: Any) -> Any:
    """tqdm's bar, which vanishes at its end.

    Args:
        iterable: what it counts; None where `update` does.
        disable: not this one.
        options: of tqdm, such as `desc` and `total`.
    """
    return tqdm(iterable, disable=disable or not watched(), leave=False, **options)
