"""A comparison with all that lists say: what is measured of them beyond accuracy, and where other systems' lists stand among the runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rporec_recbole.data.digest import check_digest
from rporec_recbole.errors import ConfigError, RPORecError
from rporec_recbole.evaluation.beyond import DEPTH, Known, Tally
from rporec_recbole.evaluation.comparable import Run, refuse_unequal
from rporec_recbole.evaluation.compare import Comparison, compare
from rporec_recbole.evaluation.lists import FILE, as_matrix, read_lists
from rporec_recbole.evaluation.ranks import k_of
from rporec_recbole.host.bridge import build_config
from rporec_recbole.host.data import build_data
from rporec_recbole.host.models import trusted
from rporec_recbole.runs.folder import logging_to
from rporec_recbole.runs.known import known_of
from rporec_recbole.runs.located import located_data
from rporec_recbole.runs.outside import Checked, outside_run, refuse_runs
from rporec_recbole.settings.known import models_by_kind
from rporec_recbole.settings.named_code import names_code


class Data(NamedTuple):
    """The data that some runs were made with.

    Attributes:
        users, items: tokens by number; number 0 is padding.
        known: what measures know of them.
        test: RecBole's loader of the test split, to see what is hidden.
    """

    users: pd.Index
    items: pd.Index
    known: Known
    test: Any


def data_of(runs: Sequence[Run], data_path: str | None = None) -> Data:
    """Reads the data of runs that can be compared, and so have the same.

    Args:
        runs: those of one of them are read: of RPORec, which knows its texts, else of a model that reads no histories, which take RecBole long,
            and of no model of somebody's own if there are others.
        data_path: where they lie now, if they moved.

    Raises:
        RPORecError: they are not there, or have changed since.
    """
    code_of_others = [names_code(run.config.get("model")) for run in runs]
    runs = [run for run, own in zip(runs, code_of_others, strict=True) if not own] or runs
    run = min(runs, key=_cost)
    values = located_data(run.folder, data_path)
    cls = trusted(run.folder, str(values["model"]), None)
    with logging_to(None):
        config = build_config(cls, str(values["dataset"]), overrides=values)
        dataset, train, valid, test = build_data(config)
        check_digest(run.folder, dataset.digest)
        known = known_of(config, dataset, {"train": train, "valid": valid, "test": test})
    users, items = (pd.Index(dataset.field2id_token[one]) for one in (dataset.uid_field, dataset.iid_field))
    return Data(users, items, known, test)


def _cost(run: Run) -> tuple[bool, bool, bool]:
    model = run.facts["model"]
    return model != "RPORec", model not in models_by_kind()["general"], bool(run.config.get("ids_only"))


def seen_items(data: Data) -> pd.MultiIndex:
    """(user, item) that the evaluation hides, as its loader does."""
    users, items = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for rows, hidden, _, _ in data.test:
        if hidden is not None:
            users.append(rows[data.test.dataset.uid_field].numpy()[hidden[0].numpy()])
            items.append(hidden[1].numpy())
    return pd.MultiIndex.from_arrays([data.users[np.concatenate(users)], data.items[np.concatenate(items)]])


def compare_with_lists(
    runs: Mapping[str, Sequence[Run]],
    metrics: Sequence[str],
    reference: str | None = None,
    others: Mapping[str, str] | None = None,
    data_path: str | None = None,
) -> Comparison:
    """Compares runs, measures their lists, and ranks the lists of other systems among them.

    Args:
        runs, metrics, reference: as for `compare`.
        others: name of a system -> file of its lists.
        data_path: where the data of the runs lie now, if they moved.

    Raises:
        ConfigError: a system has the name of a run, or the runs rank what no list of another system can be held against.
        RPORecError: as `compare`, `data_of` (where there are others) and `outside_run`.
        ValueError: a metric is of no known kind.
    """
    refuse_unequal(runs)
    all_runs = [run for its in runs.values() for run in its]
    ks = sorted({k_of(metric) for metric in metrics})
    kept = {str(run.folder): read_lists(run.folder) for run in all_runs}
    for name, path in (others or {}).items():
        refuse_runs(name, all_runs[0])
        if name in runs:
            raise ConfigError(f"`--lists={name}:{path}`: {name} is the name of a run already. Give it another one.")
    data, notes = None, []
    if others or any(table is not None for table in kept.values()):
        try:
            data = data_of(all_runs, data_path)
        except RPORecError as error:
            if others:
                raise
            notes.append(f"Novelty, diversity and calibration are left out, for they need the data: {error}")
    named, tables, checks = dict(runs), dict(kept), list[Checked]()
    seen = seen_items(data) if others and data is not None and all_runs[0].facts["hide_seen"] else None
    for name, path in (others or {}).items():
        assert data is not None
        run, checked, tables[str(path)] = outside_run(name, path, all_runs[0], data.items[1:], seen, max(ks))
        named[name] = [run]
        checks.append(checked)
        notes += checked.said()
    found = compare(named, metrics, reference)
    lacking = [str(run.folder) for run in all_runs if kept[str(run.folder)] is None]
    if lacking:
        notes.append(
            f"No lists were kept in {', '.join(lacking)}: an older version made these runs, or they ranked samples. They have gaps beyond accuracy."
        )
    if too_deep := [k for k in ks if k > DEPTH]:
        notes.append(
            f"Beyond accuracy nothing is measured at k={', '.join(map(str, too_deep))}: {FILE} keeps {DEPTH} items a list."
        )
    entries = []
    for entry in found.entries:
        values = [
            _beyond(run, tables[str(run.folder)], [k for k in ks if k <= DEPTH], data) for run in named[entry.name]
        ]
        entries.append(dataclasses.replace(entry, beyond=_over_seeds([one for one in values if one is not None])))
    return dataclasses.replace(found, entries=entries, notes=notes, lists=[dataclasses.asdict(one) for one in checks])


def _beyond(run: Run, table: pd.DataFrame | None, ks: Sequence[int], data: Data | None) -> dict[str, float] | None:
    """What can be measured of the lists of one run; None where it has none."""
    if table is None:
        return None
    users = pd.Index(["", *table["user_id"].unique()]) if data is None else data.users
    items = pd.Index(["", *table["item_id"].unique()]) if data is None else data.items
    ids, owners = np.zeros((0, 1), dtype=np.int64), np.zeros(0, dtype=np.int64)
    if len(table):
        owners, ids = as_matrix(table[table["rank"] <= DEPTH], users, items)
    found: dict[str, float] = {}
    for k in ks:
        tally = Tally(run.facts["candidates"], k, None if data is None else data.known)
        tally.add(ids, owners)
        found |= tally.values(run.rows)
    return found


def _over_seeds(runs: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float | None]]:
    """Name -> mean over seeds and its standard deviation; None of one seed. What a seed lacks is a gap."""
    names = [name for name in runs[0] if all(name in one for one in runs)] if runs else []
    values = {name: np.array([one[name] for one in runs]) for name in names}
    return {name: (float(own.mean()), float(own.std(ddof=1)) if len(own) > 1 else None) for name, own in values.items()}
