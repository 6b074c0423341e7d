"""The ladder of positions, checked on what a run recorded that it learned from, against the raw data file."""

import json

import pandas as pd
import pytest

from rporec_recbole.backbone.load import Backbone
from rporec_recbole.runs.run import run
from rporec_recbole.training.stage1 import best_of
from rporec_recbole.training.stage1.crossfit import cross_fitted_gains
from tests.toy import SHORT, TEXT

EARLY = ["1a", "1b", "1b scorer 1", "1b scorer 2", "1b best-of"]


@pytest.fixture(scope="module")
def recorded(toy, tmp_path_factory):
    """(positions of each stage as (user, place), metrics, sequences by user) of a run with all stages.

    So short a warm-up teaches nobody to write, so texts come from a stand-in; all that is learned from them is real.
    """

    def write(self, prompts, decoding, on_batch=None, desc=""):
        texts = [
            f"<think>likes {prompt.split(' | ')[0]} and more, {decoding.sample}</think><answer>{prompt[-20:]}</answer>"
            for prompt in prompts
        ]
        if on_batch is not None:
            on_batch(list(range(len(texts))), texts)
        return texts

    folder = tmp_path_factory.mktemp("ladder") / "run"
    settings = {**SHORT, **TEXT, "best_of": 2, "warmup_examples": 30, "fusion_positions": 2}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Backbone, "generate", write)
        # Texts on random data are of no use to any head, and a head without an opinion chooses none.
        patch.setattr(best_of, "cross_fitted_gains", lambda *given: cross_fitted_gains(*given) + 1)
        metrics = run("RPORec", "toy", overrides={**settings, "data_path": str(toy), "run_dir": str(folder)}).metrics
    table = pd.read_parquet(folder / "positions.parquet")
    raw = pd.read_csv(toy / "toy" / "toy.inter", sep="\t").sort_values(
        ["user_id:token", "timestamp:float"], kind="stable"
    )
    sequences = raw.groupby("user_id:token")["item_id:token"].apply(list).to_dict()
    for row in table.itertuples():
        assert sequences[row.user_id][row.place] == row.item_id
    assert not table.duplicated().any()
    by_stage = {stage: set(zip(rows["user_id"], rows["place"], strict=True)) for stage, rows in table.groupby("stage")}
    return by_stage, metrics, sequences


def test_every_stage_is_recorded_with_as_many_positions_as_it_says(recorded):
    by_stage, metrics, _ = recorded
    assert sorted(by_stage) == sorted([*EARLY, "1c", "2", "2b", "refresh"])
    stages = metrics["stages"]
    assert len(by_stage["1b"]) == stages["1b"]["examples"] == 30
    assert len(by_stage["1b best-of"]) == stages["1b"]["best_of"]["learned"] > 0
    assert len(by_stage["1c"]) == stages["1c"]["texts"]
    assert len(by_stage["2b"]) == stages["2b"]["texts"]
    assert len(by_stage["2"]) == stages["2"]["prompts"]
    json.dumps(stages)


def test_each_user_s_early_positions_come_before_what_teaches_fusion_and_policy(recorded):
    by_stage, *_ = recorded
    last_early = {}
    for user, place in set().union(*(by_stage[stage] for stage in EARLY)):
        last_early[user] = max(place, last_early.get(user, 0))
    late = by_stage["1c"] | by_stage["2"] | by_stage["2b"]
    assert late
    assert all(place > last_early[user] for user, place in late)


def test_policy_and_fusion_share_no_position(recorded):
    by_stage, *_ = recorded
    assert by_stage["2"].isdisjoint(by_stage["1c"] | by_stage["2b"])


def test_scorers_share_no_user_and_best_of_repeats_no_composed_position(recorded):
    by_stage, *_ = recorded
    users = [{user for user, _ in by_stage[stage]} for stage in ("1b scorer 1", "1b scorer 2")]
    assert users[0].isdisjoint(users[1])
    assert by_stage["1b best-of"] <= by_stage["1a"]
    assert by_stage["1b best-of"].isdisjoint(by_stage["1b"])


def test_no_validation_or_test_item_teaches_anybody(recorded):
    by_stage, _, sequences = recorded
    for user, place in set().union(*by_stage.values()):
        assert 1 <= place < len(sequences[user]) - 2


def test_the_refresh_learns_from_every_training_position(recorded):
    by_stage, _, sequences = recorded
    everything = {(user, place) for user, items in sequences.items() for place in range(1, len(items) - 2)}
    assert by_stage["refresh"] == everything
    assert by_stage["1a"] < everything


@pytest.mark.parametrize("stages", [["1a"], ["1b", "1c"]])
def test_a_trunk_that_learns_beside_the_backbone_keeps_to_the_ladder_and_one_alone_takes_all(stages, toy, tmp_path):
    folder = tmp_path / "run"
    run(
        "RPORec",
        "toy",
        overrides={**SHORT, **TEXT, "stages": stages, "data_path": str(toy), "run_dir": str(folder)},
    )
    table = pd.read_parquet(folder / "positions.parquet")
    by_stage = {stage: set(zip(rows["user_id"], rows["place"], strict=True)) for stage, rows in table.groupby("stage")}
    assert list(by_stage) == stages
    if "1c" in stages:
        assert by_stage["1b"].isdisjoint(by_stage["1c"])
