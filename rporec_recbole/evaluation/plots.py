"""Figures from numbers. Each function returns a matplotlib `Figure` and shows nothing."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from rporec_recbole.evaluation.compare import Comparison
from rporec_recbole.evaluation.significance import Interval

_COLUMNS, _WINDOW = 3, 9
_DARK, _PALE = "#1f4e79", "#9db4c8"


Curves = Mapping[str, Sequence[tuple[int, float]]]


def plot_curves(curves: Curves, title: str) -> Figure:
    """One small panel per curve, stage by stage in the order in which they began. Those that never move are named at the end.

    Args:
        curves: name (`stage/quantity`) -> (step, value) pairs.
        title: of the whole figure.
    """
    flat = {name: points[0][1] for name, points in curves.items() if len(points) > 2 and _never_moves(points)}
    stages: dict[str, dict[str, Sequence[tuple[int, float]]]] = {}
    for name, points in curves.items():
        if points and name not in flat:
            stage, _, quantity = name.rpartition("/")
            stages.setdefault(stage, {})[quantity] = points
    rows = max(1, sum(-(-len(panels) // _COLUMNS) for panels in stages.values()))
    # In inches, from the top: all panels are alike, and a layout that measures each of them takes as long as drawing them.
    panel, gap, heading, top, bottom = 1.7, 0.75, 0.45, 0.75, 0.95 if flat else 0.6
    height = top + bottom + rows * (panel + gap) - gap + len(stages) * heading
    figure = Figure(figsize=(4.2 * _COLUMNS, height))
    figure.suptitle(title, y=1 - 0.1 / height, va="top")
    low = height - top
    for stage, panels in stages.items():
        low -= heading
        figure.text(0.02, (low + 0.3) / height, stage, fontsize=12, fontweight="bold", color=_DARK)
        figure.add_artist(Line2D([0.02, 0.98], [(low + 0.24) / height] * 2, color=_PALE, linewidth=0.8))
        for index, (quantity, points) in enumerate(panels.items()):
            low -= panel + gap if index % _COLUMNS == 0 else 0
            left = 0.05 + index % _COLUMNS * 0.32
            axes = figure.add_axes((left, (low + gap) / height, 0.26, panel / height))
            _draw_curve(axes, points)
            # The height is where a title stands anyway: looking for room takes a third of the drawing.
            axes.set_title(quantity, fontsize=10, y=1.0)
    if flat:
        listed = "; ".join(f"{name} = {value:g}" for name, value in flat.items())
        figure.text(0.02, 0.15 / height, f"never moved, so not drawn: {listed}", fontsize=8, color="#555555", wrap=True)
    return figure


def plot_key_curves(curves: Curves) -> Figure:
    """A few curves large enough to be read, two beside each other.

    Args:
        curves: what is drawn, in words -> (step, value) pairs.
    """
    height = 2.9 * -(-len(curves) // 2)
    figure = Figure(figsize=(10, height))
    for index, (name, points) in enumerate(curves.items()):
        low = height - 2.9 * (index // 2 + 1) + 0.35  # in inches, as above
        axes = figure.add_axes((0.07 + index % 2 * 0.5, low / height, 0.41, 2.2 / height))
        _draw_curve(axes, points)
        axes.set_title(name, fontsize=10, y=1.0)
    return figure


def _draw_curve(axes: Axes, points: Sequence[tuple[int, float]]) -> None:
    steps, values = zip(*points, strict=True)
    smoothed = _smoothed(values)
    short = len(steps) < 2 * _WINDOW
    axes.plot(
        steps,
        values,
        color=_DARK if short else _PALE,
        linewidth=1.4 if short else 1,
        marker="o" if len(steps) < 3 else None,
    )
    if smoothed is not None:
        axes.plot(steps, smoothed, color=_DARK, linewidth=1.6)
    axes.tick_params(labelsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.grid(alpha=0.3)


def _never_moves(points: Sequence[tuple[int, float]]) -> bool:
    return all(value == points[0][1] for _, value in points)


def plot_intervals(intervals: Mapping[str, Interval], title: str) -> Figure:
    """One horizontal bar per name, from the low to the high end of its interval, with a line at zero.

    Args:
        intervals: name -> estimate, drawn from the top down.
        title: of the figure.
    """
    figure = Figure(figsize=(9, 0.45 * len(intervals) + 1.4), layout="constrained")
    axes = figure.add_subplot()
    _draw_intervals(axes, list(intervals.values()))
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(intervals)), list(intervals))
    figure.suptitle(title, fontsize=10, wrap=True)  # over the whole width: names at the left are long
    axes.set_xlabel("dark: the interval excludes zero", fontsize=8)
    return figure


def plot_comparison(comparison: Comparison) -> Figure:
    """Models side by side: for each metric the means with their intervals, and the differences to the reference.

    Args:
        comparison: what to draw, models from the top down.
    """
    entries, metrics = comparison.entries, comparison.metrics
    figure = Figure(figsize=(10, (0.42 * len(entries) + 1.3) * len(metrics) + 0.5), layout="constrained")
    figure.suptitle(
        f"{comparison.dataset}, {comparison.split}, {comparison.users:,} users, seen items "
        f"{'hidden' if comparison.hide_seen else 'ranked too'}; 95 % intervals over users",
        fontsize=10,
    )
    for row, metric in enumerate(metrics):
        results = [entry.results[metric] for entry in entries]
        means, differences = (figure.add_subplot(len(metrics), 2, 2 * row + column) for column in (1, 2))
        _draw_intervals(means, [one.mean for one in results], dark=True)
        _draw_intervals(differences, [None if one.against is None else one.against.difference for one in results])
        means.set_title(metric, fontsize=10)
        means.set_yticks(range(len(entries)), [entry.name for entry in entries])
        differences.set_title(f"{metric}: minus {comparison.reference} (dark: excludes zero)", fontsize=10)
        differences.set_yticks(range(len(entries)), [""] * len(entries))
        differences.axvline(0, color="black", linewidth=0.8)
    return figure


def _draw_intervals(axes: Axes, intervals: Sequence[Interval | None], dark: bool = False) -> None:
    """One line an interval from the top down, dark where it excludes zero; None leaves its place empty."""
    for place, one in enumerate(intervals):
        if one is not None:
            colour = "#1f4e79" if dark or one.low > 0 or one.high < 0 else "#9db4c8"
            axes.plot([one.low, one.high], [place, place], color=colour, linewidth=2.4)
            axes.plot([one.value], [place], "o", color=colour)
    axes.set_ylim(len(intervals) - 0.5, -0.5)
    axes.tick_params(labelsize=8)
    axes.grid(axis="x", alpha=0.3)


def plot_history(scores: Mapping[int, tuple[float | None, bool]], bigger: bool, title: str) -> Figure:
    """The scores of trials in the order of their numbers, and the best so far.

    Args:
        scores: number -> (score, whether the trial came to its end); None draws nothing.
        bigger: whether more is better.
        title: of the figure.
    """
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.add_subplot()
    drawn = sorted((number, score, ended) for number, (score, ended) in scores.items() if score is not None)
    for wanted, label, face in ((True, "complete", "#9db4c8"), (False, "pruned", "none")):
        points = [(number, score) for number, score, ended in drawn if ended is wanted]
        if points:
            axes.scatter(*zip(*points, strict=True), label=label, facecolors=face, edgecolors="#9db4c8")
    numbers = [number for number, _, ended in drawn if ended]
    best = list(itertools.accumulate((score for _, score, ended in drawn if ended), max if bigger else min))
    axes.step(numbers, best, where="post", color="#1f4e79", linewidth=1.6, label="best so far")
    axes.legend(fontsize=8)
    figure.suptitle(title, fontsize=10, wrap=True)
    axes.set_xlabel("trial", fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    return figure


def plot_shares(shares: Mapping[str, float], title: str) -> Figure:
    """One horizontal bar per name, from the top down; says so if there is none.

    Args:
        shares: name -> part of 1.
        title: of the figure.
    """
    figure = Figure(figsize=(9, 0.45 * max(2, len(shares)) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    axes.barh(range(len(shares)), list(shares.values()), color="#1f4e79")
    axes.set_yticks(range(len(shares)), list(shares))
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.grid(axis="x", alpha=0.3)
    figure.suptitle(title, fontsize=10, wrap=True)
    axes.set_xlabel("share" if shares else "too few trials came to their end to tell", fontsize=8)
    return figure


def _smoothed(values: Sequence[float], window: int = _WINDOW) -> list[float] | None:
    """Centred moving average, or None for short curves."""
    if len(values) < 2 * window:
        return None
    half = window // 2
    return [sum(part) / len(part) for part in (values[max(0, i - half) : i + half + 1] for i in range(len(values)))]
