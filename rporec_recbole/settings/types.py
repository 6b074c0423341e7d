"""RPORec's settings: frozen, one dataclass per part.

The defaults and their explanations live in one place, `properties/model/RPORec.yaml`; the classes here give types.
Only `settings/reader.py` reads a config; everything behind it takes plain arguments.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

STAGES = {
    "1a": "trunk",
    "1b": "backbone warm-up",
    "1c": "fusion",
    "2": "reinforcement learning",
    "2b": "re-alignment",
    "refresh": "trunk on all positions",
}
TINY = {"tiny-nano": (512, 64, 2), "tiny": (6144, 128, 3), "tiny-large": (4096, 320, 6)}
"""Sizes of the embedded backbone: vocabulary, width, layers."""
REWARDS = ("rechead", "paper")
REWARD_PARTS = (
    "format",
    "ndcg",
    "probability",
    "reciprocal_rank",
    "length",
    "conciseness",
    "compression",
    "semantic_consistency",
    "entropy_gap",
    "cleanliness",
    "summary_compression",
    "summary_consistency",
    "entropy_gap_uncapped",
)
REWARD_GATES = ("format", "length", "repetition", "copying", "unfounded", "empty", "stuffing")
QUALITY_REASONS = ("format", "length", "repetition", "copying", "unfounded", "leak")
QUALITY_LIMITS = ("min_words", "max_words", "repetition", "copying")
WORDS = {
    "rechead": ("fused", "text"),
    "head_loss": ("catalogue", "negatives"),
    "text_base": ("history", "answer"),
    "reasoning_map": ("learned", "none"),
    "mixing": ("prenorm", "postnorm"),
    "mixing_reads": ("history", "last"),
    "head_encoder": ("frozen", "trained"),
    "item_vectors": ("mapped", "raw"),
    "malformed_texts": ("ignored", "read"),
    "lr_schedule": ("constant", "cosine", "linear"),
    "item_text_style": ("line", "named"),
    "history_text": ("items", "prompt"),
    "tag_reading": ("strict", "lenient"),
    "text_vector_length": ("unit", "own"),
    "prompt_style": ("compact", "instruct", "attributes"),
    "chat_template": ("auto", "never"),
    "generation_engine": ("transformers", "int8", "vllm"),
    "rollout_engine": ("transformers", "vllm"),
    "backbone_dtype": ("auto", "float32", "bfloat16"),
    "evaluation_texts": ("greedy", "drawn"),
    "fusion_learns": ("reasoning", "head"),
    "fusion_loss": ("catalogue", "negatives"),
    "fusion_schedule": ("constant", "linear"),
    "fusion_keeps": ("best", "last"),
    "rl_schedule": ("constant", "linear"),
    "rl_loss": ("grpo", "bnpo", "dr_grpo", "dapo"),
    "reward_candidates": ("catalogue", "negatives"),
}
"""Settings that are one of a few words."""
OF_TEXT_HEAD = {
    "text_base": "history",
    "gate_limit": 1.0,
    "gate_layers": 1,
    "reasoning_map": "learned",
    "mixing": "prenorm",
    "mixing_reads": "history",
    "head_encoder": "frozen",
    "item_vectors": "mapped",
    "malformed_texts": "ignored",
    "history_text": "items",
    "fusion_learns": "reasoning",
}
"""Settings that mean something to the text head alone, with what they are for the other."""


@dataclass(frozen=True)
class StageSettings:
    """Which stages run, and who learns from which training positions."""

    stages: list
    start_from: str | None
    ladder: bool
    ladder_early: float
    ladder_rl: float
    refresh_epochs: int
    controls: bool


@dataclass(frozen=True)
class HeadSettings:
    """The recommendation head: its kind, sizes and loss."""

    rechead: str
    hidden_size: int
    n_layers: int
    n_heads: int
    inner_size: int
    dropout: float
    initializer_range: float
    history_bias: bool
    id_dropout: float
    time_buckets: int
    time_dropout: float
    head_loss: str
    kept_negatives: bool
    text_base: str
    gate_limit: float
    gate_layers: int
    reasoning_map: str
    mixing: str
    mixing_reads: str
    head_encoder: str
    item_vectors: str
    malformed_texts: str
    logit_budget: int
    full_softmax_items: int
    sampled_negatives: int
    MAX_ITEM_LIST_LENGTH: int


@dataclass(frozen=True)
class TrunkSettings:
    """How the trunk is trained (stages 1a and refresh), beside RecBole's own `learning_rate`, `epochs` and so on."""

    lr_schedule: str
    lr_warmup_steps: int
    gradient_accumulation: int


