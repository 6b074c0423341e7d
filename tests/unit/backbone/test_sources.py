"""What `backbone` may name, and what is said of a source that does not do: one message, before weights are loaded."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Gemma3Config

from rporec_recbole.backbone import sources
from rporec_recbole.backbone.load import check_backbone, make_backbone
from rporec_recbole.backbone.sources import find_source
from rporec_recbole.errors import BackboneError
from rporec_recbole.settings.reader import default_settings
from tests.backbones import SHAPE, adapter_on, folder_of, qwen, word_tokenizer
from tests.gguf_file import write_gguf

CPU = torch.device("cpu")


def settings_for(source, **more):
    small = {"max_prompt_tokens": 200, "max_new_tokens": 8, "prompt_style": "compact", "lora_rank": 2}
    return default_settings(backbone=str(source), **{**small, **more}).backbone


def refused(source, **more):
    with pytest.raises(BackboneError) as caught:
        check_backbone(settings_for(source, **more))
    return str(caught.value)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return folder_of(qwen(0), tmp_path_factory.mktemp("models") / "base", word_tokenizer())


# --- GGUF -------------------------------------------------------------------------------------------------------------


def test_a_gguf_file_is_checked_without_asking_a_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "has_file", lambda *_: pytest.fail("a hub was asked"))
    folder = tmp_path / "a folder.gguf"
    folder.mkdir()
    model, _ = write_gguf(folder / "Small.GGUF")
    check_backbone(settings_for(folder / "Small.GGUF"))
    monkeypatch.setenv("HOME", str(tmp_path))
    home = settings_for("~/a folder.gguf/Small.GGUF", lora=False)
    check_backbone(home)
    assert torch.equal(make_backbone(home, [], CPU, 0).model.lm_head.weight, model.lm_head.weight)
    monkeypatch.chdir(folder)
    check_backbone(settings_for("Small.GGUF"))
    assert f"--backbone={folder / 'Small.GGUF'}" in refused(folder)


def test_a_gguf_file_that_is_cut_off_or_missing(tmp_path):
    write_gguf(tmp_path / "small.gguf")
    whole = (tmp_path / "small.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[:-2000])
    assert "is cut off or damaged" in refused(tmp_path / "cut.gguf")
    assert "is a local path but no model" in refused("missing.gguf")
    assert "is a local path but no model" in refused(tmp_path / "missing.gguf")


def test_a_gguf_file_on_a_hub(monkeypatch):
    asked = []
    monkeypatch.setattr(sources, "has_file", lambda *asks: asked.append(asks) or asks[1] == "README.md")
    assert "none of ['small-q4.gguf']" in refused("some/model-GGUF/small-q4.gguf")
    assert asked[0] == ("some/model-GGUF", "small-q4.gguf")
    assert {where for where, _ in asked} == {"some/model-GGUF"}


@pytest.mark.parametrize("name", ["some/model", "some/model-GGUF/small-q4.gguf"])
def test_a_hub_that_does_not_answer_is_not_a_model_without_weights(name, monkeypatch):
    """transformers says of both that there is no such file."""
    monkeypatch.setattr(sources, "has_file", lambda *_: False)
    said = refused(name)
    assert "no model that was downloaded, and no hub says" in said
    assert f"hf download {'/'.join(name.split('/')[:2])}`" in said
    assert "weights of another form" not in said


def test_an_adapter_on_a_gguf_file_names_the_file_as_its_base(tmp_path):
    write_gguf(tmp_path / "small.gguf")
    chosen = settings_for(tmp_path / "small.gguf", lora=True)
    make_backbone(chosen, [], CPU, 0).save(tmp_path / "adapter")
    assert find_source(str(tmp_path / "adapter")).weights == str(tmp_path / "small.gguf")
    check_backbone(settings_for(tmp_path / "adapter"))
    assert make_backbone(settings_for(tmp_path / "adapter"), [], CPU, 0).is_adapter


# --- adapters ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokenizer", [True, False])
def test_an_adapter_folder(base, tmp_path, tokenizer):
    path = adapter_on(base, tmp_path / "adapter", word_tokenizer() if tokenizer else None)
    check_backbone(settings_for(path))
    made = make_backbone(settings_for(path), [], CPU, 0)
    assert made.is_adapter
    assert len(made.tokenizer) == len(word_tokenizer())


@pytest.mark.parametrize("more", [{"use_dora": True}, {"init_lora_weights": "pissa"}, {"modules_to_save": ["lm_head"]}])
def test_adapters_of_other_kinds_of_lora(base, tmp_path, more):
    check_backbone(settings_for(adapter_on(base, tmp_path / "adapter", None, **more)))


def test_an_adapter_with_a_grown_vocabulary(base, tmp_path):
    tokenizer = word_tokenizer()
    words = len(tokenizer)
    tokenizer.add_tokens(["<user>", "<item>", "<x>"])
    message = refused(adapter_on(base, tmp_path / "grown", tokenizer, len(tokenizer)))
    assert f"holds embeddings of {words + 3} tokens, and its base {base} has {words}" in message
    assert "merge_and_unload" in message


def changed(source, path, weights=None, **described):
    shutil.copytree(source, path)
    file = path / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **described}))
    if weights:
        tensors = load_file(path / "adapter_model.safetensors")
        save_file({weights(name): tensor for name, tensor in tensors.items()}, path / "adapter_model.safetensors")
    return path


def test_adapters_that_do_not_fit(base, tmp_path):
    good = adapter_on(base, tmp_path / "good", word_tokenizer())
    wide = folder_of(qwen(0, hidden_size=64), tmp_path / "wide", word_tokenizer())
    assert "(32, 2) in the adapter and (64, 2) in the base" in refused(
        changed(good, tmp_path / "a", base_model_name_or_path=str(wide))
    )
    other = changed(good, tmp_path / "b", weights=lambda name: name.replace("layers.1.", "layers.7."))
    assert "missing in the adapter" in refused(other)
    gone = changed(good, tmp_path / "c", base_model_name_or_path=str(tmp_path / "gone"))
    assert f"an adapter on {tmp_path / 'gone'}, and nothing is there" in refused(gone)
    nowhere = changed(good, tmp_path / "d", target_modules=["wq", "wk"])
    assert f"does not fit its base {base}: Target modules" in refused(nowhere)
    model = AutoModelForCausalLM.from_pretrained(base)
    prompt = get_peft_model(model, PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"))
    prompt.save_pretrained(tmp_path / "e")
    assert "of the kind PROMPT_TUNING" in refused(tmp_path / "e")


@pytest.fixture(scope="module")
def seeing(tmp_path_factory):
    """A model that also sees."""
    tokenizer = word_tokenizer()
    text = {**SHAPE, "vocab_size": len(tokenizer), "num_hidden_layers": 2}
    vision = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32, "patch_size": 8,
    }  # fmt: skip
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4, image_token_index=5)
    return folder_of(config, tmp_path_factory.mktemp("models") / "seeing", tokenizer)


def test_an_adapter_on_a_vision_tower(seeing, base, tmp_path):
    blind = adapter_on(seeing, tmp_path / "blind", None, target_modules=r".*vision_tower.*(q_proj|v_proj)")
    assert "changes no layer that reads text" in refused(blind)
    moved = changed(blind, tmp_path / "moved", base_model_name_or_path=str(base))
    assert "Target modules" in refused(moved)
    check_backbone(settings_for(adapter_on(seeing, tmp_path / "both", None)))


def test_our_own_adapter_leaves_a_vision_tower_alone(seeing):
    check_backbone(settings_for(seeing))
    made = make_backbone(settings_for(seeing), [], CPU, 0)
    made.logits(made.collate(made.encode_examples(["Film 3"], ["a"]))).square().sum().backward()
    assert all(weight.grad is not None for weight in made.trainable())
    names = [name for name, weight in made.model.named_parameters() if weight.requires_grad]
    assert not [name for name in names if "vision" in name]
    assert len(names) == 2 * 7 * 2


def test_everything_is_said_at_once(tmp_path):
    tokenizer = word_tokenizer()
    source = folder_of(qwen(0), tmp_path / "model", tokenizer)
    tokenizer.add_tokens(["<user>"])
    tokenizer.eos_token = None
    tokenizer.save_pretrained(Path(source))
    message = refused(source, max_prompt_tokens=2000)
    for part in ("no end token", "longer than its embeddings", "reads at most 1024"):
        assert part in message
    assert "Traceback" not in message
