"""The index of a run's items: made from its item vectors, found again beside its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from rporec_recbole.errors import ConfigError
from rporec_recbole.runs.finished import hash_of_run, load_rporec
from rporec_recbole.serve.index import DESCRIPTION, ItemIndex
from rporec_recbole.serve.index_options import check_options
from rporec_recbole.training.state.checkpoint import HEAD

FOLDER = "index"


def build_index(
    path: str | Path,
    kind: str = "exact",
    options: Mapping[str, Any] | None = None,
    output: str | Path | None = None,
    **places: str | None,
) -> tuple[ItemIndex, Path]:
    """Makes the index of a run's items and writes it.

    Args:
        path: folder of an RPORec run.
        kind: `exact`, `hnsw` or `ivfpq`.
        options: of the kind (`serve.index_options`).
        output: folder; None means `FOLDER` in the run folder.
        places: what moved since, as for `load_run`.

    Returns:
        the index, and its folder.

    Raises:
        ConfigError: kind or options cannot be, the folder holds other files, the run is none of RPORec, or faiss is not installed.
        RunFolderError: there is no finished run, or the index cannot be written.
    """
    check_options(kind, options or {})
    folder = Path(path) / FOLDER if output is None else Path(output)
    there = {one.name for one in folder.iterdir()} if folder.is_dir() else set()
    if others := sorted(name for name in there - {DESCRIPTION} if not name.startswith("items")):
        raise ConfigError(
            f"`--output={folder}` holds other files than an index, such as `{others[0]}`. Name a new folder."
        )
    run = load_rporec(path, "an index", **places)
    if run.model.reasoner is not None:
        run.model.reasoner.store.close()
    with torch.no_grad():
        vectors = run.model.head.item_vectors().cpu().numpy()
    index = ItemIndex.build(vectors, kind, options, hash_of_run(path, [HEAD]))
    index.save(folder)
    return index, folder


def load_index(path: str | Path, folder: str | Path | None = None) -> ItemIndex:
    """The index of a run. It is checked against the run's weights, not against vectors made from them: these differ in their last
    bits from machine to machine.

    Args:
        path: the run folder.
        folder: of the index; None means `FOLDER` in the run folder.

    Raises:
        RunFolderError: there is no index, it is damaged, or was made from another run.
        ConfigError: faiss is not installed.
    """
    return ItemIndex.load(Path(path) / FOLDER if folder is None else folder, hash_of_run(path, [HEAD]))
