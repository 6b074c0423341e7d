"""Lists of another system: how they are ranked, what is counted, what is refused."""

import numpy as np
import pandas as pd
import pytest

from rporec_recbole.errors import ConfigError, DatasetError
from rporec_recbole.evaluation.comparable import Run
from rporec_recbole.evaluation.ranks import rank_table, with_lists
from rporec_recbole.runs.outside import BEYOND, outside_run

CANDIDATES = pd.Index(["a", "b", "c", "d", "e"])
FACTS = {"dataset": "d", "candidates": 5, "hide_seen": True, "model": "A", "seed": 1}


@pytest.fixture
def like(tmp_path):
    """Users u, v and w with the targets a, b and c."""
    return run_of(tmp_path, ["u", "v", "w"], ["a", "b", "c"])


def run_of(folder, users, targets, places=1, counts=1):
    rows = rank_table("test", users, targets, 1, 3, 4, places, counts)
    rows = with_lists(rows.drop(columns="split").set_index(["user_id", "item_id"]).sort_index())
    return Run(folder, FACTS, {"eval_args": {"mode": "full"}}, rows, None)


def ranked(like, tmp_path, table, seen=None, deepest=3, name="lists.csv"):
    path = tmp_path / name
    if isinstance(table, pd.DataFrame):
        table.to_csv(path, index=False) if path.suffix == ".csv" else table.to_parquet(path)
    else:
        path.write_text(table, encoding="utf-8")
    run, checked, lists = outside_run("theirs", path, like, CANDIDATES, seen, deepest)
    assert run.rows.index.equals(like.rows.index)
    return run.rows["rank"].droplevel("item_id").to_dict(), checked, lists


def lists_of(**lists):
    rows = [(user, item, score) for user, items in lists.items() for item, score in items]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "score"])


FULL = lists_of(
    u=[("b", 1.5), ("a", 2.5), ("c", 0.5)], v=[("a", 3), ("b", 2), ("c", 1)], w=[("a", 3), ("b", 2), ("c", 1)]
)


@pytest.mark.parametrize("name", ["lists.csv", "lists.parquet"])
def test_whole_lists_by_score(like, tmp_path, name):
    ranks, checked, lists = ranked(like, tmp_path, FULL, name=name)
    assert ranks == {"u": 1, "v": 2, "w": 3}
    assert (checked.lists, checked.rows, checked.deepest, checked.shortest) == (3, 9, 3, 3)
    assert len(checked.said()) == 1  # nothing is wrong
    assert lists[lists["user_id"] == "u"]["item_id"].tolist() == ["a", "b", "c"]


def test_ranks_do_as_well_and_may_stand_in_any_order(like, tmp_path):
    table = FULL.assign(rank=FULL.groupby("user_id")["score"].rank(ascending=False))
    shuffled = table.sample(frac=1, random_state=0)
    for columns in (["user_id", "item_id", "rank"], ["user_id", "item_id", "rank", "score"]):
        assert ranked(like, tmp_path, shuffled[columns])[0] == {"u": 1, "v": 2, "w": 3}
    named = shuffled.rename(columns={"user_id": "user", "item_id": "item"}).drop(columns="score")
    assert ranked(like, tmp_path, named)[0] == {"u": 1, "v": 2, "w": 3}


def test_ties_count_against_the_system(like, tmp_path):
    tied = lists_of(u=[("a", 1), ("b", 1), ("c", 1)], v=[("b", 2), ("a", 1), ("c", 1)], w=[("c", 1)])
    ranks, checked, _ = ranked(like, tmp_path, tied)
    assert ranks == {"u": 3, "v": 1, "w": 1}
    assert (checked.lists_with_ties, checked.tied_targets, checked.short_lists, checked.shortest) == (2, 1, 1, 1)
    said = " ".join(checked.said())
    assert "1 lists are shorter than 3 (the shortest has 1)" in said
    assert "2 lists have ties" in said


def test_missing_and_unknown_users_and_targets_that_stand_nowhere(like, tmp_path):
    ranks, checked, _ = ranked(like, tmp_path, lists_of(u=[("a", 1)], v=[("c", 1)], x=[("a", 1)], y=[("a", 1)]))
    assert ranks == {"u": 1, "v": BEYOND, "w": BEYOND}
    assert (checked.missing_users, checked.unknown_users, checked.lists) == (1, 2, 2)
    said = " ".join(checked.said())
    assert "1 users have no list: their targets count as not found (0)." in said
    assert "2 users of the file were ranked by no run: left out." in said


