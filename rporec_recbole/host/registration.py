"""How RecBole finds RPORec and its rivals: the names that its look-ups read, and the defaults that its `Config` stands on."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole.config import Config
from recbole.utils import ModelType

from rporec_recbole.data.cuts import settled_evaluation
from rporec_recbole.errors import ConfigError
from rporec_recbole.host import kinds
from rporec_recbole.host.models import keys_of, known_as
from rporec_recbole.host.repairs import install_repairs
from rporec_recbole.settings.known import RIVALS
from rporec_recbole.settings.properties import data_set_file, layered_properties
from rporec_recbole.settings.reader import backbone_defaults, reward_defaults

_registered = False


def register() -> None:
    """Makes `RPORec` and its rivals RecBole sequential models for RecBole's own look-ups, and installs the repairs.

    Afterwards `get_model`, `get_trainer`, `create_dataset` and `Config` know the names, and `Config` stands on this
    package's defaults. Called when RecBole, or a room of this package that needs it, is first imported; later calls do nothing.
    """
    global _registered
    if _registered:
        return
    _registered = True
    install_repairs()
    import recbole.data.dataset
    import recbole.model.sequential_recommender as sequential
    import recbole.trainer

    from rporec_recbole.data import samples, score_budget, seen, target_lists, time_split
    from rporec_recbole.data.dataset import RPORecDataset
    from rporec_recbole.model import rporec
    from rporec_recbole.rivals.hstu import HSTU
    from rporec_recbole.rivals.r2ec import R2ec
    from rporec_recbole.rivals.r2ec_trainer import R2ecTrainer
    from rporec_recbole.rivals.textsasrec import TextSASRec
    from rporec_recbole.rivals.tiger import TIGER
    from rporec_recbole.training.trainer import RPORecTrainer

    sys.modules["recbole.model.sequential_recommender.rporec"] = rporec
    sequential.rporec = rporec
    sequential.RPORec = rporec.RPORec
    recbole.trainer.RPORecTrainer = RPORecTrainer
    recbole.trainer.R2ecTrainer = R2ecTrainer
    recbole.data.dataset.RPORecDataset = RPORecDataset
    for model in (HSTU, R2ec, TextSASRec, TIGER):
        name = model.__name__
        sys.modules[f"recbole.model.sequential_recommender.{name.lower()}"] = sys.modules[model.__module__]
        setattr(sequential, name, model)
        setattr(recbole.data.dataset, f"{name}Dataset", model.dataset_class)
    seen.install()
    samples.install()
    score_budget.install()
    time_split.install()
    target_lists.install()
    _stand_on_our_defaults()


def _stand_on_our_defaults() -> None:
    """Changes how a `Config` is made: this package's defaults come after RecBole's own, before what a user gave."""
    load_internal = Config._load_internal_config_dict
    set_defaults = Config._set_default_parameters

    @functools.wraps(load_internal)
    def load_internal_and_ours(self: Config, model: str, model_class: Any, dataset: str) -> None:
        base = known_as(model_class)  # a user's own stands on the defaults of what it extends
        load_internal(self, base, model_class, dataset)
        given = self.external_config_dict
        own = data_set_file(dataset, given.get("data_path"))
        ours = layered_properties(model, dataset, own, base)
        if own is not None:  # it may name settings of RPORec's, which are none of another model's
            known = keys_of(model if base == model else model_class, dataset)
            ours = {key: value for key, value in ours.items() if key in known or key == "item_text_fields"}
        if "load_col" in ours:
            ours["load_col"] = _renamed(ours["load_col"], given)
        texts = given.get("item_text_fields", ours.get("item_text_fields"))
        if texts is not None and not isinstance(texts, (list, tuple)):
            raise ConfigError(
                f'`item_text_fields={texts!r}` must be a list, title first: --item_text_fields="[title,...]"'
            )
        if base in RIVALS and ("text_encoder" in ours or "backbone" in ours):
            # It reads texts from the file, and no column is loaded for them.
            if "backbone" in ours:
                pretrained = backbone_defaults(given.get("backbone", ours["backbone"]))
                ours |= {key: value for key, value in pretrained.items() if key in ours}
        elif model != "RPORec":
            ours.pop("item_text_fields", None)
        else:
            if "local_rank" in given:  # `recbole.quick_start.run(nproc=2)`
                raise ConfigError(
                    "RPORec shares its work among the processes of torchrun, not among RecBole's own (nproc, world_size). Start `torchrun "
                    "--nproc-per-node=N --no-python rporec ...`."
                )
            ours |= backbone_defaults(given.get("backbone", ours["backbone"]))
            ours |= reward_defaults(given.get("reward", ours["reward"]))
            if texts:
                wanted = [given.get("ITEM_ID_FIELD", "item_id"), *texts]
                ours["load_col"] = kinds.with_columns(ours.get("load_col"), "item", wanted)
                if isinstance(given.get("load_col"), Mapping):  # it takes the place of ours, and knows nothing of texts
                    given["load_col"] = kinds.with_columns(given["load_col"], "item", wanted)
        theirs = dict(self.internal_config_dict)
        theirs["load_col"] = _renamed(theirs.get("load_col") or {}, given)
        kinds.defaults(base, model_class.type, theirs, ours, given)
        for values in (ours, given):
            if "eval_args" in values:
                values["eval_args"] = settled_evaluation(values["eval_args"])
        if given.get("unload_col") and "load_col" not in given:
            ours["load_col"] = None  # RecBole takes one of the two
        self.internal_config_dict.update(ours)
        loss = self.external_config_dict.get("loss_type", self.internal_config_dict.get("loss_type"))
        if model_class.type == ModelType.SEQUENTIAL and loss == "CE" and not hasattr(model_class, "input_type"):
            # RecBole's own default, one uniform negative, is an error for the cross-entropy that these models default to.
            self.internal_config_dict["train_neg_sample_args"] = None

    @functools.wraps(set_defaults)
    def set_defaults_and_paths(self: Config) -> None:
        given = self.final_config_dict.get("data_path")
        set_defaults(self)
        if (
            self.dataset == "ml-100k"
            and "data_path" in self.external_config_dict
            and (Path(str(given)) / "ml-100k" / "ml-100k.inter").is_file()
        ):
            self.final_config_dict["data_path"] = str(Path(str(given)) / "ml-100k")

    Config._load_internal_config_dict = load_internal_and_ours
    Config._set_default_parameters = set_defaults_and_paths


_FIELDS = {
    "USER_ID_FIELD": "user_id",
    "ITEM_ID_FIELD": "item_id",
    "RATING_FIELD": "rating",
    "TIME_FIELD": "timestamp",
}


def _renamed(load_col: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Columns to load, those that a user has given other names by these."""
    names = {column: given.get(key) or column for key, column in _FIELDS.items()}
    return {
        source: columns if isinstance(columns, str) else [names.get(column, column) for column in columns]
        for source, columns in load_col.items()
    }
