"""Users with several targets: ranks, metrics and comparisons are RecBole's, and users are what is counted and drawn again."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from recbole.evaluator import Evaluator
from recbole.evaluator.collector import Collector

from rporec_recbole import load_run, run
from rporec_recbole.errors import RunFolderError
from rporec_recbole.evaluation.comparable import read_run
from rporec_recbole.evaluation.compare import compare
from rporec_recbole.evaluation.ranking import list_ranks
from rporec_recbole.evaluation.ranks import METRICS, rank_table, user_values, with_lists
from rporec_recbole.host.bridge import build_config
from rporec_recbole.host.ranked import RankCollector
from rporec_recbole.runs.controls import FULL, contrasts_of
from tests.toy import SHORT, TEXT

RATIO = {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "TO", "group_by": "user", "mode": "full"}
ALL = {"metrics": ["Recall", "MRR", "NDCG", "Hit", "Precision", "MAP"], "topk": [1, 3, 10]}


class Lists:
    """What a collector asks a data set for."""

    uid_field, iid_field = "user_id", "item_id"

    def __init__(self, users, items):
        self.training_counts = {"user_id": np.zeros(users, int), "item_id": np.zeros(items, int)}

    def id2token(self, field, ids):
        return [f"{field[0]}{one:03}" for one in ids]


@pytest.fixture
def config():
    return build_config("BPR", "ml-100k", overrides=ALL)


def collected(collector, config, scores, rows, items):
    collector.eval_batch_collect(scores.clone(), {"user_id": torch.arange(len(scores))}, rows, items)
    return Evaluator(config).evaluate(collector.get_data_struct())


def test_every_metric_is_the_one_of_recboles_evaluator(config):
    rng = np.random.default_rng(0)
    scores = torch.from_numpy(rng.permuted(np.tile(np.arange(40.0), (50, 1)), axis=1))
    pairs = [(row, item) for row in range(50) for item in rng.choice(40, rng.integers(1, 15), replace=False)]
    rows, items = (torch.tensor(one) for one in zip(*pairs, strict=True))
    mine = RankCollector(config, Lists(50, 40))
    theirs = collected(Collector(config), config, scores, rows, items)
    assert collected(mine, config, scores, rows, items) == pytest.approx(theirs)
    table = with_lists(mine.take("test"))
    assert {f"{name}@{k}" for name in METRICS for k in (1, 3, 10)} == set(theirs)
    for metric, value in theirs.items():
        assert user_values(table, metric)["value"].mean() == pytest.approx(value, abs=1e-12)


def test_ties_count_against_the_model_in_ranks_and_metrics_alike(config):
    scores = torch.zeros(1, 30)
    scores[0, 5] = 1
    found = list_ranks(scores, torch.tensor([0, 0, 0, 0]), torch.tensor([9, 5, 7, 7]))
    assert found.items.tolist() == [5, 7, 9]
    assert found.ranks.tolist() == [1, 29, 30]  # one behind the other
    assert (found.places.tolist(), found.targets.tolist()) == ([1, 2, 3], [3, 3, 3])
    mine = RankCollector(config, Lists(1, 30))
    of_evaluator = collected(mine, config, torch.zeros(1, 30), torch.tensor([0]), torch.tensor([0]))
    assert set(of_evaluator.values()) == {0}
    assert mine.take("test")["rank"].tolist() == [30]


@pytest.fixture(scope="module")
def runs(toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ratio")
    shared = {"data_path": str(toy), "eval_args": RATIO, "show_progress": False, "epochs": 1, **ALL}
    for model in ("BPR", "Pop", "SASRec", "RPORec"):
        own = {**SHORT, **TEXT, "stages": ["1a"]} if model == "RPORec" else {}
        run(model, "toy", overrides={**own, **shared, "run_dir": str(folder / model)})
    return folder


@pytest.mark.parametrize("pair", [("BPR", "Pop"), ("SASRec", "RPORec")])
def test_a_comparison_counts_users_and_has_the_values_of_the_runs(runs, pair):
    metrics = [f"{name}@{k}" for name in METRICS for k in (1, 3, 10)]
    found = compare({name: [read_run(runs / name)] for name in pair}, metrics, draws=50)
    table = pd.read_parquet(runs / pair[0] / "ranks.parquet").query("split == 'test'")
    assert found.users == table["user_id"].nunique() < len(table)
    for entry in found.entries:
        own = json.loads((runs / entry.name / "metrics.json").read_text())["test"]
        for metric in metrics:
            assert entry.results[metric].mean.value == pytest.approx(own[metric], abs=1e-12)
        if entry.name != pair[0]:
            against = entry.results["ndcg@10"].against
            assert against.wins + against.ties + against.losses == found.users
    gap = found.entries[1].results["ndcg@10"].mean.value - found.entries[0].results["ndcg@10"].mean.value
    assert found.entries[1].results["ndcg@10"].against.difference.value == pytest.approx(gap)
    assert sum(count for group, count in found.groups.items() if group.startswith("users")) == found.users


def test_a_loaded_run_has_the_same_table(runs):
    for name in ("BPR", "SASRec"):
        kept = pd.read_parquet(runs / name / "ranks.parquet").query("split == 'test'").reset_index(drop=True)
        pd.testing.assert_frame_equal(load_run(runs / name).evaluate("test")[1], kept)


def test_lists_of_several_targets_are_one_a_user_or_one_a_target(runs):
    for name, one_a_user in (("BPR", True), ("SASRec", False)):
        lists = pd.read_parquet(runs / name / "lists.parquet")
        ranks = pd.read_parquet(runs / name / "ranks.parquet").query("split == 'test'")
        assert ("list" in lists) is not one_a_user
        ranks = ranks.assign(list=ranks[ranks["place"] == 1].groupby("user_id").cumcount() + 1)
        ranks["list"] = ranks["list"].ffill().astype(int)
        both = ranks.merge(
            lists.assign(list=lists.get("list", 1)), on=["user_id", "list", "item_id"], suffixes=("", "_of")
        )
        assert len(both) == (ranks["rank"] <= 20).sum() > 0
        if not one_a_user:  # where a list has several targets, one of them may stand above another
            assert (both["rank"] == both["rank_of"]).all()
        owners = lists[["user_id", "list"] if "list" in lists else ["user_id"]].drop_duplicates()
        assert len(owners) == (ranks["place"] == 1).sum()
        assert json.loads((runs / name / "metrics.json").read_text())["beyond"]["test"]["coverage@10"] > 0


def test_one_list_a_user_is_no_pair_of_one_list_a_target(tmp_path, runs):
    ours = read_run(runs / "BPR")
    theirs = ours._replace(folder=tmp_path, rows=ours.rows.assign(place=1, targets=1))
    with pytest.raises(RunFolderError, match="in one list, the other a list for each"):
        compare({"BPR": [ours], "SASRec": [theirs]})


def test_an_older_table_that_hides_its_lists_is_refused(tmp_path, runs):
    for name in ("metrics.json", "config.yaml"):
        (tmp_path / name).write_bytes((runs / "BPR" / name).read_bytes())
    table = pd.read_parquet(runs / "BPR/ranks.parquet").drop(columns=["place", "targets"])
    table.to_parquet(tmp_path / "ranks.parquet")
    with pytest.raises(RunFolderError, match="an older version wrote it"):
        read_run(tmp_path)


def test_controls_pair_users():
    users, items = ["a", "a", "b"], ["i", "j", "i"]
    tables = [
        rank_table("test", users, items, ranks, 1, 1, [1, 2, 1], [2, 2, 1]).assign(control=name, seed=seed)
        for seed in (1, 2)
        for name, ranks in ((FULL, [1, 2, 1]), ("no CoT", [1, 20, 20]))
    ]
    full, other = contrasts_of(pd.concat(tables))
    assert full.means["ndcg@10"] == pytest.approx(1)
    assert other.means["hit@10"] == pytest.approx(0.5)
    assert other.means["ndcg@10"] == pytest.approx(0.5 / (1 + 1 / np.log2(3)))
    assert other.differences["hit@10"].value == pytest.approx(0.5)
