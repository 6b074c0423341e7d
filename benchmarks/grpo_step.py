"""How fast is a GRPO step? Ours beside that of TRL's GRPOTrainer, on the same prompts, group size, rewards and weights.

    python benchmarks/grpo_step.py [--steps=3] [--prompts=4] [--group=8] [--tokens=96] [--clock=wall|processor]
                                   [--run=saved/grpo_step/tiny] [--out=saved/grpo_step]

The prompts are positions of ml-100k that stage 2 learns from; `tiny` is warmed up as in the default run, once: --run keeps
it. Both pay with the frozen head and take the same learning rate. `TRL, defaults` has its defaults in everything else: its own
generation, gradient checkpointing, bfloat16, no KL term; beside it stands ours without the KL term, which does the same sums.
`TRL, as ours` has the KL term of the default run, no checkpointing and float32; beside it stands ours as it is by default.
A first step, which is not counted, warms each of them up. Where other jobs keep the machine busy, --clock=processor counts
processor seconds, best with OMP_NUM_THREADS=1. Writes grpo_step.json.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harness import CLOCKS, add_clock, machine, new_parser, table_head, table_row, warmed_tiny, write_json

TIME = "minutes"
RESULTS = {
    "benchmarks/results/grpo_step.json": (
        "python benchmarks/grpo_step.py --clock=processor --steps=8; copied from --out"
    ),
}


@dataclass(frozen=True)
class Measured:
    """One line of the table, seconds a step. `tokens` are new tokens a completion."""

    name: str
    generation: float
    reward: float
    update: float
    tokens: float

    @property
    def step(self) -> float:
        return self.generation + self.reward + self.update


class Timed:
    """Calls a function and adds up what it took."""

    def __init__(self, function: Callable[..., Any], clock: Callable[[], float]) -> None:
        self.function, self.clock, self.seconds = function, clock, 0.0

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        start = self.clock()
        try:
            return self.function(*arguments, **named)
        finally:
            self.seconds += self.clock() - start


class AfterFirst:
    """Counts from the end of the first step; as TRL's callback and by hand."""

    def __init__(self, clock: Callable[[], float], parts: Sequence[Timed]) -> None:
        self.clock, self.parts = clock, parts
        self.start, self.before, self.lengths = 0.0, [0.0 for _ in parts], []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **named: Any) -> None:
        if "completions/mean_length" in logs:
            self.note(state.global_step, logs["completions/mean_length"])

    def note(self, step: int, length: float) -> None:
        if step == 1:
            self.start, self.before = self.clock(), [part.seconds for part in self.parts]
        else:
            self.lengths.append(length)
            self.end = self.clock()

    def measured(self, name: str) -> Measured:
        steps = len(self.lengths)
        parts = [(part.seconds - before) / steps for part, before in zip(self.parts, self.before, strict=True)]
        rest = (self.end - self.start) / steps - sum(parts)
        return Measured(name, *parts, rest, sum(self.lengths) / steps)


def ours(
    options: argparse.Namespace, model: Any, prompts: list[str], reward: Callable[..., Any], name: str, **given: Any
) -> Measured:
    from rporec_recbole.training.stage2.grpo import Hooks, train_rl

    clock, backbone = CLOCKS[options.clock], copy.copy(model.backbone)
    backbone.model = copy.deepcopy(backbone.model)
    settings = replace(
        model.settings.rl, rl_steps=options.steps + 1, rl_prompts=options.prompts, group_size=options.group, **given
    )
    writing, paying = Timed(backbone.generate_tokens, clock), Timed(reward, clock)
    backbone.generate_tokens = writing
    watch = AfterFirst(clock, [writing, paying])
    hooks = Hooks(on_step=lambda step, batch, _: watch.note(step, sum(batch.lengths) / len(batch.lengths)))
    with tempfile.TemporaryDirectory() as reference:
        backbone.save(Path(reference))
        train_rl(
            backbone, prompts, paying, settings, max_new_tokens=options.tokens, reference=reference, seed=0, hooks=hooks
        )
    return watch.measured(name)