def test_what_is_no_candidate_or_seen_is_taken_out_and_others_move_up(like, tmp_path):
    table = lists_of(u=[("z", 9), ("d", 8), ("a", 7)], v=[("a", 3), ("b", 2)], w=[("d", 2)])
    seen = pd.MultiIndex.from_tuples([("u", "d"), ("w", "d"), ("v", "e")])
    ranks, checked, lists = ranked(like, tmp_path, table, seen)
    assert ranks == {"u": 1, "v": 2, "w": BEYOND}
    assert (checked.outside_candidates, checked.seen_items, checked.missing_users) == (1, 2, 1)
    assert lists.values.tolist() == [["u", "a", 1], ["v", "a", 1], ["v", "b", 2]]
    assert ranked(like, tmp_path, table)[0]["u"] == 2  # seen items are ranked too


def test_several_targets_of_one_list(tmp_path):
    like = run_of(tmp_path, ["u", "u", "u", "v"], ["a", "b", "e", "c"], [1, 2, 3, 1], [3, 3, 3, 1])
    table = lists_of(u=[("c", 9), ("a", 5), ("b", 5), ("d", 5)], v=[("c", 1)])
    run, _, _ = outside_run("theirs", written(tmp_path, table), like, CANDIDATES, None, 3)
    found = run.rows.loc["u"]
    assert sorted(found["rank"]) == [3, 4, BEYOND]  # the two tie with d, and stand last, one behind the other
    assert found.sort_values("rank")["place"].tolist() == [1, 2, 3]


def written(folder, table):
    table.to_parquet(folder / "theirs.parquet")
    return folder / "theirs.parquet"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user_id,item_id\nu,a\n", "neither `score` .* nor `rank`"),
        ("who,item_id,score\nu,a,1\n", "no `user_id`"),
        ("user_id,what,score\nu,a,1\n", "no `item_id`"),
        ("user_id,item_id,score\nu,a,1\nu,a,2\nv,a,2\n", "1 rows whose item stands .* such as a of user u"),
        ("user_id,item_id,score\nu,a,\nv,a,much\nv,b,1\n", "2 rows have no number as score, such as `nothing`, `much`"),
        ("user_id,item_id,score\nu,a,inf\nv,b,1\n", "1 rows have no number as score"),
        ("user_id,item_id,rank\n,a,1\nu,b,2\n", "1 rows have no user_id"),
        (
            "user_id,item_id,rank,score\nu,a,1,1\nu,b,2,5\n",
            "rank and score contradict each other for 1 users, such as u",
        ),
        ("user_id,item_id,score\n1,a,1\n2,b,1\n", "None of the 2 users of .* has `1`, `2`, the run `u`, `v`, `w`"),
        ("user_id,item_id,score\nu,1,1\nv,2,1\nw,a,1\n", "67% of the items in .* are no candidates"),
        ("user_id,item_id,score\n", "no rows|is empty"),
    ],
)
def test_what_would_make_another_number_is_refused(like, tmp_path, text, message):
    with pytest.raises(DatasetError, match=message):
        ranked(like, tmp_path, text)


def test_a_file_that_is_not_there_or_no_table(like, tmp_path):
    with pytest.raises(DatasetError, match="There is no file"):
        outside_run("theirs", tmp_path / "gone.parquet", like, CANDIDATES, None, 3)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DatasetError, match="cannot be read as Parquet"):
        outside_run("theirs", tmp_path / "broken.parquet", like, CANDIDATES, None, 3)


def test_runs_that_no_list_can_be_held_against(like, tmp_path):
    path = written(tmp_path, FULL)
    with pytest.raises(ConfigError, match="ranked samples of items"):
        outside_run("theirs", path, like._replace(samples="digest"), CANDIDATES, None, 3)
    sequential = run_of(tmp_path, ["u", "u"], ["a", "b"])
    with pytest.raises(ConfigError, match="several lists of a user, one for each target"):
        outside_run("theirs", path, sequential, CANDIDATES, None, 3)


def test_numbers_are_read_in_full(like, tmp_path):
    close = np.array([1.0, np.nextafter(1, 2)])
    ranks, checked, _ = ranked(like, tmp_path, lists_of(u=[("b", close[0]), ("a", close[1])], v=[("b", 1e-300)]))
    assert ranks["u"] == 1
    assert checked.lists_with_ties == 0
