"""RecBole's kinds of model: what each stands on by default, and what it needs of data and settings before it is trained.

Every kind ranks all items under the one protocol of `properties/overall.yaml`, context-aware and knowledge-aware models too. A
context-aware model learns from labels and is measured by them (RecBole's own way) where a user asks for labels.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from recbole.utils import ModelType

from rporec_recbole.data.item_texts import item_file
from rporec_recbole.errors import ConfigError, DatasetError
from rporec_recbole.host.columns import check_columns, header_of
from rporec_recbole.host.rules import OF_VALUES, learns_from_labels

TREES = ("LightGBM", "XGBoost")
STAGES = {"S3Rec": ("pretrain", "finetune"), "RaCT": ("actor_pretrain", "critic_pretrain", "finetune")}
"""Models that are trained several times over, and RecBole's names for that; all run one after another (`two-stage-models`)."""

_FEATURES = {**dict.fromkeys(("FDSA", "GRU4RecF", "SASRecF"), "selected_features"), "S3Rec": "item_attribute"}
_VECTORS = {"GRU4RecKG": ("ent",), "KSR": ("ent", "rel")}
"""Models that start from ready-made vectors, and the tables that hold these: of entities, of relations."""
_GRAPH_FIELDS = {
    "kg": ("HEAD_ENTITY_ID_FIELD", "RELATION_ID_FIELD", "TAIL_ENTITY_ID_FIELD"),
    "link": ("ITEM_ID_FIELD", "ENTITY_ID_FIELD"),
}
_GRAPH_FILTERS = ("entity_kg_num_interval", "relation_kg_num_interval")
_PACKAGES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "KGAT": ("dgl", lambda config: True),
    "KGIN": ("torch_scatter", lambda config: True),
    "MCCLK": ("torch_scatter", lambda config: True),
    "NCL": ("faiss", lambda config: True),
    "NNCF": ("community", lambda config: config["neigh_info_method"] == "louvain"),
    "LDiffRec": ("kmeans_pytorch", lambda config: config["n_cate"] > 1),
}
"""What models import in the middle of their training, and when."""
_NEGATIVES = "train_neg_sample_args"
_IN_BRACKETS = re.compile(r"\[(\w+)\]")
_MEASURED_BY_LABELS = ("eval_args", "metrics", "valid_metric")
_ONE_NEGATIVE = {"distribution": "uniform", "sample_num": 1, "alpha": 1.0, "dynamic": False, "candidate_num": 0}


def defaults(model: str, kind: Any, recbole: Mapping[str, Any], ours: dict[str, Any], given: Mapping[str, Any]) -> None:
    """Changes our defaults into those of a kind of model.

    Args:
        model: its name.
        kind: RecBole's `ModelType`.
        recbole: RecBole's own defaults for the model.
        ours: the package's; what it holds wins over RecBole's.
        given: what the user gave; columns that a model reads by name are added to its `load_col`.
    """
    theirs = {**recbole, **given}
    if kind in (
        ModelType.CONTEXT,
        ModelType.KNOWLEDGE,
    ):  # with the tables of features, triples and links that RecBole names
        ours["load_col"] = {**(recbole.get("load_col") or {}), **(ours.get("load_col") or {})}
    if kind == ModelType.CONTEXT and _asks_for_labels(given):
        for key in _MEASURED_BY_LABELS:
            ours.pop(key, None)
        inter = [*ours["load_col"]["inter"], given.get("LABEL_FIELD", recbole.get("LABEL_FIELD"))]
        ours["load_col"] = {**ours["load_col"], "inter": inter}
    elif kind == ModelType.CONTEXT:
        ours |= {"train_neg_sample_args": dict(_ONE_NEGATIVE), "threshold": None}
    if model in _VECTORS:
        kinds = _VECTORS[model]
        graph = {source: [theirs[field] for field in fields] for source, fields in _GRAPH_FIELDS.items()}
        vectors = {source: [f"{source}_id", f"{source}_emb"] for source in kinds}
        ours["load_col"] = {**(ours.get("load_col") or {}), **graph, **vectors}
        ours |= {"additional_feat_suffix": list(kinds), "preload_weight": dict(vectors.values())}
        ours |= {"alias_of_entity_id": ["ent_id"], "alias_of_relation_id": ["rel_id"] if "rel" in kinds else None}
    if model in _FEATURES:
        wanted = [given.get("ITEM_ID_FIELD", "item_id"), *_features(theirs, model)]
        ours["load_col"] = with_columns(ours.get("load_col"), "item", wanted)
        if isinstance(given.get("load_col"), dict):
            given["load_col"].update(with_columns(given["load_col"], "item", wanted))


