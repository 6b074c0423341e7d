"""Item texts as vectors, for rivals that read them. They are made of the texts of all items and of nothing that anybody chose.

A finished run keeps its own in its weights, so the encoder need not be there any more, and another encoder or text changes no old score.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rporec_recbole.data.atomic import read_header
from rporec_recbole.data.files import MODEL_WEIGHTS, read_tensors
from rporec_recbole.data.item_texts import item_file, item_texts
from rporec_recbole.errors import DatasetError
from rporec_recbole.model.encoder import make_encoder
from rporec_recbole.rivals.checks import reads_texts
from rporec_recbole.text.catalogue import Catalogue, build_catalogue

_RESTORED_FROM = "restored_from"


def restored_from(config: Any, folder: Path) -> None:
    """Tells a model that is made for a finished run where that is: on the config, but no setting in it, which somebody might repeat."""
    setattr(config, _RESTORED_FROM, folder)


def check_texts(config: Any) -> None:
    """Refuses data that say nothing of their items, where a rival reads their texts.

    Args:
        config: RecBole's Config.

    Raises:
        DatasetError: no column is named, the file or a column is not there.
    """
    if not reads_texts(config):
        return
    model, fields = config["model"], config["item_text_fields"]
    path = item_file(config)
    there = read_header(path, config["field_separator"], config["encoding"] or "utf-8") if path.is_file() else {}
    found = f"{path} has the columns {list(there)}" if there else f"{path} does not exist"
    advice = 'Name the text columns, title first: --item_text_fields="[title,...]"'
    if not fields:
        raise DatasetError(f"{model} reads the texts of items, and nothing says where they are: {found}. {advice}.")
    if gone := [field for field in fields if field not in there]:
        raise DatasetError(f"{model} reads the texts of items, and there is none in {gone}: {found}. {advice}.")


def text_vectors(config: Any, dataset: Any) -> Tensor:
    """`[N, D]` of all items; row 0, padding, is zero.

    Args:
        config: RecBole's Config: columns, encoder, seed.
        dataset: RecBole's data set.

    Raises:
        ConfigError: the encoder cannot be loaded.
    """
    tokens, texts = dataset.field2id_token[dataset.iid_field], catalogue_of(config, dataset).lines[1:]
    encoder = make_encoder(config["text_encoder"], texts, config["text_size"], config["seed"], str(config["device"]))
    vectors = torch.zeros(len(tokens), encoder.size)
    vectors[1:] = torch.from_numpy(encoder.encode(texts))
    return vectors


def catalogue_of(config: Any, dataset: Any) -> Catalogue:
    """The texts of all items, by a rival's settings.

    Args:
        config: RecBole's Config.
        dataset: RecBole's data set.
    """
    tokens = [str(token) for token in dataset.field2id_token[dataset.iid_field]]
    fields = list(config["item_text_fields"])
    return build_catalogue(item_texts(config, fields, tokens), tokens, fields, config["title_characters"])


def kept_folder(config: Any) -> Path | None:
    """The folder of the finished run that is being brought back; None for a new run."""
    return getattr(config, _RESTORED_FROM, None)


def kept(config: Any, name: str) -> Tensor | None:
    """A buffer of the finished run that is being brought back; None for a new run.

    Args:
        config: RecBole's Config.
        name: of the buffer.

    Raises:
        RunFolderError: the weights are damaged.
    """
    folder = kept_folder(config)
    if folder is None:
        return None
    return read_tensors(folder / MODEL_WEIGHTS, "Run the training again.")[0].get(f"state.{name}")
