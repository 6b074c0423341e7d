"""The cold start benchmark: what it hides stays hidden, what it asks comes from the whole data."""

import importlib
from pathlib import Path

import pandas as pd
import pytest
import torch

from rporec_recbole.host.data import build_data
from tests.toy import toy_config

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def cold_start(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))  # as when it is run as a script: it finds its neighbours
    return importlib.import_module("cold_start")


def test_hidden_items_are_only_asked(cold_start, toy, tmp_path):
    rows = cold_start.hide(toy_config(toy), tmp_path, 0.2, 2, 7)
    assert len(rows.hidden) == 5
    assert not set(rows.hidden) & set(rows.visible)
    whole = pd.read_csv(toy / "toy/toy.inter", sep="\t").sort_values("timestamp:float", kind="stable")
    copy = pd.read_csv(tmp_path / "toy/toy.inter", sep="\t")
    assert len(copy) == (~whole["item_id:token"].isin(rows.hidden)).sum()
    assert not copy["item_id:token"].isin(rows.hidden).any()
    texts = (tmp_path / "toy/toy.item").read_text()
    assert all(f"\n{item}\t" in texts for item in rows.hidden)
    assert "never" not in texts
    for user, history, target in zip(rows.users, rows.histories, rows.targets, strict=True):
        own = whole.loc[whole["user_id:token"] == user, "item_id:token"].tolist()
        visible_before = [
            [item for item in own[:step] if item not in rows.hidden] for step, item in enumerate(own) if item == target
        ]
        assert history in visible_before
    assert max(rows.users.count(user) for user in rows.users) == 2

    config = toy_config(toy, data_path=str(tmp_path), item_inter_num_interval="[0,inf)")
    dataset, train, *_ = build_data(config)
    assert set(rows.hidden) | set(rows.visible) == set(dataset.field2id_token["item_id"][1:])
    cold = dataset.token2id("item_id", rows.hidden)
    assert (train.dataset.first_rungs()[cold] > 3).all()


def test_ranks_among_all_and_among_hidden(cold_start):
    rows = cold_start.ColdRows(["u"], [["a"]], ["d"], ["c", "d"], {"a": 2, "b": 1})
    id_of = {"": 0, "a": 1, "b": 2, "c": 3, "d": 4}
    found = cold_start.ranks(rows, torch.tensor([[-torch.inf, 3.0, 2.0, 0.5, 1.0]]), id_of)
    assert found[["rank", "cold_rank"]].iloc[0].tolist() == [3, 1]
    popular = cold_start.baseline_ranks("popularity", rows, 0)
    assert popular[["rank", "cold_rank"]].iloc[0].tolist() == [4, 2]
