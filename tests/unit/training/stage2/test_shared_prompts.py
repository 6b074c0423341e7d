"""Shared prompts change what is read, not what comes out."""

import copy

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Qwen3Config,
)

from rporec_recbole.training.stage2.shared_prompts import SharedPrompts, shared_prompts

SMALL = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def made(config):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()


WINDOWED = {"num_key_value_heads": 1, "head_dim": 8, "sliding_window": 16}
MODELS = {
    "qwen3": Qwen3Config(**SMALL, num_key_value_heads=1, head_dim=8),
    "gemma3, layers of two kinds": Gemma3TextConfig(
        **SMALL, **WINDOWED, layer_types=["sliding_attention", "full_attention"]
    ),
    "mistral, windows alone": MistralConfig(**SMALL, **WINDOWED),
}


@pytest.mark.parametrize("name", MODELS)
def test_hidden_states_and_gradients_are_those_of_whole_rows(name):
    model, plain = made(MODELS[name]), made(MODELS[name])
    prompts, of_row = [[5 + i % 40 for i in range(30)], [9, 10]], [0, 1, 0, 1, 0]
    written = [[1, 2], [3], [4, 5, 6], [7, 8, 9], [i + 1 for i in range(20)]]
    order = [3, 0, 4, 1, 2]  # the trainer shuffles
    width = 1 + max(map(len, written))
    tokens = torch.tensor([[row, *written[row], *[0] * (width - 1 - len(written[row]))] for row in order])
    mask = torch.tensor([[1] * (1 + len(written[row])) + [0] * (width - 1 - len(written[row])) for row in order])
    shared = shared_prompts(model)
    shared.prompts, shared.needed = [prompts[p] for p in of_row], [True] * 5
    with shared.in_front_of(model):
        found = model.base_model(input_ids=tokens, attention_mask=mask, use_cache=False).last_hidden_state
    loss = torch.zeros(())
    for place, row in enumerate(order):
        prompt = prompts[of_row[row]]
        states = plain.base_model(input_ids=torch.tensor([prompt + written[row]])).last_hidden_state[0]
        expected = states[len(prompt) - 1 :]
        torch.testing.assert_close(found[place, : len(expected)], expected, atol=1e-5, rtol=1e-4)
        loss = loss + (expected**3).sum()
    (found**3)[mask.bool()].sum().backward()
    loss.backward()
    for mine, its in zip(model.parameters(), plain.parameters(), strict=True):
        if its.grad is not None:
            torch.testing.assert_close(mine.grad, its.grad, atol=1e-4, rtol=1e-3)


def test_rows_that_teach_nothing_are_not_read():
    model = made(MODELS["qwen3"])
    read = []
    model.base_model.layers[0].register_forward_pre_hook(lambda layer, given: read.append(given[0].shape[:2]))
    shared = SharedPrompts([None, None])
    shared.prompts, shared.needed = [[5, 6, 7]] * 2 + [[8, 9]] * 2, [False, False, True, True]
    tokens, mask = torch.tensor([[row, 1, 2] for row in range(4)]), torch.ones(4, 3, dtype=torch.int64)
    with shared.in_front_of(model):
        model.base_model(input_ids=tokens, attention_mask=mask, use_cache=False)
    assert read == [(1, 2 + 2 + 2)]


def test_without_the_hooks_nothing_is_changed():
    model = made(MODELS["qwen3"])
    before = copy.copy(model.base_model._forward_pre_hooks)
    with SharedPrompts([None, None]).in_front_of(model):
        pass
    assert model.base_model._forward_pre_hooks == before


@pytest.mark.parametrize(
    "config",
    [
        *MODELS.values(),
        LlamaConfig(**SMALL),
        GemmaConfig(**SMALL, num_key_value_heads=1, head_dim=8),
        GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2),
        Gemma3TextConfig(**SMALL, num_key_value_heads=1, head_dim=8, sliding_window=2),
    ],
)
def test_models_that_share(config):
    assert isinstance(shared_prompts(made(config)), SharedPrompts)


def test_a_model_that_sees_more_than_masks_say_does_not_share():
    model = made(MODELS["qwen3"])
    model.base_model.layers[0].register_forward_hook(lambda layer, given, states: states + states.shape[1])
    assert shared_prompts(model) is None


def test_attention_of_another_kind_is_left_alone():
    model = AutoModelForCausalLM.from_config(MODELS["qwen3"], attn_implementation="eager")
    assert shared_prompts(model) is None
