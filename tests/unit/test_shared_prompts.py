"""Shared prompts change what is read, not what comes out."""

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma3TextConfig, GemmaConfig, GPT2Config, LlamaConfig, Qwen3Config

from rporec_recbole.training.shared_prompts import SharedPrompts, can_share

SMALL = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def made(config):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()


def qwen():
    return made(Qwen3Config(**SMALL, num_key_value_heads=1, head_dim=8))


def test_hidden_states_and_gradients_are_those_of_whole_rows():
    model, plain = qwen(), qwen()
    plain.load_state_dict(model.state_dict())
    prompts, of_row = [[5, 6, 7, 8], [9, 10]], [0, 1, 0, 1, 0]
    written = [[1, 2], [3], [4, 5, 6], [7, 8, 9], [1]]
    order = [3, 0, 4, 1, 2]  # the trainer shuffles
    width = 1 + max(map(len, written))
    tokens = torch.tensor([[row, *written[row], *[0] * (width - 1 - len(written[row]))] for row in order])
    mask = torch.tensor([[1] * (1 + len(written[row])) + [0] * (width - 1 - len(written[row])) for row in order])
    shared = SharedPrompts()
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
    model = qwen()
    read = []
    model.base_model.layers[0].register_forward_pre_hook(lambda layer, given: read.append(given[0].shape[:2]))
    shared = SharedPrompts()
    shared.prompts, shared.needed = [[5, 6, 7]] * 2 + [[8, 9]] * 2, [False, False, True, True]
    tokens, mask = torch.tensor([[row, 1, 2] for row in range(4)]), torch.ones(4, 3, dtype=torch.int64)
    with shared.in_front_of(model):
        model.base_model(input_ids=tokens, attention_mask=mask, use_cache=False)
    assert read == [(1, 2 + 2 + 2)]


def test_without_the_hooks_nothing_is_changed():
    model = qwen()
    before = copy.copy(model.base_model._forward_pre_hooks)
    with SharedPrompts().in_front_of(model):
        pass
    assert model.base_model._forward_pre_hooks == before


@pytest.mark.parametrize(
    ("config", "can"),
    [
        (Qwen3Config(**SMALL, num_key_value_heads=1, head_dim=8), True),
        (LlamaConfig(**SMALL), True),
        (GemmaConfig(**SMALL, num_key_value_heads=1, head_dim=8), True),
        (GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2), True),
        (Gemma3TextConfig(**SMALL, num_key_value_heads=1, head_dim=8, sliding_window=2), False),
    ],
)
def test_which_models_can_share(config, can):
    assert can_share(made(config)) is can
