"""A run that goes on from a finished one."""

import shutil

import pandas as pd
import pytest
import yaml

from rporec_recbole.cot.store import CoTStore
from rporec_recbole.errors import ConfigError, RunFolderError
from rporec_recbole.runs import controls
from rporec_recbole.runs.finished import load_run
from rporec_recbole.runs.run import run
from tests.toy import FLUENT, SHORT, TEXT, write_toy

FIRST = ["1a", "1b", "1c"]


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("data"), users=60)


@pytest.fixture(scope="module")
def settings(toy):
    return {**SHORT, **TEXT, **FLUENT, "data_path": str(toy)}


@pytest.fixture(scope="module")
def first(settings, tmp_path_factory):
    return run("RPORec", "toy", overrides={**settings, "stages": FIRST, "run_dir": str(tmp_path_factory.mktemp("1"))})


@pytest.fixture(scope="module")
def second(settings, first, tmp_path_factory):
    own = {"stages": [*FIRST, "2", "2b"], "start_from": str(first.run_dir), "group_size": 3, "seed": 7}
    return run("RPORec", "toy", overrides={**settings, **own, "run_dir": str(tmp_path_factory.mktemp("2"))})


def texts(folder):
    store = CoTStore(folder / "reasoning.sqlite")
    found = {(one.key, one.text) for one in store}
    store.close()
    return found


def test_only_later_stages_are_run(first, second):
    log = (second.run_dir / "log.txt").read_text(encoding="utf-8")
    assert f"going on after stage 1c of {first.run_dir}" in log
    for stage, runs in {"1a": False, "1b": False, "1c": False, "2": True, "2b": True}.items():
        assert (f"stage {stage} (" in log) is runs
    assert [stage for stage in second.metrics["stages"] if stage[0] in "12"] == ["2", "2b"]
    assert second.metrics["valid_after_stage"]["1c"] == first.metrics["valid_after_stage"]["1c"]
    assert set(second.metrics["valid_after_stage"]) == {"1c", "2b"}


def test_texts_are_taken_over(first, second):
    assert texts(first.run_dir) < texts(second.run_dir)


def test_the_record_of_positions_is_whole(first, second):
    before, after = (pd.read_parquet(one.run_dir / "positions.parquet") for one in (first, second))
    pd.testing.assert_frame_equal(
        after[after["stage"].isin(before["stage"])].reset_index(drop=True), before.reset_index(drop=True)
    )
    learned = {stage: set(own[["user_id", "place"]].itertuples(index=False)) for stage, own in after.groupby("stage")}
    assert set(learned) == {"1a", "1b", "1c", "2", "2b"}
    assert not learned["2"] & (learned["1a"] | learned["1b"] | learned["1c"])


def test_the_run_stands_by_itself(second, first, tmp_path):
    moved = shutil.move(str(first.run_dir), tmp_path / "away")
    try:
        loaded = load_run(second.run_dir)
        ranks = loaded.evaluate("test")[1]
        loaded.model.reasoner.store.close()
        found = pd.read_parquet(second.run_dir / "ranks.parquet")
        assert ranks["rank"].tolist() == found[found["split"] == "test"]["rank"].tolist()
        controls.run_controls(second.run_dir)
    finally:
        shutil.move(moved, first.run_dir)


def test_the_strength_of_the_run_before_is_forgotten(settings, first, tmp_path):
    again = run(
        "RPORec",
        "toy",
        overrides={
            **settings,
            "stages": FIRST,
            "fusion_strengths": [1],
            "start_from": str(first.run_dir),
            "run_dir": str(tmp_path / "run"),
        },
    )
    # no stage is left, so only the strength is chosen again
    (full,) = again.metrics["stages"]["strength"]["tried"]
    assert (full["strength"], full["answers"]) == (1, 1)
    assert again.metrics["valid"] == pytest.approx(first.metrics["valid_after_stage"]["1c"], abs=1e-4)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"hidden_size": 32}, "hidden_size: 16 there, 32 here"),
        ({"learning_rate": 0.5}, "learning_rate: 0.002 there, 0.5 here"),
        ({"warmup_examples": 20}, "warmup_examples: 10000 there, 20 here"),
        ({"stages": ["1a", "1c", "2"]}, r"ran the stages \['1a', '1b', '1c'\]"),
        ({"stages": ["1a"]}, "can start from one that ran exactly"),
    ],
)
def test_a_run_with_other_settings_is_refused(settings, first, tmp_path, own, message):
    with pytest.raises(ConfigError, match=message):
        run(
            "RPORec", "toy",
            overrides={**settings, "start_from": str(first.run_dir), "run_dir": str(tmp_path / "run"), **own},
        )  # fmt: skip


def test_a_run_that_went_further_is_refused(settings, second, tmp_path):
    with pytest.raises(ConfigError, match="ran the stages"):
        run(
            "RPORec", "toy",
            overrides={**settings, "start_from": str(second.run_dir), "run_dir": str(tmp_path / "run"), "rl_steps": 1},
        )  # fmt: skip


def test_what_is_no_run(settings, first, tmp_path):
    own = {**settings, "stages": [*FIRST, "2"], "run_dir": str(tmp_path / "run")}
    with pytest.raises(RunFolderError, match="nowhere"):
        run("RPORec", "toy", overrides={**own, "start_from": str(tmp_path / "nowhere")})
    broken = shutil.copytree(first.run_dir, tmp_path / "broken")
    (broken / "positions.parquet").write_bytes(b"PAR1")
    with pytest.raises(RunFolderError, match="no whole run"):
        run("RPORec", "toy", overrides={**own, "start_from": str(broken)})
    other = shutil.copytree(first.run_dir, tmp_path / "other")
    config = yaml.safe_load((other / "config.yaml").read_text())
    (other / "config.yaml").write_text(yaml.safe_dump({**config, "model": "SASRec"}))
    with pytest.raises(ConfigError, match="a run of SASRec"):
        run("RPORec", "toy", overrides={**own, "start_from": str(other)})


def test_other_data_are_refused(settings, first, tmp_path):
    data = write_toy(tmp_path, users=60, seed=1)
    own = {"data_path": str(data), "stages": [*FIRST, "2"], "run_dir": str(tmp_path / "run")}
    with pytest.raises(RunFolderError, match="The data files are not those"):
        run("RPORec", "toy", overrides={**settings, **own, "start_from": str(first.run_dir)})
