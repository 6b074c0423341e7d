"""Backbones: named sizes, sources, length limits, LoRA on several architectures."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    Qwen3Config,
)

from rporec_recbole.backbone import load, sources
from rporec_recbole.backbone.load import check_backbone, load_backbone, make_backbone
from rporec_recbole.backbone.losses import IGNORE
from rporec_recbole.backbone.tiny import build_tiny, train_tokenizer
from rporec_recbole.cot.store import Decoding
from rporec_recbole.errors import BackboneError, ConfigError
from rporec_recbole.settings.reader import backbone_defaults, default_settings
from rporec_recbole.settings.types import TINY
from rporec_recbole.text.completions import ANSWER, ANSWER_END
from rporec_recbole.text.prompts import INSTRUCTIONS
from tests.unit.backbone.test_rendering import PLAIN, STARTS

CPU = torch.device("cpu")
TEXTS = [f"Film {i} of the Drama | Comedy Crime | {1950 + i}" for i in range(70)]


def settings(**more):
    return default_settings(**more).backbone


# --- sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "low", "high"), [("tiny-nano", 0, 1e6), ("tiny", 1e6, 3e6), ("tiny-large", 6e6, 1e7)])
def test_sizes(name, low, high):
    backbone = make_backbone(settings(backbone=name), TEXTS, CPU, 0)
    vocabulary, width, layers = TINY[name]
    # The vocabulary of a short text stays smaller than its limit.
    missing = (vocabulary - len(backbone.tokenizer)) * width
    assert low < backbone.parameters + missing < high
    assert len(backbone.model.model.layers) == layers
    assert f"backbone {name} (qwen3)" in backbone.describe()


def test_tiny_is_what_it_always_was():
    assert TINY["tiny"] == (6144, 128, 3)
    assert list(TINY) == ["tiny-nano", "tiny", "tiny-large"]


@pytest.mark.parametrize("name", ["tiny-lage", "tiny-", ""])
def test_a_misspelt_size_names_the_sizes(name):
    with pytest.raises(ConfigError, match="one of tiny-nano, tiny, tiny-large, a folder"):
        settings(backbone=name)


@pytest.mark.parametrize("end", ["\n", " | 1996\n", " | rated 4\n", " | Drama | 1996 | rated 3.5\n", " | rated good\n"])
@pytest.mark.parametrize("often", [True, False])
def test_a_title_has_the_same_tokens_wherever_it_stands(end, often):
    """What a list teaches of a title helps an answer only where it is spelled in the same way, and the end of a prompt is the end of a line."""
    titles = [f"Serum {'with Oil ' * (n % 4)}{n} Oz" for n in range(40)] + ["Serum 30", "Cream 2.0", "Oil."]
    lines = [title + end for title in titles]
    tokenizer = train_tokenizer(lines * 6 if often else lines, 340)
    spelled = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731
    answers = [spelled(f"{ANSWER}{title}{ANSWER_END}")[1:-1] for title in titles]
    ends = [spelled(line)[len(answer) :] for line, answer in zip(lines, answers, strict=True)]
    assert spelled("".join(lines)) == [
        token for pair in zip(answers, ends, strict=True) for one in pair for token in one
    ]
    if often:
        assert all(len(answer) == 1 for answer in answers)
    assert tokenizer.decode(spelled("".join(lines))) == "".join(lines)


def test_titles_of_the_same_words_begin_alike():
    titles = ["Serum with Oil", "Serum with Salt", "Comb of Wood", "Comb of Bone"]
    tokenizer = train_tokenizer([f"{title}\n" for title in titles] * 6, 275)  # room for some words
    tokens = [tokenizer(title)["input_ids"] for title in titles]
    vectors = build_tiny(tokenizer, 64, 1, 99, 0).get_input_embeddings().weight.detach()[[one for (one,) in tokens]]
    assert vectors.std() == pytest.approx(0.02, rel=0.3), "as long as any other"
    vectors = torch.nn.functional.normalize(vectors, dim=1)
    near = vectors @ vectors.T
    assert near[0, 1] > near[0, 2:].max() + 0.2
    assert near[2, 3] > near[2, :2].max() + 0.2


# --- what a pretrained backbone changes -------------------------------------------------------------------------------


def test_one_line_is_all_that_changes_for_a_pretrained_backbone():
    one = default_settings(backbone="Qwen/Qwen3-0.6B")
    assert (one.backbone.lora, one.backbone.prompt_style, one.text.prompt_items) == (True, "instruct", 20)
    assert one.rl.rl_learning_rate < default_settings().rl.rl_learning_rate
    assert backbone_defaults("tiny-large") == {}
    assert default_settings(backbone="Qwen/Qwen3-0.6B", lora=False).backbone.lora is False


def test_the_config_has_what_changes_and_the_user_wins():
    from rporec_recbole.host.bridge import build_config
    from rporec_recbole.settings.repeated import repeatable_config

    overrides = {"backbone": "Qwen/Qwen3-0.6B", "warmup_examples": 5}
    written = repeatable_config(build_config("RPORec", "ml-100k", overrides=overrides))
    assert {key: written[key] for key in backbone_defaults("x")} == {**backbone_defaults("x"), "warmup_examples": 5}
    assert build_config("RPORec", "ml-100k", overrides=written | {"dataset": "x"})["lora"] is True
    assert build_config("RPORec", "ml-100k")["lora"] is False


# --- a folder of each architecture ------------------------------------------------------------------------------------

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 256}
KINDS = {
    "qwen3": (
        Qwen3Config(**SMALL, intermediate_size=48, num_key_value_heads=1, head_dim=16, tie_word_embeddings=False),
        ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"],
    ),
    "llama": (
        LlamaConfig(**SMALL, intermediate_size=48, num_key_value_heads=1),
        ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"],
    ),
    "gpt2": (GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=256), ["c_attn", "c_fc", "c_proj"]),
    "gpt_neox": (
        GPTNeoXConfig(**SMALL, intermediate_size=48),
        ["dense", "dense_4h_to_h", "dense_h_to_4h", "query_key_value"],
    ),
    "gemma3_text": (
        Gemma3TextConfig(**SMALL, intermediate_size=48, num_key_value_heads=1, head_dim=16),
        ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"],
    ),
}


def folder_of(kind, path, template=None):
    tokenizer = train_tokenizer([*TEXTS, INSTRUCTIONS["compact"], INSTRUCTIONS["instruct"]] * 2, 500)
    tokenizer.chat_template = template
    config = KINDS[kind][0]
    config.vocab_size = len(tokenizer)
    config.eos_token_id = config.pad_token_id = tokenizer.eos_token_id
    config.bos_token_id = None
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)


def limits(source, **more):
    return settings(**{"backbone": source, "max_prompt_tokens": 240, "max_new_tokens": 8, "lora_rank": 2, **more})


@pytest.mark.parametrize("kind", KINDS)
def test_lora_finds_the_linear_layers_and_leaves_the_head_alone(kind, tmp_path):
    source = folder_of(kind, tmp_path / "base")
    chosen = limits(source)
    check_backbone(chosen)
    backbone = make_backbone(chosen, [], CPU, 0)
    assert backbone.facts["lora"] == KINDS[kind][1]
    assert ", ".join(KINDS[kind][1]) in backbone.describe()
    trained = {name for name, weight in backbone.model.named_parameters() if weight.requires_grad}
    assert trained
    assert all(".lora_A." in name or ".lora_B." in name for name in trained)
    assert not [name for name in trained if "lm_head" in name or "embed" in name]
    head = backbone.model.get_output_embeddings()
    assert type(head) is torch.nn.Linear

    batch = backbone.collate(backbone.encode_examples(["Film 3"], ["<think>a</think><answer>b</answer>"]))
    backbone.logits(batch).square().sum().backward()
    assert all(weight.grad is not None for weight in backbone.trainable())

    for weight in backbone.trainable():
        torch.nn.init.normal_(weight, std=0.3)
    backbone.weights_changed()
    backbone.save(tmp_path / "adapter")
    again = load_backbone(tmp_path / "adapter", chosen, CPU)
    assert again.facts["lora"] == KINDS[kind][1]
    texts = ["Film 3", "Film 4 of the Drama"]
    assert again.generate(texts, Decoding(max_new_tokens=8)) == backbone.generate(texts, Decoding(max_new_tokens=8))
    assert again.fingerprint == backbone.fingerprint

    backbone.model.add_adapter("ref", backbone.model.peft_config["default"])  # as TRL does
    backbone.save_base(tmp_path / "base")
    backbone.save_adapter(tmp_path / "alone")
    base = load_backbone(tmp_path / "base", limits(str(tmp_path / "base"), lora=False), CPU)
    assert not base.is_adapter
    assert base.adapter_rank is None
    assert backbone.adapter_rank == chosen.lora_rank
    tokens = torch.tensor(backbone.prompts.encode(texts[1:]))
    both = PeftModel.from_pretrained(base.model, tmp_path / "alone").eval()
    with torch.no_grad():
        torch.testing.assert_close(both(tokens).logits, backbone.model.eval()(tokens).logits, atol=1e-5, rtol=1e-5)


def test_training_examples_are_rendered_as_generation_will_show_them(tmp_path):
    source = folder_of("qwen3", tmp_path, PLAIN + STARTS["qwen3"])
    backbone = make_backbone(limits(source, lora=False), [], CPU, 0)
    assert backbone.facts["chat_template"]
    assert "through its chat template" in backbone.describe()
    completion = "<think>a</think><answer>b</answer>"
    ((tokens, labels),) = backbone.encode_examples(["Film 3"], [completion])
    (prompt,) = backbone.prompts.encode(["Film 3"])
    assert tokens[: len(prompt)] == prompt
    assert labels[: len(prompt)] == [IGNORE] * len(prompt)
    assert backbone.tokenizer.decode(labels[len(prompt) : -1]) == completion
    assert labels[-1] == backbone.tokenizer.eos_token_id

    plain = make_backbone(limits(source, lora=False, chat_template="never"), [], CPU, 0)
    compact = make_backbone(limits(source, lora=False, prompt_style="compact"), [], CPU, 0)
    assert not plain.facts["chat_template"]
    assert not compact.facts["chat_template"]
    assert plain.fingerprint == compact.fingerprint != backbone.fingerprint
    assert plain.prompts.encode(["Film 3"]) == [plain.tokenizer("Film 3")["input_ids"]]


def test_a_fingerprint_holds_all_that_decides_what_is_written(tmp_path):
    source = folder_of("qwen3", tmp_path)

    def made(change=lambda backbone: None):
        torch.manual_seed(0)
        backbone = make_backbone(limits(source), [], CPU, 0)
        change(backbone)
        return backbone

    def scaled(backbone):
        backbone.model.peft_config["default"].lora_alpha *= 2

    def ended(backbone):
        backbone.model.generation_config.eos_token_id = [0, 5]

    def split(backbone):
        backbone.tokenizer.backend_tokenizer.pre_tokenizer = Whitespace()

    used = made()
    used.prompts.encode(TEXTS[:3])
    used.tokenizer(TEXTS[:3], padding=True, truncation=True, max_length=4)
    assert made().fingerprint == used.fingerprint, "truncation and padding of a call do not count"
    prints = [made(change).fingerprint for change in (lambda backbone: None, scaled, ended, split)]
    assert len(set(prints)) == len(prints)


def test_what_does_not_fit_is_told_before_weights_are_loaded(tmp_path, monkeypatch):
    source = folder_of("gpt2", tmp_path)
    monkeypatch.setattr(load, "_load", lambda *_: pytest.fail("weights were loaded"))
    with pytest.raises(BackboneError, match=r"make 257 tokens, and .* reads at most 256"):
        check_backbone(limits(source, max_prompt_tokens=249))
    with pytest.raises(BackboneError, match="leaves no room for a history"):
        check_backbone(limits(source, max_prompt_tokens=60))
    check_backbone(limits(source, max_prompt_tokens=248))


def test_pickled_weights_are_not_read(tmp_path):
    source = Path(folder_of("qwen3", tmp_path))
    weights = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    torch.save(weights, source / "pytorch_model.bin")
    with pytest.raises(BackboneError, match=r"no file named model.safetensors.*safetensors and GGUF files alone"):
        make_backbone(limits(str(source)), [], CPU, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_without_a_tokenizer_is_refused(kind, tmp_path):
    source = Path(folder_of(kind, tmp_path))
    for file in source.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(BackboneError, match=r"no tokenizer|cannot be loaded"):
        check_backbone(limits(str(source)))


def test_weights_that_cannot_be_read_are_found_before_the_first_stage(tmp_path):
    source = Path(folder_of("qwen3", tmp_path))
    weights = source / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(BackboneError, match="is damaged"):
        check_backbone(limits(str(source)))
    weights.unlink()
    with pytest.raises(BackboneError, match=r"no file .*model.safetensors"):
        check_backbone(limits(str(source)))
    AutoModelForCausalLM.from_config(KINDS["qwen3"][0]).save_pretrained(source, max_shard_size="20KB")
    check_backbone(limits(str(source)))
    sorted(source.glob("model-*.safetensors"))[1].unlink()
    with pytest.raises(BackboneError, match=r"no file .*model-00002-of"):
        check_backbone(limits(str(source)))


@pytest.mark.parametrize(
    ("there", "refused"),
    [
        ({"config.json", "model.safetensors"}, False),
        ({"config.json", "pytorch_model.bin"}, True),
        ({"adapter_config.json", "adapter_model.bin", "model.safetensors"}, True),
        ({"adapter_config.json", "adapter_model.safetensors"}, False),
    ],
)
def test_a_hub_s_pickled_weights_are_refused_before_the_first_stage(monkeypatch, there, refused):
    monkeypatch.setattr(sources, "has_file", lambda source, name: name in there)
    monkeypatch.setattr(load.AutoConfig, "from_pretrained", lambda **_: pytest.fail("went on"))
    with (
        pytest.raises(BackboneError, match="weights of another form are not read")
        if refused
        else pytest.raises(pytest.fail.Exception)
    ):
        check_backbone(limits("some/model"))


def test_a_pickled_adapter_is_not_read(tmp_path):
    make_backbone(limits(folder_of("qwen3", tmp_path), lora=True), [], CPU, 0).save(tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    torch.save(load_file(file), file.with_suffix(".bin"))
    file.unlink()
    with pytest.raises(BackboneError, match=r"adapter without adapter_model.safetensors"):
        load_backbone(tmp_path / "adapter", limits("x"), CPU)


def test_a_run_stops_before_the_trunk_if_the_backbone_cannot_be_used(toy, tmp_path, monkeypatch):
    from rporec_recbole.host.bridge import build_trainer
    from tests.toy import toy_model

    config, model, train, valid, _ = toy_model(toy, backbone=str(tmp_path), stages=["1a", "1c"])
    trainer = build_trainer(config, model)
    monkeypatch.setattr(trainer.head_stages, "trunk", lambda *_: pytest.fail("the trunk was trained"))
    with pytest.raises(BackboneError, match="no model"):
        trainer.fit(train, valid, saved=False)


@pytest.mark.parametrize(
    ("gpu", "lora", "wanted", "dtype"),
    [
        (True, True, "auto", torch.bfloat16),
        (True, False, "auto", torch.float32),
        (False, True, "auto", torch.float32),
        (False, True, "bfloat16", torch.bfloat16),
        (True, True, "float32", torch.float32),
    ],
)
def test_dtype(gpu, lora, wanted, dtype, monkeypatch):
    monkeypatch.setattr(load, "trains_in_bfloat16", lambda device: gpu)
    assert load._dtype(settings(backbone="some/model", lora=lora, backbone_dtype=wanted), CPU) == dtype
    assert load._dtype(settings(lora=lora, backbone_dtype=wanted), CPU) == torch.float32
