"""Statistics of a comparison on hand-made run folders."""

import csv
import io
import json

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from rporec_recbole.errors import RunFolderError
from rporec_recbole.evaluation.comparable import named_runs, read_run
from rporec_recbole.evaluation.compare import compare, groups_of
from rporec_recbole.evaluation.ranks import rank_table
from rporec_recbole.evaluation.significance import effect_size, holm, paired_bootstrap, paired_randomization
from rporec_recbole.evaluation.tables import to_csv, to_json, to_latex, to_markdown, to_terminal

USERS = 60


def write_run(folder, model="A", seed=1, ranks=None, config=None, **facts):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    ranks = rng.integers(1, 30, USERS) if ranks is None else np.asarray(ranks)
    users = [f"u{number}" for number in range(USERS)]
    activity, popularity = np.arange(USERS) % 12 + 1, np.arange(USERS) % 7
    rank_table("test", users, ["i"] * USERS, ranks, activity, popularity).to_parquet(folder / "ranks.parquet")
    told = {
        "model": model,
        "dataset": "d",
        "seed": seed,
        "candidates": 50,
        "hide_seen": False,
        "parameters": 7,
        **facts,
    }
    stages = {"data": {"seconds": 5.0}, "train": {"seconds": 2.0}, "evaluation": {"seconds": 9.0}}
    (folder / "metrics.json").write_text(json.dumps({**told, "stages": stages}), encoding="utf-8")
    shared = {
        "dataset": "d",
        "hide_seen": False,
        "valid_metric": "NDCG@10",
        "eval_args": {"mode": "full"},
        "seed": seed,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump({**shared, **(config or {})}), encoding="utf-8")
    return read_run(folder)


def test_values_differences_and_seeds_by_hand(tmp_path):
    ones, fours = np.ones(USERS), np.full(USERS, 3)
    better = [write_run(tmp_path / f"b{seed}", "better", seed, ones) for seed in (1, 2)]
    worse = [write_run(tmp_path / f"w{seed}", "worse", seed, fours if seed == 1 else ones) for seed in (1, 2)]
    found = compare({"better": better, "worse": worse}, ["ndcg@10", "hit@1"], draws=200)
    first, second = found.entries
    assert first.results["ndcg@10"].mean == (1, 1, 1)
    assert first.results["ndcg@10"].against is None
    assert second.results["ndcg@10"].mean.value == pytest.approx(0.75)  # the mean of 1 / log2(4) and 1
    assert second.results["ndcg@10"].over_seeds == pytest.approx(np.std([0.5, 1], ddof=1))
    against = second.results["ndcg@10"].against
    assert against.difference.value == pytest.approx(-0.25)
    assert (against.wins, against.ties, against.losses) == (0, 0, USERS)
    assert against.p == pytest.approx(1 / 201)
    assert (first.seconds, first.parameters, second.seeds) == (2.0, 7, [1, 2])


def test_holm_is_a_worked_example_and_used_over_models(tmp_path):
    # Holm (1979) on .01, .04, .03: .03, .06, .06
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []
    runs = {name: [write_run(tmp_path / name, name, seed)] for seed, name in enumerate("ABCD", start=1)}
    found = compare(runs, ["hit@10"], reference="B", draws=300)
    against = [one.results["hit@10"].against for one in found.entries if one.name != "B"]
    assert [one.p_holm for one in against] == pytest.approx(holm([one.p for one in against]))


def test_effect_size_is_the_t_statistic_over_root_n():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.2, 1, 90), rng.normal(0, 1, 90)
    assert effect_size(a, b) * np.sqrt(90) == pytest.approx(stats.ttest_rel(a, b).statistic)
    assert effect_size([1.0, 1.0], [1.0, 1.0]) == 0
    assert effect_size([2.0, 2.0], [1.0, 1.0]) == np.inf


