"""Settings for data of any size: which users count, which stages have something to learn from."""

import numpy as np
import pytest

from rporec_recbole.data.ladder import FUSION, RL, rungs
from rporec_recbole.settings.properties import read_yaml
from rporec_recbole.tables import plan as planning
from rporec_recbole.tables.plan import plan_for


def planned(lengths, items=50, texts=True, **given):
    user = np.repeat(np.arange(len(lengths)), lengths)
    rng = np.random.default_rng(0)
    item = np.r_[np.arange(items), rng.integers(items, size=max(0, len(user) - items))][: len(user)]
    return plan_for(user, item, np.arange(len(user)) * 1_000_000, texts=texts, given=given)


def test_long_histories_need_no_settings():
    plan = planned([20] * 100)
    assert (plan.settings, plan.said, plan.model) == ({}, [], "RPORec")


def test_who_is_left_out_is_said():
    plan = planned([20] * 100 + [1] * 300 + [3])
    assert plan.settings == {}
    assert plan.said == [
        "Models learn from and are measured on users with at least 4 interactions: 100 of 401 users with 2,000 of 2,303 interactions. The other 301 users are left out of both."
    ]


def test_short_histories_are_split_by_time():
    plan = planned([1] * 100 + [3] * 100)
    assert plan.settings["user_inter_num_interval"] == "[2,inf)"
    assert plan.settings["eval_args"]["split"] == {"RS": [0.8, 0.1, 0.1]}
    assert "None of 200 users have 4 or more interactions" in plan.said[0]
    assert plan.said[0].endswith("The other 100 users are left out of both.")


def test_nobody_came_twice():
    plan = planned([1] * 60)
    assert (plan.model, plan.settings["user_inter_num_interval"]) == ("Pop", "[1,inf)")
    assert "stages" not in plan.settings


def test_few_items():
    assert planned([20] * 100, items=12).settings == {"topk": [5, 10], "valid_metric": "NDCG@10"}
    assert planned([20] * 100, items=3).settings == {"topk": [2], "valid_metric": "NDCG@2"}
    assert "topk" not in planned([20] * 100, items=20).settings
    assert planned([20] * 100, items=12, topk=[1]).settings["topk"] == [1]


@pytest.mark.parametrize(
    ("lengths", "settings"),
    [
        ([13] * 40, {}),
        ([9] * 40, {"ladder_early": 0.5}),
        ([7] * 40, {"stages": ["1a", "1b", "1c", "refresh"]}),
        ([5] * 40, {"stages": ["1a", "1b", "1c", "refresh"], "ladder_early": 0.5}),
        ([4] * 40, {"stages": ["1a"]}),
    ],
)
def test_stages_that_have_something_to_learn_from(lengths, settings):
    assert planned(lengths).settings == settings


def test_no_texts():
    plan = planned([20] * 100, texts=False)
    assert plan.settings == {"ids_only": True}
    assert plan.said == [
        "No column describes the items, so RPORec runs its trunk alone, without a language model (ids_only)."
    ]


def test_what_is_given_stands():
    plan = planned([3] * 40, eval_args={"mode": "full"}, user_inter_num_interval="[2,inf)", stages=["1a"])
    assert plan.settings == {"eval_args": {"mode": "full"}, "user_inter_num_interval": "[2,inf)", "stages": ["1a"]}


def test_the_numbers_are_those_of_the_defaults():
    model, overall = (read_yaml(f"properties/{name}.yaml") for name in ("model/RPORec", "overall"))
    assert (model["ladder_early"], model["ladder_rl"], model["rl_prompts"]) == (
        planning._EARLY,
        planning._RL_SHARE,
        planning._PROMPTS,
    )
    assert overall["user_inter_num_interval"] == f"[{planning.SHORTEST},inf)"
    assert max(overall["topk"]) == 20
    for early in (planning._EARLY, 0.5):
        for positions in range(300):
            dealt = rungs(positions, early, planning._RL_SHARE)
            assert planning._positions(np.array([positions]), early) == (sum(dealt == FUSION), sum(dealt == RL))
