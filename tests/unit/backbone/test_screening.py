"""Screening excludes no logit that could be the largest, and the texts are those of the plain output layer."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from rporec_recbole.backbone import int8, screening
from rporec_recbole.backbone.load import Backbone
from rporec_recbole.backbone.screening import ScreenedOutput, can_screen, output_layer
from rporec_recbole.backbone.tiny import train_tokenizer
from rporec_recbole.cot.store import Decoding

from .test_engine import MODELS, SHAPE, completed, made, prompts


def output(vocabulary, hidden, spread=0.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(hidden, vocabulary, bias=False).requires_grad_(False)
    sizes = torch.exp(spread * torch.randn(vocabulary, 1, generator=generator))
    layer.weight.copy_(torch.randn(vocabulary, hidden, generator=generator) * sizes)
    return layer


def states(rows, hidden, spread=0.0, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, hidden, generator=generator) * torch.exp(spread * torch.randn(hidden, generator=generator))


@settings(max_examples=60, deadline=None)
@given(
    vocabulary=st.integers(1, 5000), hidden=st.integers(2, 80), rows=st.integers(1, 6), spread=st.floats(0, 3),
    scale=st.floats(-20, 20), seed=st.integers(0, 10**6),
)  # fmt: skip
def test_the_largest_logit_stays_and_is_exact(vocabulary, hidden, rows, spread, scale, seed):
    layer, x = output(vocabulary, hidden, spread, seed), states(rows, hidden, spread, seed + 1) * 2.0**scale
    exact, found = layer(x), ScreenedOutput(layer)(x)
    kept = found > -torch.inf
    assert found.shape == exact.shape
    assert kept.gather(1, exact.argmax(1, keepdim=True)).all()
    allowed = 1e-5 * (x.norm(dim=1, keepdim=True) * layer.weight.norm(dim=1)).clamp_(min=1e-30)
    assert ((found - exact).abs() <= allowed)[kept].all()


@settings(max_examples=40, deadline=None)
@given(spread=st.floats(0, 4), seed=st.integers(0, 10**6))
def test_no_logit_is_above_its_bound(spread, seed):
    layer, x = output(700, 33, spread, seed), states(5, 33, spread, seed + 1)
    unit = x.abs().amax(1, keepdim=True) / 127
    above, tops, best = ScreenedOutput(layer)._screen(x, unit)
    exact = x.double() @ layer.weight.double().T
    assert (above[:, :700] >= exact).all()
    assert (best <= exact.amax(1)).all()
    torch.testing.assert_close(tops[:, 0], above.amax(1), rtol=0, atol=0)


def test_few_are_computed_again():
    layer, x = output(20_000, 256), states(4, 256)
    found = ScreenedOutput(layer)(x)
    assert (found > -torch.inf).sum() < 200


def test_equal_rows_all_stay():
    layer = output(5000, 64)
    x = states(1, 64)
    layer.weight[[7, 4000, 4999]] = 3 * x
    kept = (ScreenedOutput(layer)(x) > -torch.inf)[0]
    assert kept.nonzero().flatten().tolist() == [7, 4000, 4999]


@pytest.mark.parametrize("what", ["nothing sticks out", "no number", "zeros"])
def test_the_whole_layer_where_screening_says_nothing(what):
    layer, x = output(3000, 16), states(2, 16)
    if what == "nothing sticks out":
        layer.weight[:] = layer.weight[0]
    elif what == "no number":
        x[1, 3] = torch.nan
    else:
        x[:] = 0
    torch.testing.assert_close(ScreenedOutput(layer)(x), layer(x), rtol=0, atol=0, equal_nan=True)


def test_leading_dimensions_stay():
    layer, x = output(3000, 16), states(6, 16)
    screened = ScreenedOutput(layer)
    torch.testing.assert_close(screened(x.view(2, 3, 16)), screened(x).view(2, 3, 3000))


def test_which_layers_are_screened(monkeypatch):
    monkeypatch.setattr(screening, "SMALLEST", 100)
    assert can_screen(nn.Linear(8, 100, bias=False))
    assert not can_screen(nn.Linear(8, 99, bias=False)), "small"
    assert not can_screen(nn.Linear(8, 100)), "has a bias"
    assert not can_screen(nn.Linear(8, 100, bias=False, dtype=torch.bfloat16))
    assert not can_screen(nn.Linear(8, 100, bias=False, device="meta"))
    assert not can_screen(nn.Linear(1, 100, bias=False)), "a product of single columns"
    assert not can_screen(None), "transformers gives None for a model without one"
    assert not can_screen(nn.Sequential(nn.Linear(8, 100, bias=False)))


def test_a_processor_whose_products_overflow_does_not_screen(monkeypatch):
    layer = nn.Linear(8, screening.SMALLEST, bias=False)
    monkeypatch.setattr(screening, "products_are_exact", int8.products_are_exact.__wrapped__)
    assert can_screen(layer)
    cut_off = lambda one, other: (one.int() @ other.T.int()).clamp_(-(2**15), 2**15 - 1)  # noqa: E731
    monkeypatch.setattr(int8, "product", cut_off)
    assert not can_screen(layer)


CAPPED = Gemma3TextConfig(num_key_value_heads=1, sliding_window=12, final_logit_softcapping=3.0, **SHAPE)


@pytest.mark.parametrize("name", [*MODELS, "gemma3, logits capped"])
def test_greedy_texts_are_the_same(name, monkeypatch):
    monkeypatch.setitem(MODELS, "gemma3, logits capped", lambda: Gemma3ForCausalLM(CAPPED))
    monkeypatch.setattr(screening, "_MOST", 1.0)
    model, texts = made(name), prompts()
    layer = (model.get_base_model() if hasattr(model, "peft_config") else model).get_output_embeddings()
    if type(layer) is not nn.Linear:
        pytest.skip("an adapter on the output layer: it is not screened")
    plain = [one.tokens for one in completed(model, texts)]
    screened = ScreenedOutput(layer)
    calls = []
    screened.register_forward_hook(lambda *_: calls.append(1))
    names = list(model.state_dict())
    assert [one.tokens for one in completed(model, texts, screened=screened)] == plain
    assert calls
    assert list(model.state_dict()) == names
    assert (model.get_base_model() if hasattr(model, "peft_config") else model).get_output_embeddings() is layer


def test_the_layer_comes_back_after_an_error():
    model = made("qwen3, shared heads")
    layer = model.get_output_embeddings()
    screened = ScreenedOutput(layer)
    with pytest.raises(IndexError):
        completed(model, [[SHAPE["vocab_size"]]], screened=screened)  # no such token
    assert model.get_output_embeddings() is layer
    with output_layer(model, screened):
        assert model.get_output_embeddings() is screened
    assert model.get_output_embeddings() is layer


def test_a_backbone_screens_greedy_texts_alone_and_follows_its_weights(monkeypatch):
    monkeypatch.setattr(screening, "SMALLEST", 1)
    tokenizer = train_tokenizer(["Film 3 of the Drama"], 400)
    model = made("qwen3, shared heads")
    model.resize_token_embeddings(len(tokenizer))
    backbone = Backbone(model, tokenizer, "tiny", batch_tokens=1000, max_prompt_tokens=32)
    made_for = []
    init = ScreenedOutput.__init__

    def noted(self, layer):
        made_for.append(layer)
        init(self, layer)

    monkeypatch.setattr(ScreenedOutput, "__init__", noted)
    texts, greedy = ["Film", "Drama 3"], Decoding(0.0, 5)
    backbone.generate_tokens(texts, Decoding(0.7, 5))
    backbone.generate_tokens(texts, greedy, logprobs=True)
    assert made_for == []
    first = backbone.generate_tokens(texts, greedy)
    assert backbone.generate_tokens(texts, greedy) == first
    assert len(made_for) == 1
    with torch.no_grad():
        model.get_output_embeddings().weight.copy_(model.get_output_embeddings().weight.flip(0))
    backbone.weights_changed()
    second = backbone.generate_tokens(texts, greedy)
    assert len(made_for) == 2
    monkeypatch.setattr(screening, "SMALLEST", 10**9)
    assert second == backbone.generate_tokens(texts, greedy) != first
