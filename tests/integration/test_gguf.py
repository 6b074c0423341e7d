"""A GGUF file, written here from a small model, as the backbone."""

import sys

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from rporec_recbole.backbone.load import load_backbone, make_backbone
from rporec_recbole.backbone.tiny import train_tokenizer
from rporec_recbole.cot.store import Decoding
from rporec_recbole.errors import BackboneError
from rporec_recbole.settings.reader import default_settings
from rporec_recbole.training.stage2.grpo import train_rl

CPU = torch.device("cpu")
NAMES = {  # transformers' Qwen2 -> GGUF
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "model.layers.": "blk.",
}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """(path of the file, the model that it was written from, its tokenizer)."""
    import json

    from gguf import GGUFWriter

    tokenizer = train_tokenizer(["Film 3 of the Drama", "Comedy Crime 1984"] * 3, 400)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=256, tie_word_embeddings=False,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config).eval()
    path = tmp_path_factory.mktemp("gguf") / "small.gguf"
    writer = GGUFWriter(path, "qwen2")
    writer.add_context_length(256)
    writer.add_block_count(2)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([token for token, _ in vocabulary])
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    for name, tensor in model.state_dict().items():
        for theirs, ours in NAMES.items():
            name = name.replace(theirs, ours)
        writer.add_tensor(name, tensor.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
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
    with pytest.raises(BackboneError, match="cannot be loaded"):
        make_backbone(settings_for(path), [], CPU, 0)
    with pytest.raises(BackboneError, match="no model"):
        make_backbone(settings_for(tmp_path / "missing.gguf"), [], CPU, 0)


def test_without_the_package(source, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(BackboneError, match=r"rporec_recbole\[gguf\]"):
        make_backbone(settings_for(source[0]), [], CPU, 0)
