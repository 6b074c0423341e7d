"""`rporec recommend`: the evaluator's ranking as a table, and rankings for histories of new users."""

import contextlib
import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

import rporec_recbole
from rporec_recbole.cli import main
from rporec_recbole.data.histories import read_histories
from rporec_recbole.errors import DatasetError, RunFolderError
from rporec_recbole.evaluation.ranking import top_of
from rporec_recbole.outputs import table_file
from rporec_recbole.outputs.recommend import recommend
from rporec_recbole.runs.finished import load_run
from rporec_recbole.runs.run import run
from tests.integration.reasoned import with_texts
from tests.toy import SHORT, TEXT, write_toy

ITEMS = 25


@pytest.fixture(scope="module")
def runs(toy, tmp_path_factory):
    """Name -> folder of a finished run on the toy data set."""
    folder, made = tmp_path_factory.mktemp("runs"), {}
    short = {**SHORT, **TEXT, "data_path": str(toy)}
    plain = {"epochs": 1, "show_progress": False, "data_path": str(toy)}
    for name, model, settings in (
        ("trained", "RPORec", {**short, "stages": ["1a", "1b", "1c"]}),
        ("trunk", "RPORec", {**short, "stages": ["1a"], "hide_seen": True}),
        ("SASRec", "SASRec", plain),
        ("BPR", "BPR", plain),
        ("FPMC", "FPMC", plain),
        ("NeuMF", "NeuMF", {**plain, "hide_seen": True}),
    ):
        made[name] = run(model, "toy", overrides={**settings, "run_dir": str(folder / name)}).run_dir
    made["reasoned"] = with_texts(made["trained"], folder / "reasoned")
    return made


def ranks_of(folder, split="test"):
    return pd.read_parquet(folder / "ranks.parquet").query("split == @split")


@pytest.mark.parametrize(
    ("name", "split", "k"),
    [
        ("reasoned", "test", ITEMS),
        ("reasoned", "valid", 7),
        ("trunk", "test", ITEMS),
        ("SASRec", "test", ITEMS),
        ("BPR", "valid", 100),
        ("NeuMF", "test", 7),
    ],
)
def test_targets_stand_where_the_evaluation_has_them(runs, tmp_path, name, split, k):
    """NeuMF has no `full_sort_predict`: RecBole's trainer asks it pair by pair."""
    ranks = ranks_of(runs[name], split)
    written = recommend(runs[name], tmp_path / "recs.parquet", split=split, top_k=k)
    recs = pd.read_parquet(tmp_path / "recs.parquet")
    assert (written.users, written.rows) == (30, len(recs))
    assert recs["user_id"].nunique() == 30
    both = ranks.merge(recs, on=["user_id", "item_id"], how="left", suffixes=("", "_here"))
    near = both["rank"] <= k
    assert near.any()
    assert (both["rank"][near] == both["rank_here"][near]).all()
    assert both["rank_here"][~near].isna().all()


def test_rows_of_a_user_stand_together_best_first(runs, tmp_path):
    recommend(runs["reasoned"], tmp_path / "recs.parquet", split="test", top_k=10)
    recs = pd.read_parquet(tmp_path / "recs.parquet")
    assert list(recs.columns) == ["user_id", "rank", "item_id", "score", "title"]
    assert recs["score"].dtype == np.float32
    for _, own in recs.groupby((recs["user_id"] != recs["user_id"].shift()).cumsum()):
        assert own["rank"].tolist() == list(range(1, 11))
        assert own["score"].is_monotonic_decreasing
        assert own["item_id"].is_unique


def test_some_users_by_name_or_by_file_get_what_all_get(runs, tmp_path, capsys):
    folder, everyone = str(runs["reasoned"]), tmp_path / "all.parquet"
    assert main(["recommend", folder, f"--output={everyone}", "--top_k=5"]) == 0
    assert "150 recommendations for 30 users are in" in capsys.readouterr().out
    (tmp_path / "users.txt").write_text("u4\nu9\n\n")
    for users in ("u9,u4", str(tmp_path / "users.txt")):
        assert main(["recommend", folder, f"--users={users}", f"--output={tmp_path / 'some.csv'}", "--top_k=5"]) == 0
        some = pd.read_csv(tmp_path / "some.csv", keep_default_na=False)
        full = pd.read_parquet(everyone).query("user_id in ['u4', 'u9']").reset_index(drop=True)
        pd.testing.assert_frame_equal(some, full, check_dtype=False)


