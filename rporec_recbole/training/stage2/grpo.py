"""Stage 2: GRPO on the backbone with rewards from the frozen Rechead. The only file that knows TRL.

TRL computes advantages, the clipped objective and the KL term; completions come from our own engine through TRL's
`rollout_func`, so that training and evaluation write with the same code. The order of the prompts and all draws are
functions of seed and step, so a stage goes on from a snapshot as if it had never stopped.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from datasets import Dataset
from transformers import PrinterCallback, ProgressCallback, TrainerCallback, set_seed
from trl import GRPOConfig, GRPOTrainer

from rporec_recbole.backbone.memory import release_freed_memory
from rporec_recbole.backbone.model import Backbone
from rporec_recbole.backbone.running import trains_in_bfloat16
from rporec_recbole.settings.bars import progress_bar
from rporec_recbole.settings.types import RLSettings
from rporec_recbole.training.stage2.policy import BestPolicy
from rporec_recbole.training.stage2.rollout import Batch, Reward, Rollout, TokenWriter
from rporec_recbole.training.stage2.shared_prompts import shared_prompts
from rporec_recbole.training.state.processes import Processes
from rporec_recbole.training.state.snapshots import Snapshot, named, optimizer_tensors, restore_optimizer


@dataclass(frozen=True)
class Hooks:
    """What the surroundings of stage 2 do while it runs; each may be None.

    Attributes:
        on_step: gets the step, the completions of all processes and TRL's numbers after every step, in every process.
        validate: gets the step and gives the score of the policy as it is now; more is better. Called in the main process.
        keep: gets what `start` of `train_rl` takes, to write it down. Called in the main process.
    """

    on_step: Callable[[int, Batch, dict[str, float]], None] | None = None
    validate: Callable[[int], float] | None = None
    keep: Callable[[Snapshot], object] | None = None


@dataclass(frozen=True)
class Trained:
    """What `train_rl` did.

    Attributes:
        steps: optimiser steps that were taken.
        kept_step: after how many of them the policy was that the backbone has now.
        validations: (step, score), in the order in which they were made.
        stopped_early: whether patience ended it.
        seconds: `generation`, `reward`, `update`, `validation`; of this process.
    """

    steps: int
    kept_step: int
    validations: list[tuple[int, float]]
    stopped_early: bool
    seconds: dict[str, float]


def prompt_order(prompts: int, wanted: int, seed: int) -> list[int]:
    """Numbers of the prompts in the order of training, `[wanted]`: each once, then each once more in another order."""
    generator = torch.Generator().manual_seed(seed)
    passes = [torch.randperm(prompts, generator=generator) for _ in range(-(-wanted // prompts))]
    return torch.cat(passes)[:wanted].tolist()


def train_rl(
    backbone: Backbone,
    prompts: Sequence[str],
    reward: Reward,
    settings: RLSettings,
    *,
    max_new_tokens: int,
    reference: str,
    seed: int,
    writer: TokenWriter | None = None,
    hooks: Hooks | None = None,
    start: Snapshot | None = None,
) -> Trained:
    """Fine-tunes the backbone in place and leaves it with the policy that validated best, the last one without validation.

    In a process that belongs to a group of `torch.distributed`, all of them share each step; `checks.check_work` says which steps
    they can share.

    Args:
        backbone: its trainable weights change.
        prompts: of positions that nothing else learned from.
        reward: pays completions; a position is the number of its prompt.
        settings: steps, group size, learning rate, KL weight, temperature, validation and snapshots.
        max_new_tokens: longer completions are cut off and earn nothing.
        reference: folder with the weights that the KL term holds on to; the backbone as it is now.
        seed: seed of prompt order and draws.
        writer: writes the completions; None lets the backbone do it.
        hooks: see `Hooks`.
        start: what `hooks.keep` got last in a run that was killed.

    Raises:
        RewardError: a reward failed or is no finite number.
    """
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # rollout_func is marked experimental
    device, processes = backbone.device, Processes(backbone.device)
    a_step = settings.rl_prompts * settings.group_size
    done = int(start.facts["step"]) if start else 0
    order = prompt_order(len(prompts), settings.rl_steps * settings.rl_prompts, seed)
    shared = shared_prompts(backbone.model)
    rollout = Rollout(
        backbone,
        writer or backbone,
        prompts,
        reward,
        group_size=settings.group_size,
        temperature=settings.rl_temperature,
        max_new_tokens=max_new_tokens,
        seed=seed,
        processes=processes,
        shared=shared,
    )

    def write_and_pay(numbers: list[str], trainer: Any) -> dict[str, Any]:
        return rollout([int(number) for number in numbers], done + trainer.state.global_step + 1)

    def earned(prompts: list[str], completions: list[str], earned: list[float], **_: Any) -> list[float]:
        return earned

    optimizer = torch.optim.AdamW(backbone.trainable(), lr=settings.rl_learning_rate, weight_decay=0.0, fused=True)
    best = BestPolicy(settings.rl_patience)
    steps = _Steps(backbone, rollout, optimizer, best, settings, hooks or Hooks(), processes, done, seed)
    with tempfile.TemporaryDirectory() as scratch, _as_it_was(backbone.model), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="torch.utils.data")
        # TRL asks transformers so at every step.
        warnings.filterwarnings("ignore", r"`(is_)?gradient_checkpointing` is deprecated", FutureWarning)
        config = GRPOConfig(
            output_dir=scratch,
            max_steps=max(1, settings.rl_steps - done),
            per_device_train_batch_size=a_step // processes.count,
            num_generations=settings.group_size,
            max_completion_length=max_new_tokens,
            learning_rate=settings.rl_learning_rate,
            lr_scheduler_type="constant",
            loss_type=settings.rl_loss,
            top_entropy_quantile=settings.rl_entropy_quantile,
            temperature=settings.rl_temperature,
            beta=settings.kl_weight,
            gradient_checkpointing=device.type == "cuda" and backbone.parameters > 100_000_000,
            use_cpu=device.type == "cpu",
            bf16=trains_in_bfloat16(device),
            ddp_find_unused_parameters=False,
            shuffle_dataset=False,
            seed=seed,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        config._n_gpu = min(1, config.n_gpu)  # others that this process sees are not its own; TRL refuses them
        backbone.model.config.name_or_path = reference  # where TRL finds the reference policy
        left = order[done * settings.rl_prompts :] or order
        trainer = GRPOTrainer(
            model=backbone.model,
            reward_funcs=earned,
            args=config,
            # TRL shows a rollout the prompt alone, and two positions may have the same one: it gets their numbers.
            train_dataset=Dataset.from_dict({"prompt": [str(number) for number in left]}),
            processing_class=backbone.tokenizer,
            rollout_func=write_and_pay,
            optimizers=(optimizer, None),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(ProgressCallback)
        trainer.add_callback(steps)
        if start is not None:  # not before: with an adapter TRL takes the reference from the model it is given
            backbone.set_weights(start.under("policy"))
            restore_optimizer(optimizer, start.under("optimizer"))
            best.restore(start)
        if done < settings.rl_steps and not (start is not None and best.out_of_patience):
            policies = [backbone.model.get_base_model() if backbone.is_adapter else backbone.model]
            policies += [trainer.ref_model] if trainer.ref_model is not None else []
            with contextlib.nullcontext() if shared is None else shared.in_front_of(*policies):
                trainer.train()
    set_seed(seed)  # what draws afterwards shall not depend on how many pieces the stage was trained in
    if backbone.is_adapter and "ref" in backbone.model.peft_config:
        backbone.model.delete_adapter("ref")
    if best.step is not None and best.step != steps.taken:
        backbone.set_weights(best.weights)
    backbone.model.eval()
    backbone.weights_changed()
    return Trained(
        steps.taken,
        steps.taken if best.step is None else best.step,
        best.scores,
        steps.taken < settings.rl_steps,
        {name: round(value, 3) for name, value in steps.seconds().items()},
    )


@contextlib.contextmanager
def _as_it_was(model: torch.nn.Module) -> Iterator[None]:
    """What a trainer sets on the model itself goes again: accelerate replaces `forward` by one under autocast, and texts
    written after the stage would differ from those of the same weights in a run that was loaded."""
    before = set(vars(model))
    try:
        yield
    finally:
        for name in set(vars(model)) - before:
            delattr(model, name)


class _Steps(TrainerCallback):
    """What happens around the steps: progress bar, numbers, validation, snapshots, the end."""

    def __init__(
        self,
        backbone: Backbone,
        rollout: Rollout,
        optimizer: torch.optim.Optimizer,
        best: BestPolicy,
        settings: RLSettings,
        hooks: Hooks,
        processes: Processes,
        done: int,
        seed: int,
    ) -> None:
        self.backbone, self.rollout, self.optimizer, self.best = backbone, rollout, optimizer, best
        self.settings, self.hooks, self.processes = settings, hooks, processes
        self.done, self.seed, self.taken = done, seed, done
        self._validation = self._total = 0.0
        self._bar = progress_bar(
            total=settings.rl_steps,
            initial=done,
            desc="2 reinforcement learning",
            unit="step",
            disable=not processes.main,
        )

    def seconds(self) -> dict[str, float]:
        """Where the time went."""
        spent = {**self.rollout.seconds, "validation": self._validation}
        return {**spent, "update": self._total - sum(spent.values())}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._started = perf_counter()
        if not self.best.scores:
            self._validate()

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.settings.rl_schedule == "linear":
            # Not the trainer's own schedule: after an interruption its steps are those that are left.
            left = 1 - (self.done + state.global_step) / self.settings.rl_steps
            for group in self.optimizer.param_groups:
                group["lr"] = self.settings.rl_learning_rate * left
        set_seed(
            self.seed + self.done + state.global_step
        )  # TRL shuffles the rows of a step, and their sum has an order

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if all(self.rollout.batch.flat):  # a zero gradient would still move weights, by the optimizer's momentum
            self.optimizer.zero_grad(set_to_none=True)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        numbers = {name: value for name, value in (logs or {}).items() if isinstance(value, (int, float))}
        if "reward" not in numbers:  # TRL's summary of the whole training
            return
        self.taken = self.done + state.global_step
        self._bar.update()
        self._bar.set_postfix(reward=f"{numbers['reward']:.3f}")
        release_freed_memory()
        if self.hooks.on_step is not None:
            self.hooks.on_step(self.taken, self.rollout.batch, numbers)
        if self._due(self.settings.rl_validate_every):
            self._validate()
            control.should_training_stop |= self.best.out_of_patience
        if self.hooks.keep is not None and self.processes.main and self._due(self.settings.rl_keep_every):
            self.hooks.keep(self._snapshot())

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._bar.close()
        self._total = perf_counter() - self._started

    def _due(self, every: int) -> bool:
        return every > 0 and (self.taken % every == 0 or self.taken == self.settings.rl_steps)

    def _validate(self) -> None:
        if self.hooks.validate is None or not self.settings.rl_validate_every:
            return
        start = perf_counter()
        self.backbone.weights_changed()
        score = self.processes.share(self.hooks.validate(self.taken) if self.processes.main else None)
        self.best.offer(self.taken, score, self.backbone.weights())
        self._validation += perf_counter() - start

    def _snapshot(self) -> Snapshot:
        return Snapshot(
            {
                **named("policy", self.backbone.weights()),
                **{
                    name: tensor.clone()
                    for name, tensor in named("optimizer", optimizer_tensors(self.optimizer)).items()
                },
                **self.best.tensors(),
            },
            {"step": self.taken, **self.best.facts()},
        )
