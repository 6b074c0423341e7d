"""The reward of stage 2: R = gates * sum_k w_k part_k, from the scores of the frozen Rechead.

The weights and the gates stand in the config. A completion that was cut off at the limit has no closing tag, so it is
malformed and earns 0. Letters in shapes: B completions, R positions, N items.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from rporec_recbole.cot.quality import QualityLimits
from rporec_recbole.data.files import write_text
from rporec_recbole.errors import RewardError
from rporec_recbole.rewards.gates import GATES
from rporec_recbole.rewards.parts import find_part, pay
from rporec_recbole.rewards.record import Positions, RewardRecord, Summaries, TextVectors
from rporec_recbole.text.catalogue import Catalogue
from rporec_recbole.text.completions import PARSERS, Completion, parse_completion, render_completion
from rporec_recbole.text.mentions import Mentions

Score = Callable[[Sequence[int], Sequence[Completion]], Tensor]
"""Positions and completions in, scores of all items `[B, N]` of the frozen head out; see `training.stage1.rows.frozen_scorer`."""
Encode = Callable[[Sequence[Completion]], TextVectors]
"""Completions in, their text vectors out."""
Entropies = Callable[[Sequence[str], Sequence[Sequence[int]]], list[Tensor]]
"""Prompts and tokens of completions in, entropies of each cot out; see `backbone.entropy.cot_entropies`."""
Summarize = Callable[[Sequence[str]], Sequence[str]]
"""Cots in, one summary each out; see `backbone.summaries.Summarizer`."""

FAILURE = "reward_failure.json"
_GRID = 1 << 20


class RecheadReward:
    """Gates times weighted parts.

    Args:
        positions: what is known of the positions.
        score: see `Score`.
        encode: see `Encode`; called for parts that read text vectors only.
        entropies: see `Entropies`; called for parts that read entropies only.
        summarize: see `Summarize`; called for parts that read summaries only. None: there is nobody to ask.
        candidates: `[R, C]` items that the target of each position is ranked among, itself one of them; None: all.
        tag_reading: how tags are read, among `PARSERS`.
        catalogue: texts of all items.
        weights: part -> weight; see `parts.find_part`.
        gates: names among `GATES`.
        k: depth of the ranking parts.
        limits: of texts, for gates and parts.
        folder: where `reward_failure.json` is written if a reward fails.
        observe: gets the mean of each part, of each gate ("NAME gate"), of `well_formed` and of the reward, after every
            batch; may be None.

    Raises:
        ConfigError: a part does not exist.
    """

    def __init__(
        self,
        positions: Positions,
        score: Score,
        *,
        encode: Encode,
        entropies: Entropies,
        catalogue: Catalogue,
        weights: Mapping[str, float],
        gates: Sequence[str],
        k: int,
        limits: QualityLimits,
        folder: Path,
        observe: Callable[[dict[str, float]], None] | None = None,
        summarize: Summarize | None = None,
        candidates: Tensor | None = None,
        tag_reading: str = "strict",
    ) -> None:
        self.positions = positions
        self._summarize, self._candidates, self._parse = summarize, candidates, PARSERS[tag_reading]
        self._score, self._encode, self._entropies = score, encode, entropies
        self._catalogue, self._mentions = catalogue, Mentions(catalogue)
        self._parts = {name: (weight, find_part(name)) for name, weight in weights.items()}
        self._gates = {name: GATES[name] for name in gates}
        self._k, self._limits = k, limits
        self._folder = folder
        self._observe = observe

    def __call__(
        self, texts: Sequence[str], positions: Sequence[int], tokens: Sequence[Sequence[int]] | None = None
    ) -> list[float]:
        """One reward per text.

        Rewards are multiples of 2^-20, less than 1e-6 apart from the exact value. GRPO divides what differs inside a group
        by its spread: without the grid, rounding errors of equal completions would be blown up to a full step. Sums of up
        to 16 such numbers below 1 are exact in float32, so the mean of equal rewards is that reward and the group teaches
        nothing.

        Args:
            texts: completions as the backbone wrote them.
            positions: the position that each belongs to.
            tokens: the same completions as tokens; entropies need them.

        Raises:
            RewardError: a part or the head failed, or gave something else than finite numbers; prompts and completions are
                saved.
        """
        gates: dict[str, Tensor] = {}
        values: dict[str, Tensor] = {}
        name = "scores"
        try:
            record = self._record(texts, positions, tokens)
            for name, gate in self._gates.items():
                gates[name] = gate(record)
            for name, (_, part) in self._parts.items():
                values[name] = pay(name, part, record)
        except Exception as error:  # any failure of any part: what it was about must not be lost
            self._fail(f"The reward failed at `{name}` ({type(error).__name__}: {error})", texts, positions, error)
        for name, value in values.items():
            bad = [row for row, one in enumerate(value.tolist()) if not math.isfinite(one)]
            if bad:
                self._fail(
                    f"The reward part `{name}` is {value[bad[0]].item()}",
                    [texts[row] for row in bad],
                    [positions[row] for row in bad],
                )
        total = torch.zeros(len(texts), dtype=torch.float64)
        for name, (weight, _) in self._parts.items():
            total += weight * values[name]
        for opened in gates.values():
            total *= opened
        total = torch.round(total * _GRID) / _GRID
        if self._observe:
            means = {name: value.mean().item() for name, value in values.items()}
            means |= {f"{name} gate": value.mean().item() for name, value in gates.items()}
            well_formed = sum(one.well_formed for one in record.completions) / max(1, len(texts))
            self._observe({**means, "well_formed": well_formed, "reward": total.mean().item()})
        return total.tolist()

    def _record(
        self, texts: Sequence[str], positions: Sequence[int], tokens: Sequence[Sequence[int]] | None
    ) -> RewardRecord:
        completions = [self._parse(text) for text in texts]
        prompts = [self.positions.prompts[row] for row in positions]

        def entropies() -> list[Tensor]:
            if tokens is None:
                raise RewardError("Entropies need the completions as tokens, and only their texts were given.")
            return self._entropies(prompts, tokens)

        def summaries() -> Summaries:
            if self._summarize is None:
                raise RewardError("Summaries need a language model that writes them, and none was given.")
            written = self._summarize([one.cot for one in completions])
            asked = zip(completions, written, strict=True)
            return Summaries(written, self._encode([dataclasses.replace(one, cot=text) for one, text in asked]).cot)

        rows = torch.as_tensor(list(positions), dtype=torch.int64)
        scores = self._score(positions, completions).cpu()
        if self._candidates is not None:
            ranked = self._candidates[rows]
            scores = torch.full_like(scores, -torch.inf).scatter(1, ranked, scores.gather(1, ranked))
        return RewardRecord(
            prompts=prompts,
            completions=completions,
            histories=[self.positions.histories[row] for row in positions],
            shown=[self.positions.shown[row] for row in positions],
            targets=self.positions.targets[rows].cpu(),
            scores=scores,
            catalogue=self._catalogue,
            mentions=self._mentions,
            k=self._k,
            limits=self._limits,
            make_vectors=lambda: self._encode(completions),
            make_entropies=entropies,
            make_summaries=summaries,
        )

    def _fail(
        self, what: str, texts: Sequence[str], positions: Sequence[int], cause: Exception | None = None
    ) -> NoReturn:
        rows: list[dict[str, Any]] = [
            {"position": int(row), "prompt": self.positions.prompts[row], "completion": text}
            for text, row in zip(texts, positions, strict=True)
        ]
        path = self._folder / FAILURE
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, json.dumps({"error": what, "rows": rows}, ensure_ascii=False, indent=2))
            where = f"Its {len(rows)} prompts and completions are in {path}."
        except OSError as error:
            where = f"{path} cannot be written ({error}); the first of {len(rows)} completions was {texts[0]!r}."
        raise RewardError(f"{what}, so the run stops. {where}") from cause


def trial_record(catalogue: Catalogue, encode: Encode, k: int, limits: QualityLimits) -> RewardRecord:
    """A record of a well-formed and a malformed completion on made-up scores, to try parts on before training.

    Args:
        catalogue: of at least one item.
        encode: see `Encode`.
        k: depth of the ranking parts.
        limits: of texts.
    """
    last = len(catalogue) - 1
    scores = torch.arange(2.0 * len(catalogue)).reshape(2, -1)
    scores[:, 0] = -torch.inf
    completions = [
        parse_completion(render_completion(f"They chose {catalogue.items[1].title}.", catalogue.lines[last])),
        parse_completion("<think>cut off"),
    ]
    return RewardRecord(
        prompts=[f"{catalogue.lines[1]}\n"] * 2,
        completions=completions,
        histories=[[1]] * 2,
        shown=[[1]] * 2,
        targets=torch.tensor([last, 1]),
        scores=scores,
        catalogue=catalogue,
        mentions=Mentions(catalogue),
        k=k,
        limits=limits,
        make_vectors=lambda: encode(completions),
        make_entropies=lambda: [torch.tensor([0.1, 0.9]), torch.zeros(0)],
        make_summaries=lambda: Summaries(["They chose it.", ""], encode(completions).cot),
    )