def test_hide_seen_of_a_split_as_the_run_does_unless_told(runs, toy, tmp_path):
    past = past_of(toy)
    for name, told, hidden in (("trunk", None, True), ("trunk", False, False), ("SASRec", True, True)):
        recommend(runs[name], tmp_path / "recs.parquet", split="test", top_k=100, hide_seen=told)
        recs = pd.read_parquet(tmp_path / "recs.parquet")
        target = dict(zip(ranks_of(runs[name])["user_id"], ranks_of(runs[name])["item_id"], strict=True))
        for user, own in recs.groupby("user_id"):
            again = set(own["item_id"]) & set(past[user][:-1]) - {target[user]}
            assert bool(again) != hidden
            assert len(own) == ITEMS - (len(set(past[user][:-1]) - {target[user]}) if hidden else 0)


def past_of(toy):
    table = pd.read_csv(toy / "toy" / "toy.inter", sep="\t")
    table.columns = [name.split(":")[0] for name in table.columns]
    return table.sort_values(["user_id", "timestamp"]).groupby("user_id")["item_id"].apply(list).to_dict()


# --- whole profiles ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["trunk", "SASRec"])
def test_a_whole_profile_is_a_new_history_with_the_newest_item(runs, toy, tmp_path, name):
    past, file = past_of(toy), tmp_path / "new.jsonl"
    recommend(runs[name], tmp_path / "all.parquet")
    everyone = pd.read_parquet(tmp_path / "all.parquet")
    users = list(dict.fromkeys(everyone["user_id"]))
    assert sorted(users) == sorted(past)
    lines = [json.dumps({"user": user, "items": past[user]}) for user in users]
    file.write_text("\n".join(lines), encoding="utf-8")
    recommend(runs[name], tmp_path / "new.parquet", histories=file)
    pd.testing.assert_frame_equal(everyone, pd.read_parquet(tmp_path / "new.parquet"))


@pytest.mark.parametrize("name", ["reasoned", "trunk", "SASRec", "FPMC", "BPR", "NeuMF"])
def test_nothing_that_was_had_is_recommended_to_a_whole_profile(runs, toy, tmp_path, name, capsys):
    past = past_of(toy)
    assert main(["recommend", str(runs[name]), f"--output={tmp_path / 'all.csv'}"]) == 0
    recs = pd.read_csv(tmp_path / "all.csv")
    assert recs["user_id"].nunique() == len(past)
    for user, own in recs.groupby("user_id"):
        assert not set(own["item_id"]) & set(past[user])
        assert len(own) == ITEMS - len(set(past[user]))
    told = ["--users=u4,u9", "--hide_seen=False", "--top_k=100"]
    assert main(["recommend", str(runs[name]), "--split=all", *told, f"--output={tmp_path / 'two.csv'}"]) == 0
    assert pd.read_csv(tmp_path / "two.csv").groupby("user_id").size().to_dict() == {"u4": ITEMS, "u9": ITEMS}
    assert main(["recommend", str(runs[name]), "--split=all", "--users=nobody", f"--output={tmp_path / 'x.csv'}"]) == 2
    assert "The run does not know the user `nobody`" in capsys.readouterr().err


