"""A split by time for every model, beside plain pandas: rows, histories, what is hidden; nothing behind the first cut teaches anything."""

import datetime
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from rporec_recbole import load_run
from rporec_recbole.cli import main
from rporec_recbole.host.bridge import build_model, build_trainer
from rporec_recbole.host.data import build_data
from tests.toy import SHORT, TEXT, toy_config

DAY, START = 86_400, 974_678_400  # 2000-11-20, midnight UTC
DATES = ["2000-11-30", "2000-12-05T12:00"]
CUTS = [START + 10 * DAY, START + 15 * DAY + DAY // 2]
SHARES = [0.6, 0.2, 0.2]
MODELS = ("SASRec", "RPORec", "BPR", "Pop", "FM", "MultiVAE", "DIEN", "LightGCN")


def write_days(parent, name="toy", seed=0):
    """60 users who come and go in 20 days; u50 to u59 and i20 to i24 begin behind the first cut, and eight rows lie at each cut."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(60):
        for _ in range(int(rng.integers(4, 12))):
            late = user >= 50
            second = int(rng.integers(11 * DAY if late else 0, 20 * DAY) // 600 * 600)
            item = int(rng.integers(25 if second > 10 * DAY else 20))
            rows.append((f"u{user}", f"i{item}", int(rng.integers(1, 6)), START + second))
    for cut in CUTS:
        rows += [(f"u{user}", f"i{user}", 3, cut) for user in range(8)]
    table = pd.DataFrame(rows, columns=["user_id:token", "item_id:token", "rating:float", "timestamp:float"])
    order = rng.permutation(len(table))  # a file in no order at all
    folder = parent / name
    folder.mkdir(parents=True)
    table.iloc[order].to_csv(folder / f"{name}.inter", sep="\t", index=False)
    titles = ["item_id:token\ttitle:token_seq\tgenre:token_seq\tyear:token"]
    titles += [f"i{item}\tFilm number {item}\tDrama\t{1980 + item}" for item in range(25)]
    (folder / f"{name}.item").write_text("\n".join(titles) + "\n")
    return parent


@pytest.fixture(scope="module")
def days(tmp_path_factory):
    return write_days(tmp_path_factory.mktemp("days"))


def in_order(days):
    table = pd.read_csv(days / "toy/toy.inter", sep="\t").rename(columns=lambda name: name.split(":")[0])
    return table.sort_values(["user_id", "timestamp"], kind="stable").reset_index(drop=True)


def by_pandas(days, given, which="all", split="test"):
    """(user, target, history) of every target, and (user, item) of the training, from the file alone."""
    table = in_order(days)
    if len(given) == 3:
        times, number = np.sort(table["timestamp"]), len(table)
        test, valid = int(given[2] * number), int(given[1] * number)
        cuts = times[number - test - valid], times[number - test]
    else:
        cuts = [pd.Timestamp(one).timestamp() if isinstance(one, str) else one for one in given]
    training = table[table["timestamp"] < cuts[0]]
    low, high = (cuts[0], cuts[1]) if split == "valid" else (cuts[1], np.inf)
    found = []
    for user, own in table.groupby("user_id"):
        items, times = own["item_id"].tolist(), own["timestamp"].tolist()
        there = [at for at, time in enumerate(times) if at and low <= time < high]
        chosen = {"all": there, "first": there[:1], "last": there[-1:]}[which]
        found += [(user, items[at], tuple(items[:at])) for at in chosen]
    return sorted(found), training


def config_of(days, model, given=SHARES, mode="full", **settings):
    more = {"eval_args": {"split": {"TS": given}, "mode": mode, **settings.pop("eval_args", {})}}
    if model == "RPORec":
        more["MAX_ITEM_LIST_LENGTH"] = 30
    return toy_config(days, model, **more, **settings)


def rows_of(data, loader):
    """(user, target, hidden items) of every list, as the evaluation has them."""
    found = []
    for rows, hidden, lists, targets in loader:
        users = data.id2token("user_id", rows["user_id"].numpy())
        names = data.id2token("item_id", targets.numpy())
        for place, (row, name) in enumerate(zip(lists.tolist(), names, strict=True)):
            assert row == place  # one target a list
            out = [] if hidden is None else hidden[1][hidden[0] == row].tolist()
            found.append((users[row], name, frozenset(data.id2token("item_id", np.array(out, dtype=int)))))
    return sorted(found, key=lambda one: (one[0], one[1], sorted(one[2])))


def histories_of(data, loader):
    rows = loader.dataset.inter_feat
    names = lambda row, size: tuple(data.id2token("item_id", row[:size].numpy()))  # noqa: E731
    columns = zip(rows["user_id"], rows["item_id"], rows["item_id_list"], rows["item_length"], strict=True)
    return sorted(
        (data.id2token("user_id", user.item()), data.id2token("item_id", item.item()), names(listed, size.item()))
        for user, item, listed, size in columns
    )


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("which", ["all", "first", "last"])
def test_targets_and_what_is_hidden_are_those_of_plain_pandas(days, model, which):
    data, _, valid, test = build_data(config_of(days, model, hide_seen=True, eval_args={"targets": which}))
    for split, loader in (("valid", valid), ("test", test)):
        wanted = [
            (user, item, frozenset(past) - {item}) for user, item, past in by_pandas(days, SHARES, which, split)[0]
        ]
        assert rows_of(data, loader) == sorted(wanted, key=lambda one: (one[0], one[1], sorted(one[2])))
        assert len(wanted) > 30


@pytest.mark.parametrize(
    "given",
    [
        SHARES,
        DATES,
        CUTS,
        [datetime.date(2000, 11, 30), datetime.datetime(2000, 12, 5, 12)],
        ["2000-11-30T01:00+01:00", DATES[1]],
    ],
    ids=["shares", "dates", "epochs", "python", "zone"],
)
@pytest.mark.parametrize("model", ["SASRec", "RPORec"])
def test_histories_are_those_of_plain_pandas(days, model, given):
    data, train, valid, test = build_data(config_of(days, model, given))
    plain = given if given == SHARES else CUTS
    for split, loader in (("valid", valid), ("test", test)):
        assert histories_of(data, loader) == by_pandas(days, plain, "all", split)[0]
    training = by_pandas(days, plain)[1]
    positions = len(training) - training["user_id"].nunique()
    assert (train.dataset.n_prefix_rows if model == "RPORec" else len(train.dataset)) == positions
    assert data.training_counts["user_id"].sum() == len(training)


@pytest.mark.parametrize("model", MODELS)
def test_training_is_what_lies_before_the_first_cut(days, model):
    data, train, *_ = build_data(config_of(days, model, DATES, eval_args={"targets": "first"}))
    training = by_pandas(days, DATES)[1]
    for field in ("user_id", "item_id"):
        counts = {
            name: count
            for name, count in zip(data.field2id_token[field], data.training_counts[field], strict=True)
            if count
        }
        assert counts == training[field].value_counts().to_dict()
    if model not in ("SASRec", "RPORec", "DIEN"):
        rows = train.dataset.inter_feat
        pairs = zip(*(data.id2token(field, rows[field].numpy()) for field in ("user_id", "item_id")), strict=True)
        assert sorted(pairs) == sorted(zip(training["user_id"], training["item_id"], strict=True))


def test_rows_of_one_instant_lie_behind_the_cut(days):
    """Eight rows are at each cut, and RecBole's own single precision could not tell them from the rows around."""
    config = config_of(days, "BPR", [CUTS[0], CUTS[1]])
    data, train, *_ = build_data(config)
    facts = data.time_split.facts()
    table = in_order(days)
    assert facts["train"]["interactions"] == int((table["timestamp"] < CUTS[0]).sum()) == len(train.dataset)
    one_later = build_data(config_of(days, "BPR", [CUTS[0] + 1, CUTS[1]]))[0].time_split.facts()
    assert one_later["train"]["interactions"] == facts["train"]["interactions"] + int(
        (table["timestamp"] == CUTS[0]).sum()
    )


def test_without_ties_shares_are_recboles_own_by_ratio(tmp_path):
    """`RS` without groups, by time, is the same for general models."""
    rows = [f"u{row % 7}\ti{row * 5 % 67}\t3\t{START + row}" for row in range(173)]
    (tmp_path / "toy").mkdir()
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    (tmp_path / "toy/toy.inter").write_text(header + "\n".join(rows) + "\n")
    ratio = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "none", "mode": "full"}
    shared = {"topk": [5], "valid_metric": "NDCG@5"}
    theirs = build_data(toy_config(tmp_path, "BPR", eval_args=ratio, **shared))
    ours = build_data(config_of(tmp_path, "BPR", [0.8, 0.1, 0.1], **shared))
    for a, b in zip(theirs[1:], ours[1:], strict=True):
        pairs = [
            sorted(
                zip(one.dataset.inter_feat["user_id"].tolist(), one.dataset.inter_feat["item_id"].tolist(), strict=True)
            )
            for one in (a, b)
        ]
        assert pairs[0] == pairs[1]


