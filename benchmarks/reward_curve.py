"""Does stage 2 raise the reward on prompts that it never trains on? Paired over prompts, several seeds.

    python benchmarks/reward_curve.py [--dataset=ml-100k] [--data_path=DIR] [--seeds=2020,2021,2022] [--steps=120] [--every=20]
                                      [--prompts=128] [--samples=4] [--learning_rates=0.00002,0.0002]
                                      [--dir=saved/reward_curve] [--out=benchmarks/results/reward_curve.json]
                                      [--figure=docs/figures/reward.png]

Stages 1a to 1c run once a seed, in --dir. Then stage 2 with each learning rate, every other setting as it is by default, on all positions
of its rung but --prompts of them. These held-out prompts are answered before the first step and after every --every steps, --samples
times each at the temperature of the rollouts and with the same draws every time, and the frozen head pays. The mean reward of a prompt after
the steps minus that before them is paired over prompts; 95 % intervals by bootstrap over the prompts of all seeds. Beside the whole
reward stands what is paid for the ranking alone: the NDCG part, without gates and weights. What is in --out already is not run again.
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
"""`steps` `[S]`, `rewards` and `ranking` `[S, P]` by prompt, and the mean of every part of the reward, `[S]`."""


KINDS = {"rewards": "reward", "ranking": "NDCG paid"}
"""What is drawn, and its title."""


def curve_of(folder: Path, options: argparse.Namespace, seed: int, rate: float) -> Curve:
    """Trains stage 2 of a run and asks the held-out prompts on the way."""
    from rporec_recbole import load_run
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
    rows, own = dataset.histories(ends), model.settings
    reward = head_reward(model, rows, scorer, folder=folder, observe=parts.update)
    model.settings = replace(own, rl=replace(own.rl, reward_weights={"ndcg": 1.0}, reward_gates=[]))
    ranking = head_reward(model, rows, scorer, folder=folder)
    model.settings = own
    prompts, backbone = list(reward.positions.prompts), model.backbone
    held_out = np.repeat(np.arange(options.prompts), options.samples)
    settings = model.settings.rl
    decoding = model.decoding(settings.rl_temperature, seed)  # as the rollouts are written
    curve: Curve = {"steps": [], "rewards": [], "ranking": []}

    def ask(step: int) -> float:
        written = backbone.generate_tokens(
            [prompts[number] for number in held_out],
            decoding,
            identities=[f"held out/{i}" for i in range(len(held_out))],
        )
        texts, tokens = backbone.decode(written), [one.tokens for one in written]
        curve["steps"].append(step)
        for name, pays in (("ranking", ranking), ("rewards", reward)):
            earned = pays(texts, held_out.tolist(), tokens)
            by_prompt = np.array(earned).reshape(options.prompts, options.samples).mean(axis=1)
            curve[name].append([round(value, 6) for value in by_prompt.tolist()])
        for name, value in parts.items():
            curve.setdefault(name, []).append(value)
        paid = np.mean(curve["ranking"][-1])
        print(f"seed {seed}, learning rate {rate}, step {step}: {by_prompt.mean():.4f}, ranking {paid:.4f}", flush=True)
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


def rise_of(curves: list[Curve], name: str) -> tuple[np.ndarray, np.ndarray]:
    """The mean of `rewards` or `ranking` minus that before the first step, `[S]`, and its 95 % intervals, `[2, S]`."""
    rises = np.concatenate([np.array(one[name]) - np.array(one[name][0]) for one in curves], axis=1)
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
    figure = Figure(figsize=(8, 6.5), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    print(table_head("learning rate", "of", "before", "after", "rise [95 %]", "well-formed before, after"), flush=True)
    for rate, color in zip(map(float, options.learning_rates), ("#1f4e79", "#c0562f", "#4a7a3a"), strict=False):
        curves = []
        for seed in options.seeds:
            name = f"{options.dataset}, learning rate {rate}, {options.steps} steps, seed {seed}"
            if "ranking" not in kept.get(name, {}):  # curves of before say nothing of it
                folder = options.dir / f"{options.dataset},seed={seed}"
                first = {"stages": ["1a", "1b", "1c"], "seed": seed}
                run_once(folder, "RPORec", options.dataset, first, options.data_path)
                kept[name] = curve_of(folder, options, seed, rate)
                write_json(options.out, kept, indent=None)
            curves.append(kept[name])
        formed = np.mean([one["well_formed"] for one in curves], axis=0)
        for axes, (name, title) in zip(panels, KINDS.items(), strict=True):
            rise, (low, high) = rise_of(curves, name)
            mean = np.mean([np.mean(one[name], axis=1) for one in curves], axis=0)
            risen, well = interval(rise[-1], low[-1], high[-1]), f"{formed[0]:.3f}, {formed[-1]:.3f}"
            print(table_row(f"{rate:g}", title, f"{mean[0]:.4f}", f"{mean[-1]:.4f}", risen, well), flush=True)
            steps = curves[0]["steps"]
            axes.plot(steps, rise, color=color, linewidth=2, label=f"learning rate {rate:g}")
            axes.fill_between(steps, low, high, color=color, alpha=0.18, linewidth=0)
    for axes, title in zip(panels, KINDS.values(), strict=True):
        axes.axhline(0, color="#999999", linewidth=0.8)
        axes.set_ylabel(f"{title}, rise")
        axes.grid(alpha=0.3)
    panels[0].set_title(
        f"{options.dataset}: on {options.prompts} held-out prompts a seed, "
        f"seeds {','.join(map(str, options.seeds))}, 95 % intervals",
        fontsize=10,
    )
    panels[0].legend(frameon=False)
    panels[1].set_xlabel("steps of stage 2")
    figure.savefig(options.figure, dpi=110)
    print(f"Written to {options.out} and {options.figure}")


if __name__ == "__main__":
    main()
