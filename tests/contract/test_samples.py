"""Sampled evaluation: equal seeds rank equal samples, with the same items left out for every model, and come back the same."""

import json

import numpy as np
import pandas as pd
import pytest

from rporec_recbole import load_run
from rporec_recbole.cli import main
from rporec_recbole.data.samples import Samples
from rporec_recbole.errors import DatasetError, RunFolderError
from rporec_recbole.evaluation.comparable import read_run
from rporec_recbole.evaluation.compare import compare
from rporec_recbole.evaluation.tables import heading
from rporec_recbole.host.data import build_data
from rporec_recbole.runs.run import run
from tests.toy import SHORT, TEXT, toy_config, write_toy

LAST = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user"}
RATIO = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "user"}
MODELS = ("SASRec", "BPR", "RPORec", "Pop")


def drawn(toy, model, split="test", **settings):
    """User -> (targets, what they are ranked beside), by name."""
    config = toy_config(toy, model, **settings)
    dataset, _, valid, test = build_data(config)
    found = {}
    for rows, *_ in {"valid": valid, "test": test}[split]:
        users = dataset.id2token("user_id", rows["user_id"].numpy())
        items = dataset.id2token("item_id", rows["item_id"].numpy())
        labels = rows[config["LABEL_FIELD"]].numpy()
        for user in set(users):
            own = users == user
            found[user] = sorted(items[own & (labels == 1)]), sorted(items[own & (labels == 0)])
    return found, dataset.samples


@pytest.mark.parametrize("mode", ["uni10", "pop10"])
@pytest.mark.parametrize("hide", [True, False])
@pytest.mark.parametrize("split", ["valid", "test"])
def test_every_model_ranks_the_same_samples(toy, mode, hide, split):
    table = pd.read_csv(toy / "toy/toy.inter", sep="\t").sort_values(
        ["user_id:token", "timestamp:float"], kind="stable"
    )
    every = {}
    for model in MODELS:
        every[model] = drawn(toy, model, split, hide_seen=hide, eval_args={**LAST, "mode": mode})
    samples, digests = every["SASRec"]
    assert all(other == (samples, digests) for other in every.values())
    shown = 0
    for user, (targets, items) in samples.items():
        history = table.loc[table["user_id:token"] == user, "item_id:token"]
        seen = set(history if split == "test" else history.iloc[:-1])
        assert len(items) == 10 * len(targets)
        assert not set(targets) & set(items)
        shown += len(seen & set(items))
    assert (shown == 0) == hide


def test_with_ratio_splits_too(toy):
    settings = {"hide_seen": True, "eval_args": {**RATIO, "mode": "uni5"}}
    first, second = (drawn(toy, model, **settings)[0] for model in ("BPR", "Pop"))
    assert first == second


def test_the_seed_decides(toy):
    settings = {"eval_args": {**LAST, "mode": "uni10"}}
    assert drawn(toy, "BPR", seed=1, **settings) == drawn(toy, "BPR", seed=1, **settings)
    assert drawn(toy, "BPR", seed=1, **settings)[0] != drawn(toy, "BPR", seed=2, **settings)[0]


def test_draws_follow_the_weights_and_leave_out_what_is_left_out():
    weights = np.array([0, 1, 5, 0, 3, 1, 2])
    users, items = np.array([1, 1, 2]), np.array([2, 5, 1])
    samples = Samples(weights, 7, "test", (users, items), (users[:1], items[:1]))
    hidden, ranked = samples.draw(1, 2, 60_000, True), samples.draw(1, 2, 60_000, False)
    np.testing.assert_allclose(
        np.bincount(hidden, minlength=7) / 60_000, np.array([0, 1, 0, 0, 3, 0, 2]) / 6, atol=0.01
    )
    np.testing.assert_allclose(
        np.bincount(ranked, minlength=7) / 60_000, np.array([0, 1, 0, 0, 3, 1, 2]) / 7, atol=0.01
    )
    assert samples.draw(1, 2, 20, True).tolist() == samples.draw(1, 2, 20, True).tolist()
    everything = np.arange(1, 7)
    with pytest.raises(DatasetError, match="nothing is left to rank"):
        Samples(weights, 7, "test", (np.ones(6, int), everything), (users, items)).draw(1, 2, 1, True)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    toy = write_toy(tmp_path_factory.mktemp("data"))
    folder = tmp_path_factory.mktemp("sampled")
    shared = {"data_path": str(toy), "show_progress": False, "epochs": 1, "hide_seen": True}
    shared["eval_args"] = {**LAST, "mode": "uni10"}
    for model, seed in (("SASRec", 1), ("BPR", 1), ("BPR", 2), ("Random", 1), ("RPORec", 1)):
        own = {**SHORT, **TEXT, "stages": ["1a"]} if model == "RPORec" else {}
        run(model, "toy", overrides={**own, **shared, "seed": seed, "run_dir": str(folder / f"{model}{seed}")})
    return folder