@pytest.mark.parametrize("scale", [1000, 10**6])
def test_dates_fit_times_of_any_unit(days, tmp_path, scale):
    table = pd.read_csv(days / "toy/toy.inter", sep="\t")
    table["timestamp:float"] = table["timestamp:float"] * scale
    (tmp_path / "toy").mkdir()
    table.to_csv(tmp_path / "toy/toy.inter", sep="\t", index=False)
    found = build_data(config_of(tmp_path, "Pop", DATES))[0].time_split
    assert found.facts() | {"times": None} == build_data(config_of(days, "Pop", DATES))[0].time_split.facts() | {
        "times": None
    }
    assert found.dates() == ["2000-11-30", "2000-12-05 12:00:00"]


def two_futures(days, parent):
    """The same past twice; what lies behind the first cut is dealt out anew among the items in one of them."""
    table = pd.read_csv(days / "toy/toy.inter", sep="\t")
    later = table["timestamp:float"] >= CUTS[0]
    table = pd.concat([table[~later], table[later]])  # RecBole numbers items in the order of the file
    old = table["item_id:token"].isin(table.loc[~later, "item_id:token"].unique())
    other = table.copy()
    move = np.flatnonzero((later & old).loc[table.index])
    names = table["item_id:token"].to_numpy(copy=True)
    names[move] = np.random.default_rng(1).permutation(names[move])
    other["item_id:token"] = names
    assert (other.to_numpy() != table.to_numpy()).any()
    for number, one in enumerate((table, other)):
        folder = parent / str(number) / "toy"
        folder.mkdir(parents=True)
        one.to_csv(folder / "toy.inter", sep="\t", index=False)
        (folder / "toy.item").write_text((days / "toy/toy.item").read_text())
    return parent / "0", parent / "1"


