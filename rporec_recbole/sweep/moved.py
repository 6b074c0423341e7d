"""A sweep whose data lie elsewhere now: it goes on as the sweep that it was, and nobody joins one with other data."""

from __future__ import annotations

import glob
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from rporec_recbole.host.bridge import build_config
from rporec_recbole.runs.folder import METRICS
from rporec_recbole.runs.located import has_data_of
from rporec_recbole.settings.named_code import class_name
from rporec_recbole.settings.places import is_gone
from rporec_recbole.sweep.plan import PLAN, Plan

_PLACE = "data_path"


def as_it_began(plan: Plan) -> Plan:
    """The plan under the definition that its folder has, if that differs in where the data lay, and they are there no more.

    Args:
        plan: as it was asked for now; its trials read the data where they are now in any case.
    """
    if _PLACE not in plan.fixed or (plan.run_dir is None and plan.folder.exists()):
        return plan
    others = f"saved/sweep-{glob.escape(f'{class_name(plan.model)}-{plan.dataset}')}-*"
    for folder in [plan.folder] if plan.run_dir else sorted(map(Path, glob.glob(others))):
        before = _definition(folder)
        place = (before.get("settings") or {}).get(_PLACE)
        moved = replace(plan, fixed={**plan.fixed, _PLACE: place})
        if is_gone(_PLACE, place, plan.dataset) and moved.definition == before and _same_data(plan, folder):
            return moved if plan.run_dir else replace(moved, run_dir=str(folder))
    return plan


def _definition(folder: Path) -> dict[str, Any]:
    try:
        return yaml.safe_load((folder / PLAN).read_text(encoding="utf-8").rpartition("mark: ")[0]) or {}
    except (OSError, yaml.YAMLError):
        return {}


def _same_data(plan: Plan, folder: Path) -> bool:
    done = next(iter(sorted(folder.glob(f"trial-*/{METRICS}"))), None)
    if done is None:
        return True  # nothing was trained with the old ones
    return has_data_of(done.parent, build_config(plan.model, plan.dataset, plan.files, plan.settings))