def test_a_whole_profile_is_reasoned_about_with_its_ratings(runs, toy, tmp_path):
    recommend(runs["reasoned"], tmp_path / "all.parquet", split="all", users=["u4"])
    table = pd.read_csv(toy / "toy" / "toy.inter", sep="\t")
    table.columns = [name.split(":")[0] for name in table.columns]
    newest = table[table["user_id"] == "u4"].sort_values("timestamp").tail(SHORT["prompt_items"])
    run = load_run(runs["reasoned"])
    ids, lines = run.dataset.field2token_id["item_id"], run.model.catalogue.lines
    prompt = "".join(f"{lines[ids[item]]} | rated {rating}\n" for item, rating in newest[["item_id", "rating"]].values)
    assert (
        run.model.reasoner.template.prompt([ids[item] for item in newest["item_id"]], newest["rating"].tolist())
        == prompt
    )
    assert prompt in {one.prompt for one in run.model.reasoner.store}
    run.model.reasoner.store.close()


# --- a shop -----------------------------------------------------------------------------------------------------------

TITLES = {"i1": '=cmd|"/C calc"!A1', "i2": "one\rline, \u2028another", "i3": "\"quoted\", 'too'", "i4": "+1 <b>"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Runs on the toy data set with hostile titles, one user with a single purchase, and one whose only item nobody else has."""
    data = write_toy(tmp_path_factory.mktemp("shop"))
    with (data / "toy" / "toy.inter").open("a", encoding="utf-8") as file:
        file.write("once\ti7\t5\t880000001\nlost\trare\t5\t880000002\n")
    path = data / "toy" / "toy.item"
    lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    lines = [[line[0], TITLES.get(line[0], line[1]), *line[2:]] for line in lines]
    path.write_text("\n".join("\t".join(line) for line in lines) + "\n", encoding="utf-8", newline="\n")
    plain = {"data_path": str(data), "show_progress": False, "epochs": 1}
    folders = {}
    for model, settings in (("RPORec", {**SHORT, **TEXT, "stages": ["1a"]}), ("SASRec", {}), ("BPR", {}), ("FPMC", {})):
        folders[model] = run(model, "toy", overrides={**settings, **plain, "run_dir": str(data / model)}).run_dir
    return folders


@pytest.mark.parametrize("model", ["RPORec", "SASRec"])
def test_users_whom_a_filter_left_out_are_ranked_from_what_they_have(shop, tmp_path, capsys, model):
    """The filter is the default, `user_inter_num_interval=[4,inf)`."""
    output = tmp_path / "recs.csv"
    assert main(["recommend", str(shop[model]), f"--output={output}", "--top_k=50"]) == 0
    said = capsys.readouterr()
    assert "1 of these users were left out of the training by a filter (user_inter_num_interval=[4,inf))" in said.err
    assert "1 more users stand in toy.inter and get nothing" in said.err
    assert "for 31 users" in said.out
    own = pd.read_csv(output).query("user_id == 'once'")
    assert len(own) == ITEMS - 1
    assert "i7" not in set(own["item_id"])
    alone = tmp_path / "once.csv"
    assert main(["recommend", str(shop[model]), "--users=once", f"--output={alone}", "--top_k=50"]) == 0
    pd.testing.assert_frame_equal(pd.read_csv(alone), own.reset_index(drop=True))
    assert main(["recommend", str(shop[model]), "--users=once,lost", f"--output={alone}"]) == 2
    assert "does not know the user `lost`" in capsys.readouterr().err


def test_a_user_with_one_purchase_that_no_filter_took_is_one_of_the_run(shop, tmp_path):
    data = load_run(shop["BPR"]).config["data_path"]
    plain = {
        "data_path": str(Path(data).parent),
        "show_progress": False,
        "epochs": 1,
        "user_inter_num_interval": "[1,inf)",
    }
    for model in ("SASRec", "BPR"):
        done = run(model, "toy", overrides={**plain, "run_dir": str(tmp_path / model)})
        written = recommend(done.run_dir, tmp_path / "recs.parquet", users=["once"], top_k=50)
        recs = pd.read_parquet(tmp_path / "recs.parquet")
        assert (written.users, written.filtered) == (1, 0)
        assert len(recs) == ITEMS  # `rare` is an item then
        assert "i7" not in set(recs["item_id"])


@pytest.mark.parametrize(
    ("model", "stands_in"), [("RPORec", {"lost"}), ("BPR", {"once", "lost"}), ("FPMC", {"once", "lost"})]
)
def test_the_most_popular_items_stand_in(shop, tmp_path, capsys, model, stands_in):
    """BPR and FPMC know users by what they learned of them."""
    counts = pd.read_csv(Path(load_run(shop[model]).config["data_path"]) / "toy.inter", sep="\t")
    for suffix in (".parquet", ".csv", ".jsonl"):
        output = tmp_path / f"recs{suffix}"
        given = ["recommend", str(shop[model]), "--fallback=popular", f"--output={output}", "--k=3"]
        assert main(given) == 0
        assert f"{len(stands_in)} of these users have no item that the run knows" in capsys.readouterr().err
        read = {".parquet": pd.read_parquet, ".csv": pd.read_csv, ".jsonl": lambda path: pd.read_json(path, lines=True)}
        recs = read[suffix](output)
        assert recs["user_id"].nunique() == 32
        gaps = recs[recs["score"].isna()]
        assert set(gaps["user_id"]) == stands_in
        assert gaps.groupby("user_id")["rank"].apply(list).tolist() == [[1, 2, 3]] * len(stands_in)
    assert "NaN" not in (tmp_path / "recs.jsonl").read_text()
    train = training_counts(counts)
    for _, own in gaps.groupby("user_id"):
        assert train[own["item_id"]].tolist() == sorted(train, reverse=True)[:3]
    assert main([*given, "--users=lost,nobody,u3"]) == 0
    assert "for 3 users" in capsys.readouterr().out
    assert main([*given[:2], given[3], "--users=nobody", "--skip_unknown"]) == 2
    assert "Nothing can be ranked for any of the 1 users" in capsys.readouterr().err


def training_counts(table):
    """Interactions of each item, without the last two of each user of the run."""
    table.columns = [name.split(":")[0] for name in table.columns]
    table = table[~table["user_id"].isin(["once", "lost"])].sort_values(["user_id", "timestamp"], kind="stable")
    left = table.groupby("user_id").cumcount(ascending=False) > 1
    return table[left]["item_id"].value_counts()


def test_titles_are_what_the_file_says_in_every_form(shop, tmp_path):
    for model in ("RPORec", "SASRec"):
        tables = []
        for suffix in (".parquet", ".csv", ".jsonl"):
            output = tmp_path / f"{model}{suffix}"
            recommend(shop[model], output, top_k=50, hide_seen=False)
            if suffix == ".csv":
                with output.open(encoding="utf-8", newline="") as file:
                    tables.append(list(csv.DictReader(file)))
            elif suffix == ".jsonl":
                tables.append([json.loads(line) for line in output.read_text(encoding="utf-8").split("\n")[:-1]])
            else:
                tables.append(pd.read_parquet(output).to_dict("records"))
            assert list(tables[-1][0]) == ["user_id", "rank", "item_id", "score", "title"]
            titles = {row["item_id"]: row["title"] for row in tables[-1]}
            assert {item: titles[item] for item in TITLES} == TITLES
            assert titles["i0"] == '"Quoted start'
            assert len(titles) == ITEMS
        for parquet, text, line in zip(*tables, strict=True):
            assert {**text, "rank": int(text["rank"]), "score": float(text["score"])} == line == parquet


def test_a_run_recommends_from_python_what_the_command_writes(shop, tmp_path):
    loaded = rporec_recbole.load_run(shop["RPORec"])
    before = loaded.config["hide_seen"]
    recommend(shop["RPORec"], tmp_path / "recs.parquet", top_k=10)
    pd.testing.assert_frame_equal(loaded.recommend(), pd.read_parquet(tmp_path / "recs.parquet"), check_dtype=False)
    some = loaded.recommend(users=["u9", "once", "lost"], k=3, fallback="popular", hide_seen=False)
    assert list(some.columns) == ["user_id", "rank", "item_id", "score", "title"]
    assert some["user_id"].tolist() == ["u9"] * 3 + ["once"] * 3 + ["lost"] * 3
    new = loaded.recommend(histories={"anna": ["i3", "i4"], 7: ["i9"]}, k=2)
    assert new["user_id"].tolist() == ["anna", "anna", "7", "7"]
    recommend(shop["RPORec"], tmp_path / "test.parquet", split="test", top_k=10)
    split = loaded.recommend(split="test", hide_seen=before)
    pd.testing.assert_frame_equal(split, pd.read_parquet(tmp_path / "test.parquet"), check_dtype=False)
    assert loaded.config["hide_seen"] == before
    for given, message in (
        ({"users": "u1"}, "must be a list"),
        ({"k": 0}, "at least 1"),
        ({"split": "train"}, "must be one of all, test, valid"),
        ({"users": ["u1"], "histories": {"a": ["i1"]}}, "Give one of"),
        ({"histories": {"a": ["what"]}}, "skip_unknown=True leaves"),
        ({"histories": {"a": "i1"}}, "must be a list of ids"),
        ({"users": ["who"]}, "does not know the user `who`"),
    ):
        with pytest.raises(rporec_recbole.errors.RPORecError, match=message):
            loaded.recommend(**given)


# --- new histories ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "suffix"), [("trunk", ".jsonl"), ("SASRec", ".txt")])
def test_a_new_user_with_the_history_of_an_old_one_gets_the_same(runs, toy, tmp_path, name, suffix):
    old, file = past_of(toy), tmp_path / f"new{suffix}"
    users = list(dict.fromkeys(ranks_of(runs[name])["user_id"]))
    lines = [
        json.dumps({"user": user, "items": old[user][:-1]})
        if suffix == ".jsonl"
        else f"{user}\t{' '.join(old[user][:-1])}"
        for user in users
    ]
    file.write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    recommend(runs[name], tmp_path / "old.parquet", split="test", hide_seen=False)
    recommend(runs[name], tmp_path / "new.parquet", histories=file, hide_seen=False)
    old_recs, new_recs = pd.read_parquet(tmp_path / "old.parquet"), pd.read_parquet(tmp_path / "new.parquet")
    pd.testing.assert_frame_equal(old_recs, new_recs)


def test_new_histories_are_reasoned_about_without_ratings(runs, tmp_path):
    run_dir, file = runs["reasoned"], tmp_path / "new.txt"
    file.write_text("anna\ti3 i4 i5\nbert\ti9\n")
    loaded = load_run(run_dir)
    loaded.model.reasoner.store.close()
    seen = []
    template = type(loaded.model.reasoner.template)
    prompt, before = template.prompt, prompts_with_texts(run_dir)
    template.prompt = lambda self, history, ratings=None: seen.append(prompt(self, history, ratings)) or seen[-1]
    try:
        recommend(run_dir, tmp_path / "recs.jsonl", histories=file, top_k=3)
    finally:
        template.prompt = prompt
    assert "".join(seen).count("\n") == 4
    assert "rated" not in "".join(seen)
    assert prompts_with_texts(run_dir) == before + 2  # written, and kept for the next time
    rows = [json.loads(line) for line in (tmp_path / "recs.jsonl").read_text().splitlines()]
    assert [(row["user_id"], row["rank"]) for row in rows] == [
        (user, rank) for user in ("anna", "bert") for rank in (1, 2, 3)
    ]


def prompts_with_texts(run_dir):
    loaded = load_run(run_dir)
    count = len({one.prompt for one in loaded.model.reasoner.store})  # a malformed text is drawn again
    loaded.model.reasoner.store.close()
    return count


def test_the_newest_items_of_a_long_history_count_and_all_are_hidden(runs, tmp_path):
    newest = [f"i{number}" for number in range(20)]
    (tmp_path / "new.txt").write_text(f"long\ti24 i23 {' '.join(newest)}\nshort\t{' '.join(newest)}\n")
    recommend(runs["trunk"], tmp_path / "recs.csv", histories=tmp_path / "new.txt", hide_seen=False)
    with (tmp_path / "recs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    long, short = ([row["item_id"] for row in rows if row["user_id"] == name] for name in ("long", "short"))
    assert long == short
    assert len(long) == ITEMS
    recommend(runs["trunk"], tmp_path / "recs.csv", histories=tmp_path / "new.txt")
    hidden = pd.read_csv(tmp_path / "recs.csv").groupby("user_id")["item_id"].apply(set)
    assert hidden["long"] == {"i20", "i21", "i22"}
    assert hidden["short"] == {"i20", "i21", "i22", "i23", "i24"}


IDS = {"[PAD]": 0, "i1": 1, "i2": 2}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("h.txt", "a i1 i2\n", "line 1: must read `user<TAB>item item item`"),
        ("h.txt", '{"user": "a", "items": ["i1"]}\n', "JSON lines need a file named .jsonl"),
        ("h.txt", "a\ti1\n\na\ti2\n", "line 3: the user 'a' stands on line 1 already"),
        ("h.txt", "a\t\n", "line 1: the user 'a' has no items"),
        ("h.txt", "a\ti1 i9 [PAD]\n", "2 unknown item(s): 'i9', '[PAD]'"),
        ("h.txt", "".join(f"u{number}\ti9\n" for number in range(9)), "and 4 more"),
        ("h.txt", "", "holds no history"),
        ("h.jsonl", "a\ti1\n", "line 1: is no JSON"),
        ("h.jsonl", '{"user": "a"}\n', 'must read {"user"'),
        ("h.jsonl", '{"user": "a", "items": []}\n', "has no items"),
        ("h.jsonl", '{"user": "a", "items": [1.5]}\n', "neither text nor a whole number"),
        ("h.jsonl", "[" * 100_000 + "\n", "is no JSON"),
    ],
)
def test_histories_that_cannot_be_used(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(DatasetError) as error:
        read_histories(tmp_path / name, IDS)
    assert message in str(error.value)
    assert ("--skip_unknown=True" in str(error.value)) == ("unknown item" in message or "more" in message)


def test_histories_that_cannot_be_read(tmp_path):
    (tmp_path / "h.txt").write_bytes(b"a\t\xff\xfe\n")
    for name, message in (
        ("h.txt", r"is not written in utf-8.*--encoding=NAME"),
        ("nowhere.txt", "Cannot read .*nowhere.txt"),
    ):
        with pytest.raises(DatasetError, match=message):
            read_histories(tmp_path / name, IDS)


def test_only_spaces_and_tabs_end_an_item(tmp_path):
    ids = {"[PAD]": 0, **{f"a{odd}b": number for number, odd in enumerate('\r\x0b\x0c\x1c\x85\xa0\u2028"', start=1)}}
    for name in ("h.txt", "h.jsonl"):
        items = [token for token in ids if token != "[PAD]"]
        line = "u\x85\t" + "  ".join(items) if name == "h.txt" else json.dumps({"user": "u\x85", "items": items})
        (tmp_path / name).write_bytes(f"\ufeff{line}\r\n\r\n".encode())
        (found,) = read_histories(tmp_path / name, ids).found
        assert (found.user, found.items.tolist()) == ("u\x85", list(range(1, 9)))


def test_unknown_items_can_be_left_out(runs, tmp_path, capsys):
    (tmp_path / "h.jsonl").write_text('{"user": "a", "items": ["i1", "what", "i2"]}\n{"user": 7, "items": ["who"]}\n')
    read = read_histories(tmp_path / "h.jsonl", IDS, skip_unknown=True)
    assert [(one.user, one.items.tolist()) for one in read.found] == [("a", [1, 2])]
    assert (read.skipped_items, read.without) == (2, ["7"])
    arguments = [
        "recommend",
        str(runs["trunk"]),
        f"--histories={tmp_path / 'h.jsonl'}",
        f"--output={tmp_path / 'r.csv'}",
    ]
    assert main(arguments) == 2
    assert main([*arguments, "--skip_unknown=True"]) == 0
    assert "left out 2 unknown items and 1 users" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "message"), [("BPR", "knows users by what it learned"), ("FPMC", "reads `user_id`")])
def test_models_that_need_more_than_a_history_say_so(runs, tmp_path, capsys, name, message):
    (tmp_path / "h.txt").write_text("a\ti1\n")
    arguments = ["recommend", str(runs[name]), f"--histories={tmp_path / 'h.txt'}", f"--output={tmp_path / 'r.csv'}"]
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("r.csv*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--users=u1,who,what"], "does not know the users `who`, `what`"),
        (["--users=u1", "--histories=h.txt"], "Give one of"),
        (["--users=,"], "names no user"),
        (["--output=r.xlsx"], "must end in .parquet, .csv or .jsonl"),
        (["--output=nowhere/r.csv"], "does not exist"),
        (["--top_k=0"], "at least 1"),
        (["--split=train"], "must be test, valid or all"),
        (["--histories=h.txt", "--split=valid"], "means nothing beside --histories"),
        (["--hide_seen=maybe"], "must be True or False"),
        (["--top_n=5"], "Did you mean `top_k`"),
        (["--fallback=random"], "must be none or popular"),
    ],
)
def test_mistakes(runs, tmp_path, capsys, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    assert main(["recommend", str(runs["trunk"]), *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


# --- tables -----------------------------------------------------------------------------------------------------------


def test_a_table_appears_complete_or_not_at_all(tmp_path):
    path = tmp_path / "t.parquet"
    path.write_text("the old one")
    with contextlib.suppress(ZeroDivisionError), table_file.table_writer(path, {"n": "int32"}) as append:
        append({"n": np.arange(10)})
        assert path.read_text() == "the old one"
        raise ZeroDivisionError
    assert [one.name for one in tmp_path.iterdir()] == ["t.parquet"]
    assert path.read_text() == "the old one"
    with table_file.table_writer(path, {"n": "int32"}) as append:
        append({"n": np.arange(10)})
    assert pd.read_parquet(path)["n"].tolist() == list(range(10))


def test_small_batches_share_row_groups_and_large_ones_leave_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(table_file, "_ROW_GROUP", 100)
    with table_file.table_writer(tmp_path / "t.parquet", {"n": "int32"}) as append:
        for start in range(0, 1050, 30):
            append({"n": np.arange(start, start + 30)})
    file = pq.ParquetFile(tmp_path / "t.parquet")
    assert file.num_row_groups == 9
    assert max(file.metadata.row_group(group).num_rows for group in range(9)) == 120
    assert file.read()["n"].to_pylist() == list(range(1050))


def test_vectors_leave_memory_by_their_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(table_file, "_ROW_GROUP_BYTES", 100 * 8 * 2)
    vectors = np.arange(1050 * 8, dtype=np.float16).reshape(1050, 8)
    with table_file.table_writer(tmp_path / "t.parquet", {"v": "float16[8]"}) as append:
        for start in range(0, 1050, 30):
            append({"v": vectors[start : start + 30]})
    file = pq.ParquetFile(tmp_path / "t.parquet")
    assert file.num_row_groups == 9
    column = file.read()["v"].combine_chunks()
    np.testing.assert_array_equal(column.flatten().to_numpy().reshape(-1, 8), vectors)


def test_a_table_that_cannot_be_written(tmp_path):
    folder = tmp_path / "gone"
    with pytest.raises(RunFolderError, match="cannot be written"):
        with table_file.table_writer(folder / "t.csv", {"n": "int32"}):
            pass


def test_equal_scores_go_by_item():
    scores = torch.tensor([[-torch.inf, 1.0, 3.0, 1.0, 3.0, 1.0]])
    values, ids = top_of(scores, 5)
    assert ids.tolist() == [[2, 4, 1, 3, 5]]
    assert values.tolist() == [[3.0, 3.0, 1.0, 1.0, 1.0]]
    for k in range(1, 5):  # across the cut too
        assert top_of(scores, k)[1].tolist() == [[2, 4, 1, 3][:k]]
    assert top_of(torch.zeros(2, 5000), 7)[1].tolist() == [list(range(7))] * 2
