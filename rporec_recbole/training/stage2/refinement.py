"""Stage 2: what GRPO learns from, who pays, what is recorded, and from where a killed run goes on."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rporec_recbole.cot.reasoner import Reasoner
from rporec_recbole.cot.store import CoTStore
from rporec_recbole.data import ladder
from rporec_recbole.data.seen import past_items
from rporec_recbole.evaluation.answers import K, described
from rporec_recbole.evaluation.ranking import ndcg_at, target_rank
from rporec_recbole.settings.types import RLSettings
from rporec_recbole.training.stage1.answers import answer_measure
from rporec_recbole.training.stage1.rows import frozen_scorer, history_rows, row_scorer
from rporec_recbole.training.stage2.grpo import Hooks, train_rl
from rporec_recbole.training.stage2.head_reward import head_reward, kept_candidates
from rporec_recbole.training.stage2.rollout import Batch
from rporec_recbole.training.stage2.signs import WATCHED, signs_of_hacking
from rporec_recbole.training.stage2.watch import PopularItems, watched
from rporec_recbole.training.state import checkpoint
from rporec_recbole.training.state.processes import Processes
from rporec_recbole.training.state.snapshots import Snapshot, named

CURVES = "2 reinforcement learning"
_SNAPSHOT = "policy"
_OF_TRL = ("kl", "entropy", "loss")


class Refinement:
    """One round of stage 2.

    Args:
        trainer: the `RPORecTrainer` that runs it.
        train_data: its training loader.
        valid_data: its validation loader; None keeps the last policy.
        number: of the round, from 1; each takes positions that the rounds before left, as long as there are any.
    """

    def __init__(self, trainer: Any, train_data: Any, valid_data: Any, number: int) -> None:
        self.trainer, self.model, self.dataset = trainer, trainer.model, train_data.dataset
        self.valid_data, self.number = valid_data, number
        self.settings = self._in_steps(trainer.settings.rl)
        self.processes = Processes(self.model.backbone.device)
        self._by_answers = "2b" in trainer.wanted and self.model.head.expert is not None
        self._warned: dict[str, str] = {}
        self._scores: list[tuple[int, float]] = []
        self._parts: dict[str, float] = {}
        self._flat: list[float] = []
        self._before = (number - 1) * self.settings.rl_steps  # steps of the rounds before
        self.ends = self._positions()
        rows = self.dataset.histories(self.ends)
        self.reward = head_reward(
            self.model,
            rows,
            frozen_scorer(self.model, self.dataset, self.ends, bool(trainer.config["hide_seen"])),
            folder=trainer.reward_folder,
            observe=self._parts.update,
            candidates=kept_candidates(self.model, torch.from_numpy(self.ends), rows[self.model.ITEM_ID]),
        )
        self.prompts = self.reward.positions.prompts
        counter = self.dataset.item_counter
        counts = np.array([counter[item] for item in range(self.model.n_items)])
        self.popular = PopularItems(self.model.catalogue, counts)

    def run(self) -> dict[str, Any]:
        """Trains the backbone; what is worth knowing of it."""
        trainer, model = self.trainer, self.model
        if trainer.settings.stage.controls and self.number == 1 and self.processes.main:
            model.backbone.save(trainer.folder / checkpoint.BEFORE_RL)
        # Beside the snapshots, where helpers on other machines find it too; transformers lets the main process alone save.
        with tempfile.TemporaryDirectory(dir=trainer.progress.folder) as own:
            if self.processes.main:
                model.backbone.save(Path(own))
            reference = self.processes.share(own)
            done = train_rl(
                model.backbone,
                self.prompts,
                self.reward,
                self.settings,
                max_new_tokens=self.settings.rl_max_new_tokens or trainer.settings.backbone.max_new_tokens,
                reference=reference,
                seed=trainer.seed + self.number - 1,
                writer=model.reasoner.generator if self.settings.rollout_engine == "vllm" else None,
                hooks=Hooks(self._on_step, self._validation(), self._keep),
                start=self._start(),
            )
        if done.validations:
            scores = dict(done.validations)
            trainer.log(
                f"2: {done.steps} steps{', then out of patience' if done.stopped_early else ''}; kept the policy after step {done.kept_step}: "
                f"NDCG@{K} of its {'answers' if self._by_answers else 'texts with the head'} {scores[done.kept_step]:.4f} on validation, "
                f"{scores[0]:.4f} at step 0"
            )
        return {
            "steps": done.steps,
            "prompts": len(self.prompts),
            "kept_step": done.kept_step,
            "stopped_early": done.stopped_early,
            "validations": done.validations,
            "flat_groups": float(np.mean(self._flat)) if self._flat else 0.0,
            "warnings": list(self._warned.values()),
            "seconds_of": done.seconds,
        }

    def _in_steps(self, settings: RLSettings) -> RLSettings:
        """The settings with `rl_steps` in the place of `rl_epochs`, where these count; an epoch's last step takes prompts of the next."""
        if not settings.rl_epochs:
            return settings
        prompts = settings.rl_epochs * len(self.dataset.positions(ladder.RL))
        return dataclasses.replace(settings, rl_steps=max(1, prompts // settings.rl_prompts))

    def _positions(self) -> np.ndarray:
        """Timeline indices, `[P]`: as many as the steps of a round ask for, if there are so many."""
        ends = self.dataset.positions(ladder.RL)
        wanted = self.settings.rl_steps * self.settings.rl_prompts
        ends = ends[np.random.default_rng(self.trainer.seed).permutation(len(ends))]
        return np.roll(ends, -(self.number - 1) * wanted)[:wanted]

    def _validation(self) -> Callable[[int], float] | None:
        """What the policy as it is knows, on some users of the validation split, who get the (first) text that an evaluation would write
        them, malformed ones drawn again. The texts are not kept.

        Where the head will learn anew how far to trust the answers, in 2b, it is NDCG@10 of the answers themselves: to the head of now, which
        knows the writer of before, a better one can look worse. Otherwise it is that of the head's ranking.
        """
        if not self.valid_data:
            return None
        trainer, model, dataset = self.trainer, self.model, self.valid_data.dataset
        users = np.random.default_rng(trainer.seed).permutation(len(dataset.inter_feat))
        rows = dataset.inter_feat[np.sort(users[: self.settings.rl_validation_users])]
        hidden = None
        if trainer.config["hide_seen"]:
            hidden = past_items(dataset, rows)
        scorer, targets = row_scorer(model, rows, hidden), rows[model.ITEM_ID]
        measure = answer_measure(model, self.dataset)
        prompts = [model.reasoner.template.prompt(*row) for row in history_rows(model, rows)]

        def score(step: int) -> float:
            policy = Reasoner(model.backbone, model.reasoner.template, CoTStore(), parse=model.reasoner.parse)
            completions = policy.complete(prompts, model.evaluation_decoding, "2 validation")
            answers = measure(completions, targets.cpu(), hidden)
            for name in (f"hit@{K}", f"ndcg@{K}"):
                trainer.recorder.add(f"{CURVES}/answers {name}", self._before + step, answers[name])
            trainer.log(f"2, step {step}: {described(answers)}")
            scores = scorer(range(len(rows)), completions)
            ranking = ndcg_at(target_rank(scores.cpu(), targets.cpu()), K).mean().item()
            trainer.recorder.add(f"{CURVES}/validation ndcg@{K}", self._before + step, ranking)
            found = answers[f"ndcg@{K}"] if self._by_answers else ranking
            self._scores.append((step, found))
            self._warn()
            return found

        return score

    def _on_step(self, step: int, batch: Batch, of_trl: dict[str, float]) -> None:
        trainer = self.trainer
        trainer.positions.add("2", self.ends[batch.prompts])
        everybodys = self.processes.gather([dict(self._parts)])
        parts = {name: float(np.mean([one[name] for one in everybodys])) for name in self._parts}
        numbers = {**parts, **watched(batch, self.prompts, self.popular, self.model.reasoner.parse)}
        numbers |= {name: of_trl[name] for name in _OF_TRL if name in of_trl}
        self._flat.append(numbers["flat groups"])
        for name, value in numbers.items():
            trainer.recorder.add(f"{CURVES}/{name}", self._before + step, value)
        self._warn()

    def _warn(self) -> None:
        """Says each sign of reward hacking once."""
        curves = self.trainer.recorder.curves
        of_round = {
            name: [point for point in curves.get(f"{CURVES}/{name}", ()) if point[0] > self._before] for name in WATCHED
        }
        for name, sentence in signs_of_hacking({**of_round, "validation": self._scores}).items():
            if name not in self._warned and self.processes.main:
                self._warned[name] = sentence
                self.trainer.logger.warning(f"2: this may be reward hacking: {sentence}. Read some texts.")

    def _keep(self, policy: Snapshot) -> None:
        trainer = self.trainer
        trainer.progress.save(
            _SNAPSHOT,
            {**policy.tensors, **named("positions", trainer.positions.tensors())},
            {
                **policy.facts,
                "round": self.number,
                "curves": trainer.recorder.curves,
                "flat": self._flat,
                "warned": self._warned,
            },
        )

    def _start(self) -> Snapshot | None:
        """The snapshot of this round that a killed run left, with everything around the policy put back."""
        trainer = self.trainer
        kept = trainer.progress.load(_SNAPSHOT)
        if kept is None or kept.facts["round"] != self.number:
            return None
        trainer.recorder.restore(kept.facts["curves"])
        trainer.positions.restore(kept.under("positions"))
        self._flat, self._warned = kept.facts["flat"], kept.facts["warned"]
        self._scores = [(step, score) for step, score in kept.facts["scores"]]
        trainer.log(f"2: going on after step {kept.facts['step']} of {self.settings.rl_steps}")
        return kept
