"""What a sweep is: model, data set, search space and budget; and the folder that all of its workers share."""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
import random
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rporec_recbole.data.files import write_text
from rporec_recbole.errors import ConfigError, RunFolderError, did_you_mean
from rporec_recbole.host.bridge import build_config
from rporec_recbole.host.data import check_dataset_files
from rporec_recbole.runs.folder import LOCK, alone
from rporec_recbole.settings.named_code import class_name
from rporec_recbole.settings.properties import read_yaml
from rporec_recbole.sweep.space import Parameter, check_space, is_yaml, read_space

DEFAULTS: dict[str, Any] = {
    "sampler": "tpe",
    "pruner": "median",
    "trials": None,
    "metric": None,
    "storage": None,
    "study": None,
    "heartbeat": 15,
}
"""What a sweep's YAML may say beside `space`, and the command line too."""

SAMPLERS, PRUNERS = ("tpe", "random", "grid"), ("median", "none")
PLAN, DATABASE = "sweep.yaml", "study.db"
_TRIALS = 20
_OF_THE_MACHINE = ("gpu_id",)
"""Settings that may differ from worker to worker."""


@dataclass(frozen=True)
class Plan:
    """A sweep, read and checked.

    Attributes:
        model, dataset: what is trained, on what.
        files: config files of every trial.
        settings: settings of every trial that win over the files.
        space: what is searched.
        sampler: `tpe`, `random` or `grid`.
        pruner: `median` or `none`.
        trials: the budget.
        metric: what is compared on validation, as metrics are named in `metrics.json`.
        bigger: whether more of it is better.
        seed: of the runs, and of the sampler.
        heartbeat: seconds between two signs of life of a trial; after four without one its worker counts as dead.
        storage: SQLAlchemy URL of the study; None means an SQLite file in the folder.
        study: name of the study; None derives one from the definition.
        run_dir: what all workers share; None derives a folder from the definition.
        fixed: the settings that stand fast, of files and command line, without those of the machine.
    """

    model: str
    dataset: str
    files: tuple[str, ...]
    settings: dict[str, Any]
    space: tuple[Parameter, ...]
    sampler: str
    pruner: str
    trials: int
    metric: str
    bigger: bool
    seed: int
    heartbeat: int
    storage: str | None
    study: str | None
    run_dir: str | None
    fixed: dict[str, Any]

    @property
    def definition(self) -> dict[str, Any]:
        """All that makes it this sweep and no other, as plain YAML values."""
        values = {
            "model": self.model,
            "dataset": self.dataset,
            "settings": self.fixed,
            "space": {one.name: one.as_yaml() for one in self.space},
            **{key: getattr(self, key) for key in ("sampler", "pruner", "trials", "metric", "study")},
            "storage": self.storage and re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", self.storage),  # no password
        }
        return json.loads(json.dumps(values, default=str))

    @property
    def name(self) -> str:
        """Model, data set, and eight digits that stand for the definition."""
        digits = hashlib.sha256(json.dumps(self.definition, sort_keys=True).encode()).hexdigest()[:8]
        return f"{class_name(self.model)}-{self.dataset}-{digits}"

    @property
    def folder(self) -> Path:
        """What all workers share."""
        return Path(self.run_dir or f"saved/sweep-{self.name}")

    def trial_folder(self, slot: int) -> Path:
        """The run folder of a trial, counted from 1."""
        return self.folder / f"trial-{slot:0{max(2, len(str(self.trials)))}d}"

    def grid(self) -> list[dict[str, Any]]:
        """All combinations as the study keeps them, shuffled, so that a budget below their number is spread out."""
        axes = [one.grid() or [] for one in self.space]
        points = [dict(zip([one.name for one in self.space], point, strict=True)) for point in itertools.product(*axes)]
        random.Random(self.seed).shuffle(points)
        return points


