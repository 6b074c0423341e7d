"""Several models, several seeds, one harness: trains what is missing, then compares. One run folder a model and seed."""

from __future__ import annotations

import glob
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rporec_recbole.data.digest import check_digest
from rporec_recbole.data.files import unwritable, write_text
from rporec_recbole.errors import ConfigError, RPORecError, RunFolderError, did_you_mean
from rporec_recbole.evaluation.compare import Comparison
from rporec_recbole.evaluation.plots import plot_comparison
from rporec_recbole.evaluation.tables import to_csv, to_json, to_latex, to_markdown
from rporec_recbole.host.bridge import build_config
from rporec_recbole.host.data import build_data, check_dataset_files
from rporec_recbole.host.models import keys_of
from rporec_recbole.runs.folder import finished, logging_to, read_config
from rporec_recbole.runs.located import has_data_of
from rporec_recbole.runs.run import Tell, run
from rporec_recbole.settings.places import changed, is_gone
from rporec_recbole.settings.properties import read_yaml
from rporec_recbole.settings.repeated import repeatable_config

_OWN = ("model", "settings", "config_files")


class Contestant(NamedTuple):
    """One model of a comparison.

    Attributes:
        name: what tables call it.
        model: RPORec or one of RecBole's models.
        config_files: its own YAML files, after those that all models share.
        settings: its own; they win over everything.
    """

    name: str
    model: str
    config_files: list[str]
    settings: dict[str, Any]


class Failure(NamedTuple):
    """A run that could not be made: `name`, `seed` and what its error said."""

    name: str
    seed: int
    message: str


def read_contestants(path: str | Path) -> tuple[list[Contestant], dict[str, Any]]:
    """Reads a YAML file that lists models.

    `models` maps a name to `model` (the name itself if left out), `settings` and `config_files`; `settings` beside it are
    shared by all. Whatever else stands there (dataset, seeds, reference, metrics, run_dir) is an option of the comparison.

    Returns:
        the models, and the options with the shared settings.

    Raises:
        ConfigError: the file is unreadable or of another form.
    """
    content = read_yaml(path)
    models = content.pop("models", None)
    if not isinstance(models, dict) or not models:
        raise ConfigError(f"{path} must have `models`, a mapping such as `models: {{SASRec: {{}}, GRU4Rec: {{}}}}`.")
    found = []
    for name, own in models.items():
        own = own or {}
        for key in own if isinstance(own, dict) else []:
            if key not in _OWN:
                raise ConfigError(
                    f"{path}: `{key}` of `{name}` is none of {list(_OWN)}.{did_you_mean(key, _OWN)} Settings of the model go under `settings`."
                )
        settings, files = (
            (own.get("settings") or {}, own.get("config_files") or []) if isinstance(own, dict) else (0, 0)
        )
        if not isinstance(settings, dict) or not isinstance(files, list):
            raise ConfigError(f"{path}: `{name}` must map to `settings` (a mapping) and `config_files` (a list).")
        found.append(Contestant(str(name), str(own.get("model", name)), [str(file) for file in files], settings))
    shared = content.pop("settings", None) or {}
    if not isinstance(shared, dict):
        raise ConfigError(f"{path}: `settings` must be a mapping of names to values.")
    return found, {**shared, **content}


def default_folder(dataset: str, config_files: Sequence[str], shared: Mapping[str, Any]) -> Path:
    """Where runs go: the same for the same shared settings, so that the same command, or one with more models or seeds,
    goes on there."""
    return Path("saved") / _folder_name(dataset, [*(read_yaml(file) for file in config_files), dict(shared)])


def _folder_name(dataset: str, parts: Sequence[Mapping[str, Any]]) -> str:
    known = (
        ""
        if not any(parts)
        else "-" + hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:8]
    )
    return f"compare-{dataset}{known}"


def found_folder(
    contestants: Sequence[Contestant], dataset: str, config_files: Sequence[str], shared: Mapping[str, Any]
) -> Path:
    """`default_folder`; where the data were moved since, the one that has the runs with these data.

    Args:
        contestants, dataset, config_files, shared: as for `run_missing`.
    """
    folder = default_folder(dataset, config_files, shared)
    parts = [*(read_yaml(file) for file in config_files), dict(shared)]
    here = next((part["data_path"] for part in reversed(parts) if "data_path" in part), None)
    if folder.exists() or here is None:
        return folder
    for other in sorted(folder.parent.glob(f"compare-{glob.escape(dataset)}-*")):
        done = [
            (one, run) for one in contestants for run in sorted(other.glob(f"{_stem(one)},seed=*")) if finished(run)
        ]
        place = read_config(done[0][1]).get("data_path") if done else None
        if not is_gone("data_path", place, dataset):
            continue
        before = [{**part, "data_path": place} if part.get("data_path") == here else part for part in parts]
        if other.name == _folder_name(dataset, before) and _same_data(
            *done[0], dataset, contestants, config_files, shared
        ):
            return other
    return folder


def _same_data(
    one: Contestant,
    run: Path,
    dataset: str,
    contestants: Sequence[Contestant],
    config_files: Iterable[str],
    shared: Mapping[str, Any],
) -> bool:
    settings = _settings_of_each(contestants, dataset, config_files, shared, lambda said: None)[contestants.index(one)]
    return has_data_of(run, build_config(one.model, dataset, overrides=settings))


