"""Rules for the settings of the rivals: what they say before anything is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rporec_recbole.settings.known import RIVALS
from rporec_recbole.settings.reader import backbone_settings

ITEMS_FROM = ("text", "ids", "both")

_Rule = tuple[Callable[[Any], bool], str]


def _whole(least: int) -> _Rule:
    return lambda value: type(value) is int and value >= least, f"a whole number of at least {least}"


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_RULES: dict[str, _Rule] = {
    **dict.fromkeys(
        (
            "hidden_size", "n_layers", "n_heads", "inner_size", "adapter_size", "text_size", "title_characters", "codebook_levels",
            "MAX_ITEM_LIST_LENGTH", "prompt_items", "live_items", "epoch_steps", "rl_updates", "reward_k",
            "taught_texts", "stream_batch_tokens",
        ),
        _whole(1),
    ),
    **dict.fromkeys(("negatives", "time_buckets", "beams", "stream_passes", "warmup_examples", "head_positions"), _whole(0)),
    **dict.fromkeys(("codebook_size", "group_size"), _whole(2)),
    "stream_window": _whole(10),
    **dict.fromkeys(("dropout_prob", "clip_low"), (lambda value: _number(value) and 0 <= value < 1, "a number from 0 up to, but not, 1")),
    "softmax_weight": (lambda value: _number(value) and 0 <= value <= 1, "a number from 0 to 1"),
    **dict.fromkeys(("clip_high", "cot_weight"), (lambda value: _number(value) and 0 <= value < float("inf"), "a number of at least 0")),
    **dict.fromkeys(
        ("temperature", "warmup_learning_rate", "rl_temperature"),
        (lambda value: _number(value) and 0 < value < float("inf"), "a number above 0"),
    ),
    **dict.fromkeys(("reasoning", "prompt_ratings"), (lambda value: isinstance(value, bool), "True or False")),
    "items_from": (lambda value: value in ITEMS_FROM, f"one of {', '.join(ITEMS_FROM)}"),
    "text_encoder": (
        lambda value: isinstance(value, str) and value.strip() != "",
        "`lsa`, or a sentence-transformers id or folder",
    ),
}  # fmt: skip


def rival_problems(config: Any) -> list[str]:
    """What is wrong with the settings of a rival, or of a class that extends one.

    Args:
        config: RecBole's Config.

    Returns:
        a sentence for each problem.
    """
    if not is_rival(config):
        return []
    own = {key: config[key] for key in _RULES if key in config}
    found = [
        f"`{key}={own[key]!r}` must be {allowed}" for key, (holds, allowed) in _RULES.items() if key in own and not holds(own[key])
    ]  # fmt: skip
    if not found and "n_heads" in own and own["hidden_size"] % own["n_heads"]:
        found.append(
            f"`hidden_size={own['hidden_size']}` must be a multiple of `n_heads={own['n_heads']}`: each head has its share of the width"
        )
    ks = config["topk"] if isinstance(config["topk"], list) else [config["topk"]]
    most = max((k for k in ks if type(k) is int), default=0)
    if not found and own.get("beams") and own["beams"] < most:
        found.append(
            f"`beams={own['beams']}` must be 0, all items, or at least {most}, the largest of `topk`: nothing is known of the order behind the last beam"
        )
    if (config["train_neg_sample_args"] or {}).get("distribution", "none") != "none":
        instead = " Items that a target is told from are `negatives`" if "negatives" in own else ""
        found.append(f"`train_neg_sample_args` has no effect on {config['model']}. Leave it out.{instead}")
    if not found and "backbone" in config:
        found += _language_problems(config)
    return found


def _language_problems(config: Any) -> list[str]:
    """What is wrong with the settings of a rival that is a language model."""
    found = backbone_settings(config.final_config_dict)[1]
    if config["stream_passes"] and config["prompt_style"] != "compact":
        found.append(
            f"`stream_passes={config['stream_passes']}` reads lists as prompts of `prompt_style=compact` show them (here {config['prompt_style']}); "
            "set `stream_passes` to 0 or `prompt_style` to compact"
        )
    if config["prompt_items"] > config["MAX_ITEM_LIST_LENGTH"]:
        found.append(
            f"`prompt_items={config['prompt_items']}` must be at most `MAX_ITEM_LIST_LENGTH={config['MAX_ITEM_LIST_LENGTH']}`: no more are handed over"
        )
    if config["taught_texts"] > config["group_size"]:
        found.append(
            f"`taught_texts={config['taught_texts']}` must be at most `group_size={config['group_size']}`, of which they are the best"
        )
    rewarded = config["reasoning"] and config["epochs"] > 1
    if not (config["stream_passes"] or config["head_positions"] or rewarded):
        found.append(
            "`stream_passes=0` and `head_positions=0` leave nothing that teaches how to rank. Raise one of them, or `epochs` with `reasoning`"
        )
    return found


def is_rival(config: Any) -> bool:
    """Whether a config is of a rival, or of a class that extends one."""
    return any(one.__name__ in RIVALS for one in config.model_class.__mro__)


def reads_texts(config: Any) -> bool:
    """Whether its model is a rival that reads item texts."""
    return is_rival(config) and ("text_encoder" in config or "backbone" in config) and config["items_from"] != "ids"
