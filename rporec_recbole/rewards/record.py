"""What a reward may look at: one record for a batch of completions.

Letters in shapes: B completions, R positions, N items, D size of a text vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from torch import Tensor

from rporec_recbole.cot.quality import QualityLimits
from rporec_recbole.evaluation.ranking import target_rank
from rporec_recbole.text.catalogue import Catalogue
from rporec_recbole.text.completions import Completion
from rporec_recbole.text.mentions import Mentions


class Summaries(NamedTuple):
    """What a frozen language model makes of cots in few words.

    Attributes:
        texts: B summaries; empty where it wrote none, or where there is no cot.
        vectors: `[B, D]` of them, from the encoder of `TextVectors`.
    """

    texts: Sequence[str]
    vectors: Tensor


class TextVectors(NamedTuple):
    """Completions as the head's own text encoder sees them; rows have length 1, or 0 where it knows no word.

    Attributes:
        cot: `[B, D]`.
        answer: `[B, D]`.
    """

    cot: Tensor
    answer: Tensor


@dataclass(frozen=True)
class Positions:
    """What is known of the positions that stage 2 learns from.

    Attributes:
        prompts: R texts, what the backbone reads.
        histories: R lists of item ids, oldest first, without padding.
        shown: R lists, the newest items of each history, those that its prompt shows.
        targets: `[R]` the true next items.
    """

    prompts: Sequence[str]
    histories: Sequence[Sequence[int]]
    shown: Sequence[Sequence[int]]
    targets: Tensor


@dataclass(frozen=True)
class RewardRecord:
    """A batch of completions and everything that a part of the reward may read. Tensors are on the CPU.

    What is expensive is made when it is first asked for, so a part that nobody pays for costs nothing.

    Attributes:
        prompts: B texts, what the backbone read.
        completions: B parsed completions; `cot` and `answer` are empty in a malformed one.
        histories: B lists of item ids, oldest first, without padding.
        shown: B lists, the newest items of each history, those that its prompt shows.
        targets: `[B]` the true next items.
        scores: `[B, N]` of the frozen head in eval mode, as the evaluation ranks them: `-inf` for padding and for items
            that it hides; with `reward_candidates: negatives` for all but the target and its negatives.
        catalogue: texts of all items.
        mentions: finds the catalogue's titles in texts.
        k: depth of the ranking parts (`reward_k`).
        limits: of texts (`quality_limits`).
        make_vectors: see `vectors`.
        make_entropies: see `entropies`.
        make_summaries: see `summaries`.
    """

    prompts: Sequence[str]
    completions: Sequence[Completion]
    histories: Sequence[Sequence[int]]
    shown: Sequence[Sequence[int]]
    targets: Tensor
    scores: Tensor
    catalogue: Catalogue
    mentions: Mentions
    k: int
    limits: QualityLimits
    make_vectors: Callable[[], TextVectors]
    make_entropies: Callable[[], list[Tensor]]
    make_summaries: Callable[[], Summaries]

    def __len__(self) -> int:
        return len(self.completions)

    @cached_property
    def ranks(self) -> Tensor:
        """`[B]` rank of each target among all candidates; 1 is best."""
        return target_rank(self.scores, self.targets)

    @cached_property
    def vectors(self) -> TextVectors:
        """Cot and answer as text vectors."""
        return self.make_vectors()

    @cached_property
    def entropies(self) -> list[Tensor]:
        """B tensors: entropy, in nats, of the policy's distribution at each token of the cot; empty without a cot."""
        return self.make_entropies()

    @cached_property
    def summaries(self) -> Summaries:
        """Summaries of the cots, by the language model as it was when the stage began."""
        return self.make_summaries()
