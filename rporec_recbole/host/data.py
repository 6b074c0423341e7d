"""RecBole's data: file checks, data set and loaders."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import ModelType, init_seed

from rporec_recbole.data.atomic import check_rows, read_header, read_table
from rporec_recbole.data.cuts import are_shares, cut_times, cuts_in_time
from rporec_recbole.data.dataset import refuse_own_split
from rporec_recbole.data.digest import digest_of
from rporec_recbole.data.ids import check_ids
from rporec_recbole.data.rows import RowsDataset
from rporec_recbole.data.samples import give_samples
from rporec_recbole.errors import ConfigError, DatasetError, translating
from rporec_recbole.host.kinds import check_files, naming, refuse_nothing_left
from rporec_recbole.host.rules import largest_k
from rporec_recbole.host.short_rows import rows_on_demand
from rporec_recbole.rivals.checks import is_rival
from rporec_recbole.rivals.text_vectors import check_texts
from rporec_recbole.settings.datasets import downloaded, missing


def check_dataset_files(config: Config) -> None:
    """Checks the files that RecBole is about to read.

    Raises:
        DatasetError: a file is missing, malformed, or not in the encoding that is named.
        ConfigError: RPORec cannot read a split of the user's own.
    """
    folder, name, parts = Path(config["data_path"]), config["dataset"], config["benchmark_filename"]
    form = config["field_separator"], config["encoding"]
    if config["model"] == "RPORec" or is_rival(config):
        refuse_own_split(config)
    files = [f"{name}.inter"] if parts is None else [f"{name}.{part}.inter" for part in parts]
    gone = [file for file in files if not (folder / file).is_file()]
    if gone:
        if not folder.exists() and name in downloaded():
            return  # RecBole downloads it
        asked = "" if parts is None else f" `benchmark_filename={list(parts)}` asks for {', '.join(files)}."
        raise missing(name, folder, gone, asked)
    headers = {file: _checked_interactions(config, folder / file) for file in files}
    for file, columns in headers.items():
        if columns != headers[files[0]]:
            raise DatasetError(
                f"{file} in {folder} has the columns {columns}, and {files[0]} has {headers[files[0]]}. One data set has one set of columns."
            )
    if parts is None and cuts_in_time(config["eval_args"]):
        _check_cuts(config, folder / files[0])
    items = folder / f"{name}.item"
    wanted = (config["load_col"] or {}).get("item")
    if wanted and wanted != "*" and config["model"] == "RPORec" and not config["ids_only"]:
        there = read_header(items, *form) if items.is_file() else {}
        gone = [field for field in config["item_text_fields"] or [] if field not in there]
        if gone:
            found = f"{items} has the columns {list(there)}" if there else f"{items} does not exist"
            raise DatasetError(
                f'There is no item text in {gone}: {found}. Name the text columns, title first: --item_text_fields="[title,...]", or run the trunk alone with --ids_only=True.'
            )
    check_texts(config)
    for kind, key in (("item", config["ITEM_ID_FIELD"]), ("user", config["USER_ID_FIELD"])):
        path = folder / f"{name}.{kind}"
        if path.is_file() and (config["load_col"] is None or config["load_col"].get(kind)):
            there = read_header(path, *form)
            if there.get(key) != "token":
                raise DatasetError(
                    f"{path} has the columns {list(there)}, but its {kind}s are known by `{key}:token`. Add that column."
                )
            needed = () if parts is None else (key,)  # else RecBole leaves rows without an id out
            check_rows(path, *form, required=needed, within=config["seq_separator"])
            _refuse_two_types(config, path, headers[files[0]], there)
            beside = [
                field for field in config["val_interval"] or {} if field in there and field not in headers[files[0]]
            ]
            if beside and not config["filter_inter_by_user_or_item"]:
                raise ConfigError(
                    f"`val_interval` filters by {beside} of {path}: rows would go from there alone, and the interactions with these {kind}s "
                    "would stay. Add --filter_inter_by_user_or_item=True to take them out too."
                )
            check_ids([folder / file for file in files], path, key, *form)
    check_files(config)


def _check_cuts(config: Config, path: Path) -> None:
    """Moments that cut all rows into nothing cut what a filter leaves into nothing too; where shares cut, only what is left can say."""
    given, time = config["eval_args"]["split"]["TS"], config["TIME_FIELD"]
    if not are_shares(given):
        column = f"{time}:float"
        table = read_table(path, config["field_separator"], config["encoding"], usecols=[column])
        cut_times(given, table[column].to_numpy(dtype=np.float64), time)


def _refuse_two_types(config: Config, path: Path, inter: dict[str, str], there: dict[str, str]) -> None:
    """RecBole keeps one type for a name, whichever file it stands in."""
    columns = {source: (config["load_col"] or {}).get(source) or () for source in ("inter", path.suffix[1:])}
    loaded = lambda source, field: config["load_col"] is None or "*" in columns[source] or field in columns[source]  # noqa: E731
    for field, kind in there.items():
        if inter.get(field, kind) != kind and loaded("inter", field) and loaded(path.suffix[1:], field):
            raise DatasetError(
                f"`{field}:{kind}` of {path} and `{field}:{inter[field]}` of the interactions have one name and two types, and RecBole keeps one. "
                "Rename one of the columns, or load one of them (load_col)."
            )


def _checked_interactions(config: Config, path: Path) -> dict[str, str]:
    """Field -> type of a file of interactions, all of whose rows are as they must be."""
    form, own_split = (config["field_separator"], config["encoding"]), config["benchmark_filename"] is not None
    user, item, time = config["USER_ID_FIELD"], config["ITEM_ID_FIELD"], config["TIME_FIELD"]
    sequential, histories = config["MODEL_TYPE"] == ModelType.SEQUENTIAL, f"{item}{config['LIST_SUFFIX']}"
    fields = read_header(path, *form)
    needed = {user: "token", item: "token"}
    if not own_split and (
        sequential or config["eval_args"]["order"] == "TO" or (config["rm_dup_inter"] and time in fields)
    ):
        needed[time] = "float"
    rating = config["RATING_FIELD"]  # one that was named has to be there; data without ratings are fine otherwise
    missing = [field for field in (*needed, *([] if rating in (None, "rating") else [rating])) if field not in fields]
    if missing:
        raise DatasetError(
            f"{path} has the columns {list(fields)}, but {missing} is needed. Name yours with --USER_ID_FIELD, --ITEM_ID_FIELD, --TIME_FIELD "
            "and --RATING_FIELD."
        )
    if own_split and sequential:
        needed[histories] = "token_seq"
        loaded = config["load_col"] is None or histories in config["load_col"].get("inter", ())
        if histories not in fields or not loaded or histories not in (config["alias_of_item_id"] or ()):
            raise DatasetError(
                f"{config['model']} reads histories, and with `benchmark_filename` they stand in the files: each needs a column "
                f"`{histories}:token_seq` with the items before `{item}`, oldest first; {path} has {list(fields)}. Load it and say what it "
                f'holds: --load_col="{{inter: [{user},{item},{histories}]}}" --alias_of_item_id="[{histories}]".'
            )
    for field, kind in needed.items():  # RecBole would order times that are tokens by where they stand in the file
        if fields[field] != kind:
            raise DatasetError(
                f"{path}, line 1: `{field}:{fields[field]}` must be `{field}:{kind}`. Times are numbers, ids are names."
            )
    check_rows(path, *form, required=tuple(needed), within=config["seq_separator"])
    return fields


def build_data(config: Config, keep_rows: bool = False) -> tuple[Any, Any, Any, Any]:
    """Data set and the three loaders: (dataset, train, valid, test).

    `dataset.training_counts` says how often each user and each item stands in the training part: field -> `[N]`;
    `dataset.digest` stands for all that was loaded (`data.digest`), `dataset.samples` for what a sampled evaluation draws (`data.samples`).

    Args:
        config: RecBole's config.
        keep_rows: leave the rows before the split in `dataset.rows_read`, as they are split, and in `dataset.rows_given`, as the file has them.

    Raises:
        DatasetError: a file is missing or malformed, nothing is left after filtering, or RecBole cannot do with the data what the
            settings ask for.
    """
    check_dataset_files(config)
    init_seed(config["seed"], config["reproducibility"])
    if keep_rows:
        config["keep_rows"] = True
    with _one_message(config):
        dataset = _kind_of(config)(config)
    refuse_nothing_left(config, dataset)
    most = largest_k(config)
    if most >= dataset.item_num:
        raise DatasetError(
            f"`{config['dataset']}` has {dataset.item_num - 1:,} items, and `topk={config['topk']}` asks for the best {most:,}. Lower it."
        )
    dataset.digest = digest_of(dataset)
    if keep_rows:
        dataset.rows_read = dataset.inter_feat.copy()
    # Now: RecBole puts prefix rows in the place of interactions.
    users, items = (dataset.inter_feat[field].to_numpy() for field in (dataset.uid_field, dataset.iid_field))
    with _one_message(config):
        train, valid, test = data_preparation(config, dataset)
    dataset.training_counts = _training_counts(dataset, (users, items), (valid, test))
    dataset.samples = give_samples(config, (users, items), (valid, test))
    return dataset, train, valid, test


def _kind_of(config: Config) -> Any:
    """What makes the data set of a run's model."""
    if is_rival(config):  # a class that extends one has another name, by which RecBole would choose
        return config.model_class.dataset_class
    return RowsDataset if rows_on_demand(config) else create_dataset


