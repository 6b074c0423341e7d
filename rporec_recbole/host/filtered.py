"""Users whom the filters of a run left out of its data: who they are, and what the run knows of their histories.

`user_inter_num_interval` takes users out who did too little to be split into training, validation and test rows. A shop has most of them:
who bought once is a user too, and a model that reads histories can rank for them.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np

from rporec_recbole.data.atomic import read_table
from rporec_recbole.data.clock import CLOCK
from rporec_recbole.data.histories import History

_ALL = "[1,inf)"


def filtered_users(config: Any, dataset: Any) -> tuple[list[History], list[str]]:
    """The users of the .inter file who are none of a data set's, in the order of their names.

    The file is read again as RecBole reads it, without the filters that count: what `val_interval` and `rm_dup_inter` take away stays away,
    and so do items that are not in the catalogue of the run.

    Args:
        config: RecBole's config of the run; `benchmark_filename` knows no filters, so nobody is left out there.
        dataset: the data set of the run.

    Returns:
        those with items that the run knows, as histories; and the names of the others.
    """
    known_users = dataset.field2token_id[dataset.uid_field]
    names = (
        [] if config["benchmark_filename"] is not None else [one for one in _in_file(config) if one not in known_users]
    )
    if not names:
        return [], []
    found = _histories(_unfiltered(config, type(dataset)), dataset, set(names))
    return [found[name] for name in names if name in found], [name for name in names if name not in found]


def _in_file(config: Any) -> list[str]:
    path, column = Path(config["data_path"]) / f"{config['dataset']}.inter", f"{config['USER_ID_FIELD']}:token"
    table = read_table(
        path, config["field_separator"], config["encoding"] or "utf-8", usecols=[column], dtype={column: str}
    )
    return sorted(table[column].dropna().unique())


def _unfiltered(config: Any, kind: Any) -> Any:
    wider = copy.deepcopy(config)
    for key in ("user_inter_num_interval", "item_inter_num_interval"):
        wider[key] = _ALL
    return kind(wider)


def _histories(wide: Any, dataset: Any, names: set[str]) -> dict[str, History]:
    """Name -> what the data set of the run knows of a history, oldest first."""
    uid, iid, rows = dataset.uid_field, dataset.iid_field, wide.inter_feat
    number_of = np.array([dataset.field2token_id[iid].get(token, 0) for token in wide.field2id_token[iid]])
    if wide.time_field in rows:
        rows = rows.sort_values(wide.time_field, kind="stable")
    users, items = wide.id2token(uid, rows[uid].to_numpy()), number_of[rows[iid].to_numpy()]
    wanted = np.isin(users, list(names)) & (items > 0)
    times = None if CLOCK not in rows else wide.clock.times(rows[CLOCK].to_numpy()[wanted])
    users, items = users[wanted], items[wanted]
    order = np.argsort(users, kind="stable")
    starts = np.unique(users[order], return_index=True)[1]
    parts = np.split(order, starts[1:]) if len(order) else []
    return {
        str(users[part[0]]): History(str(users[part[0]]), items[part], None if times is None else times[part])
        for part in parts
    }
