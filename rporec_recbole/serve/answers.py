"""Answers as JSON. The bodies of `/recommend` are joined from pieces made once; others are made by pydantic."""

from __future__ import annotations

import json

from rporec_recbole.serve.question import Explained, Named, Scored, Step, Thought
from rporec_recbole.serve.recommender import Best, Explanation, Recommender


class Writer:
    """Writes the answers of one run.

    Args:
        recommender: whose items and version the answers name.
    """

    def __init__(self, recommender: Recommender) -> None:
        self._recommender = recommender
        self._items = [
            f'{{"item":{json.dumps(item.item_id)},"title":{json.dumps(item.title)},"score":'
            for item in recommender.items
        ]
        self._version = json.dumps(recommender.version)

    def answer(self, best: Best) -> bytes:
        """The body of `/recommend`, in the form of `Answer`."""
        # Nine digits tell any two float32 apart.
        rows = ",".join(
            f"{self._items[number]}{score:.9g}}}" for number, score in zip(best.ids, best.scores, strict=True)
        )
        gate = "null" if best.gate is None else f"{best.gate:.9g}"
        used = "true" if best.status == "used" else "false"
        return (
            f'{{"items":[{rows}],"reasoning_used":{used},"reasoning":"{best.status}","gate":{gate},'
            f'"model_version":{self._version}}}'
        ).encode("ascii")

    def explanation(self, explained: Explanation) -> bytes:
        """The body of `/explain`, in the form of `Explained`."""
        found, row = explained.found, explained.row
        thought = None
        if found is not None:
            guess = self._recommender.item_named(found.completion.answer)
            thought = Thought(
                text=found.completion.text,
                well_formed=found.completion.well_formed,
                cot=found.completion.cot,
                answer=found.completion.answer,
                guess=None if guess is None else self._named(guess),
                gate=None if explained.with_reasoning is None else explained.with_reasoning.gate,
                moved=explained.moved,
            )
        first = len(row.items) - explained.in_prompt  # a prompt shows the newest items
        body = Explained(
            history=[
                Step(**self._named(item).model_dump(), in_prompt=place >= first) for place, item in enumerate(row.items)
            ],
            reasoning=explained.without_reasoning.status,
            thought=thought,
            with_reasoning=None if explained.with_reasoning is None else self._scored(explained.with_reasoning),
            without_reasoning=self._scored(explained.without_reasoning),
            model_version=self._recommender.version,
        )
        return json.dumps(body.model_dump(), separators=(",", ":")).encode("ascii")

    def _named(self, number: int) -> Named:
        item = self._recommender.items[number]
        return Named(item=item.item_id, title=item.title)

    def _scored(self, best: Best) -> list[Scored]:
        return [
            Scored(**self._named(number).model_dump(), score=score)
            for number, score in zip(best.ids, best.scores, strict=True)
        ]