@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("Pop", {}),
        ("BPR", {"train_neg_sample_args": {"distribution": "popularity", "sample_num": 1}}),
        ("SASRec", {"loss_type": "BPR", "train_neg_sample_args": {"distribution": "popularity", "sample_num": 1}}),
        ("LightGCN", {}),
        ("RPORec", {"stages": ["1a", "1b"]}),
    ],
)
def test_nothing_behind_the_first_cut_teaches(days, tmp_path, model, more):
    weights = []
    for place in two_futures(days, tmp_path):
        config = config_of(place, model, CUTS, checkpoint_dir=str(place), **more)
        config["run_dir"] = str(place)
        _, train, valid, _ = build_data(config)
        built = build_model(config, train)
        trainer = build_trainer(config, built)
        trainer.fit(train, valid, saved=False, show_progress=False)
        weights.append({name: value.clone() for name, value in built.state_dict().items()})
        if model == "Pop":
            weights[-1]["counts"] = built.item_cnt.clone()
        if getattr(built, "reasoner", None) is not None:
            weights[-1] |= {
                f"writer {name}": value.clone() for name, value in built.backbone.model.state_dict().items()
            }
            built.reasoner.store.close()
    assert weights[0].keys() == weights[1].keys()
    assert len(weights[0])
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name


@pytest.mark.parametrize("hide", [True, False])
@pytest.mark.parametrize("which", ["all", "first"])
def test_samples_are_the_same_for_every_model_and_know_no_future(days, hide, which):
    every = {}
    for model in ("SASRec", "BPR", "RPORec"):
        config = config_of(days, model, mode="uni10", hide_seen=hide, eval_args={"targets": which})
        data, _, valid, test = build_data(config)
        drawn = {}
        for split, loader in (("valid", valid), ("test", test)):
            for rows, *_ in loader:
                users, items = (data.id2token(field, rows[field].numpy()) for field in ("user_id", "item_id"))
                for user, item, label in zip(users, items, rows[config["LABEL_FIELD"]].numpy(), strict=True):
                    drawn.setdefault((split, user, int(label)), []).append(item)
        every[model] = {key: sorted(items) for key, items in drawn.items()}
    assert every["SASRec"] == every["BPR"] == every["RPORec"]
    table = in_order(days)
    end = np.sort(table["timestamp"])[-int(0.2 * len(table))]
    until = table[table["timestamp"] < end].groupby("user_id")["item_id"].agg(set)
    shown = {
        user: set(items) & until[user]
        for (split, user, label), items in every["BPR"].items()
        if split == "valid" and not label
    }
    assert any(shown.values()) != hide
    later = table[table["timestamp"] >= end].groupby("user_id")["item_id"].agg(set)
    # What a user chooses later may stand beside a target of validation, or validation would know it.
    of_valid = {
        user: set(items) for (split, user, label), items in every["BPR"].items() if split == "valid" and not label
    }
    assert any(items & later.get(user, set()) - until[user] for user, items in of_valid.items())