def make_plan(
    model: str, dataset: str, sweep_file: str | Path, files: Iterable[str] = (), values: Mapping[str, Any] | None = None
) -> Plan:
    """Reads and checks a sweep; nothing is written.

    Args:
        model, dataset: what is trained, on what.
        sweep_file: the search space, in YAML or as RecBole's `hyper.test`.
        files: config files of every trial; later ones win.
        values: settings that win over the files, `run_dir`, and the sweep's own (`DEFAULTS`), which win over its file.

    Raises:
        ConfigError: whatever of this is wrong.
        DatasetError: the data set is missing or malformed.
    """
    files, settings = tuple(files), dict(values or {})
    space = read_space(sweep_file)
    own = _own(sweep_file, {key: settings.pop(key) for key in DEFAULTS if key in settings})
    wanted = settings.pop("run_dir", None)
    fixed: dict[str, Any] = {}
    for file in files:
        fixed.update({key: value for key, value in read_yaml(file).items() if key not in ("model", "dataset")})
    fixed.update(settings)
    fixed = {key: value for key, value in fixed.items() if key not in (*_OF_THE_MACHINE, "run_dir")}
    if own["metric"] is not None:
        settings["valid_metric"] = fixed["valid_metric"] = own["metric"]
    check_space(sweep_file, space, model, dataset, fixed)
    config = build_config(model, dataset, files, settings)
    if "controls" in config.final_config_dict and config["controls"]:
        raise ConfigError("`controls` ranks the test split, and a sweep leaves it alone. Run them for the best trial.")
    if "gpu_id" in settings:
        settings["gpu_id"] = config["gpu_id"]  # in the form in which a run's config.yaml has it
    check_dataset_files(config)
    trials = own["trials"] or _TRIALS
    if own["sampler"] == "grid":
        endless = [one.name for one in space if one.grid() is None]
        if endless:
            raise ConfigError(
                f"`sampler: grid` needs parameters with an end, but {endless} take any number between their bounds. "
                "Use choice, quniform or int for them, or another sampler."
            )
        size = 1
        for one in space:
            size *= len(one.grid() or [])
        trials = min(size, own["trials"] or size)
    return Plan(
        model=model,
        dataset=dataset,
        files=files,
        settings=settings,
        space=tuple(space),
        sampler=own["sampler"],
        pruner=own["pruner"],
        trials=trials,
        metric=str(config["valid_metric"]).lower(),
        bigger=bool(config["valid_metric_bigger"]),
        seed=int(config["seed"]),
        heartbeat=own["heartbeat"],
        storage=own["storage"],
        study=own["study"],
        run_dir=str(wanted) if wanted is not None else None,
        fixed=fixed,
    )


def enter_folder(plan: Plan) -> str:
    """Makes the sweep's folder, or enters it beside other workers.

    Returns:
        what the study shall be marked with, so that nobody joins it from another folder.

    Raises:
        RunFolderError: the folder holds something else, or cannot be made.
    """
    folder, path = plan.folder, plan.folder / PLAN
    text = yaml.safe_dump(plan.definition, sort_keys=False, allow_unicode=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with alone(folder):
            if not path.exists():
                if {one.name for one in folder.iterdir()} - {LOCK}:
                    raise RunFolderError(
                        f"The folder {folder} is not empty and holds no sweep. Choose another --run_dir."
                    )
                write_text(path, f"{text}mark: {uuid.uuid4().hex}\n")
            before, _, mark = path.read_text(encoding="utf-8").rpartition("mark: ")
    except OSError as error:
        raise RunFolderError(
            f"The sweep's folder {folder} cannot be made or written: {error}. Choose another with --run_dir=PATH."
        ) from error
    if yaml.safe_load(before) != plan.definition:  # whatever the order in which settings were typed
        changed = [line for line in difflib.ndiff(before.splitlines(), text.splitlines()) if line[0] in "-+"]
        raise RunFolderError(
            f"{folder} holds another sweep (- its settings, + now): {'; '.join(changed[:6])}. Give the same settings to "
            "join it, or choose another --run_dir."
        )
    return mark.strip()


def _own(path: str | Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """The sweep's own settings: defaults, then its file, then the command line; all checked."""
    in_file = {key: value for key, value in read_yaml(path).items() if key != "space"} if is_yaml(path) else {}
    for key in in_file:
        if key not in DEFAULTS:
            raise ConfigError(
                f"The sweep {path} has no setting `{key}`.{did_you_mean(key, ['space', *DEFAULTS])} It takes: space, "
                f"{', '.join(DEFAULTS)}. A setting that every trial shares stands on the command line or in --config_files."
            )
    own = {**DEFAULTS, **in_file, **given}
    own["pruner"] = own["pruner"] if own["pruner"] is not None else "none"
    for key, allowed in (("sampler", SAMPLERS), ("pruner", PRUNERS)):
        if own[key] not in allowed:
            hint = did_you_mean(str(own[key]), allowed)
            raise ConfigError(f"`{key}: {own[key]}` of the sweep must be one of {', '.join(allowed)}.{hint}")
    for key in ("trials", "heartbeat"):
        if own[key] is not None and (type(own[key]) is not int or own[key] < 1):
            raise ConfigError(f"`{key}: {own[key]!r}` of the sweep must be a whole number of at least 1.")
    for key in ("metric", "storage", "study"):
        if own[key] is not None and not (isinstance(own[key], str) and own[key]):
            raise ConfigError(f"`{key}: {own[key]!r}` of the sweep must be a text.")
    if own["storage"] is not None and "://" not in own["storage"]:
        raise ConfigError(
            f"`storage: {own['storage']}` of the sweep must be an SQLAlchemy URL such as sqlite:///sweep.db or "
            "postgresql://user:password@host/database."
        )
    own["heartbeat"] = own["heartbeat"] or DEFAULTS["heartbeat"]
    return own
