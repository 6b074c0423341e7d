"""Repairs that let RecBole 1.2.1 run, and run correctly, on NumPy 2, pandas 3, SciPy 1.13+ and torch 2.6+.

Each repair states its symptom, its cause and when it can go. `install_repairs` applies all of them once, when
RPORec is registered; nothing in site-packages is touched on disk. `rporec doctor` lists them.
"""

from __future__ import annotations

import warnings

import pandas as pd

from rporec_recbole.host import repairs_of_data as data
from rporec_recbole.host import repairs_of_models as models
from rporec_recbole.host import repairs_of_quick_start as doors
from rporec_recbole.host import repairs_of_training as training
from rporec_recbole.host.repair import Repair

REPAIRS: list[Repair] = [
    training.numpy_aliases,
    data.atomic_file_reader,
    data.agg_len,
    data.pad_row_features,
    data.benchmark_histories,
    data.time_order,
    data.duplicates,
    training.coverage_metrics,
    training.pop_counts,
    data.first_download,
    training.dok_update,
    training.own_checkpoints,
    training.tensorboard_folder,
    training.anomaly_detection,
    models.stages_in_turn,
    models.knowledge_loader,
    models.dgcf_samples,
    models.ksr_relations,
    doors.quick_start,
    doors.flops,
    doors.load_data_and_model,
]
_installed = False


def install_repairs() -> None:
    """Applies every repair in `REPAIRS`; later calls do nothing."""
    global _installed
    if _installed:
        return
    _installed = True
    for repair in REPAIRS:
        repair.apply()
    # What these warn of is repaired above, or harmless: RecBole never writes into the arrays it shares.
    warnings.filterwarnings(
        "ignore", category=getattr(pd.errors, "ChainedAssignmentError", FutureWarning), module=r"recbole\."
    )
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable", module=r"recbole\.")