@dataclass(frozen=True)
class TextSettings:
    """Item text, prompts and the text encoder."""

    item_text_fields: list | None
    ids_only: bool
    title_characters: int
    prompt_items: int
    prompt_ratings: bool
    item_text_style: str
    history_text: str
    tag_reading: str
    text_encoder: str
    text_size: int
    text_vector_length: str


@dataclass(frozen=True)
class BackboneSettings:
    """The language model, its warm-up and its generation limits."""

    backbone: str
    backbone_dtype: str
    prompt_style: str
    chat_template: str
    lora: bool
    lora_rank: int
    lora_alpha: int
    cot_weight: float
    stream_passes: int
    refresh_stream_passes: int
    stream_window: int
    stream_batch_tokens: int
    warmup_examples: int
    warmup_passes: int
    warmup_batch_size: int
    warmup_learning_rate: float
    best_of: int
    best_of_positions: int
    best_of_learning_rate_factor: float
    best_of_filters: list
    quality_limits: dict
    max_prompt_tokens: int
    max_new_tokens: int
    grounded_answers: bool
    answer_guesses: int
    generation_engine: str
    generation_batch_tokens: int
    vllm_memory: float
    cot_temperature: float
    cot_top_p: float
    evaluation_texts: str
    cot_samples: int
    cot_retries: int


@dataclass(frozen=True)
class FusionSettings:
    """How the fusion learns from generated reasoning (stages 1c and 2b)."""

    fusion_reads_history: bool
    fusion_hears_answers: bool
    answers_learning_rate: float
    fusion_positions: int
    fusion_epochs: int
    fusion_patience: int
    fusion_batch_size: int
    fusion_learning_rate: float
    fusion_learns: str
    fusion_loss: str
    fusion_schedule: str
    fusion_keeps: str
    cot_dropout: float
    fusion_strengths: list
    realign_learning_rate_factor: float


@dataclass(frozen=True)
class RLSettings:
    """GRPO (stage 2)."""

    rounds: int
    rl_steps: int
    rl_epochs: int
    rl_validate_every: int
    rl_validation_users: int
    rl_patience: int
    rl_keep_every: int
    rl_prompts: int
    group_size: int
    rl_learning_rate: float
    rl_schedule: str
    rl_loss: str
    rl_entropy_quantile: float
    rl_temperature: float
    rl_max_new_tokens: int | None
    rollout_engine: str
    kl_weight: float
    reward: str
    reward_weights: dict
    reward_gates: list
    reward_k: int
    reward_candidates: str


@dataclass(frozen=True)
class Settings:
    """All of RPORec's settings."""

    stage: StageSettings
    head: HeadSettings
    trunk: TrunkSettings
    text: TextSettings
    backbone: BackboneSettings
    fusion: FusionSettings
    rl: RLSettings

    @property
    def longest_texts(self) -> BackboneSettings:
        """Those of the backbone, with room for the completions of stage 2 where these may be longer than others."""
        longest = max(self.backbone.max_new_tokens, self.rl.rl_max_new_tokens or 0)
        return dataclasses.replace(self.backbone, max_new_tokens=longest)


def is_embedded(backbone: Any) -> bool:
    """Whether a backbone's name means one that is made here: `tiny`, or `tiny-` and a word."""
    return isinstance(backbone, str) and re.fullmatch(r"tiny(-\w*)?", backbone) is not None
