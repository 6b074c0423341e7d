"""Rules for RecBole's own settings, which it checks in the middle of a run or not at all."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from recbole.utils import ModelType

from rporec_recbole.data.cuts import cut_problems, cuts_in_time
from rporec_recbole.errors import did_you_mean
from rporec_recbole.host.short_rows import CHOICES

_Rule = tuple[Callable[[Any], bool], str]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _whole(least: int, most: float = float("inf")) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and least <= value <= most


_INTERVAL = re.compile(r"\s*[\[(][^,;\[\]()]+,[^,;\[\]()]+[\])]\s*(;\s*[\[(][^,;\[\]()]+,[^,;\[\]()]+[\])]\s*)*")
_LEARNERS = ("adam", "adamw", "adagrad", "rmsprop", "sgd", "sparse_adam")
_NEGATIVES = ("distribution", "sample_num", "alpha", "dynamic", "candidate_num")
_EVAL_KEYS = ("split", "order", "group_by", "mode")
_NOT_BY_TIME = {
    "benchmark_filename": "these files are a split already",
    "legacy_time_order": "it gives back the order of times that were rounded",
}
OF_VALUES = ("auc", "mae", "rmse", "logloss")
"""Metrics of single predictions; all others are of rankings."""
_WITHOUT_K = (*OF_VALUES, "gauc")
_PARTS = 3  # files of a user's own split
_SEEDS = 2**32  # NumPy's generators take no other


def _is_encoding(name: Any) -> bool:
    try:
        "a".encode(name)
    except (LookupError, TypeError, ValueError):
        return False
    return True


_RULES: dict[str, _Rule] = {
    "epochs": (_whole(1), "a whole number of at least 1"),
    "train_batch_size": (_whole(1), "a whole number of at least 1"),
    "eval_batch_size": (_whole(1), "a whole number of at least 1"),
    "eval_step": (_whole(0), "a whole number of at least 0 (0: no validation while the model trains)"),
    "stopping_step": (_whole(0), "a whole number of at least 0"),
    "seed": (_whole(0, _SEEDS - 1), f"a whole number from 0 to {_SEEDS - 1}"),
    "learning_rate": (lambda v: _is_number(v) and v > 0, "a number above 0"),
    "weight_decay": (lambda v: _is_number(v) and v >= 0, "a number of at least 0"),
    "learner": (lambda v: str(v).lower() in _LEARNERS, f"one of {', '.join(_LEARNERS)}"),
    "gpu_id": (
        lambda v: re.fullmatch(r"(-1|\d+(\s*,\s*\d+)*|(GPU|MIG)-[\w/,-]+)?", str(v)) is not None,
        "what CUDA_VISIBLE_DEVICES takes: numbers of GPUs, such as 0 or 0,1; empty or -1 means the CPU",
    ),
    "encoding": (_is_encoding, "the name of an encoding that Python knows, such as utf-8, ISO-8859-1, cp1252 or gbk"),
    "field_separator": (
        lambda v: isinstance(v, str) and len(v) == 1 and v.isascii() and v not in "\r\n",
        "one character, such as ','; a tab is the default",
    ),
    "seq_separator": (
        lambda v: isinstance(v, str) and v != "",
        "what stands between the words or numbers of a list, such as ' '",
    ),
    "rm_dup_inter": (
        lambda v: v is None or (isinstance(v, str) and v in ("first", "last")),
        "first or last, whichever of a user's equal items is to stay, or None: all stay",
    ),
    "short_rows": (lambda v: v in CHOICES, f"one of {', '.join(CHOICES)} (docs/recbole_users.md)"),
    "benchmark_filename": (
        lambda v: v is None or (isinstance(v, (list, tuple)) and len(v) == _PARTS),
        "the middle parts of three file names, such as [train,valid,test] for NAME.train.inter, NAME.valid.inter and NAME.test.inter",
    ),
    "topk": (
        lambda v: bool(v) and all(_whole(1)(k) for k in ks_of(v)),
        "whole numbers of at least 1, such as [5,10]",
    ),
    "clip_grad_norm": (
        lambda v: (
            v is None
            or (
                isinstance(v, Mapping) and set(v) <= {"max_norm", "norm_type", "error_if_nonfinite"} and "max_norm" in v
            )
        ),
        "a mapping such as {max_norm: 5, norm_type: 2}",
    ),
    "train_neg_sample_args": (
        lambda v: v is None or v == "None" or (isinstance(v, Mapping) and set(v) <= set(_NEGATIVES)),
        f"a mapping of {', '.join(_NEGATIVES)}, or None: nothing is sampled",
    ),
    "threshold": (
        lambda v: v is None or (isinstance(v, Mapping) and len(v) == 1 and all(_is_number(one) for one in v.values())),
        "a mapping of one column to a number, such as {rating: 4}: what is at least 4 is labelled 1",
    ),
    "discretization": (
        lambda v: (
            v is None
            or (
                isinstance(v, Mapping)
                and all(
                    isinstance(one, Mapping)
                    and (one.get("method") == "LD" or (one.get("method") == "ED" and _whole(1)(one.get("bucket"))))
                    for one in v.values()
                )
            )
        ),
        "a mapping of columns to methods, such as {price: {method: ED, bucket: 5}} or {price: {method: LD}}",
    ),
    **dict.fromkeys(
        ("user_inter_num_interval", "item_inter_num_interval"),
        (lambda v: v is None or _INTERVAL.fullmatch(str(v)) is not None, "an interval such as [5,inf)"),
    ),
    "val_interval": (
        lambda v: (
            v is None
            or (
                isinstance(v, Mapping)
                and all(
                    bool(one) if isinstance(one, (list, tuple)) else _INTERVAL.fullmatch(str(one)) for one in v.values()
                )
            )
        ),
        "a mapping of columns to intervals, for numbers, or lists of names, such as {rating: '[3,inf)', genre: [Drama,Crime]}",
    ),
}


def setting_problems(config: Any) -> list[str]:
    """What is wrong with RecBole's own settings.

    Args:
        config: RecBole's Config of a run.

    Returns:
        a sentence for each problem.
    """
    found = [
        f"`{key}={config[key]!r}` must be {allowed}"
        for key, (holds, allowed) in _RULES.items()
        if key in config and not holds(config[key])
    ]
    if config["MODEL_TYPE"] == ModelType.SEQUENTIAL and config["MODEL_INPUT_TYPE"] is None:
        found.append(f"`loss_type={config['loss_type']!r}` must be CE or BPR")
    if config["benchmark_filename"] is not None:
        found += [
            f"`{key}={config[key]!r}` would take rows away, and RecBole takes none out of the files of `benchmark_filename`. Leave it out, or "
            "filter the files"
            for key in ("rm_dup_inter", "val_interval")
            if config[key]
        ]
    if cuts_in_time(config["eval_args"]):
        found += [
            f"`{key}={config[key]!r}`: {why}, so it cannot stand beside a split by time (TS). Leave one of the two out"
            for key, why in _NOT_BY_TIME.items()
            if config[key]
        ]
    return (
        found
        + _evaluation_problems(config["eval_args"], bool(config["fitted_from"]))
        + _metric_problems(config)
        + _label_problems(config)
    )


def learns_from_labels(config: Any) -> bool:
    """Does a model learn from the labels of the data (`LABEL_FIELD`)? Beside sampled items RecBole makes labels of its own."""
    sampled = (config["train_neg_sample_args"] or {}).get("distribution", "none") != "none"
    return config["MODEL_TYPE"] == ModelType.CONTEXT and not sampled


def _label_problems(config: Any) -> list[str]:
    modes = (config["eval_args"] or {}).get("mode", {})
    labeled = "labeled" in (modes.values() if isinstance(modes, Mapping) else [modes])
    if labeled and any(str(metric).lower() not in OF_VALUES for metric in config["metrics"]):
        return [
            f"`eval_args.mode=labeled` predicts the labels of single rows and ranks no items, so metrics={config['metrics']} cannot be "
            'measured. Write --metrics="[AUC,LogLoss]" --valid_metric=AUC (MAE and RMSE do too), or `mode: full`'
        ]
    if config["threshold"] and not labeled and not learns_from_labels(config):
        return [
            f"`threshold={config['threshold']!r}` makes labels, and nothing reads labels with these settings. Leave it out, or measure "
            "labels with `mode: labeled` of eval_args"
        ]
    return []


def _evaluation_problems(given: Any, on_everything: bool = False) -> list[str]:
    if not isinstance(given, Mapping):
        return [f"`eval_args={given!r}` must be a mapping of {list(_EVAL_KEYS)}"]
    found = [
        f"`eval_args` has no part `{key}`.{did_you_mean(str(key), _EVAL_KEYS)}"
        for key in given
        if key not in (*_EVAL_KEYS, "targets")
    ]
    split = given.get("split")
    if not isinstance(split, Mapping) or len(split) != 1 or next(iter(split)) not in ("RS", "LS", "TS"):
        found.append(
            f"`eval_args.split={split!r}` must be {{LS: valid_and_test}}, {{RS: [0.8,0.1,0.1]}} or, by time for all users, {{TS: [0.8,0.1,0.1]}}"
        )
    elif "TS" in split:
        return found + cut_problems(given)
    elif "LS" in split and split["LS"] != "valid_and_test":
        found.append(
            f"`eval_args.split={dict(split)!r}`: LS must be valid_and_test. Validation chooses, and the test split is reported"
        )
    elif "RS" in split and not (
        isinstance(split["RS"], (list, tuple))
        and len(split["RS"]) == 3
        and (all(_is_number(one) and one > 0 for one in split["RS"]) or (on_everything and split["RS"][0] > 0))
    ):
        found.append(f"`eval_args.split={dict(split)!r}`: RS must be three numbers above 0, such as [0.8,0.1,0.1]")
    if given.get("order") not in ("RO", "TO"):
        found.append(f"`eval_args.order={given.get('order')!r}` must be TO (by time) or RO (at random)")
    if "targets" in given:
        found.append(
            f"`eval_args.targets={given['targets']!r}` belongs to a split by time, {{TS: [0.8,0.1,0.1]}}. Leave it out"
        )
    if given.get("group_by") not in (None, "user", "none", "None"):
        found.append(f"`eval_args.group_by={given.get('group_by')!r}` must be user or None")
    return found


def ks_of(topk: Any) -> list[Any]:
    """`topk` as a list; RecBole takes a single number too."""
    return list(topk) if isinstance(topk, (list, tuple)) else [topk]


def largest_k(config: Any) -> int:
    """How many items the evaluation looks at; 0 where none of the metrics is of a ranking."""
    ranks_items = any(str(metric).lower() not in _WITHOUT_K for metric in config["metrics"])
    return max(ks_of(config["topk"])) if ranks_items else 0


def _metric_problems(config: Any) -> list[str]:
    """`valid_metric` is what RecBole looks up in its results: a metric of `metrics`, at one of `topk` where it has a K."""
    given, metrics = str(config["valid_metric"]).lower(), [str(metric).lower() for metric in config["metrics"]]
    name, at, k = given.partition("@")
    without = name in _WITHOUT_K
    if name in metrics and (not at if without else k in map(str, ks_of(config["topk"]))):
        return []
    return [
        f"`valid_metric={config['valid_metric']}` must be one of metrics={config['metrics']} at one of topk={config['topk']}"
    ]