def with_columns(load_col: Mapping[str, Any] | None, source: str, columns: Iterable[str]) -> dict[str, Any]:
    """`load_col` with these columns of a table in it."""
    merged = dict(load_col or {})
    if merged.get(source) != "*":
        merged[source] = list(dict.fromkeys([*(merged.get(source) or []), *columns]))
    return merged


def check_files(config: Any) -> None:
    """Refuses data that lack what a kind of model reads.

    Args:
        config: RecBole's Config of the run.

    Raises:
        DatasetError: a table or a column is missing, or of another type.
        ConfigError: a setting does not fit the columns.
    """
    name, model = config["dataset"], config["model"]
    if config["MODEL_TYPE"] == ModelType.KNOWLEDGE or model in _VECTORS:
        for source, fields in _GRAPH_FIELDS.items():
            columns = [config[field] for field in fields]
            _check_table(config, source, columns, f"{model} reads a knowledge graph from {name}.kg and {name}.link")
    for source in _VECTORS.get(model, ()):
        values = dict(config["preload_weight"] or {})
        wanted = (f"{source}_id", str(values.get(f"{source}_id")))
        _check_table(config, source, wanted, f"{model} starts from ready-made vectors, in {name}.{source}")
    if model in _FEATURES:
        _check_features(config)
    if "labeled" in config["eval_args"]["mode"].values() or learns_from_labels(config):
        _check_labels(config)
    elif config["MODEL_TYPE"] == ModelType.CONTEXT:
        _check_contexts(config)
    check_columns(config)


def refuse_nothing_left(config: Any, dataset: Any) -> None:
    """Refuses a knowledge graph of which filters leave nothing: RecBole then takes its items away too, or trains without any of it.

    Args:
        config: RecBole's Config of the run.
        dataset: RecBole's, read.

    Raises:
        DatasetError: says which filters they are.
    """
    graph = getattr(dataset, "kg_feat", None)
    if graph is None or len(graph):
        return
    filters = ", ".join(f"{key}={config[key]!r}" for key in _GRAPH_FILTERS)
    raise DatasetError(f"No triple of {config['dataset']}.kg is left after filtering by {filters}. Widen one.")


def missing_package(config: Any) -> str | None:
    """The package that a model would import while it is trained, if that is not installed."""
    if config["model"] not in _PACKAGES:
        return None
    package, needed = _PACKAGES[config["model"]]
    return package if needed(config) and importlib.util.find_spec(package) is None else None


def size_problem(config: Any, dataset: Any) -> str | None:
    """What is wrong with a setting of a model beside the size of the data, None if nothing is.

    Args:
        config: RecBole's Config of the run.
        dataset: RecBole's, read.
    """
    model, users, items = config["model"], dataset.user_num, dataset.item_num
    if model == "NCL" and not 1 <= config["num_clusters"] <= min(users, items):
        return f"`num_clusters={config['num_clusters']}` must be from 1 to {min(users, items):,}, the smaller of the numbers of users and items"
    split = getattr(dataset, "time_split", None)
    if model == "RippleNet" and split is not None:
        new = {user for places in split.places.values() for user in split.users[places]} - set(split.training()[0])
        if new:
            return (
                f"it starts from what a user chose in the training, and {len(new):,} users of validation and test chose nothing before the first cut "
                "of `eval_args.split`. Move that cut, or take another model"
            )
    key = {"GRU4RecCPR": "reranker_CAN_NUM", "SASRecCPR": "reranker_CAN_NUM", "RaCT": "metrics_k"}.get(model)
    if key is None:
        return None
    sizes = str(config[key]).split(",")
    if not all(size.strip().isdecimal() and 1 <= int(size) <= items for size in sizes):
        return f"`{key}={config[key]!r}` must be from 1 to {items:,}, the number of items (padding is one)"
    return None


def naming(config: Any, error: Exception) -> str:
    """Which settings name what an error of RecBole's is about, as a sentence; empty where none does.

    Args:
        config: RecBole's Config of the run.
        error: a KeyError holds the name; RecBole's own messages put it into brackets.
    """
    names = [str(one) for one in error.args] if isinstance(error, KeyError) else _IN_BRACKETS.findall(str(error))
    found = [
        f"`{key}={value!r}`"
        for key, value in config.final_config_dict.items()
        if any(name in _named(value) or (key == _NEGATIVES and name.startswith(config["NEG_PREFIX"])) for name in names)
    ]
    return f" Look at {', '.join(found)}." if found else ""


