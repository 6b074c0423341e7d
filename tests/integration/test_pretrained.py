"""`backbone: FOLDER` as the only line that changes: every stage, through a chat template, with LoRA."""

import json

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from rporec_recbole.backbone.tiny import train_tokenizer
from rporec_recbole.cot.store import CoTStore
from rporec_recbole.runs.finished import load_run
from rporec_recbole.runs.run import run
from rporec_recbole.text.prompts import INSTRUCTIONS
from tests.toy import SHORT, TEXT
from tests.unit.backbone.test_rendering import PLAIN, STARTS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small Qwen3 with a chat template, as a hub would give it."""
    path = tmp_path_factory.mktemp("models") / "small"
    tokenizer = train_tokenizer(
        [*INSTRUCTIONS.values(), "Film 3 of the Drama | Comedy Crime | 1984 | rated 3"] * 3, 500
    )
    tokenizer.chat_template = PLAIN + STARTS["qwen3"]
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, max_position_embeddings=1024, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def test_all_stages_and_back(folder, toy, tmp_path):
    settings = {**SHORT, **TEXT, "data_path": str(toy), "run_dir": str(tmp_path / "run"), "backbone": str(folder)}
    done = run("RPORec", "toy", overrides=settings)
    facts = json.loads((done.run_dir / "metrics.json").read_text())["backbone"]
    assert facts["chat_template"]
    assert facts["lora"] == ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert 0 < facts["trainable"] < facts["parameters"]
    log = (done.run_dir / "log.txt").read_text()
    assert "LoRA on down_proj, gate_proj" in log
    assert "for a pretrained backbone: prompt_style=instruct" in log
    assert "lora: true" in (done.run_dir / "config.yaml").read_text()
    assert (done.run_dir / "backbone" / "adapter_config.json").is_file()
    store = CoTStore(done.run_dir / "reasoning.sqlite")
    assert all(row.prompt.startswith(INSTRUCTIONS["instruct"]) for row in store)
    count = len(store)
    loaded = load_run(done.run_dir)
    weights = loaded.model.backbone.model.named_parameters()
    assert all(weight.abs().sum() > 0 for name, weight in weights if ".lora_B." in name)  # they start at zero
    assert loaded.evaluate("test")[0] == done.metrics["test"]
    assert len(store) == count
    store.close()