def theirs(
    options: argparse.Namespace, model: Any, prompts: list[str], reward: Callable[..., Any], name: str, **given: Any
) -> Measured:
    from datasets import Dataset
    from transformers import PrinterCallback, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    class Watch(AfterFirst, TrainerCallback):
        pass

    clock, settings = CLOCKS[options.clock], model.settings.rl
    policy, tokenizer = copy.deepcopy(model.backbone.model), model.backbone.tokenizer

    def pay(completions: list[str], row: list[int], **_: Any) -> list[float]:
        return reward(completions, row)

    paying = Timed(pay, clock)
    paying.__name__ = "rechead"  # TRL asks for it
    policy.generate = writing = Timed(policy.generate, clock)
    watch = Watch(clock, [writing, paying])
    with tempfile.TemporaryDirectory() as folder:
        model.backbone.save(Path(folder) / "reference")
        policy.config.name_or_path = str(Path(folder) / "reference")
        config = GRPOConfig(
            output_dir=folder,
            max_steps=options.steps + 1,
            per_device_train_batch_size=options.prompts * options.group,
            num_generations=options.group,
            max_completion_length=options.tokens,
            learning_rate=settings.rl_learning_rate,
            use_cpu=model.backbone.device.type == "cpu",
            seed=0,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            **given,
        )
        data = Dataset.from_dict({"prompt": prompts, "row": list(range(len(prompts)))})
        trainer = GRPOTrainer(
            model=policy, reward_funcs=paying, args=config, train_dataset=data, processing_class=tokenizer
        )
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(watch)
        trainer.train()
    return watch.measured(name)


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=96)
    add_clock(parser)
    parser.add_argument("--run", type=Path, default=Path("saved/grpo_step/tiny"))
    parser.add_argument("--out", type=Path, default=Path("saved/grpo_step"))
    options = parser.parse_args()

    from rporec_recbole.data import ladder
    from rporec_recbole.training.stage1.rows import frozen_scorer
    from rporec_recbole.training.stage2.head_reward import head_reward

    loaded = warmed_tiny(options.run)
    model, dataset = loaded.model, loaded.loaders["train"].dataset
    ends = dataset.positions(ladder.RL)[: (options.steps + 1) * options.prompts]
    rows = dataset.histories(ends)
    reward = head_reward(model, rows, frozen_scorer(model, dataset, ends, False), folder=options.run)
    prompts = list(reward.positions.prompts)
    same = {"beta": model.settings.rl.kl_weight, "gradient_checkpointing": False, "bf16": False}
    pairs = [
        (
            ours(options, model, prompts, reward, "ours, no KL term", kl_weight=0.0),
            theirs(options, model, prompts, reward, "TRL, defaults"),
        ),
        (
            ours(options, model, prompts, reward, "ours"),
            theirs(options, model, prompts, reward, "TRL, as ours", **same),
        ),
    ]
    lines = [one for pair in pairs for one in pair]
    over = {theirs.name: theirs.step / ours.step for ours, theirs in pairs}
    parts = ("generation", "reward", "update")
    print(table_head("seconds a step", *parts, "all", "new tokens", "over the line above"))
    for one in lines:
        seconds = (f"{getattr(one, part):.2f}" for part in (*parts, "step"))
        times = f"{over[one.name]:.2f}" if one.name in over else ""
        print(table_row(one.name, *seconds, f"{one.tokens:.1f}", times))
    report = {
        "backbone": model.backbone.facts,
        "prompts": options.prompts,
        "group": options.group,
        "limit": options.tokens,
        "steps": options.steps,
        "clock": options.clock,
        "over_ours": over,
        "lines": [{**asdict(one), "step": one.step} for one in lines],
        **machine(),
    }
    write_json(options.out / "grpo_step.json", report)


if __name__ == "__main__":
    main()
