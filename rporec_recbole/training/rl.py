"""Stage 2: GRPO on the backbone with rewards from the frozen Rechead. The only file that knows TRL.

TRL computes advantages, the clipped objective and the KL term; completions come from our own engine through TRL's
`rollout_func`, so that training and evaluation write with the same code.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from datasets import Dataset
from tqdm.auto import tqdm
from transformers import PrinterCallback, ProgressCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from rporec_recbole.backbone.engine import Generated
from rporec_recbole.backbone.model import Backbone, trains_in_bfloat16
from rporec_recbole.cot.store import Decoding
from rporec_recbole.memory import release_freed_memory
from rporec_recbole.rewards.rechead_reward import RecheadReward
from rporec_recbole.settings import RLSettings


class _Watch(TrainerCallback):
    """Our progress bar, and TRL's numbers handed to the recorder."""

    def __init__(self, steps: int, on_log: Callable[[int, dict[str, float]], None]) -> None:
        self._bar = tqdm(total=steps, desc="2 reinforcement learning", unit="step", leave=False)
        self._on_log = on_log

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._bar.update()
        release_freed_memory()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        numbers = {name: value for name, value in (logs or {}).items() if isinstance(value, (int, float))}
        if "reward" in numbers:
            self._bar.set_postfix(reward=f"{numbers['reward']:.3f}")
            self._on_log(state.global_step, numbers)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._bar.close()


def train_rl(
    backbone: Backbone,
    prompts: Sequence[str],
    reward: RecheadReward,
    settings: RLSettings,
    *,
    max_new_tokens: int,
    reference: str,
    seed: int,
    on_log: Callable[[int, dict[str, float]], None],
) -> int:
    """Fine-tunes the backbone in place.

    Args:
        backbone: its trainable weights change.
        prompts: prompt i belongs to position i of the reward.
        reward: pays for completions.
        settings: steps, group size, learning rate, KL weight, temperature.
        max_new_tokens: longer completions are cut off and earn nothing.
        reference: folder with the weights that the KL term holds on to; the backbone as it is now.
        seed: seed of prompt order and draws.
        on_log: gets (step, TRL's numbers) after every step.

    Returns:
        the number of optimiser steps taken.
    """
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # rollout_func is marked experimental; we pin TRL
    device = backbone.device
    draws = 0

    def rollout(batch: list[str], trainer: Any) -> dict[str, Any]:
        nonlocal draws
        draws += 1
        decoding = Decoding(settings.rl_temperature, max_new_tokens, seed)
        identities = [f"{draws}/{index}" for index in range(len(batch))]
        written = backbone.generate_tokens(batch, decoding, identities=identities, logprobs=True)
        return {
            "prompt_ids": backbone.prompts.encode(batch),
            "completion_ids": [one.tokens for one in written],
            "logprobs": [one.logprobs for one in written],
        }

    def rechead_reward(completion_ids: list[list[int]], row: list[int], **_: Any) -> list[float]:
        texts = backbone.decode([Generated(tokens, []) for tokens in completion_ids])  # as the evaluation reads them
        return reward(texts, row, completion_ids)

    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="torch.utils.data")
        config = GRPOConfig(
            output_dir=scratch,
            max_steps=settings.rl_steps,
            per_device_train_batch_size=settings.rl_prompts * settings.group_size,
            num_generations=settings.group_size,
            max_completion_length=max_new_tokens,
            learning_rate=settings.rl_learning_rate,
            lr_scheduler_type="constant",
            temperature=settings.rl_temperature,
            beta=settings.kl_weight,
            gradient_checkpointing=device.type == "cuda" and backbone.parameters > 100_000_000,
            use_cpu=device.type == "cpu",
            bf16=trains_in_bfloat16(device),
            seed=seed,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        backbone.model.config.name_or_path = reference  # where TRL finds the reference policy
        trainer = GRPOTrainer(
            model=backbone.model,
            reward_funcs=rechead_reward,
            args=config,
            train_dataset=Dataset.from_dict({"prompt": list(prompts), "row": list(range(len(prompts)))}),
            processing_class=backbone.tokenizer,
            rollout_func=rollout,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(ProgressCallback)
        trainer.add_callback(_Watch(settings.rl_steps, on_log))
        trainer.train()
        steps = int(trainer.state.global_step)
    if backbone.is_adapter and "ref" in backbone.model.peft_config:
        backbone.model.delete_adapter("ref")
    backbone.model.eval()
    backbone.weights_changed()
    return steps
