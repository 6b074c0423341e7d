"""A trunk with a clock through the entry: trained, restored, ranked, recommended from, exported, served; with times, without, and without any."""

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from starlette.testclient import TestClient

from rporec_recbole import load_run
from rporec_recbole.cli import main
from rporec_recbole.data.clock import CLOCK, UNKNOWN
from rporec_recbole.data.dataset import TARGETS
from rporec_recbole.errors import ConfigError, DatasetError
from rporec_recbole.explain.explanation import explain
from rporec_recbole.host.data import build_data
from rporec_recbole.host.filtered import filtered_users
from rporec_recbole.model.trunk import Trunk
from rporec_recbole.runs.folder import read_results
from rporec_recbole.runs.run import run
from rporec_recbole.serve.app import Service
from rporec_recbole.serve.limits import Limits
from rporec_recbole.serve.recommender import Recommender
from tests.integration.reasoned import with_texts
from tests.toy import SHORT, TEXT, toy_config, write_toy

WITH_CLOCK = {"time_buckets": 40, "learning_rate": 0.02, "epochs": 3}


def with_times(parent, time_of):
    """The toy data set with other times: `time_of(user, step, random numbers)`; one more user with a single item."""
    write_toy(parent)
    path, rng, steps = parent / "toy/toy.inter", np.random.default_rng(3), {}
    head, *lines = path.read_text().splitlines()
    rows = []
    for line in lines:
        *row, _ = line.split("\t")
        steps[row[0]] = steps.get(row[0], -1) + 1
        rows.append("\t".join([*row, str(time_of(int(row[0][1:]), steps[row[0]], rng))]))
    rows.append(f"once\ti7\t5\t{time_of(99, 0, rng)}")
    path.write_text("\n".join([head, *rows]) + "\n")
    return parent


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Gaps from seconds to months, in milliseconds."""
    moment = {"now": 0}

    def later(user, step, rng):
        moment["now"] = (moment["now"] if step else 1_300_000_000 + user * 10) + int(np.exp(rng.uniform(0, 15)))
        return moment["now"] * 1000

    return with_times(tmp_path_factory.mktemp("timed"), later)


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    """A finished run with a clock."""
    folder = tmp_path_factory.mktemp("clock") / "run"
    own = {"stages": ["1a"], "data_path": str(data), "run_dir": str(folder), **WITH_CLOCK}
    return run("RPORec", "toy", overrides={**SHORT, **TEXT, **own}).run_dir


@pytest.fixture(scope="module")
def loaded(folder):
    return load_run(folder)


def profiles(data):
    table = pd.read_csv(data / "toy/toy.inter", sep="\t")
    table.columns = [name.split(":")[0] for name in table.columns]
    return {user: rows.sort_values("timestamp", kind="stable") for user, rows in table.groupby("user_id")}


def test_it_comes_back_with_equal_ranks_and_reads_times(folder, loaded):
    metrics, ranks = read_results(folder)
    again, table = loaded.evaluate("test")
    assert again == metrics["test"]
    kept = ranks[ranks["split"] == "test"].reset_index(drop=True)
    pd.testing.assert_frame_equal(table.reset_index(drop=True), kept)
    assert all(bool(block.by_time.any()) for block in loaded.model.head.trunk.blocks)
    rows = loaded.loaders["test"].dataset.inter_feat
    seen = loaded.model.full_sort_predict(rows)
    rows = rows[torch.arange(len(rows))]
    rows.interaction[loaded.model.times.column] = torch.full_like(rows[loaded.model.times.column], UNKNOWN)
    blind = loaded.model.full_sort_predict(rows)
    assert torch.equal(blind, loaded.model.head.scores(rows["item_id_list"]))  # a row without times: no clock at all
    assert (seen - blind)[:, 1:].abs().amax(dim=1).gt(1e-4).sum() > 20


def test_no_time_of_a_target_is_read(loaded):
    """Neither where a target is ranked nor where one is learned: a window has the times of its inputs."""
    rows = loaded.loaders["test"].dataset.inter_feat
    other = rows[torch.arange(len(rows))]
    for name in ("item_id", "timestamp", CLOCK):
        other.interaction[name] = rows[name].flip(0) + 1
    assert torch.equal(loaded.model.full_sort_predict(other), loaded.model.full_sort_predict(rows))
    dataset = loaded.loaders["train"].dataset
    windows, column = dataset.inter_feat, loaded.model.times.column
    users, clock = dataset.timeline["user_id"], dataset.timeline[CLOCK]
    for row in range(len(windows)):
        count = int((windows[TARGETS][row] > 0).sum())
        first = int(windows["first_position"][row])
        assert windows[column][row, :count].tolist() == clock[first - 1 : first - 1 + count].tolist()
        assert bool((users[first - 1 : first + count] == windows["user_id"][row]).all())
        assert not windows[column][row, count:].any()


def test_histories_with_times_rank_as_the_profiles_that_they_are(folder, data, tmp_path, caplog):
    """Users of the run, users whom a filter left out, and the same as new histories; without times another ranking."""
    assert main(["recommend", str(folder), "--top_k=30", f"--output={tmp_path / 'all.parquet'}"]) == 0
    everyone, own = pd.read_parquet(tmp_path / "all.parquet"), profiles(data)
    users = list(dict.fromkeys(everyone["user_id"]))
    assert len(users) == 31
    for name, timed in (("timed", True), ("plain", False)):
        lines = []
        for user in users:
            times = {"times": own[user]["timestamp"].tolist()} if timed else {}
            lines.append(json.dumps({"user": user, "items": own[user]["item_id"].tolist(), **times}))
        file, output = tmp_path / f"{name}.jsonl", tmp_path / f"{name}.parquet"
        file.write_text("\n".join(lines))
        assert main(["recommend", str(folder), f"--histories={file}", "--top_k=30", f"--output={output}"]) == 0
        assert caplog.text.count("no times: RPORec ranks them by positions alone") == (not timed)
    pd.testing.assert_frame_equal(everyone, pd.read_parquet(tmp_path / "timed.parquet"))
    assert not np.allclose(everyone["score"], pd.read_parquet(tmp_path / "plain.parquet")["score"], atol=1e-4)


@pytest.mark.parametrize("model", ["RPORec", "HSTU"])
def test_users_whom_a_filter_left_out_have_times(data, model):
    more = {"time_buckets": 40} if model == "RPORec" else {}
    config = toy_config(data, model, **more)
    dataset = build_data(config)[0]
    ((once,), without) = filtered_users(config, dataset)
    assert (once.user, without) == ("once", [])
    assert once.times.tolist() == profiles(data)["once"]["timestamp"].tolist()


def test_histories_from_python_and_faulty_times(loaded):
    histories = {"a": ["i1", "i2", "i3"], "b": ["i4", "i5"]}
    start = 1_300_000_000_000
    times = {"a": [start, start + 5_000, start + 90_000_000], "b": [start, start]}
    plain, timed = loaded.recommend(histories=histories), loaded.recommend(histories=histories, times=times)
    some = loaded.recommend(histories=histories, times={"a": times["a"]})
    for user, like in (("a", timed), ("b", plain)):
        found, expected = (table[table["user_id"] == user].reset_index(drop=True) for table in (some, like))
        pd.testing.assert_frame_equal(found, expected)
    assert not np.allclose(plain["score"], timed["score"], atol=1e-4)
    for wrong, said in (
        ({"a": [1, 2]}, "are 2, and there are 3 items"),
        ({"a": [3, 2, 1]}, "go back somewhere"),
        ({"a": [1, "2", 3]}, "must be a list of numbers"),
        ({"a": [1, 2, float("nan")]}, "must be a list of numbers"),
        ({"c": [1]}, "names users who have no history: 'c'"),
    ):
        with pytest.raises(DatasetError, match=said):
            loaded.recommend(histories=histories, times=wrong)
    with pytest.raises(ConfigError, match="`times` are those of `histories`"):
        loaded.recommend(times=times)


def test_the_service_reads_times(folder, data):
    limits = Limits()
    ranks = pd.read_parquet(folder / "ranks.parquet").query("split == 'test'")
    own = profiles(data)
    with TestClient(Service(Recommender(folder, limits), limits, None).app) as client:
        ask = lambda **question: client.post("/recommend", json={"top_k": 25, **question})  # noqa: E731
        for row in ranks.itertuples():
            of_user = ask(user=row.user_id).json()["items"]
            assert [one["item"] for one in of_user].index(row.item_id) + 1 == row.rank
            past = own[row.user_id].iloc[:-1]
            items, times = past["item_id"].tolist(), past["timestamp"].tolist()
            assert ask(history=items, times=times).json()["items"] == of_user
        blind = ask(history=items).json()["items"]
        assert [one["score"] for one in blind] != pytest.approx([one["score"] for one in of_user], abs=1e-4)
        for question, said in (
            ({"history": ["i1", "i2"], "times": [5]}, "`times` are 1, and there are 2 items"),
            ({"history": ["i1", "i2"], "times": [5, 4]}, "`times` go back somewhere"),
            ({"user": "u1", "times": [5]}, "`times` are those of `history`"),
            ({"history": ["i1"], "times": ["5"]}, "`times.0`"),
        ):
            answer = ask(**question)
            assert answer.status_code == 422
            assert said in answer.json()["error"]["message"]


def test_vectors_and_a_run_on_everything_have_the_clock(folder, loaded, tmp_path):
    assert main(["export", str(folder), f"--output={tmp_path / 'vectors'}"]) == 0
    rows, model = loaded.loaders["test"].dataset.inter_feat, loaded.model
    with torch.no_grad():
        state = model.head.last_state(rows["item_id_list"], model.head.item_vectors(), model.clock_of(rows))
    kept = pq.read_table(tmp_path / "vectors/users.parquet")["trunk_vector"].combine_chunks()
    np.testing.assert_allclose(kept.flatten().to_numpy().reshape(len(rows), -1), state.numpy(), atol=1e-5)
    assert main(["fit", str(folder), f"--output={tmp_path / 'fitted'}"]) == 0
    fitted = load_run(tmp_path / "fitted")
    assert fitted.model.times is not None
    assert all(bool(block.by_time.any()) for block in fitted.model.head.trunk.blocks)
    assert len(fitted.recommend(k=1)) == 31


def test_no_road_forgets_the_times(data, tmp_path, monkeypatch):
    """All stages, best-of-N among them, then ranks, pages and vectors: the trunk reads no history without its times."""
    asked = {"forward": 0, "last": 0}
    for name, place in (("forward", 1), ("last", 2)):
        own = getattr(Trunk, name)

        def timed(self, *given, name=name, place=place, own=own, **named):
            clock = named["clock"] if "clock" in named else given[place]
            assert clock.shape == (named.get("histories", given[0])).shape[:2]
            assert name == "forward" or not bool((clock == UNKNOWN).any())
            asked[name] += 1
            return own(self, *given, **named)

        monkeypatch.setattr(Trunk, name, timed)
    little = {"best_of": 2, "best_of_positions": 60, "warmup_examples": 8, "fusion_strengths": [0, 1], "rl_steps": 1}
    given = {"data_path": str(data), "run_dir": str(tmp_path / "run"), **WITH_CLOCK, **little}
    done = run("RPORec", "toy", overrides={**SHORT, **TEXT, **given})
    folder = with_texts(done.run_dir, tmp_path / "reasoned")  # they count
    loaded = load_run(folder)
    model, ranks = loaded.model, pd.read_parquet(folder / "ranks.parquet").query("split == 'test'")
    assert loaded.evaluate("test")[1]["rank"].tolist() == ranks["rank"].tolist()
    for one in explain(folder, users=["u3", "u4"]).users:
        assert one.target.rank == ranks[ranks["user_id"] == one.user_id]["rank"].iloc[0]
    before = dict(asked)
    assert main(["export", str(folder), f"--output={tmp_path / 'vectors'}", "--what=users,answers"]) == 0
    assert asked["last"] >= before["last"] + 2  # users, and what their answers add
    model.reasoner.store.close()
    assert min(asked.values()) > 0


def test_a_data_set_without_times_says_so_and_trains_as_without_a_clock(tmp_path, caplog):
    """Plain numbers are an order: equal ranks, bit for bit."""
    data, found = with_times(tmp_path, lambda user, step, rng: step + 1), {}
    for buckets in (40, 0):
        own = {"stages": ["1a"], "data_path": str(data), "run_dir": str(tmp_path / f"run-{buckets}")}
        folder = run("RPORec", "toy", overrides={**SHORT, **TEXT, **own, "time_buckets": buckets}).run_dir
        found[buckets] = read_results(folder)[1], (folder / "head.safetensors").read_bytes()
        said = (folder / "log.txt").read_text()
        assert said.count("and not when") == bool(buckets)
    pd.testing.assert_frame_equal(found[40][0], found[0][0])
    assert found[40][1] == found[0][1]


def test_settings_that_mean_nothing_are_refused(data, tmp_path, capsys):
    place = [
        f"--data_path={data}",
        "--dataset=toy",
        f"--run_dir={tmp_path / 'run'}",
        "--item_text_fields=[title,genre]",
    ]
    for more, said in (
        (["--time_buckets=-1"], "`time_buckets=-1` must be a whole number of at least 0"),
        (["--time_buckets=8", "--time_dropout=1"], "`time_dropout=1.0` must be a number from 0 up to"),
        (["--time_buckets=8", "--rechead=text"], "`time_buckets=8` is for the trunk of `rechead=fused`"),
    ):
        assert main(["--model=RPORec", *place, *more]) == 2
        assert said in capsys.readouterr().err
