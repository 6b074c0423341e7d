"""Reads RPORec's settings out of a config and checks them: all mistakes at once, each with what is allowed."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, get_args, get_type_hints

from rporec_recbole.errors import ConfigError, did_you_mean
from rporec_recbole.settings.properties import properties_dir, read_yaml
from rporec_recbole.settings.types import (
    OF_TEXT_HEAD,
    QUALITY_LIMITS,
    QUALITY_REASONS,
    REWARD_GATES,
    REWARD_PARTS,
    REWARDS,
    STAGES,
    TINY,
    WORDS,
    BackboneSettings,
    Settings,
    is_embedded,
)

_POSITIVE = "a whole number of at least 1"
_SHARE = "a number from 0 up to, but not including, 1"


def _one_of(*words: str) -> tuple[Callable[[Any], bool], str]:
    named = [f"`{word}`" for word in words]
    return lambda v: v in words, f"{', '.join(named[:-1])} or {named[-1]}"


_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(
        [
            "hidden_size",
            "n_layers",
            "n_heads",
            "inner_size",
            "logit_budget",
            "full_softmax_items",
            "sampled_negatives",
            "MAX_ITEM_LIST_LENGTH",
            "title_characters",
            "prompt_items",
            "text_size",
            "lora_rank",
            "lora_alpha",
            "warmup_batch_size",
            "best_of",
            "best_of_positions",
            "cot_samples",
            "answer_guesses",
            "stream_batch_tokens",
            "max_prompt_tokens",
            "max_new_tokens",
            "generation_batch_tokens",
            "fusion_positions",
            "fusion_epochs",
            "fusion_patience",
            "fusion_batch_size",
            "rounds",
            "rl_steps",
            "rl_validation_users",
            "rl_patience",
            "rl_keep_every",
            "rl_prompts",
            "reward_k",
            "refresh_epochs",
            "gradient_accumulation",
            "warmup_passes",
            "gate_layers",
            "rl_max_new_tokens",
        ],
        (lambda v: v >= 1, _POSITIVE),
    ),
    **dict.fromkeys(
        ("dropout", "id_dropout", "time_dropout", "cot_dropout", "ladder_rl"), (lambda v: 0 <= v < 1, _SHARE)
    ),
    **dict.fromkeys(
        (
            "warmup_learning_rate",
            "fusion_learning_rate",
            "answers_learning_rate",
            "rl_learning_rate",
            "realign_learning_rate_factor",
            "best_of_learning_rate_factor",
            "rl_temperature",
            "initializer_range",
        ),
        (lambda v: v > 0, "a number above 0"),
    ),
    **dict.fromkeys(("cot_weight", "cot_temperature", "kl_weight"), (lambda v: v >= 0, "a number of at least 0")),
    **dict.fromkeys(
        (
            "lr_warmup_steps",
            "stream_passes",
            "refresh_stream_passes",
            "warmup_examples",
            "rl_validate_every",
            "cot_retries",
            "rl_epochs",
            "time_buckets",
        ),
        (lambda v: v >= 0, "a whole number of at least 0"),
    ),
    "stream_window": (lambda v: v >= 10, "a whole number of at least 10"),
    "fusion_strengths": (
        lambda v: v and all(isinstance(s, (int, float)) and not isinstance(s, bool) and 0 <= s <= 1 for s in v),
        "a list of numbers from 0 to 1",
    ),
    **dict.fromkeys(
        ("ladder_early", "gate_limit", "cot_top_p", "rl_entropy_quantile", "vllm_memory"),
        (lambda v: 0 < v <= 1, "a number above 0, up to 1"),
    ),
    **{name: _one_of(*words) for name, words in WORDS.items()},
    "group_size": (lambda v: v >= 2, "a whole number of at least 2 (rewards are compared inside a group)"),
    "stages": (lambda v: all(s in STAGES for s in v), f"a list of stages among {list(STAGES)}"),
    "text_encoder": (lambda v: v.strip() != "", "`lsa`, or a sentence-transformers id or folder"),
    "backbone": (
        lambda v: v in TINY or (v.strip() != "" and not is_embedded(v)),
        f"one of {', '.join(TINY)}, a folder, a .gguf file or a Hugging Face id (write ./NAME for a folder of such a name)",
    ),
    "reward": (lambda v: v in REWARDS, f"one of {list(REWARDS)}"),
    "reward_weights": (
        lambda v: (
            v
            and all(
                (k in REWARD_PARTS or re.fullmatch(r"[\w.]+:\w+", str(k)))
                and isinstance(w, (int, float))
                and not isinstance(w, bool)
                and math.isfinite(w)
                for k, w in v.items()
            )
        ),
        f"a mapping from reward parts, among {list(REWARD_PARTS)} or yours as `package.module:function`, to numbers",
    ),
    "reward_gates": (
        lambda v: "format" in v and all(gate in REWARD_GATES for gate in v),
        f"a list among {list(REWARD_GATES)} with `format` in it",
    ),
    "best_of_filters": (
        lambda v: "format" in v and all(reason in QUALITY_REASONS for reason in v),
        f"a list among {list(QUALITY_REASONS)} with `format` in it",
    ),
    "quality_limits": (
        lambda v: (
            sorted(v) == sorted(QUALITY_LIMITS)
            and all(isinstance(w, (int, float)) and not isinstance(w, bool) and w >= 0 for w in v.values())
        ),
        f"a mapping from each of {list(QUALITY_LIMITS)} to a number of at least 0",
    ),
}


def backbone_defaults(backbone: Any) -> dict[str, Any]:
    """The settings that have another default on this backbone: none on an embedded one."""
    return {} if is_embedded(backbone) else read_yaml(properties_dir() / "backbone/pretrained.yaml")


def reward_defaults(reward: Any) -> dict[str, Any]:
    """The settings that have another default under this `reward`: weights and gates of its mixture."""
    return read_yaml(properties_dir() / f"reward/{reward}.yaml") if reward in REWARDS[1:] else {}


def backbone_settings(given: Mapping[str, Any]) -> tuple[BackboneSettings | None, list[str]]:
    """The backbone of a model that has some of RPORec's settings of it, by their names; the others are at RPORec's defaults.

    Args:
        given: settings; those that are not the backbone's are not read.

    Returns:
        None where something is wrong, and a sentence for each problem.
    """
    problems: list[str] = []
    values = read_yaml(properties_dir() / "model/RPORec.yaml")
    values |= backbone_defaults(given["backbone"]) | dict(given)
    return _part(BackboneSettings, values, problems), problems


def settings_from(config: Any) -> Settings:
    """Picks RPORec's settings out of a config and checks them.

    Args:
        config: anything with `config[key]`, such as a RecBole `Config` or a dict.

    Raises:
        ConfigError: lists every setting that is missing, of the wrong type or out of range.
    """
    problems: list[str] = []
    parts = {
        field.name: _part(get_type_hints(Settings)[field.name], config, problems)
        for field in dataclasses.fields(Settings)
    }
    if not problems:
        head = parts["head"]
        if head.hidden_size % (2 * head.n_heads):
            problems.append(f"`hidden_size={head.hidden_size}` must be a multiple of twice `n_heads={head.n_heads}`")
        if head.rechead != "text":
            given = {**vars(head), **vars(parts["text"]), **vars(parts["fusion"])}
            problems += [
                f"`{name}={given[name]}` is for `rechead=text` (here {head.rechead}); leave it at {usual} or set `rechead` to text"
                for name, usual in OF_TEXT_HEAD.items()
                if given[name] != usual
            ]
        for name, value, lsa in (
            ("head_encoder", head.head_encoder, "frozen"),
            ("text_vector_length", parts["text"].text_vector_length, "unit"),
        ):
            if parts["text"].text_encoder == "lsa" and value != lsa:
                problems.append(
                    f"`{name}={value}` needs a sentence encoder, and `text_encoder` is lsa; leave it at {lsa} or name an encoder"
                )
        if head.rechead == "text" and head.time_buckets:
            problems.append(
                f"`time_buckets={head.time_buckets}` is for the trunk of `rechead=fused`, and `rechead=text` reads no times: drop one of them"
            )
        if head.rechead == "text" and parts["text"].ids_only:
            problems.append("`rechead=text` reads item text, and `ids_only=True` says there is none: drop one of them")
        backbone = parts["backbone"]
        if parts["rl"].rollout_engine == "vllm" and not (backbone.generation_engine == "vllm" and backbone.lora):
            problems.append(
                f"`rollout_engine=vllm` needs `generation_engine=vllm` (here {backbone.generation_engine}) and `lora=True` (here "
                f"{backbone.lora}): vLLM takes the adapter anew at every step, whole weights it would have to load"
            )
        if backbone.cot_samples > 1 and backbone.cot_temperature == 0:
            problems.append(
                f"`cot_samples={backbone.cot_samples}` texts are drawn and need a `cot_temperature` above 0; set `cot_samples` to 1 or raise it"
            )
        if parts["fusion"].fusion_learns == "head" and backbone.cot_samples > 1:
            problems.append(
                f"`fusion_learns=head` reads each text anew at every step, and `cot_samples={backbone.cot_samples}` makes a mean of several; "
                "set `cot_samples` to 1 or `fusion_learns` to reasoning"
            )
        if backbone.evaluation_texts == "drawn" and backbone.cot_temperature == 0:
            problems.append(
                "`evaluation_texts=drawn` needs a `cot_temperature` above 0; raise it or set `evaluation_texts` to greedy"
            )
        if backbone.stream_passes and backbone.prompt_style != "compact":
            problems.append(
                f"`stream_passes={backbone.stream_passes}` reads lists as prompts of `prompt_style=compact` show them (here "
                f"{backbone.prompt_style}); set `stream_passes` to 0 or `prompt_style` to compact"
            )
        for name in ("cot_weight", "cot_temperature"):
            if backbone.best_of > 1 and getattr(backbone, name) == 0:
                problems.append(
                    f"`best_of={backbone.best_of}` needs a `{name}` above 0; set `best_of` to 1 or raise it"
                )
    if problems:
        raise ConfigError("Settings of RPORec:\n  " + "\n  ".join(problems))
    return Settings(**parts)


def default_settings(**overrides: Any) -> Settings:
    """The settings of `properties/model/RPORec.yaml` and, if it is pretrained, for the backbone
    and the reward; some of them changed.

    Raises:
        ConfigError: as `settings_from`, and for a name that does not exist.
    """
    values = read_yaml(properties_dir() / "model/RPORec.yaml")
    for key in overrides:
        if key not in values:
            raise ConfigError(f"RPORec has no setting `{key}`.{did_you_mean(key, values)}")
    values |= backbone_defaults(overrides.get("backbone", values["backbone"]))
    values |= reward_defaults(overrides.get("reward", values["reward"]))
    return settings_from({**values, **overrides})


def _part(kind: type, config: Any, problems: list[str]) -> Any:
    values: dict[str, Any] = {}
    for name, hint in get_type_hints(kind).items():
        try:
            value = config[name]
        except KeyError:
            value = None
        if name == "stages" and isinstance(value, (list, tuple)):
            value = [str(stage) for stage in value]  # YAML reads stage 2 as a number
        value, problem = _checked(name, value, hint)
        if problem:
            problems.append(problem)
        values[name] = value
    return kind(**values) if not problems else None


def _checked(name: str, value: Any, hint: Any) -> tuple[Any, str | None]:
    optional = type(None) in get_args(hint)
    if value is None and optional:
        return None, None
    wanted = get_args(hint)[0] if optional else hint
    if wanted is float and type(value) is int:
        value = float(value)
    if wanted is list and isinstance(value, tuple):
        value = list(value)
    rule = _RULES.get(name)
    if type(value) is not wanted:
        expected = (
            rule[1]
            if rule
            else {list: "a list", str: "a text", bool: "True or False"}.get(wanted, f"of type {wanted.__name__}")
        )
        return value, f"`{name}={value!r}` must be {expected}"
    if rule and not rule[0](value):
        return value, f"`{name}={value!r}` must be {rule[1]}"
    return value, None
