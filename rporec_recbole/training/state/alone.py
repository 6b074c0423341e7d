"""What a training leaves that RecBole's own functions started: a folder without results, from which `load_run` brings the model back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recbole.utils import get_local_time

from rporec_recbole.data import digest
from rporec_recbole.data.files import new_folder, unwritable, write_json, write_text
from rporec_recbole.settings.properties import yaml_text
from rporec_recbole.settings.repeated import repeatable_config


def folder_for(parent: Path, name: str) -> Path:
    """Makes the folder that stands in the place of a checkpoint file of RecBole's: NAME-TIME, with a number behind it if that exists.

    Args:
        parent: RecBole's `checkpoint_dir`.
        name: of the model.

    Raises:
        RunFolderError: it cannot be made.
    """
    with unwritable(f"A folder for the model cannot be made in {parent}", "--checkpoint_dir"):
        return new_folder(parent / f"{name}-{get_local_time()}")


def describe(trainer: Any, train_data: Any) -> None:
    """Writes what brings the model of a trainer back: the config, and what its data were.

    Args:
        trainer: an `RPORecTrainer`, trained.
        train_data: RecBole's training loader.

    Raises:
        RunFolderError: it cannot be written.
    """
    config, dataset, folder = trainer.config, train_data.dataset, trainer.folder
    facts = {
        **{key: config[key] for key in ("model", "dataset", "seed")},
        digest.KEY: dataset.digest,
        digest.WORDS: digest.digest_of_words(dataset, trainer.model.catalogue),
        "valid": trainer.best_valid_result or {},
    }
    with unwritable(f"The config cannot be written to {folder}"):
        write_text(folder / "config.yaml", yaml_text(repeatable_config(config)))
        write_json(folder / "metrics.json", facts)
