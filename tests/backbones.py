"""Small stand-ins for pretrained backbones: folders, adapters and GGUF files, as a hub would give them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    FalconH1Config,
    GraniteMoeHybridConfig,
    Lfm2Config,
    Mamba2Config,
    MambaConfig,
    PreTrainedTokenizerFast,
    Qwen3_5TextConfig,
    Qwen3Config,
    Qwen3NextConfig,
    RecurrentGemmaConfig,
)

from rporec_recbole.backbone.tiny import train_tokenizer
from rporec_recbole.text.prompts import INSTRUCTIONS

SHAPE: dict[str, Any] = {
    "vocab_size": 60, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "head_dim": 16,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024, "bos_token_id": None,
    "eos_token_id": 1, "pad_token_id": 0,
}  # fmt: skip
_LINEAR = {
    "linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
}  # fmt: skip
_MAMBA = {"mamba_d_head": 16, "mamba_d_state": 16, "mamba_chunk_size": 8}
_SHARED = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}

HYBRIDS = {
    "qwen3_next": lambda: Qwen3NextConfig(**SHAPE, **_LINEAR, **_SHARED, shared_expert_intermediate_size=32),
    "qwen3_5": lambda: Qwen3_5TextConfig(**SHAPE, **_LINEAR),
    "lfm2": lambda: Lfm2Config(**SHAPE, layer_types=["conv", "full_attention"] * 2),
    "falcon_h1": lambda: FalconH1Config(**SHAPE, **_MAMBA, mamba_d_ssm=64, mamba_n_heads=4, mamba_n_groups=1),
    "granite_h": lambda: GraniteMoeHybridConfig(
        **SHAPE, **_MAMBA, layer_types=["mamba", "attention"] * 2, num_local_experts=4, num_experts_per_tok=2,
        shared_intermediate_size=64, mamba_n_heads=8,
    ),
}  # fmt: skip
"""Attention beside layers that keep a state; each makes a configuration."""

FORGETFUL = {
    "mamba2": lambda: Mamba2Config(
        **{**SHAPE, "head_dim": 16}, num_heads=8, state_size=16, n_groups=1, chunk_size=8
    ),
    "mamba": lambda: MambaConfig(**SHAPE, state_size=8),
    "recurrent_gemma": lambda: RecurrentGemmaConfig(
        **{**SHAPE, "num_hidden_layers": 3}, lru_width=64, attention_window_size=16
    ),
}  # fmt: skip
"""Architectures that do not write with a cache what they write without."""


def word_tokenizer() -> PreTrainedTokenizerFast:
    """Knows the instructions and a film."""
    return train_tokenizer([*INSTRUCTIONS.values(), "Film 3 of the Drama | Comedy Crime | 1984 | rated 3"] * 3, 500)


def qwen(words: int, **more: Any) -> Qwen3Config:
    """A configuration of two layers."""
    return Qwen3Config(
        **{**SHAPE, "vocab_size": words, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, **more}
    )


def folder_of(config: Any, path: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A model folder; end and padding tokens are the tokenizer's, and there are as many words as it has."""
    config.vocab_size = len(tokenizer)
    config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def adapter_on(
    base: Path, path: Path, tokenizer: PreTrainedTokenizerFast | None, words: int | None = None, **more: Any
) -> Path:
    """An adapter folder as PEFT writes it, on a base with another number of words if asked."""
    model = AutoModelForCausalLM.from_pretrained(base)
    if words:
        model.resize_token_embeddings(words)
    chosen = {"target_modules": "all-linear", "init_lora_weights": False, **more}
    config = LoraConfig(r=2, task_type="CAUSAL_LM", **chosen)
    torch.manual_seed(0)
    get_peft_model(model, config).save_pretrained(path, save_embedding_layers=bool(words))
    if tokenizer:
        tokenizer.save_pretrained(path)
    return path


def sentence_model(folder, tokenizer):
    """A folder as sentence-transformers keeps one: a model of one layer with random weights."""
    from sentence_transformers import SentenceTransformer, models
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=128, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder / "bert")
    tokenizer.model_max_length, tokenizer.padding_side = 128, "right"
    tokenizer.save_pretrained(folder / "bert")
    transformer = models.Transformer(str(folder / "bert"))
    SentenceTransformer(modules=[transformer, models.Pooling(24)], device="cpu").save(str(folder / "model"))
    return folder / "model"


def static_encoder(path: Path, tokenizer: PreTrainedTokenizerFast, width: int) -> Path:
    """A folder as sentence-transformers keeps one: a mean of random token vectors, whose length is not 1."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    torch.manual_seed(0)
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=width)], device="cpu").save(str(path))
    return path
