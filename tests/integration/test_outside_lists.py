"""A split that leaves, lists that come back, and what runs and comparisons say of lists; through the entry as a user would."""

import hashlib
import json
import shutil

import numpy as np
import pandas as pd
import pytest

from rporec_recbole import load_run, run
from rporec_recbole.cli import main
from rporec_recbole.data.parts import pairs_before
from rporec_recbole.evaluation.beyond import DEPTH
from rporec_recbole.runs.finished import add_test
from tests.toy import SHORT, TEXT

MEASURES = ("coverage", "gini", "novelty", "diversity", "debiased_recall", "calibration_kl")
TRUNK = {**SHORT, **TEXT, "stages": ["1a"]}
ONE = '--metrics=["ndcg@10"]'


@pytest.fixture(scope="module")
def runs(toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lists")
    shared = {"data_path": str(toy), "hide_seen": True, "show_progress": False, "epochs": 1}
    run("RPORec", "toy", overrides={**TRUNK, **shared, "run_dir": str(folder / "RPORec")})
    run("BPR", "toy", overrides={**shared, "run_dir": str(folder / "BPR")}, test=False)
    add_test(folder / "BPR")  # as a search does for the trial that it chose
    return folder


@pytest.fixture(scope="module")
def split(toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("split") / "toy"
    assert main(["split", "toy", f"--data_path={toy}", f"--output={folder}", "--hide_seen=True"]) == 0
    return folder


def table_of(toy):
    table = pd.read_csv(toy / "toy/toy.inter", sep="\t").rename(columns=lambda name: name.split(":")[0])
    return table.sort_values(["user_id", "timestamp"], kind="stable").reset_index(drop=True)


def compared(folder, *arguments):
    """The content of `comparison.json`."""
    assert main(["compare", *map(str, arguments), f"--output={folder}"]) == 0
    return json.loads((folder / "comparison.json").read_text(encoding="utf-8"))


# --- lists of runs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["RPORec", "BPR"])
def test_lists_are_those_of_the_ranks_and_of_recommend(runs, name):
    lists = pd.read_parquet(runs / name / "lists.parquet")
    assert list(lists.columns) == ["user_id", "rank", "item_id", "score"]
    ranks = pd.read_parquet(runs / name / "ranks.parquet").query("split == 'test'")
    assert set(lists["user_id"]) == set(ranks["user_id"])
    both = ranks.merge(lists, on=["user_id", "item_id"], how="left", suffixes=("", "_in_list"))
    near = both[both["rank"] <= DEPTH]
    assert (near["rank_in_list"] == near["rank"]).all()  # scores of these models do not tie
    assert both.loc[both["rank"] > DEPTH, "rank_in_list"].isna().all()
    loaded = load_run(runs / name)
    again = loaded.recommend(split="test", k=DEPTH, hide_seen=True)[list(lists.columns)]
    order = ["user_id", "rank"]
    pd.testing.assert_frame_equal(
        lists.sort_values(order, ignore_index=True),
        again.sort_values(order, ignore_index=True),
        check_dtype=False,
        check_exact=True,
    )
    seen = set(zip(*_names(loaded, pairs_before(loaded.dataset, loaded.loaders, "test")), strict=True))
    targets = set(zip(ranks["user_id"], ranks["item_id"], strict=True))
    assert not (set(zip(lists["user_id"], lists["item_id"], strict=True)) & seen) - targets


def _names(loaded, pairs):
    fields = loaded.dataset.uid_field, loaded.dataset.iid_field
    return [loaded.dataset.id2token(field, own) for field, own in zip(fields, pairs, strict=True)]


def test_a_comparison_measures_the_lists_as_the_runs_did(runs, tmp_path, capsys):
    found = compared(tmp_path, runs / "RPORec", runs / "BPR", '--metrics=["ndcg@10","hit@5"]')
    shown = capsys.readouterr().out
    assert "beyond accuracy, the best 10" in shown
    assert found["notes"] == []
    for entry in found["entries"]:
        metrics = json.loads((runs / entry["name"] / "metrics.json").read_text(encoding="utf-8"))
        own = metrics["beyond"]["test"]
        assert set(entry["beyond"]) == {f"{name}@{k}" for name in MEASURES for k in (5, 10)}
        common = set(own) & set(entry["beyond"])
        assert {name.partition("@")[0] for name in common} >= set(MEASURES) - {"diversity"}
        assert {name: entry["beyond"][name][0] for name in common} == pytest.approx(
            {name: own[name] for name in common}
        )
        lists = pd.read_parquet(runs / entry["name"] / "lists.parquet").query("rank <= 10")
        assert own["coverage@10"] == pytest.approx(lists["item_id"].nunique() / metrics["candidates"])
    csv = pd.read_csv(tmp_path / "comparison.csv")
    assert set(csv["metric"]) == {"ndcg@10", "hit@5", *(f"{name}@{k}" for name in MEASURES for k in (5, 10))}


def test_measures_beside_plain_pandas(runs, toy, split):
    """From the files alone: novelty of what the training part has, calibration to the genres of training and validation."""
    parts = {name: pd.read_parquet(split / f"{name}.parquet") for name in ("train", "valid")}
    choosers = parts["train"].groupby("item_id")["user_id"].nunique()
    users = parts["train"]["user_id"].nunique()
    items = pd.read_csv(toy / "toy/toy.item", sep="\t", quoting=3).set_index("item_id:token")
    genres = {item: text.split() for item, text in items["genre:token_seq"].items()}
    lists = pd.read_parquet(runs / "RPORec/lists.parquet").query("rank <= 10")
    bits = lists["item_id"].map(lambda item: np.log2(users / max(1, choosers.get(item, 0))))
    own = json.loads((runs / "RPORec/metrics.json").read_text(encoding="utf-8"))["beyond"]["test"]
    assert own["novelty@10"] == pytest.approx(bits.groupby(lists["user_id"]).mean().mean())
    histories, gaps = pd.concat(parts.values()).drop_duplicates(["user_id", "item_id"]), []
    for user, shown in lists.groupby("user_id"):
        p, q = (mix(genres, its) for its in (histories[histories["user_id"] == user]["item_id"], shown["item_id"]))
        gaps.append(sum(p[g] * np.log(p[g] / (0.99 * q.get(g, 0) + 0.01 * p[g])) for g in p))
    assert own["calibration_kl@10"] == pytest.approx(np.mean(gaps))


def mix(genres, items):
    found = {}
    for item in items:
        for genre in genres[item]:
            found[genre] = found.get(genre, 0) + 1 / len(genres[item]) / len(items)
    return found


def test_an_older_run_has_gaps_and_data_that_moved_are_said(runs, toy, tmp_path, capsys):
    old = shutil.copytree(runs / "BPR", tmp_path / "old")
    (old / "lists.parquet").unlink()
    found = compared(tmp_path / "one", runs / "RPORec", old, ONE)
    assert found["entries"][1]["beyond"] == {}
    assert f"No lists were kept in {old}" in capsys.readouterr().out
    moved = shutil.copytree(toy, tmp_path / "moved")
    for name in ("RPORec", "BPR"):
        shutil.copytree(runs / name, tmp_path / name)
        config = (tmp_path / name / "config.yaml").read_text(encoding="utf-8")
        (tmp_path / name / "config.yaml").write_text(config.replace(str(toy), str(tmp_path / "gone")), encoding="utf-8")
    folders = tmp_path / "RPORec", tmp_path / "BPR"
    found = compared(tmp_path / "three", ONE, *folders)
    assert set(found["entries"][0]["beyond"]) == {"coverage@10", "gini@10", "debiased_recall@10"}
    assert "left out, for they need the data" in found["notes"][0]
    assert len(compared(tmp_path / "four", ONE, *folders, f"--data_path={moved}")["entries"][0]["beyond"]) == len(
        MEASURES
    )
    (moved / "toy/toy.inter").write_text((moved / "toy/toy.inter").read_text() + "u0\ti1\t3\t999999999\n")
    assert "have changed since" in compared(tmp_path / "five", ONE, *folders, f"--data_path={moved}")["notes"][0]


def test_recommend_says_what_the_lists_are_like(runs, tmp_path, capsys):
    assert main(["recommend", str(runs / "BPR"), "--split=test", f"--output={tmp_path / 'recs.csv'}"]) == 0
    shown = capsys.readouterr().out
    own = json.loads((runs / "BPR/metrics.json").read_text(encoding="utf-8"))["beyond"]["test"]
    assert ", ".join(f"{name}@10 {own[f'{name}@10']:.4f}" for name in ("coverage", "gini", "novelty")) in shown


# --- lists of another system ------------------------------------------------------------------------------------------


def test_a_runs_own_lists_come_back_with_its_own_numbers(runs, tmp_path):
    lists = pd.read_parquet(runs / "BPR/lists.parquet")
    lists.drop(columns="rank").to_csv(tmp_path / "scores.csv", index=False)
    files = f"--lists=again:{runs / 'BPR/lists.parquet'}", f"--lists=scores:{tmp_path / 'scores.csv'}"
    found = compared(
        tmp_path, runs / "BPR", runs / "RPORec", *files, "--reference=BPR", '--metrics=["ndcg@10","mrr@20"]'
    )
    own, _, *theirs = found["entries"]
    assert [one["name"] for one in theirs] == ["again", "scores"]
    for one in theirs:
        for metric, result in one["results"].items():
            assert result["mean"] == own["results"][metric]["mean"]
            assert result["against"]["ties"] == found["users"]
        assert {name: value for name, (value, _) in one["beyond"].items()} == pytest.approx(
            {name: value for name, (value, _) in own["beyond"].items()}
        )
        assert (one["seeds"], one["parameters"], one["seconds"]) == ([], None, None)
    assert [one["name"] for one in found["lists"]] == ["again", "scores"]
    assert found["lists"][0]["missing_users"] == found["lists"][0]["seen_items"] == 0
    # Shorter than 20 are those of users who have seen most of the 25 items, and they hold all that is left.
    assert found["lists"][0]["shortest"] < 20
    assert found["lists"][0]["short_lists"] == 0


def test_what_is_wrong_with_lists_is_counted_in_every_file(runs, split, tmp_path, capsys):
    lists = pd.read_parquet(runs / "BPR/lists.parquet").drop(columns="score")
    users = lists["user_id"].unique()
    train = pd.read_parquet(split / "train.parquet")
    target = pd.read_parquet(split / "test.parquet").set_index("user_id")["item_id"]
    had = train[(train["user_id"] == users[1]) & (train["item_id"] != target[users[1]])]["item_id"].iloc[0]
    mixed = pd.concat(
        [
            lists[~lists["user_id"].isin(users[:1])],
            pd.DataFrame({"user_id": [users[1], users[2]], "item_id": [had, "never"], "rank": [0, 0]}),
            pd.DataFrame({"user_id": ["stranger"], "item_id": ["i1"], "rank": [1]}),
        ]
    )
    mixed.to_parquet(tmp_path / "mixed.parquet")
    found = compared(tmp_path, runs / "BPR", f"--lists=mixed:{tmp_path / 'mixed.parquet'}", '--metrics=["ndcg@20"]')
    checked = found["lists"][0]
    assert (checked["missing_users"], checked["unknown_users"]) == (1, 1)
    assert (checked["seen_items"], checked["outside_candidates"]) == (1, 1)
    own, theirs = (one["results"]["ndcg@20"] for one in found["entries"])
    assert theirs["mean"][0] <= own["mean"][0]
    assert theirs["against"]["wins"] == 0  # what was taken out moved nobody down
    assert theirs["against"]["losses"] <= 1
    shown = capsys.readouterr().out
    for text in (shown, *((tmp_path / f"comparison.{form}").read_text(encoding="utf-8") for form in ("md", "json"))):
        assert "1 rows name an item that the user has had" in text
        assert "1 users have no list" in text
    for text in (shown, (tmp_path / "comparison.md").read_text(encoding="utf-8")):
        assert "lists of other systems" in text


def test_lists_that_cannot_be_compared_are_one_message(runs, tmp_path, capsys):
    lists = pd.read_parquet(runs / "BPR/lists.parquet")
    file = tmp_path / "lists.parquet"
    pd.concat([lists, lists.iloc[:2]]).to_parquet(file)
    for given, message in (
        (["--lists=lists.parquet"], "must be a name and a file"),
        (["--lists=x:gone.parquet"], "There is no file gone.parquet"),
        ([f"--lists=BPR:{runs / 'BPR/lists.parquet'}"], "BPR is the name of a run already"),
        ([f"--lists=x:{file}", "--lists=x:other.parquet"], "two files of the name x"),
        ([f"--lists=x:{file}"], "stands in the user's list already"),
        ([f"--lists=x:{runs / 'BPR/metrics.json'}"], "names no columns"),
        ([f"--lists=x:{file}", "--metrics=[novelty@10]"], "must be one of"),
    ):
        assert main(["compare", str(runs / "BPR"), *given, f"--output={tmp_path / 'none'}"]) == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
    assert not (tmp_path / "none").exists()
    assert main(["compare", f"--lists=x:{file}"]) == 2  # no run to rank them among
    assert "with the folders of finished runs" in capsys.readouterr().err


# --- the split --------------------------------------------------------------------------------------------------------


def test_the_split_is_that_of_the_runs(runs, toy, split):
    parts = {name: pd.read_parquet(split / f"{name}.parquet") for name in ("train", "valid", "test")}
    table = table_of(toy)
    assert list(parts["train"].columns) == ["user_id", "item_id", "timestamp", "rating"]
    whole = pd.concat(parts.values()).sort_values(["user_id", "timestamp"], kind="stable", ignore_index=True)
    pd.testing.assert_frame_equal(whole, table[list(whole.columns)], check_dtype=False)  # times in full
    for name in ("RPORec", "BPR"):
        ranks = pd.read_parquet(runs / name / "ranks.parquet")
        for part in ("valid", "test"):
            ranked = ranks[ranks["split"] == part]
            assert set(zip(ranked["user_id"], ranked["item_id"], strict=True)) == set(
                zip(parts[part]["user_id"], parts[part]["item_id"], strict=True)
            )
    facts = json.loads((split / "split.json").read_text(encoding="utf-8"))
    candidates = pd.read_parquet(split / "candidates.parquet")["item_id"]
    assert set(candidates) == set(table["item_id"])
    metrics = json.loads((runs / "BPR/metrics.json").read_text(encoding="utf-8"))
    assert facts["candidates"] == len(candidates) == metrics["candidates"]
    assert facts["hide_seen"] is True
    assert "Hidden" in facts["seen items"]
    assert facts["files"]["toy.inter"] == hashlib.sha256((toy / "toy/toy.inter").read_bytes()).hexdigest()
    assert facts["settings"]["eval_args"]["split"] == {"LS": "valid_and_test"}
    assert facts["rows"] == {name: len(part) for name, part in parts.items()}


@pytest.mark.parametrize("model", ["RPORec", "BPR"])
def test_a_split_by_time_says_which_rows_are_targets(toy, tmp_path, model):
    times = table_of(toy)["timestamp"]
    cuts = [int(times.quantile(0.6)), int(times.quantile(0.8))]
    given = [f"--eval_args={{split: {{TS: {cuts}}}}}", f"--model={model}", f"--output={tmp_path / 'out'}"]
    assert main(["split", "toy", f"--data_path={toy}", *given]) == 0
    parts = {name: pd.read_parquet(tmp_path / "out" / f"{name}.parquet") for name in ("train", "valid", "test")}
    assert parts["train"]["timestamp"].max() < cuts[0] <= parts["valid"]["timestamp"].min()
    assert parts["valid"]["timestamp"].max() < cuts[1] <= parts["test"]["timestamp"].min()
    assert sum(map(len, parts.values())) == len(times)
    first = table_of(toy).drop_duplicates("user_id")
    both = parts["test"].merge(first, on=["user_id", "item_id", "timestamp"], how="left", suffixes=("", "_first"))
    assert (parts["test"]["target"].to_numpy() == both["rating_first"].isna().to_numpy()).all()


def test_a_missing_rating_stays_missing_and_an_older_split_is_replaced(toy, tmp_path):
    data = shutil.copytree(toy, tmp_path / "data")
    lines = (data / "toy/toy.inter").read_text(encoding="utf-8").splitlines()
    user, item, _, time = lines[1].split("\t")
    lines[1] = f"{user}\t{item}\t\t{time}"
    (data / "toy/toy.inter").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for _ in range(2):
        assert main(["split", "toy", f"--data_path={data}", f"--output={tmp_path / 'out'}"]) == 0
    train = pd.read_parquet(tmp_path / "out/train.parquet")
    assert train["rating"].isna().sum() == 1
    assert np.isnan(train[(train["user_id"] == user) & (train["timestamp"] == int(time))]["rating"].iloc[0])


def test_the_newest_of_two_rows_within_a_second_is_the_target(toy, tmp_path):
    """Tensors keep times in steps of a minute; the file says which came last."""
    data = shutil.copytree(toy, tmp_path / "data")
    last = table_of(toy).query("user_id == 'u3'").iloc[-1]
    with (data / "toy/toy.inter").open("a", encoding="utf-8") as file:  # newest first in the file
        file.write(f"u3\ti5\t5\t{last['timestamp'] + 12}\nu3\ti5\t1\t{last['timestamp'] + 11}\n")
        file.write(f"u3\ti5\t2\t{last['timestamp'] + 10}\n")
    for model in ("RPORec", "BPR"):
        out = tmp_path / model
        assert main(["split", "toy", f"--data_path={data}", f"--output={out}", f"--model={model}"]) == 0
        parts = [
            pd.read_parquet(out / f"{name}.parquet").query("user_id == 'u3'") for name in ("train", "valid", "test")
        ]
        assert [int(part["timestamp"].iloc[-1] - last["timestamp"]) for part in parts] == [10, 11, 12]
        assert [part["rating"].iloc[-1] for part in parts] == [2, 1, 5]


def test_what_a_model_reads_scaled_leaves_as_the_file_has_it(split, toy, tmp_path):
    data = shutil.copytree(toy, tmp_path / "data")
    file = data / "toy/toy.inter"
    file.write_text(file.read_text().replace("timestamp:float", "when:float").replace("rating:float", "stars:float"))
    names = ["--TIME_FIELD=when", "--RATING_FIELD=stars", '--load_col={"inter": [user_id, item_id, stars, when]}']
    scaled = [
        f"--data_path={data}",
        f"--output={tmp_path / 'out'}",
        "--hide_seen=True",
        "--normalize_all=True",
        "--model=BPR",
    ]
    assert main(["split", "toy", *scaled, *names]) == 0
    for part in ("train", "valid", "test"):
        pd.testing.assert_frame_equal(*(pd.read_parquet(one / f"{part}.parquet") for one in (split, tmp_path / "out")))


def test_splits_that_cannot_be_handed_out_are_one_message(toy, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("x")
    for given, message in (
        (["tpy"], "The data set `tpy` is not there"),
        (["toy", "--eval_args={mode: uni10}"], "sample of its own (`uni10`)"),
        (["toy", f"--output={tmp_path / 'full'}"], "holds other files than a split"),
        (["toy", f"--output={tmp_path / 'full/mine.txt'}"], "is a file"),
        (["toy", f"--output={tmp_path / 'no/where'}"], "does not exist"),
        (["toy", "--hide_sen=True"], "`hide_sen` is not a setting"),
        (["toy", "--model=SASRek"], "Did you mean `SASRec`"),
        (["toy", "--user_inter_num_interval=[99,inf)"], "is left after filtering"),
    ):
        options = [
            f"--data_path={toy}",
            *([] if any("--output" in one for one in given) else [f"--output={tmp_path / 'o'}"]),
        ]
        assert main(["split", *given, *options]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
