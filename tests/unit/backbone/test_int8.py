"""Layers of 8-bit integers stand in for a model's own, an adapter included, and texts written with them have keys of their own."""

import pytest
import torch
from torch import nn

from rporec_recbole.backbone import int8, int8_writer
from rporec_recbole.backbone.int8 import Int8Linear, int8_layers, products_are_exact, standing_in
from rporec_recbole.backbone.int8_writer import Int8Writer, require_int8
from rporec_recbole.backbone.load import check_backbone
from rporec_recbole.backbone.model import Backbone
from rporec_recbole.backbone.tiny import build_tiny, train_tokenizer
from rporec_recbole.cot.store import Decoding
from rporec_recbole.errors import BackboneError
from rporec_recbole.settings.reader import default_settings
from tests.toy import toy_model
from tests.unit.backbone.test_engine import completed, generated, made, prompts


@pytest.fixture(autouse=True)
def exact_products(monkeypatch):
    """On a processor without the instructions, integers are multiplied the long way: what is tested here is the rest."""
    if not products_are_exact():
        monkeypatch.setattr(int8, "product", lambda one, other: one.int() @ other.T.int())
        monkeypatch.setattr(int8_writer, "products_are_exact", lambda: True)


def test_by_hand():
    """Weights of 254 and -254 have the scale 2, inputs of 63.5 the scale .5: (127, 1) and (127, -127) of it."""
    layer = Int8Linear(torch.tensor([[254.0, -254.0], [127.0, 0.4]]), torch.tensor([1.0, 0.0]))
    out = layer(torch.tensor([[63.5, 0.5], [0.0, 0.0]]))
    expected = [[2 * 0.5 * (127 * 127 - 127 * 1) + 1, 0.5 * 127 * 127], [1.0, 0.0]]
    torch.testing.assert_close(out, torch.tensor(expected))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_close_to_the_layer_and_blind_to_neighbours(dtype):
    torch.manual_seed(0)
    own = nn.Linear(96, 40).to(dtype)
    layer, inputs = (
        Int8Linear(own.weight, own.bias),
        (torch.randn(2, 5, 96) * torch.logspace(-3, 3, 5)[:, None]).to(dtype),
    )
    out = layer(inputs)
    assert (out.dtype, out.shape) == (dtype, (2, 5, 40))
    with torch.no_grad():
        off = (out - own(inputs)).float().norm(dim=-1) / own(inputs).float().norm(dim=-1)
    assert off.max() < 0.02
    assert torch.equal(out[1, 3], layer(inputs[1, 3][None])[0])


@pytest.mark.parametrize("name", ["qwen3 with an adapter", "gemma3, two kinds of layers", "gpt2, learned positions"])
def test_which_layers(name):
    model = made(name)
    layers = int8_layers(model)
    kinds = {layer.rpartition(".")[2] for layer in layers}
    wanted = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert kinds == (set() if name.startswith("gpt2") else wanted), (
        "GPT-2's layers are no linear ones, an output layer stays"
    )
    own = dict(model.named_modules())
    with torch.no_grad():
        for which, layer in layers.items():
            inputs = torch.randn(7, layer._rounded.shape[1])
            out = own[which](inputs)
            assert (layer(inputs) - out).norm() < 0.02 * out.norm(), "the adapter counts"


def test_the_layers_come_back():
    model = made("qwen3 with an adapter")
    before, layers = dict(model.named_modules()), int8_layers(model)
    with pytest.raises(IndexError), standing_in(model, layers):
        model(input_ids=torch.tensor([[60]]))  # no such token
    after = dict(model.named_modules())
    assert all(after[name] is module for name, module in before.items())


@pytest.mark.parametrize("name", ["qwen3, shared heads", "gemma3, two kinds of layers"])
def test_the_engine_writes_with_them_what_generate_does(name):
    model, texts = made(name), prompts()
    own = [one.tokens for one in completed(model, texts)]
    with standing_in(model, int8_layers(model)):
        found = completed(model, texts)
        assert [one.tokens for one in found] == generated(model, texts)
    assert sum(one.tokens != other for one, other in zip(found, own, strict=True)) < len(texts), (
        "close to the model's own"
    )


@pytest.fixture
def tiny():
    tokenizer = train_tokenizer(["Film 3 of the Drama"], 400)
    return Backbone(build_tiny(tokenizer, 64, 2, 90, 0), tokenizer, "tiny", batch_tokens=900, max_prompt_tokens=32)


def test_texts_follow_the_weights_of_the_moment(tiny):
    writer, asked, decoding = Int8Writer(tiny), ["Film 3 of", "Drama of the"], Decoding(max_new_tokens=12)
    first, own = writer.generate(asked, decoding), tiny.fingerprint
    assert writer.fingerprint not in (own, "")
    assert writer.generate(asked, decoding) == first
    before = writer.fingerprint
    with torch.no_grad():
        for weight in tiny.trainable():
            weight.normal_(0, 0.5)
    tiny.weights_changed()
    assert writer.fingerprint != before
    assert writer.generate(asked, decoding) != first


def test_where_it_cannot_run(monkeypatch):
    settings = default_settings(generation_engine="int8").backbone
    with pytest.raises(BackboneError, match="is for processors, and this runs on cuda"):
        check_backbone(settings, torch.device("cuda"))
    monkeypatch.setattr(int8_writer, "products_are_exact", lambda: False)
    with pytest.raises(BackboneError, match="Leave it at `transformers`"):
        check_backbone(settings)
    with pytest.raises(BackboneError, match="AVX-512 VNNI"):
        require_int8(torch.device("cpu"))


def test_a_run_writes_with_it(toy):
    from rporec_recbole.host.bridge import build_trainer

    config, model, train, valid, test = toy_model(toy, stages=["1a", "1b", "1c"], generation_engine="int8")
    trainer = build_trainer(config, model)
    trainer.fit(train, valid, saved=False)
    trainer.evaluate(test, load_best_model=False)
    writers = {row.generator for row in model.reasoner.store}
    assert isinstance(model.reasoner.generator, Int8Writer)
    assert model.reasoner.generator.fingerprint in writers
    assert model.backbone.fingerprint not in writers