def _named(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [*value, *(one for part in value.values() for one in _named(part))]
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _asks_for_labels(given: Mapping[str, Any]) -> bool:
    mode = (given.get("eval_args") or {}).get("mode", "") if isinstance(given.get("eval_args"), Mapping) else ""
    metrics = given.get("metrics") or []
    metrics = [metrics] if isinstance(metrics, str) else metrics
    by_values = any(str(metric).lower() in OF_VALUES for metric in metrics)
    return "labeled" in str(mode) or bool(given.get("threshold")) or by_values


def _features(values: Mapping[str, Any], model: str) -> list[str]:
    named = values.get(_FEATURES[model]) or []
    return [named] if isinstance(named, str) else list(named)


def _check_table(config: Any, kind: str, columns: Iterable[str], why: str) -> None:
    path = Path(config["data_path"]) / f"{config['dataset']}.{kind}"
    there = header_of(config, path)
    if not there:
        raise DatasetError(f"{why}, and {path} does not exist. Put it there.")
    if lacking := [column for column in columns if column not in there]:
        raise DatasetError(f"{why}, and {path} has the columns {list(there)}: {lacking} is missing.")


def _check_labels(config: Any) -> None:
    label, name = config["LABEL_FIELD"], config["dataset"]
    if config["threshold"] or config["benchmark_filename"] is not None:
        return
    loaded = (config["load_col"] or {}).get("inter", "*")
    if label in header_of(config, Path(config["data_path"]) / f"{name}.inter") and (loaded == "*" or label in loaded):
        return
    raise DatasetError(
        f"{config['model']} reads labels with these settings, and {name}.inter has no column `{label}` that is loaded. Make labels of a "
        'column of numbers, --threshold="{rating: 4}", or name yours, --LABEL_FIELD=NAME, and load it (load_col). To rank all items '
        "instead, leave `mode: labeled`, AUC and LogLoss out, and give `train_neg_sample_args` a distribution."
    )


def _check_contexts(config: Any) -> None:
    """What is known of one interaction alone is not known of the pairs that a ranking asks for."""
    there = header_of(config, Path(config["data_path"]) / f"{config['dataset']}.inter")
    loaded = (config["load_col"] or {}).get("inter", "*")
    own = {config[key] for key in ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD", "LABEL_FIELD")}
    read = [
        field
        for field, kind in there.items()
        if field not in own
        and ("*" in loaded or field in loaded)
        and (kind.startswith("token") or field in (config["numerical_features"] or ()))
    ]
    if read:
        raise ConfigError(
            f"{config['model']} ranks all items here, and {read} is known of single interactions alone. Load without it, "
            f'--load_col="{{inter: [{", ".join(sorted(set(there) & own))}], ...}}", or ask for labels (`mode: labeled`, AUC, LogLoss).'
        )


def _check_features(config: Any) -> None:
    model, key = config["model"], _FEATURES[config["model"]]
    path = item_file(config)
    there, given = header_of(config, path), config[key]
    features = _features({key: given}, model)
    if not features or any(feature not in there for feature in features):
        found = f"{path} has the columns {list(there)}" if there else f"{path} does not exist"
        form = "NAME" if key == "item_attribute" else '"[NAME,...]"'
        raise DatasetError(
            f"{model} reads features of items, and `{key}={given!r}` names what is not there: {found}. Name yours with --{key}={form}."
        )
    numbers = [feature for feature in features if there[feature].startswith("float")]
    if numbers and key == "item_attribute":
        raise ConfigError(f"{model} learns which words an item has, and `{key}={given!r}` is a column of numbers.")
    if listed := [feature for feature in numbers if there[feature] == "float_seq" and model == "SASRecF"]:
        raise ConfigError(
            f"`{key}={given!r}`: {model} makes room for another number of lists of numbers than it reads ({listed}). FDSA and GRU4RecF read them."
        )
    if lacking := [feature for feature in numbers if feature not in (config["numerical_features"] or ())]:
        raise ConfigError(
            f"`{key}={given!r}`: {lacking} holds numbers, which {model} reads only where `numerical_features` lists them. Add "
            f'--numerical_features="[{",".join(numbers)}]".'
        )
