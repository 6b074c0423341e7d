"""Does stage 2 raise the reward on prompts that it never trains on? Paired over prompts, several seeds.

    python benchmarks/reward_curve.py [--dataset=ml-100k] [--data_path=DIR] [--seeds=2020,2021,2022] [--steps=120] [--every=20]
                                      [--prompts=128] [--samples=4] [--learning_rates=0.00002,0.0002]
                                      [--dir=saved/reward_curve] [--out=benchmarks/results/reward_curve.json]
                                      [--figure=docs/figures/reward.png]

Stages 1a to 1c run once a seed, in --dir. Then stage 2 with each learning rate, every other setting as it is by default, on all positions
of its rung but --prompts of them. These held-out prompts are answered before the first step and after every --every steps, --samples
times each at the temperature of the rollouts and with the same draws every time, and the frozen head pays. The mean reward of a prompt after
the steps minus that before them is paired over prompts; 95 % intervals by bootstrap over the prompts of all seeds. What is in
--out already is not run again.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from harness import (
    RESULTS_DIR,
    add_data,
    add_seeds,
    interval,
    names,
    new_parser,
    read_json,
    run_once,
    table_head,
    table_row,
    write_json,
)

TIME = "an hour; seconds where the curves are kept"
RESULTS = {
    "benchmarks/results/reward_curve.json": "python benchmarks/reward_curve.py",
    "docs/figures/reward.png": "python benchmarks/reward_curve.py",
}
Curve = dict[str, list[Any]]
"""`steps` `[S]`, `rewards` `[S, P]` by prompt, and the mean of every part of the reward, `[S]`."""


def curve_of(folder: Path, options: argparse.Namespace, seed: int, rate: float) -> Curve:
    """Trains stage 2 of a run and asks the held-out prompts on the way."""
    from rporec_recbole import load_run
    from rporec_recbole.cot.store import Decoding
    from rporec_recbole.data import ladder
    from rporec_recbole.training.stage1.rows import frozen_scorer
    from rporec_recbole.training.stage2.grpo import Hooks, train_rl
    from rporec_recbole.training.stage2.head_reward import head_reward

    loaded = load_run(folder)
    model, dataset = loaded.model, loaded.loaders["train"].dataset
    ends = dataset.positions(ladder.RL)
    ends = ends[np.random.default_rng(seed).permutation(len(ends))]
    parts: dict[str, float] = {}
    scorer = frozen_scorer(model, dataset, ends, bool(loaded.config["hide_seen"]))
    reward = head_reward(model, dataset.histories(ends), scorer, folder=folder, observe=parts.update)
    prompts, backbone = list(reward.positions.prompts), model.backbone
    held_out = np.repeat(np.arange(options.prompts), options.samples)
    settings = model.settings.rl
    decoding = Decoding(settings.rl_temperature, model.settings.backbone.max_new_tokens, seed)
    curve: Curve = {"steps": [], "rewards": []}

    def ask(step: int) -> float:
        written = backbone.generate_tokens(
            [prompts[number] for number in held_out],
            decoding,
            identities=[f"held out/{i}" for i in range(len(held_out))],
        )
        earned = reward(backbone.decode(written), held_out.tolist(), [one.tokens for one in written])
        by_prompt = np.array(earned).reshape(options.prompts, options.samples).mean(axis=1)
        curve["steps"].append(step)
        curve["rewards"].append([round(value, 6) for value in by_prompt.tolist()])
        for name, value in parts.items():
            curve.setdefault(name, []).append(value)
        print(f"seed {seed}, learning rate {rate}, step {step}: {by_prompt.mean():.4f}", flush=True)
        return float(by_prompt.mean())

    learned = settings.rl_prompts * options.steps
    train = [options.prompts + i % (len(prompts) - options.prompts) for i in range(learned)]
    with tempfile.TemporaryDirectory() as reference:
        backbone.save(Path(reference))
        train_rl(
            backbone,
            [prompts[number] for number in train],
            lambda texts, numbers, tokens: reward(texts, [train[number] for number in numbers], tokens),
            replace(
                settings,
                rl_steps=options.steps,
                rl_validate_every=options.every,
                rl_patience=options.steps,
                rl_learning_rate=rate,
            ),
            max_new_tokens=decoding.max_new_tokens,
            reference=reference,
            seed=seed,
            hooks=Hooks(validate=ask),
        )
    return curve


def rise_of(curves: list[Curve]) -> tuple[np.ndarray, np.ndarray]:
    """Mean reward minus that before the first step, `[S]`, and its 95 % intervals, `[2, S]`."""
    rises = np.concatenate([np.array(one["rewards"]) - np.array(one["rewards"][0]) for one in curves], axis=1)
    picks = np.random.default_rng(0).integers(rises.shape[1], size=(10_000, rises.shape[1]))
    return rises.mean(axis=1), np.stack([np.percentile(one[picks].mean(axis=1), [2.5, 97.5]) for one in rises], axis=1)


def main() -> None:
    parser = new_parser(__doc__)
    add_data(parser, "ml-100k")
    add_seeds(parser)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--every", type=int, default=20)
    parser.add_argument("--prompts", type=int, default=128)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--learning_rates", type=names, default="0.00002,0.0002")
    parser.add_argument("--dir", type=Path, default=Path("saved/reward_curve"))
    parser.add_argument("--out", type=Path, default=RESULTS_DIR / "reward_curve.json")
    parser.add_argument("--figure", default="docs/figures/reward.png")
    options = parser.parse_args()

    from matplotlib.figure import Figure

    kept: dict[str, Curve] = read_json(options.out, {})
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.axhline(0, color="#999999", linewidth=0.8)
    print(table_head("learning rate", "before", "after", "rise [95 %]", "well-formed before, after"), flush=True)
    for rate, color in zip(map(float, options.learning_rates), ("#1f4e79", "#c0562f", "#4a7a3a"), strict=False):
        curves = []
        for seed in options.seeds:
            name = f"{options.dataset}, learning rate {rate}, {options.steps} steps, seed {seed}"
            if name not in kept:
                folder = options.dir / f"{options.dataset},seed={seed}"
                first = {"stages": ["1a", "1b", "1c"], "seed": seed}
                run_once(folder, "RPORec", options.dataset, first, options.data_path)
                kept[name] = curve_of(folder, options, seed, rate)
                write_json(options.out, kept, indent=None)
            curves.append(kept[name])
        rise, (low, high) = rise_of(curves)
        mean = np.mean([np.mean(one["rewards"], axis=1) for one in curves], axis=0)
        formed = np.mean([one["well_formed"] for one in curves], axis=0)
        risen, well = interval(rise[-1], low[-1], high[-1]), f"{formed[0]:.3f}, {formed[-1]:.3f}"
        print(table_row(f"{rate:g}", f"{mean[0]:.4f}", f"{mean[-1]:.4f}", risen, well), flush=True)
        steps = curves[0]["steps"]
        axes.plot(steps, rise, color=color, linewidth=2, label=f"learning rate {rate:g}")
        axes.fill_between(steps, low, high, color=color, alpha=0.18, linewidth=0)
    axes.set_xlabel("steps of stage 2")
    axes.set_ylabel("mean reward minus that before the first step")
    axes.set_title(
        f"{options.dataset}: reward on {options.prompts} held-out prompts a seed, "
        f"seeds {','.join(map(str, options.seeds))}, 95 % intervals",
        fontsize=10,
    )
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    figure.savefig(options.figure, dpi=110)
    print(f"Written to {options.out} and {options.figure}")


if __name__ == "__main__":
    main()
