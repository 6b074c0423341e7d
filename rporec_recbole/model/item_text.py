"""What a model makes of a data set's item texts before anything is learned: the catalogue and the text encoder."""

from __future__ import annotations

import logging
from typing import Any

from rporec_recbole.errors import DatasetError
from rporec_recbole.model.encoder import TextEncoder, make_encoder
from rporec_recbole.settings.types import TextSettings
from rporec_recbole.text.catalogue import Catalogue


def read_item_text(
    config: Any, dataset: Any, text: TextSettings, seed: int, logger: logging.Logger
) -> tuple[Catalogue, TextEncoder]:
    """Catalogue and encoder of a data set.

    Args:
        config: RecBole's config.
        dataset: an `RPORecDataset`.
        text: says which columns are read, and with which encoder.
        seed: of `lsa`.
        logger: hears how many items have no title.

    Raises:
        DatasetError: nothing says which columns hold the text, or one of them does not exist.
        ConfigError: the encoder cannot be loaded.
    """
    if not text.item_text_fields:
        there = (
            []
            if dataset.item_feat is None
            else [name for name in dataset.item_feat.columns if name != dataset.iid_field]
        )
        raise DatasetError(
            f"RPORec needs item text, and nothing says which columns of {config['dataset']}.item hold it. Name them, "
            f'title first: --item_text_fields="[title,...]" (loaded columns: {there or "none"}), or run the trunk '
            "alone with --ids_only=True."
        )
    catalogue = dataset.catalogue(text.item_text_fields, text.title_characters, text.item_text_style == "named")
    if catalogue.untitled:
        logger.warning(
            f"{catalogue.untitled} of {len(catalogue) - 1} items have no {text.item_text_fields[0]}; their id stands in for it."
        )
    encoder = make_encoder(
        text.text_encoder,
        catalogue.lines[1:],
        text.text_size,
        seed,
        str(config["device"]),
        text.text_vector_length == "unit",
    )
    return catalogue, encoder
