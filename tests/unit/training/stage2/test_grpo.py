"""The loop of stage 2 on tasks whose answer is known."""

import tempfile
from pathlib import Path

import pytest
import torch

from rporec_recbole.backbone.load import make_backbone
from rporec_recbole.errors import RewardError
from rporec_recbole.settings.reader import default_settings
from rporec_recbole.training.stage2 import grpo
from rporec_recbole.training.stage2.grpo import Hooks, prompt_order, train_rl
from rporec_recbole.training.stage2.rollout import flat_groups

WORDS = ["Drama Comedy Action Crime", "Film of the year", "one two three four five"]


def nano(**overrides):
    settings = default_settings(backbone="tiny-nano", **{"rl_prompts": 2, "group_size": 4, **overrides})
    return make_backbone(settings.backbone, WORDS, torch.device("cpu"), 0), settings.rl


def train(backbone, settings, reward, tokens=3, **kw):
    with tempfile.TemporaryDirectory() as reference:
        backbone.save(Path(reference))
        return train_rl(backbone, WORDS, reward, settings, max_new_tokens=tokens, reference=reference, seed=0, **kw)


def equal(one, other):
    return all(torch.equal(weight, other[name]) for name, weight in one.items())


def with_e(texts, rows, tokens):
    return [float("e" in text) for text in texts]


def test_what_trl_asks_transformers_warns_nobody(recwarn):
    backbone, settings = nano(rl_steps=1)
    train(backbone, settings, with_e)
    assert [str(one.message) for one in recwarn if "gradient_checkpointing" in str(one.message)] == []


def vowels(texts, rows, tokens):
    return [float(sum(text.count(vowel) for vowel in "aeiou")) for text in texts]


def test_one_token_decides():
    backbone, settings = nano(rl_steps=60, rl_prompts=4, group_size=8, rl_learning_rate=0.003, kl_weight=0.0)
    curve = []
    hooks = Hooks(on_step=lambda step, batch, numbers: curve.append(sum(batch.rewards) / len(batch.rewards)))
    train(backbone, settings, with_e, tokens=1, hooks=hooks)
    assert 0.02 < curve[0] < 0.5, "chance"
    assert sum(curve[-5:]) / 5 > 0.95


@pytest.mark.parametrize("lora", [False, True])
def test_mixed_precision_ends_with_the_stage(lora, monkeypatch):
    monkeypatch.setattr(grpo, "trains_in_bfloat16", lambda device: True)
    backbone, settings = nano(rl_steps=2, rl_learning_rate=0.01, lora=lora)
    dtypes = set()
    layer = backbone.model.base_model.get_submodule("model.model" if lora else "").layers[0].mlp.down_proj
    layer.register_forward_hook(lambda layer, given, out: dtypes.add(out.dtype))
    train(backbone, settings, vowels)
    assert torch.bfloat16 in dtypes, "trained under autocast"
    dtypes.clear()
    with torch.no_grad():
        backbone.model(input_ids=torch.tensor([[3, 4, 5, 6]]))
    assert dtypes == {torch.float32}


def test_flat_groups():
    assert flat_groups([1, 1, 1, 0.5, 0, 0], 2) == [True, True, False, False, True, True]


def test_equal_rewards_change_nothing_even_with_momentum():
    backbone, settings = nano(rl_steps=4, rl_learning_rate=0.01, kl_weight=0.1)
    kept, flat = {}, []

    def until_step_2(texts, rows, tokens):
        return vowels(texts, rows, tokens) if len(kept) < 2 else [7.0] * len(texts)

    def on_step(step, batch, numbers):
        kept[step] = backbone.weights()
        flat.append(all(batch.flat))

    train(backbone, settings, until_step_2, hooks=Hooks(on_step=on_step))
    assert flat == [False, False, True, True]
    assert [equal(kept[step], kept[step + 1]) for step in (1, 2, 3)] == [False, True, True]


def test_the_best_policy_is_kept_and_patience_ends_the_stage():
    backbone, settings = nano(rl_steps=50, rl_validate_every=2, rl_patience=2, rl_learning_rate=0.01)
    scores = {0: 0.1, 2: 0.3, 4: 0.2, 6: 0.25}
    at = {}

    def validate(step):
        at[step] = backbone.weights()
        return scores[step]

    done = train(backbone, settings, vowels, hooks=Hooks(validate=validate))
    assert done.validations == list(scores.items())
    assert (done.steps, done.kept_step, done.stopped_early) == (6, 2, True)
    assert equal(backbone.weights(), at[2])
    assert not equal(backbone.weights(), at[6])


@pytest.mark.parametrize(("lora", "paper"), [(False, False), (True, False), (False, True)])
def test_going_on_from_a_snapshot_ends_with_equal_weights(lora, paper):
    changes = {"rl_steps": 5, "rl_keep_every": 2, "rl_validate_every": 2, "rl_learning_rate": 0.01, "lora": lora}
    changes |= {"rl_schedule": "linear", "rl_loss": "grpo", "rl_entropy_quantile": 0.2} if paper else {}
    kept, scores = [], iter([0.1, 0.2, 0.1, 0.1])
    hooks = Hooks(validate=lambda step: next(scores), keep=kept.append)
    whole, settings = nano(**changes)
    done = train(whole, settings, vowels, hooks=hooks)
    assert [one.facts["step"] for one in kept] == [2, 4, 5]
    later = iter([0.1, 0.1])
    again, _ = nano(**changes)
    assert train(again, settings, vowels, start=kept[0], hooks=Hooks(validate=lambda step: next(later))).kept_step == 2
    rest, _ = nano(**changes)
    unvalidated = default_settings(
        backbone="tiny-nano", rl_prompts=2, group_size=4, **{**changes, "rl_validate_every": 0}
    ).rl
    train(rest, unvalidated, vowels, start=kept[0]._replace(facts={"step": 2, "scores": [], "best_step": None}))
    assert done.kept_step == 2
    ends = kept[-1].under("policy")
    assert equal(rest.weights(), ends)
    assert equal(again.weights(), whole.weights())
    assert not equal(whole.weights(), ends)


def test_a_reward_that_fails_ends_the_stage():
    backbone, settings = nano(rl_steps=2)

    def broken(texts, rows, tokens):
        raise RewardError("no number")

    with pytest.raises(RewardError, match="no number"):
        train(backbone, settings, broken)


def test_every_prompt_has_its_turn():
    order = prompt_order(3, 7, 0)
    assert sorted(order[:3]) == sorted(order[3:6]) == [0, 1, 2]
    assert len(order) == 7