def _training_counts(
    dataset: Any, every: tuple[np.ndarray, np.ndarray], evaluated: tuple[Any, Any]
) -> dict[str, np.ndarray]:
    by_time = getattr(dataset, "time_split", None)
    # What lies behind the first cut in time is no training, whether it is a target or not.
    taught, left_out = (every, evaluated) if by_time is None else (by_time.training(), ())
    counts = {
        field: np.bincount(column, minlength=dataset.num(field))
        for field, column in zip((dataset.uid_field, dataset.iid_field), taught, strict=True)
    }
    for field, count in counts.items():
        for loader in left_out:
            count -= np.bincount(loader.dataset.inter_feat[field].numpy(), minlength=len(count))
    return counts


def _one_message(config: Config) -> contextlib.AbstractContextManager[None]:
    """One message in the place of what RecBole raises where it reads, filters and splits."""
    name = config["dataset"]

    def say(error: Exception) -> DatasetError:
        if isinstance(error, UnicodeError):
            return DatasetError(
                f"A file of `{name}` in {config['data_path']} is not written in {config['encoding']} ({error}). Name its encoding with "
                "--encoding=NAME, such as utf-8, ISO-8859-1, cp1252 or gbk."
            )
        if isinstance(error, OSError):
            return DatasetError(
                f"The data set `{name}` could not be downloaded or read ({error}). Put its atomic files into {config['data_path']} or name "
                "their parent folder with --data_path=DIR."
            )
        if "feat is empty" in str(error):
            filters = ("user_inter_num_interval", "item_inter_num_interval", "val_interval")
            return DatasetError(
                f"No interaction of `{name}` is left after filtering by {', '.join(f'{key}={config[key]!r}' for key in filters)}. Widen one."
            )
        return DatasetError(
            f"RecBole cannot make `{name}` ready for {config['model']} with these settings ({type(error).__name__}: {error}).{naming(config, error)} What it was told: "
            f"load_col={config['load_col']}, val_interval={config['val_interval']}, eval_args={config['eval_args']}."
        )

    # Beside the first, the kinds that RecBole raises for files and settings that do not go together.
    return translating(say, OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, NotImplementedError)
