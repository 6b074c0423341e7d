"""Rewards inside a real GRPO step."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from rporec_recbole.backbone.load import make_backbone
from rporec_recbole.cot.quality import QualityLimits
from rporec_recbole.errors import RewardError
from rporec_recbole.rewards.rechead_reward import FAILURE, RecheadReward
from rporec_recbole.rewards.record import Positions
from rporec_recbole.settings.reader import default_settings
from rporec_recbole.text.catalogue import Catalogue, ItemText
from rporec_recbole.training.stage2.grpo import train_rl

CATALOGUE = Catalogue([ItemText(""), ItemText("Heat"), ItemText("Up"), ItemText("Alien")], ("title",))
PROMPTS = ["Heat\n", "Up\n", "Heat\nUp\n", "Alien\n"]


@pytest.fixture
def step(tmp_path):
    """Runs GRPO on `tiny-nano` with weights of parts; gives what changed and what was observed."""

    def run(weights, group_size=3, entropies=None):
        settings = default_settings(
            backbone="tiny-nano", rl_steps=2, rl_prompts=2, group_size=group_size, kl_weight=0, rl_learning_rate=1e-3
        )
        torch.manual_seed(0)
        backbone = make_backbone(settings.backbone, [*CATALOGUE.lines, *PROMPTS], torch.device("cpu"), 0)
        before = {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}
        scores = torch.tensor([-torch.inf, 0.3, 1.1, 0.7])
        observed = []
        reward = RecheadReward(
            Positions(PROMPTS, [[1], [2], [1, 2], [3]], [[1], [2], [1, 2], [3]], torch.tensor([1, 2, 3, 1])),
            lambda rows, completions: scores.expand(len(rows), -1),
            encode=lambda completions: pytest.fail("nobody pays for text vectors"),
            entropies=entropies or (lambda prompts, tokens: pytest.fail("nobody pays for entropies")),
            catalogue=CATALOGUE,
            weights=weights,
            gates=[],
            k=10,
            limits=QualityLimits(3, 150, 0.3, 0.7),
            folder=tmp_path,
            observe=observed.append,
        )
        backbone.save(tmp_path / "reference")
        done = train_rl(
            backbone, PROMPTS, reward, settings.rl, max_new_tokens=6, reference=str(tmp_path / "reference"), seed=0
        )
        assert done.steps == 2
        after = backbone.model.state_dict()
        return {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}, observed

    return run


@pytest.mark.parametrize("group_size", [2, 3, 5, 7])
def test_equal_rewards_change_no_weight(step, group_size):
    changed, observed = step({"probability": 1.0, "ndcg": 0.37}, group_size)
    assert len(observed) == 2
    assert 0 < observed[0]["reward"] < 1
    assert changed == set()


def test_unequal_rewards_change_weights(step, monkeypatch):
    theirs = SimpleNamespace(short=lambda record: torch.tensor([1 / (1 + len(one.text)) for one in record.completions]))
    monkeypatch.setitem(sys.modules, "their_rewards", theirs)
    changed, _ = step({"their_rewards:short": 1.0})
    assert changed


def test_entropies_are_asked_for_the_tokens_of_the_rollout(step):
    asked = []

    def entropies(prompts, tokens):
        asked.append((list(prompts), tokens))
        return [torch.zeros(0)] * len(tokens)

    step({"entropy_gap": 1.0}, entropies=entropies)
    assert len(asked) == 2
    for prompts, tokens in asked:
        assert len(prompts) == len(tokens) == 6
        assert prompts[0] == prompts[1] == prompts[2]
        assert all(0 < len(one) <= 6 for one in tokens)


@pytest.mark.parametrize("value", ["raises", "nan"])
def test_a_failed_reward_stops_training_with_the_texts_saved(step, tmp_path, monkeypatch, value):
    def broken(record):
        if value == "raises":
            raise LookupError("no such thing")
        return torch.full((len(record),), torch.nan)

    monkeypatch.setitem(sys.modules, "their_rewards", SimpleNamespace(broken=broken))
    with pytest.raises(RewardError, match="their_rewards:broken") as failed:
        step({"their_rewards:broken": 1.0})
    path = Path(tmp_path / FAILURE)
    assert str(path) in str(failed.value)
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    assert len(rows) == 6
    assert all(row["prompt"] == PROMPTS[row["position"]] and isinstance(row["completion"], str) for row in rows)
