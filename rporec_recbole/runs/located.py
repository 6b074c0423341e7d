"""Where the places of a finished run are now: what its `config.yaml` names, or what somebody names in its stead."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rporec_recbole.backbone.sources import ADAPTER, check_weights, find_source
from rporec_recbole.data.digest import check_digest
from rporec_recbole.data.files import BACKBONE
from rporec_recbole.errors import ConfigError, DatasetError, RunFolderError
from rporec_recbole.host.data import build_data
from rporec_recbole.runs.folder import logging_to, read_config
from rporec_recbole.settings.places import is_gone, settled
from rporec_recbole.settings.types import is_embedded


def has_data_of(folder: Path, config: Any) -> bool:
    """Whether a config reads the data that a finished run was made with, wherever they lie; they are read for that.

    Args:
        folder: of the run.
        config: RecBole's Config.
    """
    with logging_to(None):
        digest = build_data(config)[0].digest
    try:
        check_digest(folder, digest)
    except RunFolderError:
        return False
    return True


def located(folder: Path, given: Mapping[str, str | None]) -> dict[str, Any]:
    """The settings of a run with its places as they are now; all of them are looked for, and nothing is loaded.

    Args:
        folder: of the run.
        given: `data_path`, `backbone` and `text_encoder` that stand in for its own; None leaves one as it is.

    Raises:
        RunFolderError: there is no run.
        ConfigError: the run has nothing that could stand elsewhere, or its text encoder is not there.
        DatasetError: its data are not there.
        BackboneError: the base of its adapter is not there.
    """
    written = read_config(folder)
    stand_ins = {key: place for key, place in given.items() if place is not None}
    for key, place in stand_ins.items():
        _refuse_superfluous(folder, written, key, place)
    dataset = str(written["dataset"])
    values = settled({**written, **stand_ins}, dataset)
    _find_data(folder, written, values, dataset)
    if "backbone" in written:
        _find_models(folder, values, stand_ins)
    return values


def located_data(folder: Path, data_path: str | None = None) -> dict[str, Any]:
    """The settings of a run with the place of its data as it is now; nothing else of the run is looked for.

    Args:
        folder: of the run.
        data_path: where they lie now; None leaves the place as it is.

    Raises:
        RunFolderError: there is no run.
        ConfigError: the place is empty.
        DatasetError: its data are not there.
    """
    written = read_config(folder)
    if data_path is not None:
        _refuse_superfluous(folder, written, "data_path", data_path)
    dataset = str(written["dataset"])
    values = settled({**written, **({} if data_path is None else {"data_path": data_path})}, dataset)
    _find_data(folder, written, values, dataset)
    return values


def _refuse_superfluous(folder: Path, written: Mapping[str, Any], key: str, place: str) -> None:
    if not place.strip():
        raise ConfigError(f"`--{key}=` names nothing. Name where it is now, or leave the option out.")
    if key == "data_path":
        return
    own = written.get(key) if "backbone" in written else None
    if own is None or own == "lsa" or (key == "backbone" and is_embedded(own)):
        kind = "language model" if key == "backbone" else "sentence encoder"
        raise ConfigError(
            f"`--{key}={place}` says where a {kind} lies now, and {folder} needs none but what is in it. Leave it out."
        )
    if place == "lsa" or (key == "backbone" and is_embedded(place)):
        raise ConfigError(
            f"`--{key}={place}` cannot stand in for `{own}`, which {folder} was made with. Name where that is now."
        )


def _find_data(folder: Path, written: Mapping[str, Any], values: Mapping[str, Any], dataset: str) -> None:
    """Nothing is downloaded for a run that has its data already, nor does another copy of them step in without a word."""
    if "data_path" not in values:
        return  # they came with RecBole
    place = Path(str(values["data_path"])) / dataset
    if any(place.glob(f"{glob.escape(dataset)}.*inter")):
        return
    what = "it holds no interactions" if place.is_dir() else "it does not exist"
    before = written.get("data_path", "RecBole itself")
    raise DatasetError(
        f"The data set `{dataset}` of the run {folder} is not in {place}: {what}. The run was made with the data in {before}. Name the folder "
        f"that has {dataset}/ in it now with --data_path=DIR."
    )


def _find_models(folder: Path, values: Mapping[str, Any], stand_ins: Mapping[str, str]) -> None:
    if "backbone" in stand_ins:
        find_source(values["backbone"])
    if (folder / BACKBONE / ADAPTER).is_file():
        base = find_source(str(folder / BACKBONE), values["backbone"])
        if Path(base.weights).exists():
            check_weights(base)
    if not values.get("ids_only") and is_gone("text_encoder", values.get("text_encoder"), str(values["dataset"])):
        raise ConfigError(
            f"The text encoder of the run {folder} is not in {values['text_encoder']}. Name where it is now with --text_encoder=FOLDER_OR_ID."
        )
