"""Does the reward of stage 2 rise? The mean reward of each step, over several finished runs, and its slope.

    python benchmarks/reward_curve.py RUN [RUN ...] [--output=docs/figures/reward.png]

Every step of stage 2 asks about prompts that no step before it has shown, so its mean reward is one on held-out prompts. The
values come from the runs' TensorBoard files. Prints the means of the first and the last ten steps of each run, and the slope of a
straight line through the steps of all runs with a 95 % interval (bootstrap over runs' steps); draws runs, their mean and the line.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

TAG, TEN = "2_reinforcement_learning/reward", 10


def rewards_of(run: Path) -> np.ndarray:
    """Mean reward of each step, `[S]`.

    Raises:
        SystemExit: the run has no stage 2.
    """
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    if TAG not in events.Tags()["scalars"]:
        raise SystemExit(f"{run} has no rewards of stage 2 in its tensorboard/.")
    by_step = {one.step: one.value for one in events.Scalars(TAG)}  # a run that went on wrote some steps twice
    return np.array([by_step[step] for step in sorted(by_step)])


def slope_of(steps: np.ndarray, rewards: np.ndarray, draws: int = 10_000) -> tuple[float, float, float]:
    """Slope of the least-squares line and its 95 % interval.

    Args:
        steps: `[P]`.
        rewards: `[P]`.
        draws: bootstrap draws of pairs.
    """
    picks = np.random.default_rng(0).integers(len(steps), size=(draws, len(steps)))
    x, y = steps[picks], rewards[picks]
    x = x - x.mean(axis=1, keepdims=True)
    low, high = np.percentile((x * y).sum(axis=1) / (x * x).sum(axis=1), [2.5, 97.5])
    return float(np.polyfit(steps, rewards, 1)[0]), float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--output", default="docs/figures/reward.png")
    options = parser.parse_args()
    curves = {run.name: rewards_of(run) for run in options.runs}
    for name, curve in curves.items():
        print(f"{name}: first ten steps {curve[:TEN].mean():.4f}, last ten {curve[-TEN:].mean():.4f}")
    steps = np.concatenate([np.arange(1, len(curve) + 1) for curve in curves.values()])
    rewards = np.concatenate(list(curves.values()))
    slope, low, high = slope_of(steps, rewards)
    print(f"slope: {slope:+.5f} [{low:+.5f}, {high:+.5f}] a step")
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot()
    for curve in curves.values():
        axes.plot(np.arange(1, len(curve) + 1), curve, color="#9db4c8", linewidth=0.9)
    shortest = min(len(curve) for curve in curves.values())
    mean = np.mean([curve[:shortest] for curve in curves.values()], axis=0)
    axes.plot(np.arange(1, shortest + 1), mean, color="#1f4e79", linewidth=2, label=f"mean of {len(curves)} runs")
    line = np.array([1, max(steps)])
    axes.plot(line, rewards.mean() + slope * (line - steps.mean()), "k--", linewidth=1, label="least-squares line")
    axes.set_xlabel("step of stage 2, each on prompts that were never shown before")
    axes.set_ylabel("mean reward of a step")
    axes.set_title(f"slope {slope:+.5f} [{low:+.5f}, {high:+.5f}] a step", fontsize=10)
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    figure.savefig(options.output, dpi=110)
    print(f"Written to {options.output}")


if __name__ == "__main__":
    main()
