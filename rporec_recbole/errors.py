"""Every exception that this package raises on purpose.

Each message says what was given, what is allowed and what to do next. The command line turns any of them into exit
code 2 and one message; everything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Iterable, Iterator


class RPORecError(Exception):
    """Base of all expected failures."""


class ConfigError(RPORecError, ValueError):
    """A setting is unknown, misspelt, of the wrong type or out of range."""


class DatasetError(RPORecError, ValueError):
    """A data set is missing, malformed or lacks what the model needs."""


class BackboneError(RPORecError, ValueError):
    """A language model or its tokenizer cannot be loaded or used."""


class StoreError(RPORecError, RuntimeError):
    """The store of reasoning texts cannot be read or written."""


class RunFolderError(RPORecError, RuntimeError):
    """A run folder cannot be created, written or restored."""


class SweepError(RPORecError, RuntimeError):
    """A sweep's study cannot be opened or shared, or none of its trials came to an end."""


class TrainingError(RPORecError, FloatingPointError):
    """A loss is no finite number, so training stops."""


class RewardError(RPORecError, RuntimeError):
    """A reward failed or was not a finite number; the offending texts were saved."""


@contextlib.contextmanager
def translating(say: Callable[[Exception], RPORecError | None], *kinds: type[Exception]) -> Iterator[None]:
    """One message in the place of what a library raises in this block; errors of our own say it better and pass as they are.

    Args:
        say: what is raised in the place of an exception; None lets that pass.
        kinds: of exceptions that are translated; all where none is named.
    """
    try:
        yield
    except Exception as error:
        passes = isinstance(error, RPORecError) or not isinstance(error, kinds or Exception)
        instead = None if passes else say(error)
        if instead is None:
            raise
        raise instead from error


def first_line(error: BaseException) -> str:
    """What an exception of a library says, in a line without its full stop; its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(". ")


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """A hint such as ``" Did you mean `epochs`?"``, or an empty string when nothing is close.

    Args:
        given: what the user wrote.
        allowed: the names that exist.
    """
    names = {name.lower(): name for name in allowed}
    close = difflib.get_close_matches(given.lower(), names, n=1, cutoff=0.6)
    return f" Did you mean `{names[close[0]]}`?" if close else ""
