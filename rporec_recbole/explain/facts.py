"""The records that an explanation consists of."""

from __future__ import annotations

from dataclasses import dataclass

from rporec_recbole.runs.titles import Item
from rporec_recbole.text.prompts import Rating


@dataclass(frozen=True)
class Chosen:
    """One step of a history.

    Attributes:
        item: what was chosen.
        rating: the user's rating of it, a number, or a name cleaned as titles are; None where there is none, and for models that read none.
        in_prompt: whether the backbone was shown it.
    """

    item: Item
    rating: Rating
    in_prompt: bool


@dataclass(frozen=True)
class Ranked:
    """One item of a ranking.

    Attributes:
        item: the item.
        score: its score; None if it is hidden.
        rank: 1 is best; the place of an item among all, ties counted against it (`ranking.target_rank`).
        other_rank: its rank in the other ranking, with or without reasoning; None if there is only one, or if it is hidden there.
        is_target: whether it is what the user really chose next.
        in_history: whether the history that the model sees has it.
    """

    item: Item
    score: float | None
    rank: int
    other_rank: int | None
    is_target: bool
    in_history: bool


@dataclass(frozen=True)
class Heard:
    """An item that the backbone's answers name.

    Attributes:
        item: the item.
        added: to its score, because it was named; below 0 where the head holds the answer against it.
    """

    item: Item
    added: float


@dataclass(frozen=True)
class Thought:
    """What the backbone wrote, and what the head made of it.

    Attributes:
        counts: whether the run's scores read texts at all; False where its choice was that they count 0.
        text: as written, unchanged.
        well_formed: whether it could be parsed; if not, it counted for nothing.
        cot: the chain of thought; empty if malformed.
        sections: `evidence`, `preference` and `intent` of a cot in that form; empty for one in another form.
        answer: the item that it guesses, in words; empty if malformed.
        answer_item: the item of the catalogue that the answer names word for word, as ranked with reasoning; None for none.
        gate: how much the head let it count, in (0, 1); None if malformed.
        moved: |u - s| / |s|, how far the reasoning moved the user's vector beside its length.
        heard: items that the answers name, with what the head adds to their scores for it, the most first.
    """

    counts: bool
    text: str
    well_formed: bool
    cot: str
    sections: dict[str, str]
    answer: str
    answer_item: Ranked | None
    gate: float | None
    moved: float
    heard: list[Heard]


@dataclass(frozen=True)
class Explanation:
    """One evaluated row.

    Attributes:
        user_id: as in the data files.
        history: what the model saw, oldest first.
        target: what the user chose next.
        top: the best items, best first, as evaluated.
        reasoning: None where the run wrote none.
        target_without: the target as ranked without reasoning; None where the run's scores use none.
        top_without: the best items without reasoning; empty where the run's scores use none.
    """

    user_id: str
    history: list[Chosen]
    target: Ranked
    top: list[Ranked]
    reasoning: Thought | None
    target_without: Ranked | None
    top_without: list[Ranked]


@dataclass(frozen=True)
class Facts:
    """What a page says.

    Attributes:
        run: name of the run folder.
        model: its model.
        dataset: its data set.
        seed: its seed.
        split: `valid` or `test`.
        hide_seen: whether items of a user's past were left out of the rankings.
        candidates: items of the catalogue.
        rows: how many rows the split has.
        users: the explained rows.
    """

    run: str
    model: str
    dataset: str
    seed: int
    split: str
    hide_seen: bool
    candidates: int
    rows: int
    users: list[Explanation]
