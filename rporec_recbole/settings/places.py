"""Places outside a run's folder: its data, its base model, its sentence encoder, the run that it started from.

A run's `config.yaml` names local ones by their whole path, and beside them the working folder that the run was started in
(`started_in`). So they are found from any working folder; and where all was moved or copied together, such as a folder with `dataset/`
and `saved/` in it, they are found in the working folder of now.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rporec_recbole.settings.types import is_embedded

STARTED_IN = "started_in"
_PATHS = ("data_path", "start_from", "fitted_from")
PLACES = frozenset([*_PATHS, "backbone", "text_encoder"])


def settled(values: Mapping[str, Any], dataset: str) -> dict[str, Any]:
    """The same settings with every local place as a whole path, where it lies now; without `started_in`.

    What exists is never looked for elsewhere. What is gone, and was in the working folder of then, may be in that of now.

    Args:
        values: of a `config.yaml`, or as a user gave them.
        dataset: its name: a data path is there if the data set is.
    """
    found = dict(values)
    before = found.pop(STARTED_IN, None)
    for key in PLACES:
        place = _whole(key, found.get(key))
        if before is not None and is_gone(key, place, dataset) and Path(place).is_relative_to(str(before)):
            here = str(Path.cwd() / Path(place).relative_to(str(before)))
            place = place if is_gone(key, here, dataset) else here
        if key in found:
            found[key] = place
    return found


def is_gone(key: str, place: Any, dataset: str) -> bool:
    """Whether a setting names a path by its whole length, and nothing is there."""
    if key not in PLACES or not isinstance(place, str) or not os.path.isabs(place):
        return False
    return not (Path(place, dataset) if key == "data_path" else Path(place)).exists()


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Names of the settings that differ between a run and another one; a place that is gone is the one that is named now.

    Whether what lies there is the same has to be asked by what reads it: data by their digest, weights by theirs.

    Args:
        before: a run's `config.yaml`.
        now: what another one's will say.
    """
    dataset = str(before.get("dataset"))
    different = []
    for key in sorted({*before, *now} - {STARTED_IN}):
        there, here = _whole(key, before.get(key)), _whole(key, now.get(key))
        if there != here and not (is_gone(key, there, dataset) and isinstance(here, str)):
            different.append(key)
    return different


def _whole(key: str, place: Any) -> Any:
    """A local path from its root on; anything else as it is."""
    if key not in PLACES or not isinstance(place, str) or not place.strip():
        return place
    path = os.path.abspath(os.path.expanduser(place))
    if key in _PATHS or (Path(path).exists() and not is_embedded(place) and place != "lsa"):
        return path
    return place
