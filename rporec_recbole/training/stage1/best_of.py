"""Best-of-N for the warm-up (stage 1b): the backbone learns from the best of several texts that it wrote itself.

The label chooses the best text, so this is for teaching the backbone only: at test time nobody can select by the label.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rporec_recbole.cot.quality import QualityLimits, Written, sift
from rporec_recbole.model.rporec import RPORec
from rporec_recbole.training.stage1.crossfit import FitTrunk, cross_fitted_gains
from rporec_recbole.training.stage1.rows import Lessons, history_rows
from rporec_recbole.training.state.positions import PositionLog


def best_of_positions(order: np.ndarray, taught: int, wanted: int) -> np.ndarray:
    """Where texts are sampled: `[P]` early positions, sorted, at most half of all so that the scoring trunks have others.

    Args:
        order: all early positions in the order of `early_order`.
        taught: how many of them, from the start, taught the backbone already; it is sure of those, so they come last.
        wanted: how many.
    """
    return np.sort(np.roll(order, -taught)[: min(wanted, len(order) // 2)])


def best_of_lessons(
    model: RPORec, dataset: Any, ends: np.ndarray, fit_trunk: FitTrunk, positions: PositionLog, seed: int
) -> tuple[Lessons, dict[str, Any]]:
    """Samples `best_of` texts for each position, drops those with a named fault, and keeps each position's best.

    The best is the one that raises the target's log-probability most under a cross-fitted head (`cross_fitted_gains`).

    Args:
        model: its backbone writes; its settings say how many texts and what counts as a fault.
        dataset: an `RPORecDataset`.
        ends: `[P]` timeline indices of early positions.
        fit_trunk: trains the heads that score.
        positions: gets what taught those heads.
        seed: seed of the texts and of the heads.

    Returns:
        the best text of each position that has one left, and figures for `metrics.json`: `sampled` and `kept` texts,
        `dropped` by reason, `learned` positions, those left `undecided` because their head finds no use in any text, mean
        `gain` of a kept text and mean `best_gain`.
    """
    assert model.reasoner is not None, "no backbone is connected"
    assert model.catalogue is not None, "reasoning needs item text"
    settings = model.settings.backbone
    rows = dataset.histories(ends)
    samples = [
        model.completions(
            rows,
            model.decoding(settings.cot_temperature, seed, number),
            f"1b best-of, text {number + 1} of {settings.best_of}",
        )
        for number in range(settings.best_of)
    ]
    prompts = [model.reasoner.template.prompt(*row) for row in history_rows(model, rows)]
    titles = [model.catalogue.items[target].title for target in rows[model.ITEM_ID].tolist()]
    written = [
        Written(text, prompt, title)
        for prompt, title, texts in zip(prompts, titles, zip(*samples, strict=True), strict=True)
        for text in texts
    ]
    kept, dropped = sift(written, QualityLimits(**settings.quality_limits), settings.best_of_filters)
    allowed = np.isin(np.arange(len(written)), kept).reshape(len(ends), settings.best_of)
    facts = {"sampled": len(written), "kept": len(kept), "dropped": dict(dropped), "learned": 0}
    if not kept:
        return Lessons(ends[:0], [], []), facts
    gains = cross_fitted_gains(model, dataset, ends, samples, fit_trunk, positions, seed)
    best = np.where(allowed, gains, -np.inf).argmax(axis=1)
    # A fusion that found no use in any text on held-out users stays at zero: its gains are 0, and its best is no best.
    judged = (np.where(allowed, gains, 0) != 0).any(axis=1)
    learned = np.flatnonzero(judged)
    facts |= {"learned": len(learned), "undecided": int((allowed.any(axis=1) & ~judged).sum())}
    if len(learned):
        facts |= {
            "gain": float(gains[judged][allowed[judged]].mean()),
            "best_gain": float(gains[learned, best[learned]].mean()),
        }
    completions = [samples[best[row]][row].text for row in learned]
    return Lessons(ends[learned], [prompts[row] for row in learned], completions), facts
