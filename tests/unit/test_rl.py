"""The loop of stage 2 on tasks whose answer is known."""

import tempfile

import pytest
import torch

from rporec_recbole.backbone.load import make_backbone
from rporec_recbole.errors import RewardError
from rporec_recbole.settings import default_settings
from rporec_recbole.training.rl import Hooks, prompt_order, train_rl

WORDS = ["Drama Comedy Action Crime", "Film of the year", "one two three four five"]


def nano(**overrides):
    settings = default_settings(backbone="tiny-nano", **overrides)
    return make_backbone(settings.backbone, WORDS, torch.device("cpu"), 0), settings.rl


def train(backbone, settings, reward, tokens=1, **kw):
    with tempfile.TemporaryDirectory() as reference:
        backbone.save(reference)
        return train_rl(backbone, WORDS, reward, settings, max_new_tokens=tokens, reference=reference, seed=0, **kw)


def rewards_of(curve):
    return Hooks(on_step=lambda step, batch, numbers: curve.append(sum(batch.rewards) / len(batch.rewards)))


def test_one_token_decides():
    backbone, settings = nano(rl_steps=60, rl_prompts=4, group_size=8, rl_learning_rate=0.003, kl_weight=0.0)
    curve = []
    train(backbone, settings, lambda texts, rows: [float("e" in text) for text in texts], hooks=rewards_of(curve))
    assert 0.02 < curve[0] < 0.5, "chance"
    assert sum(curve[-5:]) / 5 > 0.95
