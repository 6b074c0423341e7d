"""Stages 2 and 2b, repeated: the order of a run's stages, a round of stage 2, and which round is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from rporec_recbole.errors import RunFolderError
from rporec_recbole.training.state.snapshots import Progress, Snapshot, named

REPEATED = ("2", "2b")
_SNAPSHOT = "best-round"


class Step(NamedTuple):
    """A stage, in a round.

    Attributes:
        stage: as in `settings.STAGES`.
        number: of the round, from 1.
    """

    stage: str
    number: int = 1

    @property
    def name(self) -> str:
        """The stage, from the second round on with the round's number."""
        return self.titled(self.stage)

    def titled(self, title: str) -> str:
        """A title, from the second round on with the round's number."""
        return title if self.number == 1 else f"{title}, round {self.number}"


def steps_of(stages: Sequence[str], rounds: int) -> list[Step]:
    """The steps of a run, in order.

    Args:
        stages: each once, in order.
        rounds: how often 2 and 2b are run, one after the other.
    """
    repeated = [stage for stage in stages if stage in REPEATED]
    before = [Step(stage) for stage in stages if stage not in (*REPEATED, "refresh")]
    again = [Step(stage, number) for number in range(1, rounds + 1) for stage in repeated]
    return [*before, *again, *(Step(stage) for stage in stages if stage == "refresh")]


def refine(trainer: Any, train_data: Any, valid_data: Any, number: int) -> dict[str, Any]:
    """One round of stage 2; what is worth knowing of it.

    Args:
        trainer: the `RPORecTrainer` that runs it; its helpers are called to the same round.
        train_data: its training loader.
        valid_data: its validation loader; None keeps the last policy.
        number: of the round, from 1.
    """
    from rporec_recbole.training.stage2.refinement import Refinement  # it imports TRL, which takes seconds

    if trainer.helpers is not None:
        trainer.helpers.refine(number)
    return Refinement(trainer, train_data, valid_data, number).run()


class BestRound:
    """Head and backbone of the round that validated best; of equal rounds the last, for texts may change without moving a rank.

    What the first round starts with takes part, as round 0: reinforcement that helps nothing on validation changes nothing. It is
    asked here, behind the re-alignment, and not before: a head that knows the writer of before is no judge of the writer of after.

    Args:
        model: an `RPORec`.
        progress: keeps them for a run that is killed.
        count: of the run's rounds.

    Attributes:
        rounds: one entry a round: `round`, `score`, `valid` (all metrics), `kept`.
    """

    def __init__(self, model: Any, progress: Progress, count: int) -> None:
        self._model, self._progress, self._count = model, progress, count
        self._weights: dict[str, Tensor] = {}
        self.rounds: list[dict[str, Any]] = []

    def offer(self, number: int, score: float, result: dict[str, float], bigger: bool) -> None:
        """The model as it is after a round.

        Args:
            number: of the round; 0 for what the first one starts with.
            score: on validation.
            result: all metrics on validation.
            bigger: whether more is better.
        """
        best = next((one for one in self.rounds if one["kept"]), None)
        score = float(score)  # NumPy's own numbers are no JSON
        kept = best is None or (score >= best["score"] if bigger else score <= best["score"])
        if kept and best is not None:
            best["kept"] = False
        if kept and number < self._count:  # the last one's weights are those of the model
            head = {name: tensor.detach().cpu().clone() for name, tensor in self._model.state_dict().items()}
            self._weights = {**named("head", head), **named("backbone", self._model.backbone.weights())}
            self._progress.save(_SNAPSHOT, self._weights, {"round": number})
        self.rounds.append({"round": number, "score": score, "valid": result, "kept": kept})

    def take(self) -> dict[str, Any]:
        """Puts the best round back in place; its entry.

        Raises:
            RunFolderError: the run was killed, and its snapshot is gone or could not be written.
        """
        best = next(one for one in self.rounds if one["kept"])
        if best is not self.rounds[-1]:
            kept = (
                Snapshot(self._weights, {"round": best["round"]}) if self._weights else self._progress.load(_SNAPSHOT)
            )
            if kept is None or kept.facts["round"] != best["round"]:  # a full disk keeps an older one
                raise RunFolderError(
                    f"The snapshot of round {best['round']}, the best one, is gone. Delete the files in the run's folder resume/ to start again."
                )
            self._model.load_state_dict(kept.under("head"))
            self._model.backbone.set_weights(kept.under("backbone"))
        return best
