"""A GGUF file, written here from a small model, as the backbone."""

import sys

import pytest
import torch

from rporec_recbole.backbone.load import load_backbone, make_backbone
from rporec_recbole.cot.store import Decoding
from rporec_recbole.errors import BackboneError
from rporec_recbole.settings.reader import default_settings
from rporec_recbole.training.stage2.grpo import train_rl
from tests.gguf_file import write_gguf

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """(path of the file, the model that it was written from, its tokenizer)."""
    path = tmp_path_factory.mktemp("gguf") / "small.gguf"
    model, tokenizer = write_gguf(path)
    return path, model, tokenizer


def settings_for(path, **more):
    small = {"max_prompt_tokens": 200, "max_new_tokens": 8, "prompt_style": "compact", "lora": False}
    return default_settings(backbone=str(path), **{**small, **more}).backbone


def test_weights_and_words_are_those_of_the_file(source):
    path, model, tokenizer = source
    backbone = make_backbone(settings_for(path), [], CPU, 0)
    text = "Film 3 of the Drama"
    assert backbone.tokenizer.decode(backbone.prompts.encode([text])[0], skip_special_tokens=True) == text
    tokens = torch.tensor([tokenizer(text)["input_ids"]])
    with torch.no_grad():
        torch.testing.assert_close(backbone.model(tokens).logits, model(tokens).logits, atol=1e-4, rtol=1e-3)


def test_an_adapter_on_it_is_saved_and_found_again(source, tmp_path):
    path, _, _ = source
    settings = settings_for(path, lora=True, lora_rank=2)
    backbone = make_backbone(settings, [], CPU, 0)
    for weight in backbone.trainable():
        torch.nn.init.normal_(weight, std=0.3)
    backbone.weights_changed()
    prompts, decoding = ["Film 3", "Comedy"], Decoding(max_new_tokens=8)
    before = backbone.generate(prompts, decoding)
    backbone.save(tmp_path)
    again = load_backbone(tmp_path, settings, CPU)
    assert again.generate(prompts, decoding) == before
    assert before != make_backbone(settings_for(path), [], CPU, 0).generate(prompts, decoding)


@pytest.mark.parametrize("lora", [True, False])
def test_stage_2_trains_it(source, tmp_path, lora):
    more = {"lora": lora, "lora_rank": 2, "max_prompt_tokens": 200, "max_new_tokens": 8, "rl_steps": 2, "rl_prompts": 2}
    settings = default_settings(
        backbone=str(source[0]), prompt_style="compact", group_size=4, rl_learning_rate=0.01, **more
    )
    backbone = make_backbone(settings.backbone, [], CPU, 0)
    backbone.save(tmp_path)
    before = backbone.weights()
    done = train_rl(
        backbone, ["Film 3", "Comedy"], lambda texts, rows, tokens: [one[0] % 7 / 7 for one in tokens], settings.rl,
        max_new_tokens=8, reference=str(tmp_path), seed=0,
    )  # fmt: skip
    assert done.steps == 2
    assert not all(torch.equal(before[name], weight) for name, weight in backbone.weights().items())


def test_a_file_that_is_none(tmp_path):
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF nonsense")
    with pytest.raises(BackboneError, match=r"cannot be loaded|cut off or damaged"):
        make_backbone(settings_for(path), [], CPU, 0)
    with pytest.raises(BackboneError, match="no model"):
        make_backbone(settings_for(tmp_path / "missing.gguf"), [], CPU, 0)


def test_without_the_package(source, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(BackboneError, match=r"rporec_recbole\[gguf\]"):
        make_backbone(settings_for(source[0]), [], CPU, 0)