ENTRY = "--eval_args={split: {TS: ['2000-11-30', '2000-12-05T12:00']}, order: TO, group_by: none, mode: full, targets: last}"


@pytest.fixture(scope="module")
def compared(days, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    short = [
        f"--{key}={value}"
        for key, value in {**SHORT, **TEXT, "stages": ["1a", "1b", "1c", "refresh"]}.items()
        if key != "epochs"
    ]
    given = [f"--data_path={days}", "--dataset=toy", "--epochs=1", f"--run_dir={folder}", ENTRY, "--topk=[5,10]"]
    assert main(["--model=RPORec,SASRec,BPR", *short, *given]) == 0
    return folder


def test_all_models_are_compared_and_come_back(compared, days):
    table = (compared / "comparison.md").read_text()
    assert all(model in table for model in ("RPORec", "SASRec", "BPR"))
    wanted = by_pandas(days, DATES, "last")[0]
    for model in ("RPORec", "SASRec", "BPR"):
        run = compared / f"{model},seed=2020"
        metrics = json.loads((run / "metrics.json").read_text())
        ranks = pd.read_parquet(run / "ranks.parquet")
        own = ranks[ranks["split"] == "test"]
        assert sorted(zip(own["user_id"], own["item_id"], strict=True)) == [one[:2] for one in wanted]
        facts = metrics["time_split"]
        assert facts["test"]["targets"] == len(wanted)
        assert facts["test"]["of_new_items"] == int((own["item_popularity"] == 0).sum()) > 0
        assert facts["test"]["of_new_users"] == int((own["user_activity"] == 0).sum()) > 0
        assert facts["cuts"] == ["2000-11-30", "2000-12-05 12:00:00"]
        assert "split by time: training before 2000-11-30" in (run / "log.txt").read_text()
        assert facts["cuts"][0] in (run / "report.html").read_text()
        again, table = load_run(run).evaluate("test")
        assert again == metrics["test"]
        pd.testing.assert_frame_equal(table.reset_index(drop=True), own.reset_index(drop=True))


def test_no_stage_learns_from_a_position_behind_the_first_cut(compared, days):
    positions = pd.read_parquet(compared / "RPORec,seed=2020/positions.parquet")
    before = by_pandas(days, DATES)[1]
    taught = set(zip(positions["user_id"], positions["item_id"], strict=True))
    assert len(positions)
    assert taught <= set(zip(before["user_id"], before["item_id"], strict=True))


def test_the_other_commands_work_on_such_a_run(compared, days, tmp_path, capsys):
    ours, general = (str(compared / f"{model},seed=2020") for model in ("RPORec", "BPR"))
    for run in (ours, general):
        for split in ("all", "test"):
            assert main(["recommend", run, f"--split={split}", "--top_k=3", f"--output={tmp_path / 'recs.csv'}"]) == 0
            assert len(pd.read_csv(tmp_path / "recs.csv"))
    assert main(["explain", ours, "--sample=2", f"--output={tmp_path / 'page.html'}"]) == 0
    assert main(["cots", "stats", ours]) == 0
    assert main(["controls", ours, "--only=no CoT,another user's CoT,history text"]) == 0
    assert main(["fit", general, f"--output={tmp_path / 'whole'}"]) == 0
    there = {user for user, *_ in by_pandas(days, DATES, "last")[0]}
    absent = next(f"u{user}" for user in range(60) if f"u{user}" not in there)
    capsys.readouterr()
    assert main(["recommend", ours, "--split=test", f"--users={absent}", f"--output={tmp_path / 'recs.csv'}"]) == 2
    assert "nothing behind that cut" in capsys.readouterr().err


def test_the_summary_says_when_it_cut(days, tmp_path, capsys):
    given = [f"--data_path={days}", "--dataset=toy", f"--run_dir={tmp_path / 'run'}", "--show_progress=False"]
    assert main(["--model=Pop", *given, "--eval_args={split: {TS: ['2000-11-30', '2000-12-05T12:00']}}"]) == 0
    said = capsys.readouterr().out
    assert all(
        words in said
        for words in ("training before 2000-11-30 (", "validation before 2000-12-05 12:00:00 (", "test from then on (")
    )
    assert "of items that the training never met" in said


REFUSED = [
    ("{split: {TS: [0.8, 0.2]}, order: RO}", "needs order TO"),
    ("{split: {TS: [0.8, 0.1, 0.1]}, group_by: user}", "all users at the same moments"),
    ("{split: {TS: [0.8, 0, 0.2]}}", "three numbers above 0"),
    ("{split: {TS: 0.8}}", "shares by time"),
    ("{split: {TS: ['2000-12-05', '2000-11-30']}}", "validation must begin before test"),
    ("{split: {TS: ['2000-13-05', '2000-11-30']}}", "is no date"),
    ("{split: {TS: ['2000-12-05', 980000000]}}", "shares by time"),
    ("{split: {TS: ['1999-12-05', '2000-11-30']}}", "leaves no interaction for training"),
    ("{split: {TS: ['2000-12-05', '2030-11-30']}}", "leaves no interaction for test: `timestamp` runs from 2000-11-20"),
    ("{split: {TS: [0.8, 0.1, 0.1]}, targets: lsat}", "Did you mean `last`"),
    ("{split: {LS: valid_and_test}, order: TO, targets: last}", "belongs to a split by time"),
]


@pytest.mark.parametrize(("given", "said"), REFUSED)
def test_what_makes_no_split_is_refused_before_anything_is_written(days, tmp_path, capsys, given, said):
    run = tmp_path / "run"
    assert (
        main(["--model=BPR", f"--data_path={days}", "--dataset=toy", f"--run_dir={run}", f"--eval_args={given}"]) == 2
    )
    assert said in capsys.readouterr().err
    assert not run.exists()


def test_times_have_to_be_loaded(days, tmp_path, capsys):
    given = ["--model=BPR", f"--data_path={days}", "--dataset=toy", f"--run_dir={tmp_path / 'run'}"]
    by_time = "--eval_args={split: {TS: [0.8, 0.1, 0.1]}}"
    assert main([*given, by_time, "--load_col={inter: [user_id,item_id]}"]) == 2
    assert "in order by `timestamp`, which is not among the columns that are loaded" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_dates_of_the_file_beside_a_data_set_need_no_quotes(days, tmp_path):
    shutil.copytree(days / "toy", tmp_path / "toy")
    (tmp_path / "toy/toy.yaml").write_text("eval_args:\n  split: {TS: [2000-11-30, 2000-12-05 12:00:00]}\n")
    given = ["--model=Pop", f"--data_path={tmp_path}", "--dataset=toy", "--show_progress=False"]
    assert main([*given, f"--run_dir={tmp_path / 'run'}"]) == 0
    again = [f"--config_files={tmp_path / 'run/config.yaml'}", f"--run_dir={tmp_path / 'again'}"]
    assert main(again) == 0
    for run in ("run", "again"):
        assert json.loads((tmp_path / run / "metrics.json").read_text())["time_split"]["times"] == CUTS


def test_files_that_are_split_already_and_rounded_orders_are_refused(days, capsys):
    given = ["--model=BPR", f"--data_path={days}", "--dataset=toy", "--eval_args={split: {TS: [0.8, 0.1, 0.1]}}"]
    assert main([*given, "--legacy_time_order=True"]) == 2
    assert "legacy_time_order" in capsys.readouterr().err
    assert main([*given, "--benchmark_filename=[a,b,c]"]) == 2
    assert "a split already" in capsys.readouterr().err


def test_times_that_are_an_order_alone_are_a_warning(tmp_path, capsys):
    rows = [f"u{user}\ti{(user * 3 + step) % 12}\t3\t{step + 1}" for user in range(12) for step in range(6)]
    (tmp_path / "toy").mkdir()
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    (tmp_path / "toy/toy.inter").write_text(header + "\n".join(rows) + "\n")
    given = [
        "--model=Pop",
        f"--data_path={tmp_path}",
        "--dataset=toy",
        "--topk=[5]",
        "--valid_metric=NDCG@5",
        "--show_progress=False",
    ]
    assert main([*given, f"--run_dir={tmp_path / 'run'}", "--eval_args={split: {TS: [0.6, 0.2, 0.2]}}"]) == 0
    assert capsys.readouterr().err.count("begin again with every user") == 1
    assert (
        main([*given, f"--run_dir={tmp_path / 'other'}", "--eval_args={split: {TS: ['2000-11-30', '2000-12-05']}}"])
        == 2
    )
    assert "counts no time since 1970: it runs from 1 to 6" in capsys.readouterr().err
