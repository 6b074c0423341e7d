"""How R2ec learns, as a trainer of RecBole's: an epoch of lessons, then epochs of RecPO.

Lessons teach a model that has read nothing: lists (which item comes next), composed texts (how a reasoning is written), and its own reasonings
(which item they lead to). RecPO draws several reasonings of a history, rewards each by how the state behind it ranks the true next item, and
moves both heads at once: tokens by their group's advantages, the item behind the best ones.

Letters in shapes: B texts of a step, N items, P histories, G texts of each, K tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from recbole.trainer import Trainer
from recbole.utils import early_stopping
from torch import Tensor

from rporec_recbole.backbone.engine import batches_by_length
from rporec_recbole.backbone.losses import IGNORE, cot_loss
from rporec_recbole.backbone.warmup import token_batches, warm_up
from rporec_recbole.data.seen import items_before
from rporec_recbole.errors import TrainingError
from rporec_recbole.rivals.r2ec import R2ec, training_order
from rporec_recbole.rivals.r2ec_lessons import Lesson, composed_text, list_lessons, own_lessons, text_lessons
from rporec_recbole.rivals.r2ec_reader import Reasoned
from rporec_recbole.rivals.recpo import best_of_groups, clipped_loss, fused_reward, group_advantages
from rporec_recbole.settings.bars import progress_bar


class R2ecTrainer(Trainer):
    """Found by RecBole's `get_trainer` under its name.

    Args:
        config: RecBole's Config.
        model: an `R2ec`.
    """

    model: R2ec
    best_valid_score: float
    cur_step: int

    def __init__(self, config: Any, model: R2ec) -> None:
        super().__init__(config, model)
        self.seed = int(config["seed"])

    def fit(
        self,
        train_data: Any,
        valid_data: Any = None,
        verbose: bool = True,
        saved: bool = True,
        show_progress: bool = False,
        callback_fn: Callable[[int, float], None] | None = None,
    ) -> tuple[float, dict[str, float] | None]:
        """Teaches, rewards, and leaves the best epoch on validation in place. Arguments as RecBole's; nothing is saved here.

        Returns:
            (validation score, validation metrics) of the best epoch; (-inf, None) without `valid_data`.

        Raises:
            TrainingError: a loss is no finite number.
        """
        self.eval_collector.data_collect(train_data)
        kept: dict[str, Tensor] = {}
        epochs = self.epochs if self.model.reasoning else 1
        for epoch in range(epochs):
            loss = self.teach(train_data.dataset) if epoch == 0 else self.reinforce(train_data.dataset, epoch)
            self.train_loss_dict[epoch] = loss
            self.model.read_items()
            if not valid_data or not self.eval_step or (epoch + 1) % self.eval_step:
                continue
            score, result = self._valid_epoch(valid_data, show_progress)
            self.best_valid_score, self.cur_step, stop, better = early_stopping(
                score, self.best_valid_score, self.cur_step, self.stopping_step, self.valid_metric_bigger
            )
            if verbose:
                self.logger.info(
                    f"epoch {epoch + 1} of {epochs}: {self.config['valid_metric']} {score:.4f} on validation"
                )
            if callback_fn is not None:
                callback_fn(epoch, score)
            if better:
                self.best_valid_result, kept = result, self.model.backbone.weights()
            if stop:
                break
        if kept:
            self.model.backbone.set_weights(kept)
            self.model.read_items()
        return self.best_valid_score, self.best_valid_result

    def evaluate(
        self,
        eval_data: Any,
        load_best_model: bool = True,
        model_file: str | None = None,
        show_progress: bool = False,
    ) -> dict[str, float] | None:
        """RecBole's evaluation of the model as it is: `fit` leaves the best one in place."""
        return super().evaluate(eval_data, load_best_model=False, show_progress=show_progress)

    # --- the first epoch ----------------------------------------------------------------------------------------------

    def teach(self, dataset: Any) -> float:
        """Lists, composed texts, own reasonings; the last loss.

        Args:
            dataset: the training part.
        """
        model, config, rng = self.model, self.config, np.random.default_rng(self.seed)
        histories = self._whole_histories(dataset)
        lists = [
            list_lessons(model.reader, model.template, histories, int(config["stream_window"]), rng)
            for _ in range(int(config["stream_passes"]))
        ]
        # Lists fill the vectors of items within their first steps.
        if not lists:
            model.read_items()
        loss = self._learn("lists", lists, 1.0, rng)
        order = training_order(dataset, self.seed)
        if model.reasoning:
            rows, targets = model.rows_at(dataset, order[: int(config["warmup_examples"])])
            texts = [composed_text(model.template, row, target) for row, target in zip(rows, targets, strict=True)]
            prompts = [model.template.prompt(*row) for row in rows]
            loss = self._learn("texts", [text_lessons(model.reader, prompts, texts, targets)], 1.0, rng) or loss
        rows, targets = model.rows_at(dataset, order[max(0, len(order) - int(config["head_positions"])) :])
        reasoned = model.reason([model.template.prompt(*row) for row in rows]) if rows else []
        return self._learn("items", [own_lessons(reasoned, targets)], 0.5, rng) or loss

    def _learn(self, name: str, passes: list[list[Lesson]], factor: float, rng: np.random.Generator) -> float:
        """Passes over lessons, at a factor of the warm-up's learning rate; the last loss, 0 where there was nothing to learn."""
        batches = [
            batch for part in passes for batch in token_batches(part, int(self.config["stream_batch_tokens"]), rng)
        ]
        losses = [0.0]
        if batches:
            warm_up(
                self.model.backbone,
                batches,
                lambda batch: self.lesson_loss(batch, rng),
                learning_rate=float(self.config["warmup_learning_rate"]) * factor,
                desc=f"R2ec {name}",
                on_step=lambda _, loss: losses.append(loss),
            )
        return losses[-1]

    def lesson_loss(self, lessons: list[Lesson], rng: np.random.Generator) -> Tensor:
        """Cross-entropy of the items among all items, plus `cot_weight` times that of the tokens that are learned.

        Args:
            lessons: a batch.
            rng: draws live items.
        """
        states, logits, batch = self.model.reader.read([(one.tokens, one.labels) for one in lessons])
        width = states.shape[1]
        rows = [row for row, one in enumerate(lessons) for _ in one.places]
        places = [width - len(one.tokens) + place for one in lessons for place in one.places]
        targets = torch.tensor([item for one in lessons for item in one.items], device=states.device)
        live = self.model.live_items(targets, rng)
        loss = F.cross_entropy(self.model.item_logits(states[rows, places], live), targets)
        if bool((batch["labels"] != IGNORE).any()):
            loss = loss + float(self.config["cot_weight"]) * cot_loss(logits, batch["labels"])
        return loss

    def _whole_histories(self, dataset: Any) -> list[Any]:
        """Each user's interactions up to the last that is a training target."""
        users, items = (dataset.timeline[field].numpy() for field in (dataset.uid_field, dataset.iid_field))
        ratings = None if self.model.ratings is None else self.model.ratings.single(dataset.timeline)
        ends = np.asarray(dataset.train_ends)
        last = ends[np.r_[users[ends][1:] != users[ends][:-1], True]] if len(ends) else ends
        spans = zip(np.searchsorted(users, users[last]).tolist(), (last + 1).tolist(), strict=True)
        return [(items[start:stop].tolist(), None if ratings is None else ratings[start:stop]) for start, stop in spans]

    # --- RecPO --------------------------------------------------------------------------------------------------------

    def reinforce(self, dataset: Any, epoch: int) -> float:
        """An epoch of RecPO; the mean reward of its texts, with a minus: it is what RecBole calls a loss.

        Args:
            dataset: the training part.
            epoch: from 1; another one draws other histories.
        """
        steps, rewards = int(self.config["epoch_steps"]), []
        ends = np.asarray(dataset.train_ends)
        with progress_bar(total=steps, desc=f"R2ec RecPO, epoch {epoch + 1}", unit="step") as bar:
            for step in range(steps):
                rng = np.random.default_rng([self.seed, epoch, step])
                drawn = rng.choice(ends, min(len(ends), int(self.config["train_batch_size"])), replace=False)
                rewards.append(self._step(dataset, drawn, f"{epoch}/{step}", rng))
                bar.set_postfix(reward=f"{rewards[-1]:.4f}")
                bar.update()
        self.logger.info(f"RecPO, epoch {epoch + 1}: mean reward {np.mean(rewards):.4f}")
        return -float(np.mean(rewards))

    def _step(self, dataset: Any, ends: np.ndarray, name: str, rng: np.random.Generator) -> float:
        """Draws, rewards and learns from the texts of P histories; the mean reward."""
        model, config = self.model, self.config
        size = int(config["group_size"])
        rows, targets = model.rows_at(dataset, ends)
        prompts = [model.template.prompt(*row) for row in rows for _ in range(size)]
        names = [f"{name}/{number}" for number in range(len(prompts))]
        texts = model.reason(prompts, float(config["rl_temperature"]), names)
        wanted = torch.tensor(targets, device=self.device).repeat_interleave(size)
        with torch.no_grad():
            scores = model.scores_of(model.reader.last_states([one.tokens for one in texts]))
            if config["hide_seen"]:
                users, items = (dataset.timeline[field].numpy() for field in (dataset.uid_field, dataset.iid_field))
                past = [one.to(self.device) for one in items_before(users, items, np.repeat(ends, size))]
                scores[past[0], past[1]] = -torch.inf
            rewards = fused_reward(scores, wanted, int(config["reward_k"]), float(config["softmax_weight"]))
        advantages = group_advantages(rewards.view(-1, size))
        taught = best_of_groups(advantages, int(config["taught_texts"])).flatten()
        old: dict[int, tuple[Tensor, Tensor]] = {}
        for _ in range(int(config["rl_updates"])):
            self.optimizer.zero_grad()
            for part in batches_by_length([len(one.tokens) for one in texts], 0, int(config["stream_batch_tokens"])):
                loss = self._part_loss(part, texts, wanted, advantages.flatten(), taught, old, rng)
                if not torch.isfinite(loss):
                    raise TrainingError(f"The loss of R2ec became {loss.item()}; lower learning_rate.")
                loss.backward()
            if self.clip_grad_norm:
                torch.nn.utils.clip_grad_norm_(model.backbone.trainable(), **self.clip_grad_norm)
            self.optimizer.step()
            model.backbone.weights_changed()
        return float(rewards.mean())

    def _part_loss(
        self,
        part: list[int],
        texts: list[Reasoned],
        targets: Tensor,
        advantages: Tensor,
        taught: Tensor,
        old: dict[int, tuple[Tensor, Tensor]],
        rng: np.random.Generator,
    ) -> Tensor:
        """What some texts of a step add to its loss: mean over all written tokens, and mean over all texts of the items.

        Args:
            part: numbers of the texts.
            texts: B of them.
            targets, advantages, taught: `[B]`.
            old: what the texts had for log-probabilities in the first update, of tokens `[K]` and of the item; is filled then.
            rng: draws live items.
        """
        own = [texts[number] for number in part]
        lessons = own_lessons(own, [0] * len(own))
        states, logits, batch = self.model.reader.read([(one.tokens, one.labels) for one in lessons])
        labels = batch["labels"][:, 1:]
        written = labels != IGNORE
        logps = torch.log_softmax(logits[:, :-1] / float(self.config["rl_temperature"]), dim=-1)
        logps = logps.gather(2, labels.clamp(min=0)[:, :, None]).squeeze(2)
        index = torch.tensor(part, device=states.device)
        found = torch.log_softmax(
            self.model.item_logits(states[:, -1], self.model.live_items(targets[index], rng)), dim=1
        )
        found = found.gather(1, targets[index][:, None]).squeeze(1)
        for row, number in enumerate(part):
            old.setdefault(number, (logps[row][written[row]].detach(), found[row].detach()))
        before = torch.cat([old[number][0] for number in part])
        before_items = torch.stack([old[number][1] for number in part])
        clip = float(self.config["clip_low"]), float(self.config["clip_high"])
        each = advantages[index][:, None].expand(written.shape)[written]
        tokens = clipped_loss(logps[written], before, each, *clip).sum() / max(1, sum(one.written for one in texts))
        items = clipped_loss(found, before_items, advantages[index] * taught[index], *clip).sum() / len(texts)
        return tokens + items
