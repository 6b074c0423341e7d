"""The digest of a data set as it was loaded: a run's weights know users, items and texts by their numbers in it.

RecBole numbers everything in the order of the file, so even rows in another order make other numbers.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rporec_recbole.errors import RunFolderError

KEY, WORDS = "data", "words"  # of `metrics.json`


def digest_of(dataset: Any) -> str:
    """SHA-256 over names and columns of everything that RecBole loaded.

    Args:
        dataset: RecBole's data set before it is split.
    """
    digest = hashlib.sha256()
    for field in sorted(dataset.field2id_token):
        names = "\n".join(map(str, dataset.field2id_token[field]))
        digest.update(f"{field}\n{names}\n".encode("utf-8", "surrogatepass"))
    for table in sorted({*dataset.feat_name_list, "kg_feat"}):
        feature = getattr(dataset, table, None)
        if isinstance(feature, pd.DataFrame):
            for name in sorted(feature.columns):
                values, lengths = feature[name].to_numpy(), np.empty(0, dtype=np.int64)
                if values.dtype == object:  # sequences: their borders count too
                    rows = [np.ravel(one) for one in values]
                    values, lengths = np.concatenate(rows), np.array([len(row) for row in rows])
                digest.update(f"{table} {name} {len(values)} {len(lengths)}\n".encode())
                digest.update(lengths.tobytes())
                digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def digest_of_words(dataset: Any, catalogue: Any) -> str:
    """SHA-256 over what prompts are made of, letter by letter: where the files have gaps, RecBole's columns have numbers.

    Args:
        dataset: an `RPORecDataset`, split.
        catalogue: its item texts; None where none are read.
    """
    digest = hashlib.sha256("\n".join(catalogue.lines if catalogue else ()).encode("utf-8", "surrogatepass"))
    if dataset.ratings is not None:
        digest.update(repr(dataset.ratings.values).encode("utf-8", "surrogatepass"))
        digest.update(np.ascontiguousarray(dataset.timeline[dataset.ratings.field].numpy()).tobytes())
    return digest.hexdigest()


def check_digest(run: Path, digest: str, key: str = KEY) -> None:
    """Refuses data that are not those of a finished run. Runs of versions that kept no digest pass.

    Args:
        run: its folder.
        digest: of the data as they are now.
        key: which digest of the run's `metrics.json` it must be.

    Raises:
        RunFolderError: they have changed since, or the run's `metrics.json` is damaged.
    """
    path = run / "metrics.json"
    try:
        kept = json.loads(path.read_text(encoding="utf-8")).get(key, digest)
    except (OSError, ValueError, AttributeError) as error:
        raise RunFolderError(f"{path} cannot be read ({error}). Name the folder of a finished run.") from error
    if kept != digest:
        raise RunFolderError(
            f"The data files are not those that {run} was made with: rows, their order or texts have changed since, and the run knows users "
            "and items by their numbers. Bring the old files back, name the folder that has them with --data_path=DIR, or train again."
        )
