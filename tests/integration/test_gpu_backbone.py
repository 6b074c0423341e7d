"""The language model on a pretended GPU (`tests/pretend_gpu.py`): it writes, answers and learns as on the processor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rporec_recbole.backbone.engine import Generated, generate_tokens
from rporec_recbole.backbone.entropy import cot_entropies
from rporec_recbole.backbone.load import make_backbone
from rporec_recbole.backbone.trial import trial_problem
from rporec_recbole.cot.store import Decoding
from rporec_recbole.settings.reader import default_settings
from rporec_recbole.training.stage2.grpo import Hooks, train_rl
from rporec_recbole.training.stage2.shared_prompts import shared_prompts
from rporec_recbole.training.state.snapshots import random_states, restore_random_states
from tests.pretend_gpu import CPU, CUDA, gpu, on
from tests.unit.backbone.test_engine import ENDS, made
from tests.unit.backbone.test_engine import prompts as engine_prompts

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, and nothing need be pretended")
WORDS = ["Drama Comedy Action Crime", "Film of the year", "one two three four five"]
LINES = ["", "Film 1 | Drama", "Film 2 | Crime", "one two | Drama", "Film 12 | Action"]


@pytest.mark.parametrize(("name", "temperature"), [("gemma3, two kinds of layers", 0.7), ("lfm2", 0.0)])
def test_the_engine_writes_the_same_texts(name, temperature):
    prompts = [engine_prompts()[row] for row in (1, 3, 5, 7)]  # two of them are one
    names = [str(number) for number in range(len(prompts))]
    decoding, found = Decoding(temperature, 8, 3), {}
    for device in (CPU, CUDA):
        with on(device):
            model = made(name).to(device)
            found[device] = generate_tokens(
                model, prompts, decoding, ends=ENDS, pad=0, budget=400, identities=names, logprobs=temperature > 0
            )
    assert [one.tokens for one in found[CPU]] == [one.tokens for one in found[CUDA]]
    for one, other in zip(found[CPU], found[CUDA], strict=True):
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-5)


def nano(device: torch.device, **overrides: Any) -> tuple[Any, Any]:
    settings = default_settings(backbone="tiny-nano", **{"rl_prompts": 2, "group_size": 4, "rl_steps": 2, **overrides})
    return make_backbone(settings.backbone, [*WORDS, *LINES], device, 0), settings.rl


def test_grounded_answers_and_entropies():
    found = {}
    for device in (CPU, CUDA):
        with on(device):
            backbone, _ = nano(device)
            backbone.ground(LINES, repeats=False)
            tokens = backbone.tokenizer("<think>evidence: one.</think><answer>", add_special_tokens=False)["input_ids"]
            begun = [Generated(tokens, [])] * 3
            prompts = ["Film 1 | Drama\n", "one two | Drama\n", "Film\n"]
            decoding = Decoding(1.0, 60, 3, guesses=3, lines="x")
            likely = backbone.answer(prompts, begun, decoding)
            drawn = backbone.answer(prompts, begun, decoding, ["a", "b", "c"])
            uncertain = cot_entropies(backbone, prompts, [one.tokens for one in likely])
            found[device] = [one.tokens for one in (*likely, *drawn)], torch.cat(uncertain)
    assert found[CPU][0] == found[CUDA][0]
    torch.testing.assert_close(found[CPU][1], found[CUDA][1])


def vowels(texts: Any, rows: Any, tokens: Any) -> list[float]:
    return [float(sum(text.count(vowel) for vowel in "aeiou")) for text in texts]


@pytest.mark.parametrize("lora", [False, True])
def test_a_step_of_grpo_and_its_snapshot(lora, tmp_path):
    learned = {}
    for device in (CPU, CUDA):
        kept: list[Any] = []
        with on(device):
            backbone, settings = nano(device, lora=lora, rl_learning_rate=0.01, kl_weight=0.1, rl_keep_every=1)
            assert shared_prompts(backbone.model) is not None, "what fails there is only slower"
            backbone.save(tmp_path / device.type)
            stage = {"max_new_tokens": 3, "reference": str(tmp_path / device.type), "seed": 0}
            train_rl(backbone, WORDS, vowels, settings, **stage, hooks=Hooks(keep=kept.append))
            assert {weight.device for weight in backbone.model.parameters()} == {device}
            learned[device] = backbone.weights()
            if device == CUDA and not lora:
                again, _ = nano(device)
                train_rl(again, WORDS, vowels, settings, **stage, start=kept[0])
                for name, weight in again.weights().items():
                    torch.testing.assert_close(weight, learned[device][name])
    for name, weight in learned[CPU].items():
        torch.testing.assert_close(weight, learned[CUDA][name], rtol=1e-3, atol=1e-3)


def test_a_second_gpu_that_the_process_sees_is_left_alone(tmp_path):
    with gpu(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "device_count", lambda: 2)
        backbone, settings = nano(CUDA, rl_steps=1)
        backbone.save(tmp_path)
        lengths: list[int] = []
        hooks = Hooks(on_step=lambda step, batch, numbers: lengths.append(len(batch.texts)))
        train_rl(backbone, WORDS, vowels, settings, max_new_tokens=3, reference=str(tmp_path), seed=0, hooks=hooks)
        assert lengths == [settings.rl_prompts * settings.group_size] * settings.rl_steps


def test_an_architecture_is_tried_out_where_it_will_run():
    with gpu():
        assert trial_problem(nano(CUDA)[0].model.config, CUDA, adapter=False) == []


def test_what_is_drawn_to_make_an_adapter_changes_no_other_draw():
    with gpu():
        torch.manual_seed(7)
        before = torch.cuda.get_rng_state()
        nano(CUDA, lora=True)
        assert torch.equal(torch.cuda.get_rng_state(), before)


def test_a_run_that_a_gpu_began_goes_on_without_one():
    generator = torch.Generator().manual_seed(3)
    with gpu():
        tensors, kept = random_states(generator)
    assert "cuda0" in tensors
    torch.manual_seed(1)
    restore_random_states(generator, tensors, kept)
    assert torch.equal(torch.get_rng_state(), tensors["torch"])
