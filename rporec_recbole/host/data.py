"""RecBole's data and what its evaluator saw of it: file checks, loaders, the rank of every evaluated target."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.evaluator import Collector
from recbole.utils import ModelType, init_seed

from rporec_recbole.data.atomic import check_rows, read_header
from rporec_recbole.data.digest import digest_of
from rporec_recbole.errors import DatasetError, translating
from rporec_recbole.evaluation.ranking import target_rank
from rporec_recbole.evaluation.ranks import rank_table
from rporec_recbole.host.bridge import RECBOLE
from rporec_recbole.host.rules import largest_k
from rporec_recbole.settings.properties import read_yaml


def check_dataset_files(config: Config) -> None:
    """Checks the files that RecBole is about to read.

    Raises:
        DatasetError: a file is missing or malformed.
    """
    folder, name = Path(config["data_path"]), config["dataset"]
    separator = config["field_separator"]
    inter = folder / f"{name}.inter"
    if config["benchmark_filename"] is not None:
        return
    if not inter.is_file():
        if not folder.exists() and name in read_yaml(RECBOLE / "properties/dataset/url.yaml"):
            return  # RecBole downloads it
        raise DatasetError(
            f"The data set `{name}` is not there: {inter} does not exist. Put {name}.inter (and {name}.item) into {folder}, "
            f"or name the parent folder with --data_path=DIR. `ml-100k` needs no files."
        )
    fields = read_header(inter, separator)
    needed = [config["USER_ID_FIELD"], config["ITEM_ID_FIELD"]]
    if config["MODEL_TYPE"] == ModelType.SEQUENTIAL or config["eval_args"]["order"] == "TO":
        needed.append(config["TIME_FIELD"])
    if config["RATING_FIELD"] not in (None, "rating"):  # one that was named; data without ratings are fine otherwise
        needed.append(config["RATING_FIELD"])
    missing = [field for field in needed if field not in fields]
    if missing:
        raise DatasetError(
            f"{inter} has the columns {list(fields)}, but {missing} is needed. Name yours with --USER_ID_FIELD, --ITEM_ID_FIELD, --TIME_FIELD and --RATING_FIELD."
        )
    for field in needed:  # RecBole would order times that are tokens by where they stand in the file
        wanted_type = "float" if field == config["TIME_FIELD"] else "token"
        if field != config["RATING_FIELD"] and fields[field] != wanted_type:
            raise DatasetError(
                f"{inter}, line 1: `{field}:{fields[field]}` must be `{field}:{wanted_type}`. Times are numbers, ids are names."
            )
    check_rows(inter, separator, required=tuple(needed))
    items = folder / f"{name}.item"
    wanted = (config["load_col"] or {}).get("item")
    if wanted and wanted != "*" and config["model"] == "RPORec" and not config["ids_only"]:
        there = read_header(items, separator) if items.is_file() else {}
        gone = [field for field in config["item_text_fields"] or [] if field not in there]
        if gone:
            found = f"{items} has the columns {list(there)}" if there else f"{items} does not exist"
            raise DatasetError(
                f'There is no item text in {gone}: {found}. Name the text columns, title first: --item_text_fields="[title,...]", or run the trunk alone with --ids_only=True.'
            )
    if items.is_file() and wanted:
        there, item_id = read_header(items, separator), config["ITEM_ID_FIELD"]
        if there.get(item_id) != "token":
            raise DatasetError(
                f"{items} has the columns {list(there)}, but its items are known by `{item_id}:token`. Add that column."
            )
        check_rows(items, separator)


def build_data(config: Config) -> tuple[Any, Any, Any, Any]:
    """Data set and the three loaders: (dataset, train, valid, test).

    `dataset.training_counts` says how often each user and each item stands in the training part: field -> `[N]`;
    `dataset.digest` stands for all that was loaded (`data.digest`).

    Raises:
        DatasetError: a file is missing or malformed, nothing is left after filtering, or RecBole cannot do with the data what the
            settings ask for.
    """
    check_dataset_files(config)
    init_seed(config["seed"], config["reproducibility"])
    with _one_message(config):
        dataset = create_dataset(config)
    most = largest_k(config)
    if most >= dataset.item_num:
        raise DatasetError(
            f"`{config['dataset']}` has {dataset.item_num - 1:,} items, and `topk={config['topk']}` asks for the best {most:,}. Lower it."
        )
    dataset.digest = digest_of(dataset)
    counts = {
        field: np.bincount(dataset.inter_feat[field], minlength=dataset.num(field))
        for field in (dataset.uid_field, dataset.iid_field)
    }  # now: RecBole puts prefix rows in the place of interactions
    with _one_message(config):
        train, valid, test = data_preparation(config, dataset)
    for field, count in counts.items():
        for loader in (valid, test):
            count -= np.bincount(loader.dataset.inter_feat[field].numpy(), minlength=len(count))
    dataset.training_counts = counts
    return dataset, train, valid, test


def _one_message(config: Config) -> contextlib.AbstractContextManager[None]:
    """One message in the place of what RecBole raises where it reads, filters and splits."""
    name = config["dataset"]

    def say(error: Exception) -> DatasetError:
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
            f"RecBole cannot make `{name}` ready for {config['model']} with these settings ({type(error).__name__}: {error}). What it was told: "
            f"load_col={config['load_col']}, val_interval={config['val_interval']}, eval_args={config['eval_args']}."
        )

    # Beside the first, the kinds that RecBole raises for files and settings that do not go together.
    return translating(say, OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, NotImplementedError)


class RankCollector(Collector):
    """RecBole's collector, which also keeps the rank of every evaluated target.

    Put it in place of `trainer.eval_collector` before `fit`. It sees the very scores that RecBole's metrics see, for
    every model alike, so ranks and metrics cannot disagree.

    Args:
        config: RecBole's config.
        dataset: maps ids back to tokens.
    """

    def __init__(self, config: Config, dataset: Any) -> None:
        super().__init__(config)
        self._dataset = dataset
        self._rows: list[tuple[Any, Any, Any]] = []

    def eval_batch_collect(self, scores_tensor: Any, interaction: Any, positive_u: Any, positive_i: Any) -> None:
        """Collects one batch; see RecBole's `Collector`."""
        super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)
        if positive_u is not None:
            rows, targets = positive_u.to(scores_tensor.device), positive_i.to(scores_tensor.device)
            users = interaction[self._dataset.uid_field][positive_u.to(interaction[self._dataset.uid_field].device)]
            ranks = target_rank(scores_tensor[rows], targets)
            self._rows.append((users.cpu().numpy(), targets.cpu().numpy(), ranks.cpu().numpy()))

    def take(self, split: str) -> pd.DataFrame:
        """The ranks collected since the last call, as a table (see `evaluation.ranks`)."""
        columns = (
            [np.concatenate(parts) for parts in zip(*self._rows, strict=True)]
            if self._rows
            else [np.zeros(0, dtype=np.int64)] * 3
        )
        self._rows = []
        users, items, ranks = columns
        dataset = self._dataset
        uid, iid = dataset.uid_field, dataset.iid_field
        return rank_table(
            split,
            dataset.id2token(uid, users),
            dataset.id2token(iid, items),
            ranks,
            dataset.training_counts[uid][users],
            dataset.training_counts[iid][items],
        )