@pytest.mark.parametrize("name", ["SASRec1", "BPR1", "Random1", "RPORec1"])
def test_a_loaded_run_gives_the_same_number_each_time(runs, name):
    facts, loaded = json.loads((runs / name / "metrics.json").read_text()), load_run(runs / name)
    kept = pd.read_parquet(runs / name / "ranks.parquet")
    assert kept["user_id"].nunique() == 30
    for split in ("test", "valid", "test"):
        metrics, table = loaded.evaluate(split)
        assert metrics == facts[split]
        pd.testing.assert_frame_equal(table, kept[kept["split"] == split].reset_index(drop=True))


def test_only_equal_samples_are_pairs(runs, tmp_path, capsys):
    assert main(["compare", str(runs / "SASRec1"), str(runs / "BPR1"), f"--output={tmp_path}"]) == 0
    shown = capsys.readouterr().out
    assert "samples (`uni10`) of 25 candidates, seen items hidden" in shown
    # Lists of what was drawn are nobody's lists: none are kept or measured, and none from outside can be held against them.
    assert not (runs / "BPR1/lists.parquet").exists()
    assert "beyond" not in json.loads((runs / "BPR1/metrics.json").read_text())
    assert "or they ranked samples. They have gaps beyond accuracy." in shown
    lists = pd.DataFrame({"user_id": ["u1"], "item_id": ["i1"], "rank": [1]})
    lists.to_csv(tmp_path / "lists.csv", index=False)
    assert main(["compare", str(runs / "BPR1"), f"--lists=other:{tmp_path / 'lists.csv'}", f"--output={tmp_path}"]) == 2
    assert "ranked samples of items, a draw for each target" in capsys.readouterr().err
    one, two = read_run(runs / "SASRec1"), read_run(runs / "BPR2")
    with pytest.raises(RunFolderError, match=r"other samples of items than SASRec: .* the seeds are \[2\] and \[1\]"):
        compare({"SASRec": [one], "BPR": [two]})
    facts = {key: value for key, value in one.facts.items() if key != "samples"}
    for name in ("config.yaml", "ranks.parquet"):
        (tmp_path / name).write_bytes((one.folder / name).read_bytes())
    (tmp_path / "metrics.json").write_text(json.dumps(facts))
    with pytest.raises(RunFolderError, match="an older version drew the samples"):
        compare({"SASRec": [one], "old": [read_run(tmp_path)]})
    assert "full" not in heading(compare({"BPR": [two]}, draws=10))


def test_a_user_who_has_everything_is_one_message(tmp_path, capsys):
    rows = [f"u{user}\ti{item}\t{item}" for user in range(6) for item in range(6)]
    (tmp_path / "all").mkdir()
    header = "user_id:token\titem_id:token\ttimestamp:float\n"
    (tmp_path / "all/all.inter").write_text(header + "\n".join(rows) + "\n")
    given = [f"--data_path={tmp_path}", "--dataset=all", "--topk=[2]", "--valid_metric=NDCG@2", "--hide_seen=True"]
    given.append("--eval_args={split: {LS: valid_and_test}, order: TO, group_by: user, mode: uni2}")
    assert main(["--model=SASRec", f"--run_dir={tmp_path / 'run'}", *given]) == 2
    assert "nothing is left to rank beside the target" in capsys.readouterr().err
