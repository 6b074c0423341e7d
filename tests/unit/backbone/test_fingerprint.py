"""A fingerprint is the same before a backbone is saved and after, whatever its configuration holds, and on the next day."""

import datetime
import json

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma3Config, Gemma3TextConfig, GptOssConfig, LlamaConfig, Phi3Config
from transformers.utils import chat_template_utils

from rporec_recbole.backbone.fingerprint import fingerprint_of
from rporec_recbole.backbone.load import load_backbone, make_backbone
from rporec_recbole.backbone.writer import kept_writer
from rporec_recbole.errors import BackboneError
from rporec_recbole.settings.reader import default_settings
from tests.backbones import HYBRIDS, SHAPE, folder_of, qwen, word_tokenizer
from tests.unit.backbone.test_rendering import PLAIN, START

CPU = torch.device("cpu")
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}  # fmt: skip
NESTED = {
    "llama3": lambda: LlamaConfig(**SHAPE, rope_parameters=LLAMA3, id2label={1: "b", 0: "a"}),
    "phi3": lambda: Phi3Config(
        **{**SHAPE, "max_position_embeddings": 1024}, original_max_position_embeddings=512,
        rope_parameters={"short_factor": [1.0] * 8, "long_factor": [2.0] * 8, "rope_type": "longrope", "rope_theta": 1e4},
    ),
    "gemma3": lambda: Gemma3TextConfig(**SHAPE, layer_types=["sliding_attention", "full_attention"] * 2),
    "gemma3 that sees": lambda: Gemma3Config(
        text_config={**SHAPE, "vocab_size": len(word_tokenizer())}, mm_tokens_per_image=4, image_token_index=5,
        vision_config={
            "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2,
            "image_size": 32, "patch_size": 8,
        },
    ),
    "gpt_oss": lambda: GptOssConfig(**SHAPE, num_local_experts=4, num_experts_per_tok=2),
    "qwen3_next": HYBRIDS["qwen3_next"],
    "falcon_h1": HYBRIDS["falcon_h1"],
}  # fmt: skip


def settings_for(source, **more):
    given = {"max_prompt_tokens": 200, "max_new_tokens": 8, "prompt_style": "compact", "lora": False, **more}
    return default_settings(backbone=str(source), **given).backbone


def as_published(folder):
    """Turns the order of all entries, which transformers sorts when it saves."""

    def turned(value):
        if isinstance(value, dict):
            return {key: turned(value[key]) for key in reversed(value)}
        return [turned(one) for one in value] if isinstance(value, list) else value

    path = folder / "config.json"
    path.write_text(json.dumps(turned(json.loads(path.read_text()))), encoding="utf-8")
    return folder


@pytest.mark.parametrize("kind", NESTED)
@pytest.mark.parametrize("lora", [False, True])
def test_saving_does_not_change_it(kind, lora, tmp_path):
    source = as_published(folder_of(NESTED[kind](), tmp_path / "source", word_tokenizer()))
    chosen = settings_for(source, lora=lora, lora_rank=2)
    made = make_backbone(chosen, [], CPU, 0)
    made.save(tmp_path / "saved")
    again = load_backbone(tmp_path / "saved", chosen, CPU)
    assert again.fingerprint == made.fingerprint
    again.save(tmp_path / "twice")
    assert load_backbone(tmp_path / "twice", chosen, CPU).fingerprint == made.fingerprint


def test_the_order_of_entries_does_not_count_and_what_they_say_does():
    tokenizer, model = word_tokenizer(), AutoModelForCausalLM.from_config(NESTED["llama3"]())

    def printed(**changed):
        model.config.rope_parameters = dict(
            sorted({**LLAMA3, **changed}.items(), reverse=bool(changed.pop("turned", 0)))
        )
        return fingerprint_of(model, tokenizer, None, [1], "")

    assert printed() == printed()
    first = printed()
    model.config.rope_parameters = dict(reversed(model.config.rope_parameters.items()))
    assert fingerprint_of(model, tokenizer, None, [1], "") == first
    assert fingerprint_of(model, tokenizer, None, [1], "", form=1) != fingerprint_of(model, tokenizer, None, [1], "")
    assert printed(factor=4.0) != first


def test_which_tokens_are_special_counts(tmp_path):
    def printed(special):
        tokenizer = word_tokenizer()
        tokenizer.add_tokens(["<item>"], special_tokens=special)
        folder = folder_of(qwen(0), tmp_path / str(special), tokenizer)
        return make_backbone(settings_for(folder), [], CPU, 0).fingerprint

    assert printed(True) != printed(False)


# --- on the next day --------------------------------------------------------------------------------------------------

DATED = "{{ 'Today is ' + strftime_now('%d %B %Y') + '\\n' }}" + PLAIN + START


@pytest.fixture
def day(monkeypatch):
    """Sets the date that templates print."""

    def on(number):
        class Day(datetime.datetime):
            @classmethod
            def now(cls, tz=None):
                return cls(2031, 5, number)

        monkeypatch.setattr(chat_template_utils, "datetime", Day)

    return on


def dated(path):
    tokenizer = word_tokenizer()
    tokenizer.chat_template = DATED
    return folder_of(qwen(0), path, tokenizer)


@pytest.mark.parametrize("lora", [False, True])
def test_what_a_template_has_rendered_is_kept(lora, day, tmp_path):
    chosen = settings_for(dated(tmp_path / "source"), prompt_style="instruct", lora=lora, lora_rank=2)
    day(1)
    made = make_backbone(chosen, [], CPU, 0)
    assert "Today is 01 May 2031" in made.tokenizer.decode(made.prompts.encode(["Film 3"])[0])
    made.save(tmp_path / "saved")
    day(2)
    again = load_backbone(tmp_path / "saved", chosen, CPU)
    assert again.prompts.encode(["Film 3"]) == made.prompts.encode(["Film 3"])
    assert again.fingerprint == made.fingerprint
    again.save(tmp_path / "twice")
    day(3)
    assert load_backbone(tmp_path / "twice", chosen, CPU).fingerprint == made.fingerprint
    assert make_backbone(chosen, [], CPU, 0).fingerprint != made.fingerprint, "another run has its own day"


def test_a_backbone_of_before_keeps_its_fingerprint(tmp_path):
    chosen = settings_for(folder_of(qwen(0), tmp_path / "source", word_tokenizer()))
    made = make_backbone(chosen, [], CPU, 0)
    made.save(tmp_path / "saved")
    (tmp_path / "saved" / "writer.json").unlink()
    old = load_backbone(tmp_path / "saved", chosen, CPU)
    parts = old.model, old.tokenizer, None, old.end_tokens, old.prompts.identity
    assert old.fingerprint == fingerprint_of(*parts, form=1) != made.fingerprint
    old.save(tmp_path / "again")
    assert load_backbone(tmp_path / "again", chosen, CPU).fingerprint == old.fingerprint


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", json.dumps({"form": 2, "around": "x"}), '{"form": "x", "around": null}']
)
def test_a_damaged_note_is_one_message(content, tmp_path):
    (tmp_path / "writer.json").write_text(content, encoding="utf-8")
    with pytest.raises(BackboneError, match=r"writer.json cannot be read"):
        kept_writer(tmp_path)
    assert kept_writer(tmp_path / "elsewhere") is None
