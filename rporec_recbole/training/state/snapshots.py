"""What a killed run needs to go on exactly where it stood: weights, optimizer, random states, counters.

Snapshots are safetensors files with JSON beside the tensors, replaced in one step (`data/files.py`): a run killed while it
writes one still has the one before.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from rporec_recbole.data.files import read_tensors, write_tensors
from rporec_recbole.errors import RunFolderError


class Snapshot(NamedTuple):
    """Tensors by name, and everything else as plain JSON values."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]

    def under(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose name starts with `prefix/`, without it."""
        return {name[len(prefix) + 1 :]: t for name, t in self.tensors.items() if name.startswith(f"{prefix}/")}


class Progress:
    """The snapshots of one run.

    Args:
        folder: where they lie; None keeps nothing, for a trainer without a run folder.
        identity: digest of data, settings and versions; a snapshot made under another one is refused.
    """

    def __init__(self, folder: Path | None, identity: str = "") -> None:
        self.folder = folder
        self._identity = identity
        self._warned = False

    def save(self, name: str, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> bool:
        """Replaces the snapshot `name`; whether that worked.

        If the disk is full the run goes on, with the older snapshot and a warning.
        """
        if self.folder is None:
            return False
        path = self.folder / f"{name}.safetensors"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_tensors(path, tensors, {**facts, "identity": self._identity}, alone=True)
        except (OSError, SafetensorError) as error:
            self.warn(path, error)
            return False
        return True

    def warn(self, path: Path, error: Exception) -> None:
        """Says once that snapshots cannot be written."""
        if not self._warned:
            logging.getLogger().warning(
                f"{path} cannot be written ({error}); if this run is killed it will start again from the snapshot before."
            )
        self._warned = True

    def load(self, name: str) -> Snapshot | None:
        """The snapshot `name`, or None if there is none.

        Raises:
            RunFolderError: it is damaged, or belongs to other data, settings or versions.
        """
        path = None if self.folder is None else self.folder / f"{name}.safetensors"
        if path is None or not path.is_file():
            return None
        then = f"The run cannot go on from it. Delete the files in {path.parent} to start it again."
        snapshot = Snapshot(*read_tensors(path, then))
        if snapshot.facts.get("identity") != self._identity:
            raise RunFolderError(f"{path} was written with other data, settings or versions of the packages. {then}")
        return snapshot


def named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under `prefix/`, as `Snapshot.under` finds them."""
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The moments of an optimizer; `restore_optimizer` reads them."""
    state = optimizer.state_dict()["state"]
    return {f"{index}/{name}": torch.as_tensor(value) for index, own in state.items() for name, value in own.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Puts moments back; groups and learning rates stay those of the optimizer."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split("/", 1)
        state.setdefault(int(index), {})[key] = tensor.clone()  # the optimizer works on what it is given
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def random_states(generator: torch.Generator) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All random states that training draws from: (tensors, facts).

    Args:
        generator: the training loader's.
    """
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    tensors = {
        "torch": torch.get_rng_state(),
        "loader": generator.get_state(),
        "numpy": torch.from_numpy(np.asarray(keys).astype(np.int64)),
        **{f"cuda{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())},
    }
    return tensors, {"numpy": [kind, position, has_gauss, gauss], "python": random.getstate()}


def restore_random_states(generator: torch.Generator, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Puts back what `random_states` gave."""
    torch.set_rng_state(tensors["torch"])
    generator.set_state(tensors["loader"])
    kind, position, has_gauss, gauss = facts["numpy"]
    np.random.set_state((kind, tensors["numpy"].numpy().astype(np.uint32), position, has_gauss, gauss))
    version, state, following = facts["python"]
    random.setstate((version, tuple(state), following))
    for name, state in tensors.items():
        if name.startswith("cuda"):
            torch.cuda.set_rng_state(state, int(name[4:]))


def training_state(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, generator: torch.Generator
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights, moments and random states as (tensors, facts) of a snapshot; `restore_training_state` reads them."""
    tensors, facts = random_states(generator)
    return {
        **named("model", model.state_dict()),
        **named("optimizer", optimizer_tensors(optimizer)),
        **named("random", tensors),
    }, {"random": facts}


def restore_training_state(
    snapshot: Snapshot, model: torch.nn.Module, optimizer: torch.optim.Optimizer, generator: torch.Generator
) -> None:
    """Puts back what `training_state` gave."""
    model.load_state_dict(snapshot.under("model"))
    restore_optimizer(optimizer, snapshot.under("optimizer"))
    restore_random_states(generator, snapshot.under("random"), snapshot.facts["random"])
