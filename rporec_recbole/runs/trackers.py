"""Where a run can be watched besides its folder: TensorBoard always, Weights & Biases and MLflow where `trackers` names them.

Each gets the settings, every curve while it grows, the results, and some of the texts that were written. A tracker that fails, as one does
whose server is gone, is left out from then on, with one warning; no run ends for it. Both services have offline modes, set by their own
environment variables: WANDB_MODE=offline, MLFLOW_TRACKING_URI=sqlite:///mlflow.db.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from rporec_recbole.cot import report
from rporec_recbole.data.files import write_json
from rporec_recbole.errors import ConfigError, did_you_mean, first_line

KEPT = "trackers.json"
"""In the run folder: under which name each service knows the run, so that one that goes on is not taken for another."""
TEXTS = 3
"""Texts of each writer that are shown."""
_LONGEST = 500  # characters of a setting; MLflow takes no more in old versions


class Tracker(Protocol):
    """A service that a run is watched with."""

    def add(self, name: str, step: int, value: float) -> None:
        """One value of one curve."""

    def end(self, results: Mapping[str, float], texts: str, failed: bool) -> None:
        """The last words: results by name, some texts, and whether the run came to its end."""


class Trackers:
    """The trackers of one run.

    Args:
        trackers: name -> tracker.
    """

    def __init__(self, trackers: Mapping[str, Tracker]) -> None:
        self._trackers = dict(trackers)

    def add(self, name: str, step: int, value: float) -> None:
        """Hands one value of one curve to all of them."""
        self._each(lambda one: one.add(name, step, float(value)))

    def add_all(self, curves: Mapping[str, Iterable[tuple[int, float]]]) -> None:
        """Hands whole curves to all of them.

        Args:
            curves: name -> (step, value).
        """
        for name, points in curves.items():
            for step, value in points:
                self.add(name, step, value)

    def end(self, results: Mapping[str, float], texts: str, failed: bool = False) -> None:
        """Hands the last words to all of them."""
        self._each(lambda one: one.end(results, texts, failed))
        self._trackers = {}

    def _each(self, do: Any) -> None:
        for name, one in list(self._trackers.items()):
            try:
                do(one)
            except Exception as error:  # whatever a service raises
                del self._trackers[name]
                _left_out(name, error)


def _left_out(name: str, error: Exception) -> None:
    logging.getLogger().warning(
        f"{name} is left out from here on: {type(error).__name__}: {first_line(error)}. The run goes on."
    )


def check_trackers(wanted: Any) -> None:
    """Refuses what `trackers` cannot name.

    Raises:
        ConfigError: no list, an unknown name, a package that is not installed.
    """
    if not isinstance(wanted, (list, tuple)):
        raise ConfigError(f'`trackers={wanted!r}` must be a list, such as --trackers="[wandb]" or "[mlflow,wandb]".')
    for name in wanted:
        if name not in _SERVICES:
            raise ConfigError(
                f"`trackers={list(wanted)}`: there is no tracker `{name}`.{did_you_mean(str(name), _SERVICES)} "
                f"Allowed: {', '.join(_SERVICES)}; TensorBoard's files are always written."
            )
        if importlib.util.find_spec(name) is None:
            raise ConfigError(
                f'`trackers={list(wanted)}` needs the package {name}. Install it with: pip install "rporec_recbole[{name}]"'
            )


@contextlib.contextmanager
def tracking(
    wanted: Iterable[str], project: str, folder: Path, settings: Mapping[str, Any], board: Any
) -> Iterator[Trackers]:
    """The trackers of a run; where the block raises, they are told so.

    Args:
        wanted: their names.
        project: under which they file the run.
        folder: of the run.
        settings: all of them.
        board: TensorBoard's `SummaryWriter`; whoever made it closes it.
    """
    plain = {key: _short(value) for key, value in settings.items()}
    made: dict[str, Tracker] = {"tensorboard": _TensorBoard(board, plain)}
    known = json.loads((folder / KEPT).read_text(encoding="utf-8")) if (folder / KEPT).is_file() else {}
    for name in wanted:
        try:
            made[name] = _SERVICES[name](project, folder, plain, known)
        except Exception as error:  # whatever a service raises
            _left_out(name, error)
    if known:
        write_json(folder / KEPT, known)
    trackers = Trackers(made)
    try:
        yield trackers
    except BaseException:
        trackers.end({}, "", failed=True)
        raise


def results_of(metrics: Mapping[str, Any]) -> dict[str, float]:
    """What services show of `metrics.json`: results by split, what the writer knows, seconds by stage."""
    found = {f"{split}/{name}": value for split in ("valid", "test") for name, value in metrics.get(split, {}).items()}
    for split, answers in metrics.get("answers", {}).items():
        found |= {
            f"answers {split}/{name}": value for name, value in answers.items() if isinstance(value, (int, float))
        }
    return found | {f"seconds/{stage}": entry["seconds"] for stage, entry in metrics.get("stages", {}).items()}


def texts_of(folder: Path) -> str:
    """Some texts of each writer of a run, with their prompts; empty where none were written."""
    if not (folder / report.STORE).is_file():
        return ""
    with contextlib.closing(report.open_store(folder)) as store:
        return report.samples(report.by_writer(store), TEXTS, seed=0)


def _short(value: Any) -> str | int | float | bool:
    return value if isinstance(value, (int, float, bool)) else str(value)[:_LONGEST]


def _named(name: str) -> str:
    """A name that every service takes: letters, digits, and `_ - . /`; of `ndcg@10`, `ndcg_10`."""
    return re.sub(r"[^\w./-]+", "_", name)


class _TensorBoard:
    """Curves are written by who has them; here are the settings beside the results, and the texts."""

    def __init__(self, board: Any, settings: Mapping[str, Any]) -> None:
        self._board, self._settings = board, settings

    def add(self, name: str, step: int, value: float) -> None:
        pass

    def end(self, results: Mapping[str, float], texts: str, failed: bool) -> None:
        if failed:
            return
        if texts:
            self._board.add_text("texts", "    " + texts.replace("\n", "\n    "))
        scores = {_named(name): value for name, value in results.items()}
        self._board.add_hparams(dict(self._settings), scores, run_name=".")


class _Wandb:
    def __init__(self, project: str, folder: Path, settings: Mapping[str, Any], known: dict[str, str]) -> None:
        import wandb

        self._wandb = wandb
        known.setdefault("wandb", uuid.uuid4().hex[:8])
        self._run = wandb.init(
            project=project, name=folder.name, dir=str(folder), config=dict(settings), id=known["wandb"], resume="allow"
        )

    def add(self, name: str, step: int, value: float) -> None:
        stage = name.partition("/")[0]
        self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
        self._run.log({name: value, f"{stage}/step": step})

    def end(self, results: Mapping[str, float], texts: str, failed: bool) -> None:
        if texts:
            self._run.log({"texts": self._wandb.Table(columns=["texts"], data=[[texts]])})
        self._run.summary.update(dict(results))
        self._run.finish(exit_code=int(failed))


class _MLflow:
    def __init__(self, project: str, folder: Path, settings: Mapping[str, Any], known: dict[str, str]) -> None:
        import mlflow

        self._client = mlflow.MlflowClient()
        old = known.get("mlflow")
        if old is None:
            found = self._client.get_experiment_by_name(project)
            place = self._client.create_experiment(project) if found is None else found.experiment_id
            known["mlflow"] = self._client.create_run(place, run_name=folder.name).info.run_id
            for key, value in settings.items():
                self._client.log_param(known["mlflow"], _named(key), value)
        self._id = known["mlflow"]

    def add(self, name: str, step: int, value: float) -> None:
        self._client.log_metric(self._id, _named(name), value, step=step)

    def end(self, results: Mapping[str, float], texts: str, failed: bool) -> None:
        for name, value in results.items():
            self._client.log_metric(self._id, _named(name), value)
        if texts:
            self._client.log_text(self._id, texts, "texts.txt")
        self._client.set_terminated(self._id, "FAILED" if failed else "FINISHED")


_SERVICES: dict[str, Callable[[str, Path, Mapping[str, Any], dict[str, str]], Tracker]] = {
    "wandb": _Wandb,
    "mlflow": _MLflow,
}
