"""What stage 2 watches in the completions of a step, beside their rewards: numbers in which reward hacking would show."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rporec_recbole.cot.quality import copied_share
from rporec_recbole.text.catalogue import Catalogue, title_of
from rporec_recbole.text.completions import Completion, parse_completion
from rporec_recbole.text.mentions import names
from rporec_recbole.training.stage2.rollout import Batch

_MOST_POPULAR = 0.1  # of the items


class PopularItems:
    """The titles of the most popular tenth of the items.

    Args:
        catalogue: item texts.
        counts: `[N]` training interactions of each item.
    """

    def __init__(self, catalogue: Catalogue, counts: np.ndarray) -> None:
        titles = [item.title.casefold() for item in catalogue.items]
        order = 1 + np.argsort(-counts[1:], kind="stable")
        popular = order[: max(1, int(_MOST_POPULAR * len(order)))]
        self._all = set(titles[1:])
        self._popular = {titles[item] for item in popular}

    def named_in(self, answer: str) -> bool:
        """Whether an answer names one of them, as its title or anywhere else if its title is no item's."""
        title = title_of(answer).casefold()
        if title in self._all:
            return title in self._popular
        return any(names(answer, popular) for popular in self._popular)


def watched(
    batch: Batch,
    prompts: Sequence[str],
    popular: PopularItems,
    parse: Callable[[str], Completion] = parse_completion,
) -> dict[str, float]:
    """The numbers of one step.

    Args:
        batch: its completions.
        prompts: what `batch.prompts` counts.
        popular: see `PopularItems`.
        parse: reads the completions (`completions.PARSERS`).

    Returns:
        `well_formed`, `popularity`: shares of the completions that are well-formed, whose answer names a popular item;
        `distinct answers`: how many different ones there are, malformed completions left out; `copying`: mean share of the
        words of cot and answer that stand in runs of four or more which the prompt holds word for word; `length`: mean
        number of tokens; `flat groups`: share of the groups whose rewards are equal; `reward`: mean.
    """
    parsed = [parse(text) for text in batch.texts]
    answers = [one.answer for one in parsed if one.well_formed]
    copied = [
        copied_share(f"{one.cot} {one.answer}", prompts[number])
        for one, number in zip(parsed, batch.prompts, strict=True)
        if one.well_formed
    ]
    count = len(batch.texts)
    return {
        "reward": sum(batch.rewards) / count,
        "well_formed": len(answers) / count,
        "length": sum(batch.lengths) / count,
        "popularity": sum(map(popular.named_in, answers)) / count,
        "distinct answers": float(len({answer.casefold() for answer in answers})),
        "copying": sum(copied) / len(copied) if copied else 0.0,
        "flat groups": sum(batch.flat) / count,
    }
