"""What a run's figures stand beside: the most popular items for everybody, and the same head without its texts.

Both are ranked by the run's own evaluator, on the run's own rows and candidates.
"""

from __future__ import annotations

from typing import Any

import torch
from recbole.trainer import Trainer
from recbole.utils import init_seed

from rporec_recbole.evaluation.comparable import mode_of
from rporec_recbole.host.ranked import evaluated

POP, TRUNK = "Pop", "trunk"


def beside(trainer: Any, loaders: dict[str, Any], dataset: Any) -> dict[str, dict[str, dict[str, float]]]:
    """Name -> split -> metrics; nothing where a split is not ranked against all items.

    Args:
        trainer: of the run, with its model as it was evaluated.
        loaders: split -> RecBole's loader.
        dataset: of the run, with its `training_counts`.
    """
    loaders = {split: one for split, one in loaders.items() if mode_of(trainer.config["eval_args"], split) == "full"}
    if not loaders:
        return {}
    counts = torch.from_numpy(dataset.training_counts[dataset.iid_field]).float().to(trainer.device)
    found = {POP: {split: _of_popular(trainer, loader, counts, split) for split, loader in loaders.items()}}
    model = trainer.model
    if getattr(model, "reads_reasoning", False):
        model.reasoning_on = False
        try:
            found[TRUNK] = {
                split: evaluated(trainer, loader, split, best=False)[0] for split, loader in loaders.items()
            }
        finally:
            model.reasoning_on = True
    return found


class _Popular(torch.nn.Module):
    """Ranks items by how often they stand in the training part, for everybody alike."""

    def __init__(self, counts: torch.Tensor) -> None:
        super().__init__()
        self._counts = counts

    def full_sort_predict(self, interaction: Any) -> torch.Tensor:
        """`[B, N]`."""
        return self._counts.repeat(len(interaction), 1)


def _of_popular(trainer: Any, loader: Any, counts: torch.Tensor, split: str) -> dict[str, float]:
    model, trainer.model = trainer.model, _Popular(counts)
    try:
        init_seed(trainer.config["seed"], trainer.config["reproducibility"])
        metrics = Trainer.evaluate(trainer, loader, load_best_model=False, show_progress=False) or {}
    finally:
        trainer.model = model
        trainer.eval_collector.take(split)
    return {name: float(value) for name, value in metrics.items()}
