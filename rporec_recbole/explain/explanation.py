"""Why users got what they got: the facts of a finished run, no presentation.

Scores come from the evaluation's own path (`scoring`), with the reasoning and without. The target is a fact for the reader;
no prompt holds it.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rporec_recbole.cot.compose import sections_of
from rporec_recbole.errors import ConfigError
from rporec_recbole.evaluation.ranking import target_rank, top_of
from rporec_recbole.evaluation.ranks import read_ranks
from rporec_recbole.explain.facts import Chosen, Explanation, Facts, Heard, Ranked, Thought
from rporec_recbole.runs.finished import LoadedRun, load_run
from rporec_recbole.runs.scoring import Scorer
from rporec_recbole.runs.titles import Item, items_of
from rporec_recbole.text.completions import Completion, first_well_formed
from rporec_recbole.text.prompts import Rating

TOP = 10
_NAMED = 5  # unknown users in a message
_HEARD = 5  # items that answers name, on a page


def explain(
    path: str | Path,
    users: Sequence[str] | None = None,
    sample: int = 20,
    seed: int = 0,
    split: str = "test",
    **places: str | None,
) -> Facts:
    """The facts of some users of a finished run.

    Args:
        path: the run folder.
        users: user ids as in the data files; all rows of each. None draws a sample.
        sample: how many random rows.
        seed: of the draw.
        split: `valid` or `test`.
        places: what moved since, as for `load_run`.

    Raises:
        RunFolderError: there is no finished run.
        ConfigError: a user is unknown, or the model has no histories to show.
    """
    run = load_run(path, **places)
    if not hasattr(run.model, "ITEM_SEQ"):
        raise ConfigError(
            f"{path} holds a run of {run.config['model']}, which knows users by their number and reads no history, so there is "
            "nothing to show. `rporec explain` takes runs of RPORec and of RecBole's sequential models."
        )
    try:
        return facts_of(run, users, sample, seed, split)
    finally:
        if getattr(run.model, "reasoner", None) is not None:
            run.model.reasoner.store.close()


def facts_of(
    run: LoadedRun, users: Sequence[str] | None = None, sample: int = 20, seed: int = 0, split: str = "test"
) -> Facts:
    """The same of a run that is loaded already; its model reads histories.

    Args:
        run: the finished run.
        users, sample, seed, split: as for `explain`.

    Raises:
        ConfigError: a user is unknown.
    """
    scorer = Scorer(run)
    owners = scorer.users(split)
    if users is None:
        chosen = sorted(random.Random(seed).sample(range(len(owners)), min(sample, len(owners))))
        explained = [one for _, one in _explained(run, scorer, split, np.array(chosen, dtype=np.int64))]
    else:
        asked = _places(run, owners, users, split)
        found = dict(_explained(run, scorer, split, np.array(sorted(asked), dtype=np.int64)))
        explained = [found[place] for place in asked]
    config = run.config
    return Facts(
        run=run.run_dir.resolve().name,
        model=str(config["model"]),
        dataset=str(config["dataset"]),
        seed=int(config["seed"]),
        split=split,
        hide_seen=bool(config["hide_seen"]),
        candidates=run.dataset.item_num - 1,
        rows=len(owners),
        users=explained,
    )


def differing(facts: Facts, path: str | Path) -> int:
    """How many targets have another rank than in the run's `ranks.parquet`.

    Raises:
        RunFolderError: the run has no readable ranks.
    """
    kept = read_ranks(path, facts.split).groupby(level=[0, 1]).agg(set).to_dict()
    found = [((one.user_id, one.target.item.item_id), one.target.rank) for one in facts.users]
    return sum(rank not in kept.get(key, ()) for key, rank in found)


def _places(run: LoadedRun, owners: np.ndarray, users: Sequence[str], split: str) -> list[int]:
    """Row numbers of users, in the order asked for."""
    ids = run.dataset.field2token_id[run.dataset.uid_field]
    places = {user: np.flatnonzero(owners == ids.get(user, -1)).tolist() for user in dict.fromkeys(users)}
    missing = [user for user, found in places.items() if not found]
    if missing:
        named = ", ".join(f"`{user}`" for user in missing[:_NAMED])
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        there = ", ".join(f"`{token}`" for token in run.dataset.id2token(run.dataset.uid_field, owners[:3]))
        raise ConfigError(
            f"The {split} split of {run.run_dir} has no row of {named}{more}. Name users as user_id of the .inter file has them, such "
            f"as {there}; users with fewer than three interactions are not evaluated. `--sample=20` draws some."
        )
    return [place for found in places.values() for place in found]


def _explained(run: LoadedRun, scorer: Scorer, split: str, wanted: np.ndarray) -> Iterator[tuple[int, Explanation]]:
    """Row number and explanation of each wanted row; the numbers ascend."""
    items, numbers = items_of(run), iter(wanted.tolist())
    catalogue = getattr(run.model, "catalogue", None)
    named = {} if catalogue is None else {line: number for number, line in enumerate(catalogue.lines) if number}
    for places, (rows, hidden, _, targets) in scorer.batches(split, wanted):
        scores = scorer.scores(rows, hidden)[places].cpu()
        chosen, thoughts, without = rows[places], None, None
        if getattr(run.model, "reads_reasoning", False):
            with _without_reasoning(run.model):
                without = scorer.scores(rows, hidden)[places].cpu()
        if getattr(run.model, "reasoning_on", False):  # also where it counts 0
            thoughts = _thoughts(run.model, chosen)
        users = run.dataset.id2token(run.dataset.uid_field, chosen[run.dataset.uid_field].numpy())
        for index, (user, history, target) in enumerate(
            zip(users, _histories(run, chosen), targets[places], strict=True)
        ):
            seen = {item for item, _, _ in history}
            full = _Ranking(items, scores[index], None if without is None else without[index], int(target), seen)
            bare = None if without is None else _Ranking(items, without[index], scores[index], int(target), seen)
            thought = None
            if thoughts is not None:
                completion, gate, moved, named_items = thoughts[index]
                heard = [Heard(items[number], added) for number, added in named_items[:_HEARD] if without is not None]
                guessed = named.get(completion.answer)
                answered = None if guessed is None else full.place(guessed)
                thought = _thought(completion, without is not None, gate, moved, answered, heard)
            explanation = Explanation(
                user_id=str(user),
                history=[Chosen(items[item], rating, shown) for item, rating, shown in history],
                target=full.place(int(target)),
                top=full.top(),
                reasoning=thought,
                target_without=None if bare is None else bare.place(int(target)),
                top_without=[] if bare is None else bare.top(),
            )
            yield next(numbers), explanation


@dataclass(frozen=True)
class _Ranking:
    """The scores of one row, `[N]`, and those beside them."""

    items: list[Item]
    scores: Tensor
    others: Tensor | None
    target: int
    seen: set[int]

    def place(self, number: int) -> Ranked:
        other = None
        if self.others is not None and self.others[number] > -torch.inf:
            other = _rank(self.others, number)
        return Ranked(
            item=self.items[number],
            score=float(self.scores[number]) if self.scores[number] > -torch.inf else None,
            rank=_rank(self.scores, number),
            other_rank=other,
            is_target=number == self.target,
            in_history=number in self.seen,
        )

    def top(self) -> list[Ranked]:
        values, numbers = top_of(self.scores[None], min(TOP, len(self.scores) - 1))
        return [self.place(number) for number in numbers[values > -torch.inf].tolist()]


def _rank(scores: Tensor, number: int) -> int:
    return int(target_rank(scores[None], torch.tensor([number])))


def _histories(run: LoadedRun, rows: Any) -> list[list[tuple[int, Rating, bool]]]:
    """Item, rating and whether the prompt shows it, for each step of each row."""
    model = run.model
    histories = rows[model.ITEM_SEQ].tolist()
    known = model.ratings_of(rows) if hasattr(model, "ratings_of") else None
    ratings = known or [[None] * len(one) for one in histories]
    found = []
    for history, rated in zip(histories, ratings, strict=True):
        steps = [(item, rating) for item, rating in zip(history, rated, strict=True) if item != 0]
        shown = 0
        if getattr(model, "reasoning_on", False):
            shown = len(model.reasoner.template.shown(history, None if known is None else rated))
        first = len(steps) - shown  # a prompt shows the newest items
        found.append([(item, rating, step >= first) for step, (item, rating) in enumerate(steps)])
    return found


@contextlib.contextmanager
def _without_reasoning(model: Any) -> Iterator[None]:
    model.reasoning_on = False
    try:
        yield
    finally:
        model.reasoning_on = True


@torch.no_grad()
def _thoughts(model: Any, rows: Any) -> list[tuple[Completion, float, float, list[tuple[int, float]]]]:
    """Completion (the first well-formed one, where there are several), gate value, |u - s| / |s| and what was heard of each row."""
    reasoning, written = model.reasoning(rows, model.evaluation_decoding)
    completions = [first_well_formed(texts) for texts in written]
    histories, clock = rows[model.ITEM_SEQ].to(model.device), model.clock_of(rows)
    state = model.head.last_state(histories, model.head.item_vectors(), clock)
    gate = model.head.gate(state, reasoning)
    moved = (model.head.user_vectors(state, reasoning) - state).norm(dim=1) / state.norm(dim=1).clamp(min=1e-12)
    heard = model.head.heard_items(histories, reasoning, clock)
    return list(zip(completions, gate.tolist(), moved.tolist(), heard, strict=True))


def _thought(
    completion: Completion, counts: bool, gate: float, moved: float, guessed: Ranked | None, heard: list[Heard]
) -> Thought:
    return Thought(
        counts=counts,
        text=completion.text,
        well_formed=completion.well_formed,
        cot=completion.cot,
        sections=sections_of(completion.cot),
        answer=completion.answer,
        answer_item=guessed,
        gate=gate if completion.well_formed else None,
        moved=moved,
        heard=heard,
    )
