"""What measures beyond accuracy know of a data set, whichever model ran on it: who chose what, and what the `.item` file says."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from rporec_recbole.data.item_texts import item_categories, item_file, item_texts
from rporec_recbole.data.parts import pairs_before
from rporec_recbole.errors import DatasetError, first_line
from rporec_recbole.evaluation.beyond import DEPTH, Known, Tally
from rporec_recbole.evaluation.lists import TopLists, lists_table
from rporec_recbole.host.rules import ks_of
from rporec_recbole.model.encoder import LSAEncoder
from rporec_recbole.settings.properties import data_set_file, layered_properties

_SIZE, _SEED = 64, 0  # of the vectors: one yardstick for every model, whatever encoder it has


def text_fields(config: Any) -> list[str] | None:
    """Columns of item texts, title first: those of a run, or those that RPORec would take on its data set.

    Args:
        config: RecBole's config.
    """
    name = str(config["dataset"])
    own = data_set_file(name, Path(config["data_path"]).parent)
    return config["item_text_fields"] or layered_properties("RPORec", name, own).get("item_text_fields")


def known_of(config: Any, dataset: Any, loaders: Mapping[str, Any], texts: bool = True) -> Known:
    """What is known of items and users where the test split is ranked. Texts and categories that cannot be read are none, and logged.

    Args:
        config: RecBole's config.
        dataset: RecBole's, after its split.
        loaders: split -> RecBole's loader.
        texts: read the `.item` file too.
    """
    users, items = pairs_before(dataset, loaders, "valid")
    counts, people = np.bincount(items, minlength=dataset.item_num), len(np.unique(users))
    if not texts:
        return Known(counts, people)
    tokens = [str(token) for token in dataset.field2id_token[dataset.iid_field]]
    before = pairs_before(dataset, loaders, "test")
    histories = sparse.csr_matrix((np.ones(len(before[0])), before), (dataset.user_num, dataset.item_num))
    return Known(counts, people, _vectors(config, tokens), _categories(config, tokens), histories)


def lists_of(
    config: Any, dataset: Any, loaders: Mapping[str, Any], kept: TopLists | None, ranks: pd.DataFrame
) -> tuple[pd.DataFrame | None, dict[str, float]]:
    """What a run keeps of the lists of its test split: the table of `lists.parquet`, and what is measured of them at each k of `topk`.

    Args:
        config, dataset, loaders: of the run.
        kept: the lists; None where none were kept.
        ranks: of the same lists, as in `ranks.parquet`.
    """
    if kept is None:
        return None, {}
    known = known_of(config, dataset, loaders)
    table = lists_table(kept, *(dataset.field2id_token[field] for field in (dataset.uid_field, dataset.iid_field)))
    beyond: dict[str, float] = {}
    for k in ks_of(config["topk"]):
        if k <= DEPTH:
            tally = Tally(dataset.item_num - 1, k, known)
            tally.add(kept.ids, kept.owners)
            beyond |= tally.values(ranks)
    return table, beyond


def _vectors(config: Any, tokens: Sequence[str]) -> np.ndarray | None:
    wanted = text_fields(config)
    if not wanted or not item_file(config).is_file():
        return None
    with _said("text"):
        texts = [" ".join(parts) for parts in zip(*item_texts(config, wanted, tokens), strict=True)]
        texts[0] = ""
        return LSAEncoder.fit(texts, _SIZE, _SEED).encode(texts)
    return None


def _categories(config: Any, tokens: Sequence[str]) -> Any:
    if not item_file(config).is_file():
        return None
    with _said("categories"):
        found = item_categories(config, tokens)
        names = sorted({name for own in found or () for name in own})
        if found is None or not names:
            return None
        numbers = {name: number for number, name in enumerate(names)}
        rows = np.repeat(np.arange(len(tokens)), [len(own) for own in found])
        columns = [numbers[name] for own in found for name in own]
        shares = np.concatenate([np.full(len(own), 1 / max(1, len(own))) for own in found])
        return sparse.csr_matrix((shares, (rows, columns)), (len(tokens), len(names)))
    return None


@contextlib.contextmanager
def _said(what: str) -> Iterator[None]:
    """A measure that a file spoils is a gap, and no reason to lose a run."""
    try:
        yield
    except (DatasetError, ValueError) as error:
        logging.getLogger().warning(f"Lists are not measured by the items' {what}: {first_line(error)}")
