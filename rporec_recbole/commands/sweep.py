"""What `rporec --model=... --dataset=... --sweep=FILE` does: a search over the settings of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def search_settings(model: str, dataset: str, files: Sequence[str], values: dict[str, Any]) -> None:
    """Works on a sweep until all of its trials have ended, and prints the summary.

    Args:
        model, dataset: what is trained, on what.
        files: config files of every trial.
        values: options of the command line; `sweep` names the search space.
    """
    from rporec_recbole.sweep.report import summary
    from rporec_recbole.sweep.search import search

    file = values.pop("sweep")
    result = search(model, dataset, file, files, values)
    print(summary(result.plan, result.records, result.metrics))