def _stem(one: Contestant) -> str:
    return re.sub(r"[^-.=,+()A-Za-z0-9]+", "-", one.name)


def run_missing(
    contestants: Sequence[Contestant],
    dataset: str,
    seeds: Sequence[int],
    folder: Path,
    config_files: Iterable[str] = (),
    shared: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = print,
    tell: Tell | None = None,
) -> tuple[dict[str, list[Path]], list[Failure]]:
    """Trains every model with every seed, unless its run is finished already.

    A run that fails for a reason that the user can repair does not stop the others. A shared setting goes to the models
    that know it.

    Args:
        contestants: the models.
        dataset: name of the data set.
        seeds: one run each.
        folder: parent of the run folders.
        config_files: shared by all models.
        shared: settings of all models.
        say: gets what a person should know before the runs.
        tell: of each run, as for `run`.

    Returns:
        name -> finished run folders, and the runs that failed.

    Raises:
        ConfigError: a setting is wrong; nothing has been trained then.
        DatasetError: the files lack something that one of the models needs; likewise.
        RunFolderError: a finished run of that name has other settings.
    """
    settings = _settings_of_each(contestants, dataset, config_files, shared or {}, say)
    plan, checked = [], set()
    for one, own in zip(contestants, settings, strict=True):
        for seed in seeds:
            wanted = {**own, "seed": seed}
            where = folder / f"{_stem(one)},seed={seed}"
            config = build_config(one.model, dataset, overrides=wanted)
            done = finished(where)
            columns = str([config[key] for key in ("data_path", "load_col", "item_text_fields")])
            if not done and columns not in checked:
                check_dataset_files(config)
                checked.add(columns)
            if done:
                _refuse_others(where, config)
            plan.append((one, seed, wanted, where, done))
    missing = sum(not done for *_, done in plan)
    say(f"{len(plan) - missing} of {len(plan)} runs are finished, {missing} are to be made")
    found: dict[str, list[Path]] = {}
    failures = []
    for one, seed, wanted, where, done in plan:
        try:
            if not done:
                run(one.model, dataset, overrides={**wanted, "run_dir": str(where)}, tell=tell)
            found.setdefault(one.name, []).append(where)
        except RPORecError as error:
            failures.append(Failure(one.name, seed, str(error)))
    return found, failures


def write_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """Writes `comparison.md`, `.csv`, `.tex`, `.json` and `.png`.

    Raises:
        RunFolderError: they cannot be written.
    """
    texts = {"md": to_markdown, "csv": to_csv, "tex": to_latex, "json": to_json}
    paths = [folder / f"comparison.{ending}" for ending in (*texts, "png")]
    with unwritable(f"The comparison cannot be written to {folder}", "--output"):
        folder.mkdir(parents=True, exist_ok=True)
        for path, to_text in zip(paths, texts.values(), strict=False):
            write_text(path, to_text(comparison))
        plot_comparison(comparison).savefig(paths[-1], dpi=110)
    return paths


def _settings_of_each(
    contestants: Sequence[Contestant],
    dataset: str,
    config_files: Iterable[str],
    shared: Mapping[str, Any],
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
    names = [one.name for one in contestants]
    if len(set(names)) < len(names):
        raise ConfigError(
            f"A model stands twice in {names}. Give each a name of its own, in a file for --compare=FILE.yaml."
        )
    common: dict[str, Any] = {}
    for file in config_files:
        common.update(read_yaml(file))
    common.update(shared)
    common = {key: value for key, value in common.items() if key not in ("model", "dataset", "seed")}
    for one in contestants:
        build_config(one.model, dataset)  # refuses an unknown model before its settings are asked for
    known = [keys_of(one.model, dataset) for one in contestants]
    of_some: dict[str, list[str]] = {}
    for key in common:
        knowing = [one.name for one, keys in zip(contestants, known, strict=True) if key in keys]
        if not knowing:
            close = did_you_mean(key, {k for keys in known for k in keys})
            raise ConfigError(f"`{key}` is a setting of none of {names}.{close}")
        if len(knowing) < len(names):
            of_some.setdefault(", ".join(knowing), []).append(key)
    for some, its in of_some.items():
        say(f"settings of {some} alone: {', '.join(its)}")
    found = []
    for one, keys in zip(contestants, known, strict=True):
        own = {key: value for key, value in common.items() if key in keys}
        for file in one.config_files:
            own.update(
                {key: value for key, value in read_yaml(file).items() if key not in ("model", "dataset", "seed")}
            )
        found.append({**own, **one.settings})
    return found


def _refuse_others(folder: Path, config: Any) -> None:
    there, wanted = read_config(folder), repeatable_config(config)
    other = [f"{key} was {there.get(key)!r} and is {wanted.get(key)!r}" for key in changed(there, wanted)]
    if other:
        raise RunFolderError(
            f"{folder} holds a finished run with other settings: {'; '.join(other[:6])}. Choose another --run_dir, or "
            "remove that folder to run it again."
        )
    if there.get("data_path") != wanted.get("data_path"):  # they moved, or are others of the same name
        with logging_to(None):
            check_digest(folder, build_data(config)[0].digest)
