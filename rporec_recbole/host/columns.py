"""Settings of RecBole's that name columns: each column has to be there, loaded, and of the type that the setting reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rporec_recbole.data.atomic import read_header, read_table
from rporec_recbole.errors import ConfigError, DatasetError, did_you_mean

_NUMBERS = ("float", "float_seq")
_TABLES = ("inter", "item", "user", "kg", "link", "net")


def header_of(config: Any, path: Path) -> dict[str, str]:
    """Field -> type of a file; nothing where there is none."""
    return read_header(path, config["field_separator"], config["encoding"]) if path.is_file() else {}


def check_columns(config: Any) -> None:
    """Refuses settings whose columns are missing or of another type.

    Args:
        config: RecBole's Config of the run.

    Raises:
        ConfigError: a setting does not fit its column.
        DatasetError: labels would be made of missing numbers.
    """
    _check_tables(config)
    types = _loaded(config)
    for key in ("numerical_features", "normalize_field"):
        for field in config[key] or ():
            _refuse_unless_numbers(f"{key}={config[key]!r}", field, types)
    time = config["TIME_FIELD"]
    if config["eval_args"]["order"] == "TO" and config["benchmark_filename"] is None and time not in types:
        raise ConfigError(
            f"`eval_args` puts interactions in order by `{time}`, which is not among the columns that are loaded: {list(types)}. Add it to load_col."
        )
    _check_buckets(config, types)
    _check_threshold(config, types)
    _check_filters(config)


def _check_tables(config: Any) -> None:
    """RecBole reads of a misspelt table nothing, and says later what it lacks."""
    known = [*_TABLES, *(config["additional_feat_suffix"] or ())]
    for key in ("load_col", "unload_col"):
        for table in config[key] or ():
            if table not in known:
                raise ConfigError(
                    f"`{key}={config[key]!r}` names a table `{table}`.{did_you_mean(str(table), known)} Tables are {', '.join(known)}."
                )


def _loaded(config: Any) -> dict[str, str]:
    """Field -> type of all that is loaded."""
    folder, name, wanted = Path(config["data_path"]), config["dataset"], config["load_col"]
    first = name if config["benchmark_filename"] is None else f"{name}.{config['benchmark_filename'][0]}"
    unwanted, found = config["unload_col"] or {}, dict[str, str]()
    for table in (*(config["additional_feat_suffix"] or ()), "user", "item", "inter"):
        there = header_of(config, folder / f"{first if table == 'inter' else name}.{table}")
        columns = "*" if wanted is None else wanted.get(table) or ()
        left = [one for one in there if (columns == "*" or "*" in columns or one in columns)]
        found |= {field: there[field] for field in left if field not in unwanted.get(table, ())}
    return found


def _refuse_unless_numbers(what: str, field: str, types: Mapping[str, str]) -> None:
    if field not in types:
        raise ConfigError(
            f"`{what}`: no column `{field}` is loaded, only {list(types)}. Name a column of the files, and load it (load_col)."
        )
    if types[field] not in _NUMBERS:
        raise ConfigError(
            f"`{what}`: `{field}:{types[field]}` holds names, and this takes columns of numbers. Leave it out."
        )


def _check_buckets(config: Any, types: Mapping[str, str]) -> None:
    given = config["discretization"]
    for field in given or ():
        what = f"discretization={given!r}"
        _refuse_unless_numbers(what, field, types)
        if field == config["TIME_FIELD"]:
            raise ConfigError(
                f"`{what}`: `{field}` puts interactions in order, and buckets of it would not. Leave it out."
            )
        numbers = list(config["numerical_features"] or ())
        if field not in numbers:
            raise ConfigError(
                f"`{what}`: RecBole puts numbers into buckets where models read them as a feature, and `{field}` is none. "
                f'Add --numerical_features="[{",".join([*numbers, field])}]", or leave it out.'
            )


def _check_threshold(config: Any, types: Mapping[str, str]) -> None:
    """RecBole puts the mean where a number is missing, and makes a label of that."""
    if not config["threshold"]:
        return
    what, field = f"threshold={config['threshold']!r}", next(iter(config["threshold"]))
    _refuse_unless_numbers(what, field, types)
    if config["benchmark_filename"] is not None:
        return
    path = Path(config["data_path"]) / f"{config['dataset']}.inter"
    if (kind := header_of(config, path).get(field)) != "float":
        where = f"stands in another file than {path.name}" if kind is None else "has several numbers a row"
        raise ConfigError(
            f"`{what}` labels interactions, and `{field}` {where}. Name a column of numbers of {path.name}."
        )
    if field in (config["val_interval"] or {}):
        return  # a filter leaves gaps out
    column = f"{field}:float"
    gaps = int(read_table(path, config["field_separator"], config["encoding"], usecols=[column])[column].isna().sum())
    if gaps:
        raise DatasetError(
            f"`threshold={config['threshold']}` makes labels of `{field}`, which {gaps:,} rows of {path} lack, and RecBole takes the mean for them. "
            f"Leave these rows out: --val_interval=\"{{{field}: '(-inf,inf)'}}\"."
        )


def _check_filters(config: Any) -> None:
    """`val_interval` takes an interval for numbers and a list for names."""
    folder, name = Path(config["data_path"]), config["dataset"]
    types: dict[str, str] = {}
    for table in ("user", "item", "inter"):
        types |= header_of(config, folder / f"{name}.{table}")
    for field, wanted in (config["val_interval"] or {}).items():
        if field not in types:
            continue  # RecBole says so
        kind, listed = types[field], isinstance(wanted, (list, tuple))
        if kind == "token_seq":
            raise ConfigError(f"`val_interval` cannot filter by `{field}:token_seq`, whose rows hold several words.")
        if listed != (kind == "token"):
            form = f"a list of names: {{{field}: [a,b]}}" if kind == "token" else f"an interval: {{{field}: '[3,inf)'}}"
            raise ConfigError(f"`val_interval={{{field}: {wanted!r}}}`: `{field}:{kind}` is filtered by {form}.")
