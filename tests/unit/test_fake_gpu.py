"""The arithmetic of heads, losses and backbone under PyTorch's fake tensors on `cuda`: all of it stays on one device.

Steps that look at numbers are followed in `tests/integration/test_gpu_path.py`; `tests/fake_gpu.py` says why.
"""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import Qwen3Config, Qwen3ForCausalLM
from transformers.cache_utils import Cache

from rporec_recbole.backbone.kv_cache import ATTENTION, InPlaceLayer, Place
from rporec_recbole.backbone.losses import cot_loss
from rporec_recbole.evaluation.ranking import target_rank
from rporec_recbole.model.answers import Guesses
from rporec_recbole.model.fusedhead import FusedHead
from rporec_recbole.model.losses import recommendation_loss
from rporec_recbole.model.rechead import Reasoning, distinct
from rporec_recbole.model.retrieval import top_items
from rporec_recbole.model.texthead import TextFusion
from rporec_recbole.training.stage1.fusion import FusionRows, fusion_loss
from rporec_recbole.training.stage2.shared_prompts import SharedPrompts
from tests.fake_gpu import CUDA, fake_gpu, on_fake_gpu

ROWS, STEPS, ITEMS, SIZE, TEXT = 3, 6, 12, 8, 4


@pytest.fixture
def mode():
    with torch.no_grad(), fake_gpu() as mode:
        yield mode


@pytest.fixture
def head(mode: FakeTensorMode):
    new = FusedHead(
        ITEMS, torch.empty(ITEMS, TEXT), hidden_size=SIZE, layers=2, heads=2, inner_size=16, dropout=0.1,
        initializer_range=0.3, history_bias=True, history_items=2, hears_answers=True,
    )  # fmt: skip
    return on_fake_gpu(new)


def ids(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.int64, device=CUDA)


def numbers(*shape: int) -> torch.Tensor:
    return torch.empty(shape, device=CUDA)


def reasoning(head: FusedHead) -> Reasoning:
    guesses = Guesses(ids(ROWS, 2, 3), numbers(ROWS, 2, 3, 3), numbers(ROWS, 2, 5))
    return Reasoning(
        numbers(ROWS, 2 * TEXT), numbers(ROWS) > 0, head.read_history(ids(ROWS, STEPS)), guesses
    )  # fmt: skip


def test_tensors_of_two_devices_do_not_meet(mode):
    with pytest.raises(RuntimeError, match="two devices, cuda:0 and cpu"):
        numbers(2) + torch.empty(2)


def test_the_trunk(head):
    states = head.states(ids(ROWS, STEPS), numbers(ITEMS, SIZE))
    assert (states.device, states.shape) == (CUDA, (ROWS, STEPS, SIZE))


def test_the_loss_over_the_catalogue(mode):
    loss = recommendation_loss(
        numbers(5, SIZE), numbers(ITEMS, SIZE), ids(5), distinct(ids(ROWS, STEPS)), ids(5), ids(5), numbers(5), 24,
        numbers(ITEMS) > 0,
    )  # fmt: skip
    assert (loss.device, loss.shape) == (CUDA, ())


def test_scores_with_reasoning_and_answers(head):
    scores = head.scores_of(numbers(ROWS, SIZE), numbers(ITEMS, SIZE), ids(ROWS, STEPS), reasoning(head))
    assert (scores.device, scores.shape) == (CUDA, (ROWS, ITEMS))
    assert target_rank(scores, ids(ROWS)).device == CUDA


def test_the_loss_of_the_fusion(head):
    rows = FusionRows(numbers(ROWS, SIZE), ids(ROWS, STEPS), reasoning(head), ids(ROWS))
    loss = fusion_loss(head, numbers(ITEMS, SIZE), rows, ids(2), ids(2) > 0)
    assert (loss.device, loss.shape) == (CUDA, ())


def test_the_fusion_of_the_text_head(mode):
    fusion = on_fake_gpu(TextFusion(SIZE, TEXT, 1, 2, 16))
    moved = fusion(numbers(ROWS, SIZE), Reasoning(numbers(ROWS, 2 * TEXT), numbers(ROWS) > 0))
    assert (moved.device, moved.shape) == (CUDA, (ROWS, SIZE))


def test_exact_search_in_a_large_catalogue(mode):
    scores, found = top_items(numbers(ROWS, SIZE), numbers(40_000, SIZE), 10)
    assert (scores.device, found.device, found.shape) == (CUDA, CUDA, (ROWS, 10))


def test_the_loss_of_the_texts(mode):
    assert cot_loss(numbers(2, 5, 30), ids(2, 5)).device == CUDA


def test_a_pass_of_the_engine_over_few_tokens_and_many_old_ones(mode):
    config = Qwen3Config(
        vocab_size=30, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8,
    )  # fmt: skip
    model = on_fake_gpu(Qwen3ForCausalLM(config).eval())
    model.set_attn_implementation(ATTENTION)
    place = Place(slice(0, ROWS), 0, 4, 8, ROWS)
    cache = Cache(layers=[InPlaceLayer(place) for _ in range(2)])
    out = model(
        input_ids=ids(ROWS, 2), attention_mask=numbers(ROWS, 1, 2, 6), position_ids=ids(ROWS, 2),
        past_key_values=cache, use_cache=True,
    )  # fmt: skip
    assert (out.logits.device, out.logits.shape) == (CUDA, (ROWS, 2, 30))
    assert cache.layers[0].keys.device == CUDA


def test_who_sees_whom_where_a_group_shares_its_prompt(mode):
    masks = SharedPrompts([None, 4])._mask(ids(2, 7), ids(2, 7))
    assert {name: mask.device for name, mask in masks.items()} == {
        "full_attention": CUDA,
        "sliding_attention": CUDA,
    }