def test_statistics_hold_their_rates_without_a_difference_and_find_one():
    """500 comparisons of equal models: uniform p (Kolmogorov-Smirnov), intervals cover zero in 93 to 97 %."""
    rng = np.random.default_rng(3)
    p, covered = [], 0
    for number in range(500):
        a, b = rng.normal(size=(2, 120))
        p.append(paired_randomization(a, b, draws=400, seed=number))
        interval = paired_bootstrap(a, b, draws=500, seed=number)
        covered += interval.low <= 0 <= interval.high
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert 0.93 <= covered / 500 <= 0.97
    a, b = rng.normal(0.4, 1, 500), rng.normal(0, 1, 500)
    assert paired_bootstrap(a, b, draws=500).low > 0
    assert paired_bootstrap(b, a, draws=500).high < 0


def test_groups_split_rows_once_and_keep_cold_targets_apart():
    rows = pd.DataFrame({"user_activity": [1, 2, 3, 40, 50, 60], "item_popularity": [0, 1, 2, 3, 4, 5], "targets": 1})
    found = groups_of(rows)
    users = [mask for name, mask in found.items() if name.startswith("users")]
    targets = [mask for name, mask in found.items() if name.startswith("targets")]
    assert np.array_equal(sum(mask.astype(int) for mask in users), np.ones(6))
    assert np.array_equal(sum(mask.astype(int) for mask in targets), [0, 1, 1, 1, 1, 1])
    assert found["cold targets"].tolist() == [True, False, False, False, False, False]
    assert groups_of(pd.DataFrame({"rank": [1]})) == {}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"candidates": 51}, "50 candidates and .* 51"),
        ({"config": {"hide_seen": True}}, "`hide_seen` is False"),
        ({"config": {"eval_args": {"mode": "uni100"}}}, "`eval_args` is"),
        ({"config": {"valid_metric": "MRR@10"}}, "`valid_metric` is"),
    ],
)
def test_unequal_runs_are_refused_with_the_reason(tmp_path, changed, message):
    runs = {"A": [write_run(tmp_path / "a")], "B": [write_run(tmp_path / "b", "B", **changed)]}
    with pytest.raises(RunFolderError, match=message):
        compare(runs)


def test_other_rows_doubled_seeds_and_missing_folders_are_refused(tmp_path):
    first, other = write_run(tmp_path / "a"), write_run(tmp_path / "b", "B")
    with pytest.raises(RunFolderError, match="other users or targets"):
        compare({"A": [first], "B": [other._replace(rows=other.rows.iloc[1:])]})
    with pytest.raises(RunFolderError, match="two runs of one seed"):
        compare({"A": [first, first]})
    with pytest.raises(RunFolderError, match="Did you mean `A`"):
        compare({"A": [first]}, reference="a")
    with pytest.raises(RunFolderError, match="no finished run"):
        read_run(tmp_path / "nothing")


def test_a_run_without_the_split_says_so(tmp_path):
    folder = write_run(tmp_path / "trial").folder
    with pytest.raises(RunFolderError, match=r"no ranks of the split `valid`, only of \['test'\]: trials of a search"):
        read_run(folder, "valid")


def test_runs_of_one_model_are_told_apart_by_what_differs(tmp_path):
    runs = [
        write_run(
            tmp_path / f"{width}-{seed}",
            "A",
            seed,
            config={"width": width, "gpu_id": str(seed), "start_from": f"stage 1 of {seed}"},
        )
        for width in (8, 16)
        for seed in (1, 2)
    ]
    found = named_runs([*runs, write_run(tmp_path / "other", "B")])
    assert {name: len(its) for name, its in found.items()} == {"A (width=8)": 2, "A (width=16)": 2, "B": 1}


def test_every_form_holds_the_same_numbers(tmp_path):
    runs = {name: [write_run(tmp_path / name, name, seed)] for seed, name in enumerate(["A & B", "C|D"], start=1)}
    found = compare(runs, ["ndcg@10", "mrr@10"], draws=200)
    value = found.entries[1].results["mrr@10"].mean.value
    shown = f"{value:.4f}"
    assert shown in to_terminal(found)
    assert "C\\|D" in to_markdown(found)
    assert r"A \& B" in to_latex(found)
    assert all(shown in text for text in (to_markdown(found), to_latex(found)))
    rows = list(csv.DictReader(io.StringIO(to_csv(found))))
    assert [float(row["value"]) for row in rows if (row["model"], row["metric"]) == ("C|D", "mrr@10")] == [value]
    assert json.loads(to_json(found))["entries"][1]["results"]["mrr@10"]["mean"][0] == value
