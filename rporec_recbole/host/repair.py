"""What a repair of RecBole is: it says why it is there, and when it can go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Repair:
    """One change to RecBole's behaviour at run time.

    Attributes:
        name: short handle, used in tests and in `rporec doctor`.
        symptom: what a user sees without it.
        cause: where in RecBole 1.2.1 it comes from.
        remove_when: the condition under which this entry can be deleted.
        apply: makes the change; called once.
    """

    name: str
    symptom: str
    cause: str
    remove_when: str
    apply: Callable[[], None]


def repair(name: str, *, symptom: str, cause: str, remove_when: str) -> Callable[[Callable[[], None]], Repair]:
    """Makes a `Repair` of the function that applies it; arguments as its attributes."""
    return lambda apply: Repair(name, symptom, cause, remove_when, apply)


class ModuleWith:
    """A module as one file of RecBole's shall see it: a few names replaced, all else its own.

    Args:
        module: stays as it is for everybody else.
        replaced: name -> what stands there instead.
    """

    def __init__(self, module: Any, **replaced: Any) -> None:
        self._module = module
        vars(self).update(replaced)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)
