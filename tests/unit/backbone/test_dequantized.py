"""A GGUF file read once: what is kept is what transformers reads, and it is found again."""

import errno
import struct

import pytest
import torch
from huggingface_hub import constants
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from rporec_recbole.backbone import dequantized as module
from rporec_recbole.backbone.dequantized import dequantized
from rporec_recbole.backbone.lean import write_lean
from rporec_recbole.backbone.load import check_backbone
from rporec_recbole.errors import BackboneError
from rporec_recbole.settings.reader import default_settings
from tests.gguf_file import write_gguf


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "hf"))
    return tmp_path / "hf" / "rporec_recbole"


def theirs(path):
    """What transformers itself reads."""
    where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    return AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32), AutoTokenizer.from_pretrained(**where)


def test_what_is_kept_is_what_transformers_reads(tmp_path, home):
    path = tmp_path / "small.gguf"
    write_gguf(path)
    model, tokenizer = theirs(path)
    kept = dequantized(path)
    again, words = AutoModelForCausalLM.from_pretrained(kept), module.PreTrainedTokenizerFast.from_pretrained(kept)
    expected = model.state_dict()
    assert expected.keys() == again.state_dict().keys()
    assert all(torch.equal(expected[name], weight) for name, weight in again.state_dict().items())
    ours, original = again.config.to_dict(), model.config.to_dict()
    assert {name for name in ours.keys() | original.keys() if ours.get(name) != original.get(name)} <= {
        "_name_or_path", "quantization_config", "architectures",
    }  # fmt: skip
    text = "Film 3 of the Drama, Comedy 1984"
    assert words(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert words.get_vocab() == tokenizer.get_vocab()
    assert words.eos_token_id == tokenizer.eos_token_id
    assert sorted(file.suffix for file in kept.iterdir()) == [".json"] * 4 + [".safetensors"]


def test_the_lean_copy_has_the_same_model_and_no_words(tmp_path):
    path, lean = tmp_path / "small.gguf", tmp_path / "lean.gguf"
    write_gguf(path)
    assert write_lean(path, lean)
    assert b"tokenizer.ggml.tokens" in path.read_bytes()
    assert b"tokenizer.ggml.tokens" not in lean.read_bytes()
    configs = [AutoConfig.from_pretrained(str(tmp_path), gguf_file=one.name).to_dict() for one in (path, lean)]
    assert configs[0] == configs[1]
    with pytest.raises(Exception, match="token"):
        AutoTokenizer.from_pretrained(str(tmp_path), gguf_file="lean.gguf")


def test_it_is_read_once(tmp_path, home, monkeypatch):
    path = tmp_path / "small.gguf"
    write_gguf(path)
    kept = dequantized(path)
    assert [one.name for one in home.iterdir()] == [kept.name]
    monkeypatch.setattr(module, "_write", lambda *_: pytest.fail("the file was read again"))
    assert dequantized(path) == kept
    moved = tmp_path / "elsewhere" / "small.gguf"
    moved.parent.mkdir()
    moved.write_bytes(path.read_bytes())
    assert dequantized(moved) == kept


def test_another_file_of_the_same_name_is_another_model(tmp_path, home):
    path = tmp_path / "small.gguf"
    write_gguf(path)
    kept = dequantized(path)
    whole = bytearray(path.read_bytes())
    whole[-4:] = struct.pack("<f", 0.5)
    path.write_bytes(whole)
    assert dequantized(path) != kept


def test_two_at_once_keep_one(tmp_path, home, monkeypatch):
    path, write = tmp_path / "small.gguf", module._write
    write_gguf(path)

    def beside(file, folder):
        monkeypatch.setattr(module, "_write", write)
        dequantized(path)
        write(file, folder)

    monkeypatch.setattr(module, "_write", beside)
    kept = dequantized(path)
    assert list(home.iterdir()) == [kept]
    assert AutoConfig.from_pretrained(kept).model_type == "qwen2"


def test_where_nothing_can_be_written(tmp_path, home, monkeypatch):
    path = tmp_path / "small.gguf"
    write_gguf(path)
    settings = default_settings(backbone=str(path), prompt_style="compact", max_prompt_tokens=200, max_new_tokens=8)
    full = OSError(errno.ENOSPC, "No space left on device")

    def no_space(*_):
        raise full

    monkeypatch.setattr(module, "_write", no_space)
    with pytest.raises(BackboneError, match=r"cannot be written: .*No space left.*HF_HOME"):
        check_backbone(settings.backbone)
    assert list(home.iterdir()) == []
    home.rmdir()
    home.write_text("a file")
    with pytest.raises(BackboneError, match=r"cannot be written.*HF_HOME"):
        check_backbone(settings.backbone)


@pytest.mark.parametrize("kept", [4, 7, 20, 100, 3000, -2000, -1])
def test_a_file_that_is_cut_off(tmp_path, home, kept):
    path = tmp_path / "cut.gguf"
    write_gguf(path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(BackboneError, match=r"is cut off or damaged.*download it again") as caught:
        check_backbone(default_settings(backbone=str(path)).backbone)
    assert f"{path.stat().st_size:,} bytes" in str(caught.value)
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    "damage", [b"", b"a text", b"GGUF" + bytes(60), b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 1 << 60)]
)
def test_a_file_of_another_kind(tmp_path, home, damage):
    path = tmp_path / "broken.gguf"
    path.write_bytes(damage)
    with pytest.raises(BackboneError, match=r"cannot be loaded|cut off or damaged"):
        check_backbone(default_settings(backbone=str(path)).backbone)
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ((b"qwen2", b"qwenX"), r"architecture qwenX is not supported"),
        ((b"tokenizer.ggml.", b"tokenizer.gone."), r"cannot be loaded"),
    ],
)
def test_a_whole_file_that_is_not_understood_is_not_called_damaged(tmp_path, home, change, said):
    path = tmp_path / "other.gguf"
    write_gguf(path)
    path.write_bytes(path.read_bytes().replace(*change))
    with pytest.raises(BackboneError, match=said) as caught:
        check_backbone(default_settings(backbone=str(path)).backbone)
    assert "damaged" not in str(caught.value)
    assert list(home.iterdir()) == []
