"""The study that all workers of a sweep share: an Optuna study that holds one trial for each place of the budget.

The budget is a queue: place 1, place 2, ... Each place has one trial that waits, runs or has ended. When a worker dies
with a trial, its place gets a new trial with the same values, so nothing is run twice and nothing is left out. What
workers do to the queue, they do one after the other, under a lock on the sweep's folder.

A dead worker is noticed by Optuna's heartbeat. Each place draws its values from a stream of random numbers of its own.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import threading
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rporec_recbole.errors import SweepError
from rporec_recbole.runs.folder import alone, in_use
from rporec_recbole.sweep.database import engine_of, reachable
from rporec_recbole.sweep.plan import Plan

_MISSED = 4  # signs of life in a row, after which a worker counts as dead
_ATTEMPTS = 3  # deaths of workers after which a trial is given up: it may be what kills them


class Pruned(Exception):
    """The pruner says that a trial is not worth going on with."""


class TakenOver(Exception):
    """A trial was given to another worker, because no sign of life came from this one for too long."""


@dataclass(frozen=True)
class Record:
    """A place of the budget, as it stands.

    Attributes:
        slot: its number, from 1.
        state: `waiting`, `running`, `complete`, `pruned` or `failed`.
        score: of the final model on validation; of a pruned trial, its last one.
        values: the settings that were drawn.
        seconds: that its last attempt took, None before it ended.
        validations: how many it reported.
        worker: who ran it, `host:process`.
        same_as: the place that had drawn the same values before, so that its score was taken over.
        message: why it failed.
    """

    slot: int
    state: str
    score: float | None = None
    values: dict[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    validations: int = 0
    worker: str = ""
    same_as: int | None = None
    message: str = ""

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in ("complete", "pruned", "failed")


@dataclass(frozen=True)
class Claimed:
    """A trial that this worker has to run.

    Attributes:
        slot: its place in the budget.
        values: the settings to run it with.
        trial: Optuna's.
        storage: URL of the study, for messages.
    """

    slot: int
    values: dict[str, Any]
    trial: Any
    storage: str | None

    def report(self, epoch: int, score: float) -> None:
        """Reports a validation.

        Raises:
            Pruned: going on is not worth while.
            TakenOver: another worker has the trial now.
            SweepError: the database is gone.
        """
        import optuna

        try:
            with reachable(self.storage):
                self.trial.report(score, epoch)
                stop = self.trial.should_prune()
        except optuna.exceptions.UpdateFinishedTrialError as error:
            raise TakenOver from error
        if stop:
            raise Pruned


class Study:
    """Opens the study of a plan, or joins it.

    Args:
        plan: the sweep.
        mark: of the sweep's folder (`plan.enter_folder`).

    Raises:
        SweepError: Optuna or a database driver is missing, the database cannot be reached, or the study is another
            folder's.
    """

    def __init__(self, plan: Plan, mark: str) -> None:
        try:
            import optuna
        except ImportError as error:
            raise SweepError('`--sweep` needs the package optuna: pip install "rporec_recbole[sweep]".') from error
        # Optuna calls its heartbeat experimental, and would have it used through `optimize`, which has no place for a lock.
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        warnings.filterwarnings("ignore", message="Heartbeat of storage")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._plan = plan
        self._optuna = optuna
        url, options = engine_of(plan)
        with alone(plan.folder), reachable(url):
            self._storage = optuna.storages.RDBStorage(
                url,
                engine_kwargs=options,
                heartbeat_interval=plan.heartbeat,
                grace_period=_MISSED * plan.heartbeat,
            )
            self._study = optuna.create_study(
                study_name=plan.study or plan.name,
                storage=self._storage,
                direction="maximize" if plan.bigger else "minimize",
                pruner=optuna.pruners.MedianPruner() if plan.pruner == "median" else optuna.pruners.NopPruner(),
                load_if_exists=True,
            )
            if self._study.user_attrs.get("mark", mark) != mark:
                raise SweepError(
                    f"The study {plan.study or plan.name} belongs to a sweep in another folder. All workers of a sweep share one "
                    "folder: name it with --run_dir=PATH. For a new sweep choose another name with --study=NAME."
                )
            self._study.set_user_attr("mark", mark)

    # --- what a worker does ---------------------------------------------------------------------------------------------

    def claim(self) -> Claimed | None:
        """The next trial to run, None if none waits."""
        states = self._optuna.trial.TrialState
        with alone(self._plan.folder), reachable(self._plan.storage):
            self._fill()
            waiting = self._study.get_trials(deepcopy=False, states=(states.WAITING,))
            if not waiting:
                return None
            self._study.sampler = self._sampler(waiting[0].user_attrs["slot"])
            trial = self._study.ask()  # takes the first that waits
            for one in self._plan.space:
                one.suggest(trial)
            self._storage.record_heartbeat(trial._trial_id)
            trial.set_user_attr("worker", f"{socket.gethostname()}:{os.getpid()}")  # last: see _fill
            return Claimed(trial.user_attrs["slot"], self._values(trial.params), trial, self._plan.storage)

    @contextlib.contextmanager
    def alive(self, claimed: Claimed) -> Iterator[None]:
        """Inside this block the trial's heart beats."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(self._plan.heartbeat):
                with contextlib.suppress(Exception):  # a database that is away for a moment
                    self._storage.record_heartbeat(claimed.trial._trial_id)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def twin(self, claimed: Claimed) -> Record | None:
        """A completed trial with the very same values."""
        for one in self.records():
            if one.state == "complete" and one.same_as is None and one.values == claimed.values:
                return one
        return None

    def complete(self, claimed: Claimed, score: float, same_as: int | None = None) -> None:
        """The trial came to its end with this score, its own or that of another place with the same values."""
        if not math.isfinite(score):
            self.fail(claimed, f"its score was {score}")
        elif same_as is None:
            self._tell(claimed, "COMPLETE", score)
        else:
            self._tell(claimed, "COMPLETE", score, same_as=same_as)

    def prune(self, claimed: Claimed) -> None:
        """The trial was stopped early."""
        self._tell(claimed, "PRUNED")

    def fail(self, claimed: Claimed, message: str) -> None:
        """The trial cannot be run; its place counts as used."""
        self._tell(claimed, "FAIL", message=message)

    def release(self, claimed: Claimed) -> None:
        """The worker was interrupted: somebody else, or the next start, shall run the trial."""
        self._tell(claimed, "FAIL", released=True)

    # --- what is known of it --------------------------------------------------------------------------------------------

    def records(self) -> list[Record]:
        """All places of the budget, in order."""
        with reachable(self._plan.storage):
            places = self._places()
        return [self._record(slot, places[slot]) for slot in range(1, self._plan.trials + 1)]

    def importance(self) -> dict[str, float]:
        """Share of each parameter in what made trials differ, largest first; empty if too few differ."""
        with contextlib.suppress(ValueError, RuntimeError):
            found = self._optuna.importance.get_param_importances(self._study)
            return {name: float(share) for name, share in found.items() if math.isfinite(share)}
        return {}

    # --- inside ---------------------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        """Gives every place that has no trial one, and every place whose worker died another; only under the lock."""
        states = self._optuna.trial.TrialState
        self._optuna.storages.fail_stale_trials(self._study)
        for trial in self._study.get_trials(deepcopy=False, states=(states.RUNNING,)):
            if "worker" not in trial.user_attrs:  # its worker died while it held the lock
                self._study.tell(trial.number, state=states.FAIL)
        places = self._places()
        points = self._plan.grid() if self._plan.sampler == "grid" and not all(places.values()) else []
        for slot, trials in places.items():
            if trials and (not self._lost(trials[-1]) or self._given_up(trials)):
                continue
            if in_use(self._plan.trial_folder(slot)):
                continue  # no sign of life, but alive: a machine that slept
            if trials and len(trials[-1].params) == len(self._plan.space):
                values = dict(trials[-1].params)
            else:
                values = points[slot - 1] if points else {}
            self._study.enqueue_trial(values, user_attrs={"slot": slot})

    def _places(self) -> dict[int, list[Any]]:
        found: dict[int, list[Any]] = defaultdict(list)
        for trial in self._study.get_trials(deepcopy=False):
            found[trial.user_attrs.get("slot", 0)].append(trial)
        return {slot: found[slot] for slot in range(1, self._plan.trials + 1)}

    def _lost(self, trial: Any) -> bool:
        return trial.state == self._optuna.trial.TrialState.FAIL and "message" not in trial.user_attrs

    def _given_up(self, trials: list[Any]) -> bool:
        return sum(self._lost(one) and "released" not in one.user_attrs for one in trials) >= _ATTEMPTS

    def _record(self, slot: int, trials: list[Any]) -> Record:
        if not trials:
            return Record(slot, "waiting")
        last = trials[-1]
        state, message = last.state.name.lower(), last.user_attrs.get("message", "")
        if state == "fail":
            state = "failed"
            if self._lost(last) and not self._given_up(trials):
                state = "waiting"
            elif self._lost(last):
                message = f"its worker died, {_ATTEMPTS} times"
        finite = last.value is not None and math.isfinite(last.value)
        return Record(
            slot=slot,
            state=state,
            score=last.value if finite else None,
            values=self._values(last.params),
            seconds=last.duration.total_seconds() if last.duration else None,
            validations=len(last.intermediate_values),
            worker=last.user_attrs.get("worker", ""),
            same_as=last.user_attrs.get("same_as"),
            message=message,
        )

    def _values(self, kept: dict[str, Any]) -> dict[str, Any]:
        return {one.name: one.value(kept[one.name]) for one in self._plan.space if one.name in kept}

    def _sampler(self, slot: int) -> Any:
        seed = int(np.random.SeedSequence([abs(self._plan.seed), slot]).generate_state(1)[0])
        samplers = self._optuna.samplers
        # The grid's points stand in the queue already; nothing is left to draw.
        if self._plan.sampler == "tpe":
            return samplers.TPESampler(seed=seed, constant_liar=True)  # keeps away from what others are running
        return samplers.RandomSampler(seed=seed)

    def _tell(self, claimed: Claimed, state: str, score: float | None = None, **facts: Any) -> None:
        with contextlib.suppress(self._optuna.exceptions.UpdateFinishedTrialError):  # taken over meanwhile
            with reachable(self._plan.storage):
                for key, value in facts.items():
                    claimed.trial.set_user_attr(key, value)
                self._study.tell(
                    claimed.trial, score, state=self._optuna.trial.TrialState[state], skip_if_finished=True
                )
