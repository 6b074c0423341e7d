"""A reward part of somebody else's: the example of the docs, and what is refused before training."""

import json
import re
import sys
from pathlib import Path

import pytest

from rporec_recbole.errors import ConfigError, RewardError
from rporec_recbole.host.bridge import build_config, build_model, build_trainer
from rporec_recbole.host.data import build_data
from rporec_recbole.rewards.rechead_reward import FAILURE
from rporec_recbole.settings.known import parse_value
from rporec_recbole.settings.properties import preset_file
from rporec_recbole.settings.reader import settings_from
from rporec_recbole.settings.types import REWARD_GATES, REWARD_PARTS
from tests.toy import toy_config

DOCS = (Path(__file__).parent.parent.parent / "docs/rewards.md").read_text(encoding="utf-8")


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """Writes a module `my_rewards` that can be imported in this test."""

    def write(code):
        (tmp_path / "my_rewards.py").write_text(code, encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "my_rewards", raising=False)

    yield write
    sys.modules.pop("my_rewards", None)


def trainer_of(toy, **overrides):
    config = toy_config(toy, **overrides)
    _, train, valid, _ = build_data(config)
    return build_trainer(config, build_model(config, train)), train, valid


def test_the_example_of_the_docs_runs(toy, own_module):
    own_module(re.search(r"```python\n(.*?)```", DOCS, re.DOTALL)[1])
    weights = parse_value(re.search(r'--reward_weights="(.*?)"', DOCS)[1])
    assert weights == {"ndcg": 0.9, "my_rewards:fresh": 0.1}
    trainer, train, valid = trainer_of(toy, stages=["1a", "1b", "1c", "2"], reward_weights=weights)
    trainer.fit(train, valid, saved=False)
    steps = trainer.recorder.curves["2 reinforcement learning/my_rewards:fresh"]
    assert len(steps) == 2
    assert all(0 <= value <= 1 for _, value in steps)


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        ("import no_such_package", ConfigError, "No module named 'no_such_package'"),
        ("raise OSError('no network')", ConfigError, "OSError: no network"),
        ("def other(record): ...", ConfigError, "no attribute 'fresh'"),
        ("fresh = 1", ConfigError, "name a function"),
        ("def fresh(): ...", RewardError, "TypeError"),
        ("def fresh(record): return record.scores", RewardError, r"must return a tensor of shape \(2,\)"),
    ],
)
def test_refused_before_training(toy, own_module, code, error, message):
    own_module(code)
    trainer, train, valid = trainer_of(toy, reward_weights={"my_rewards:fresh": 1.0})
    with pytest.raises(error, match=message):
        trainer.fit(train, valid, saved=False)
    assert trainer.stages == {}


def test_a_failure_in_training_leaves_its_texts_in_the_run_folder(toy, own_module, tmp_path):
    own_module(
        "import torch\n\ndef fresh(record):\n    return torch.ones(2) if len(record) == 2 else 1 / 0  # two: the trial\n"
    )
    folder = tmp_path / "run"
    trainer, train, valid = trainer_of(
        toy, stages=["1a", "1b", "1c", "2"], reward_weights={"my_rewards:fresh": 1.0}, run_dir=str(folder)
    )
    with pytest.raises(RewardError, match=re.escape(str(folder / FAILURE))):
        trainer.fit(train, valid, saved=False)
    saved = json.loads((folder / FAILURE).read_text(encoding="utf-8"))
    assert "`my_rewards:fresh` (ZeroDivisionError" in saved["error"]
    assert len(saved["rows"]) == 4
    assert all("Film" in row["prompt"] for row in saved["rows"])


def test_without_stage_2_nobody_needs_the_module(toy):
    trainer, train, valid = trainer_of(toy, stages=["1a"], reward_weights={"gone.module:fresh": 1.0})
    trainer.fit(train, valid, saved=False)
    assert list(trainer.stages) == ["1a"]


@pytest.mark.parametrize("given", [{"overrides": {"reward": "paper"}}, {"config_files": [str(preset_file("paper"))]}])
def test_the_papers_reward_by_flag_and_by_preset(given):
    settings = settings_from(build_config("RPORec", "ml-100k", **given)).rl
    assert settings.reward_weights["entropy_gap_uncapped"] == 0.1
    assert settings.reward_gates == ["format"]


def test_weights_that_are_given_win_over_the_papers():
    overrides = {"reward": "paper", "reward_weights": {"ndcg": 1.0}}
    settings = settings_from(build_config("RPORec", "ml-100k", overrides=overrides)).rl
    assert settings.reward_weights == {"ndcg": 1.0}
    assert settings.reward_gates == ["format"]


def test_every_part_of_the_papers_mixture_runs_in_training(toy):
    trainer, train, valid = trainer_of(toy, stages=["1a", "1b", "1c", "2"], reward="paper", max_new_tokens=40)
    trainer.fit(train, valid, saved=False)
    for name in trainer.settings.rl.reward_weights:
        assert len(trainer.recorder.curves[f"2 reinforcement learning/{name}"]) == 2


def test_the_docs_list_every_part_and_every_gate():
    parts, gates = DOCS.split("## Gates")
    assert set(re.findall(r"^\| `(\w+)`", parts, re.MULTILINE)) == set(REWARD_PARTS)
    assert set(re.findall(r"^\| `(\w+)`", gates, re.MULTILINE)) == set(REWARD_GATES)
