"""Finds and reads the YAML files under `properties/`, in a checkout and in an installed wheel alike."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from rporec_recbole.errors import ConfigError, did_you_mean

# Safe as well, and ten times as fast, where PyYAML was built with them.
_FAST: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_FAST_DUMPER: type[yaml.SafeDumper] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


@cache
def properties_dir() -> Path:
    """The folder that holds `overall.yaml`, `model/`, `dataset/` and `presets/`.

    Raises:
        ConfigError: the installation lacks its YAML files.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "yaml", package.parent / "properties"):
        if (folder / "overall.yaml").is_file():
            return folder
    raise ConfigError(f"The YAML files of rporec_recbole are missing beside {package}. Reinstall the package.")


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Reads one YAML mapping; an empty file is an empty mapping.

    Numbers such as `1e-3` are floats, as in RecBole's files (YAML 1.1 alone would make them strings).

    Raises:
        ConfigError: the file is missing, is no YAML, has a name twice, or is no mapping of names to values.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        _refuse_names_twice(yaml.compose(text, Loader=_FAST), set())
        content = yaml.load(text, Loader=_loader())
    except OSError as error:
        raise ConfigError(f"Cannot read the config file {path}: {error.strerror}. Check the path.") from error
    except ConfigError as error:
        raise ConfigError(f"{path}, {error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"The config file {path} is not valid YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigError(f"The config file {path} must be a mapping of names to values, such as `epochs: 10`.")
    return content


def yaml_text(values: Mapping[str, Any]) -> str:
    """What `read_yaml` reads back, names in the order of the alphabet."""
    return yaml.dump(dict(values), Dumper=_FAST_DUMPER, sort_keys=True, allow_unicode=True)


def _refuse_names_twice(node: Any, seen: set[int]) -> None:
    """YAML takes the last of two values of one name without a word; merges (`<<`) may be repeated and overruled."""
    if id(node) in seen:  # an anchor
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for one in node.value:
            _refuse_names_twice(one, seen)
    if isinstance(node, yaml.MappingNode):
        names = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in names:
                    raise ConfigError(
                        f"line {key.start_mark.line + 1}: `{key.value}` stands twice. Leave one of them out."
                    )
                names.add(key.value)
            _refuse_names_twice(value, seen)


@cache
def _loader() -> type[yaml.SafeLoader]:
    import re

    class Loader(_FAST):  # type: ignore[misc, valid-type]
        pass

    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
    )
    return Loader


def layered_properties(model: str, dataset: str, own: Path | None = None, base: str | None = None) -> dict[str, Any]:
    """Our defaults for one model on one data set; later layers win, as in RecBole.

    The layers: all models, the model, the data set, the data set's own file (`data_set_file`), and what was tuned for this model on this
    data set (`model/MODEL-DATASET.yaml`).

    Args:
        model: its name.
        dataset: its name.
        own: the file beside the data set.
        base: the model that it extends, whose layers come before its own.
    """
    merged: dict[str, Any] = {}
    models = dict.fromkeys([base or model, model])
    for path in (
        properties_dir() / "overall.yaml",
        *(properties_dir() / f"model/{one}.yaml" for one in models),
        properties_dir() / f"dataset/{dataset}.yaml",
        own,
        *(properties_dir() / f"model/{one}-{dataset}.yaml" for one in models),
    ):
        if path is not None and path.is_file():
            merged.update(read_yaml(path))
    return merged


def data_set_file(dataset: str, data_path: str | Path | None = None) -> Path | None:
    """The YAML file that lies beside a data set, `dataset/NAME/NAME.yaml`: `rporec import` writes it. None where there is none.

    Args:
        dataset: its name.
        data_path: parent folder of data sets; None is where RecBole looks, but for ml-100k, which it brings itself.
    """
    if data_path is None and dataset == "ml-100k":
        return None
    path = Path(data_path or "dataset") / dataset / f"{dataset}.yaml"
    return path if path.is_file() else None


def preset_file(name: str) -> Path:
    """The YAML file of a preset, a bundle of settings under one name.

    Raises:
        ConfigError: there is no such preset.
    """
    there = sorted(path.stem for path in (properties_dir() / "presets").glob("*.yaml"))
    if name not in there:
        raise ConfigError(f"There is no preset `{name}`.{did_you_mean(name, there)} Presets: {', '.join(there)}.")
    return properties_dir() / "presets" / f"{name}.yaml"
