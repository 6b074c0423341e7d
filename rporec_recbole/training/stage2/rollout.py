"""One rollout of stage 2: a group of completions for each prompt, what each earns, and which groups teach nothing.

In a group of equal rewards nobody is better than the others: all advantages are 0, and only the KL term would move the
policy. Such a flat group is left out of the update (dynamic sampling of DAPO, Yu et al., arXiv 2503.14476, without drawing
others in its place).

Letters in shapes: B completions of this process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

from rporec_recbole.backbone.engine import Generated
from rporec_recbole.backbone.model import Backbone
from rporec_recbole.cot.store import Decoding
from rporec_recbole.training.stage2.shared_prompts import SharedPrompts
from rporec_recbole.training.state.processes import Processes

Reward = Callable[[Sequence[str], Sequence[int], Sequence[Sequence[int]]], list[float]]
"""Completions, the numbers of their prompts, and the completions as tokens in, one reward each out."""
_EQUAL = 1e-6  # rewards that differ by less are equal


class TokenWriter(Protocol):
    """Writes completions as tokens, with the weights of the moment."""

    def generate_tokens(
        self, prompts: Sequence[str], decoding: Decoding, *, identities: Sequence[str]
    ) -> list[Generated]:
        """One completion a prompt; a draw depends on its identity and on `decoding`, not on its neighbours."""
        ...


@dataclass(frozen=True)
class Batch:
    """The completions of one step, those of all processes, group after group.

    Attributes:
        prompts: number of each one's prompt.
        texts: what was written, up to the end of the answer.
        lengths: in tokens.
        rewards: what each earned.
        flat: whether its group is flat.
    """

    prompts: list[int]
    texts: list[str]
    lengths: list[int]
    rewards: list[float]
    flat: list[bool]


def flat_groups(rewards: Sequence[float], size: int) -> list[bool]:
    """For each completion, whether all rewards of its group are equal.

    Args:
        rewards: group after group.
        size: completions in a group.
    """
    groups = [rewards[start : start + size] for start in range(0, len(rewards), size)]
    return [max(group) - min(group) < _EQUAL for group in groups for _ in group]


class Rollout:
    """Writes completions and has them paid; TRL calls it with numbers of prompts.

    Args:
        backbone: is trained; gives tokens and texts.
        writer: writes with the weights that the backbone has at the moment: the backbone itself, or an engine beside it.
        prompts: TRL names them by their numbers.
        reward: pays.
        group_size: completions of a prompt; they stand beside each other.
        temperature: of the draws.
        max_new_tokens: limit of a completion.
        seed: seed of the draws; a draw depends on it, the step and the completion's place in the step, and on nothing else.
        processes: who writes the rest of the step.
        shared: puts prompts in front of the rows that TRL learns from; None leaves them in the rows.

    Attributes:
        batch: the last step's completions.
        seconds: spent on `generation` and on `reward`, by this process.
    """

    def __init__(
        self,
        backbone: Backbone,
        writer: TokenWriter,
        prompts: Sequence[str],
        reward: Reward,
        *,
        group_size: int,
        temperature: float,
        max_new_tokens: int,
        seed: int,
        processes: Processes,
        shared: SharedPrompts | None = None,
    ) -> None:
        self._backbone, self._writer, self._prompts, self._reward = backbone, writer, prompts, reward
        self._group_size, self._processes, self._shared = group_size, processes, shared
        self._decoding = Decoding(temperature, max_new_tokens, seed, guesses=int(backbone.grounding is not None))
        self.batch = Batch([], [], [], [], [])
        self.seconds = {"generation": 0.0, "reward": 0.0}

    def __call__(self, numbers: Sequence[int], step: int) -> dict[str, Any]:
        """What TRL's `rollout_func` returns: tokens, a mask over them that is 0 in flat groups, and the rewards.

        Args:
            numbers: `[B]` numbers of prompts, this process's share of the step.
            step: from 1.

        Raises:
            RewardError: a reward failed or is no finite number.
        """
        start = perf_counter()
        if self._shared is not None:
            self._shared.prompts = []  # a reward may ask the policy something; see `entropy.cot_entropies`
        place = self._processes.rank * len(numbers)
        prompts = [self._prompts[number] for number in numbers]
        written = self._writer.generate_tokens(
            prompts, self._decoding, identities=[f"{step}/{place + i}" for i in range(len(numbers))]
        )
        texts = self._backbone.decode(written)
        self.seconds["generation"] += perf_counter() - start
        start = perf_counter()
        rewards = self._reward(texts, numbers, [one.tokens for one in written])
        lengths = [len(one.tokens) for one in written]
        gathered = self._processes.gather(list(zip(numbers, texts, lengths, rewards, strict=True)))
        numbers_of, texts_of, lengths_of, rewards_of = (list(values) for values in zip(*gathered, strict=True))
        flat = flat_groups(rewards_of, self._group_size)
        self.batch = Batch(numbers_of, texts_of, lengths_of, rewards_of, flat)
        self.seconds["reward"] += perf_counter() - start
        skipped = flat[place : place + len(numbers)]
        shown = self._backbone.prompts.encode(prompts)
        if self._shared is not None:
            self._shared.prompts, self._shared.needed = shown, [not skip for skip in skipped]
            shown = [[row] for row in range(len(shown))]
        return {
            "prompt_ids": shown,
            "completion_ids": [one.tokens for one in written],
            "logprobs": None,  # TRL computes them again where it needs them
            "env_mask": [[0 if skip else 1] * length for skip, length in zip(skipped, lengths, strict=True)],
            "earned": rewards,
        }
