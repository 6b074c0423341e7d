"""Which data sets can be named: those in a folder, ml-100k, which RecBole brings, and those that RecBole downloads."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from rporec_recbole.errors import DatasetError, did_you_mean
from rporec_recbole.settings.known import recbole_dir
from rporec_recbole.settings.places import settled
from rporec_recbole.settings.properties import read_yaml

BUNDLED = "ml-100k"


def in_folder(parent: str | Path) -> list[str]:
    """Names of the data sets in a parent folder: NAME for each NAME/NAME.inter, or parts of it, there."""
    parent = Path(parent)
    folders = sorted(parent.iterdir()) if parent.is_dir() else []
    return [folder.name for folder in folders if any(folder.glob(f"{folder.name}*.inter"))]


@cache
def downloaded() -> tuple[str, ...]:
    """Names that RecBole knows an address for; it needs a network, and asks nobody before it downloads."""
    return tuple(read_yaml(recbole_dir() / "properties/dataset/url.yaml"))


def dataset_names() -> list[str]:
    """Names that can be given as they are, in the working folder of now."""
    return sorted({BUNDLED, *in_folder("dataset")})


def check_dataset(dataset: str, given: Mapping[str, Any]) -> None:
    """Refuses a data set that is not there.

    Args:
        dataset: its name.
        given: settings of the user's; `data_path`, and whether the files have other names.

    Raises:
        DatasetError: with the likely name.
    """
    if dataset == BUNDLED or given.get("benchmark_filename") is not None:
        return
    folder = Path(str(settled(given, dataset).get("data_path") or "dataset")) / dataset
    if not (folder / f"{dataset}.inter").is_file() and not (not folder.exists() and dataset in downloaded()):
        raise missing(dataset, folder, [f"{dataset}.inter"])


def missing(dataset: str, folder: Path, files: list[str], asked: str = "") -> DatasetError:
    """The message where files of a data set are not there.

    Args:
        dataset: its name.
        folder: where it should be.
        files: that are gone.
        asked: the sentence that says who asks for them.
    """
    hint = "" if folder.exists() else did_you_mean(dataset, [BUNDLED, *in_folder(folder.parent), *downloaded()])
    return DatasetError(
        f"The data set `{dataset}` is not there: {folder / files[0]} does not exist.{hint}{asked} Put {files[0]} (and {dataset}.item) into "
        f"{folder}, or name the parent folder with --data_path=DIR. `{BUNDLED}` needs no files; a table of your own becomes a data set with `rporec import FILE`."
    )
