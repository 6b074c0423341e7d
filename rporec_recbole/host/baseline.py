"""RecBole's own models on disk without pickle: `model.safetensors`, and JSON for what is no tensor.

A few of RecBole's models keep state outside their parameters (`other_parameter`): tensors, NumPy arrays and SciPy
matrices are stored as tensors, plain numbers and texts as JSON. A language model has a folder of its own, `backbone/`; its model loads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse

from rporec_recbole.backbone.model import Backbone
from rporec_recbole.data.files import BACKBONE, MODEL_WEIGHTS, read_tensors, unwritable, write_json, write_tensors
from rporec_recbole.errors import RunFolderError, first_line

WEIGHTS, EXTRA = MODEL_WEIGHTS, "model.json"


def save(model: Any, folder: Path) -> None:
    """Writes a trained RecBole model.

    Raises:
        RunFolderError: it cannot be written, or has state of a kind that is not supported.
    """
    tensors = {
        f"state.{name}": tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()
    }
    extra: dict[str, Any] = {}
    for name, value in (model.other_parameter() or {}).items():
        if isinstance(value, torch.nn.Module) and any(value is part for part in model.modules()):
            continue  # a part of the model (SASRecF's feature layer): its weights are in the state already
        extra[name] = _pack(name, value, tensors)
    with unwritable(f"The model cannot be written to {folder}"):
        if isinstance(getattr(model, "backbone", None), Backbone):
            model.backbone.save(folder / BACKBONE)
        write_tensors(folder / WEIGHTS, tensors)
        write_json(folder / EXTRA, extra)


def restore(model: Any, folder: Path) -> None:
    """Brings a new RecBole model into the saved state.

    Raises:
        RunFolderError: a file is missing, damaged, or of another model.
    """
    weights, _ = read_tensors(folder / WEIGHTS, "Run the training again.")
    try:
        tensors = {name: tensor.to(model.device) for name, tensor in weights.items()}
        extra = json.loads((folder / EXTRA).read_text(encoding="utf-8"))
        model.load_state_dict(
            {name.removeprefix("state."): t for name, t in tensors.items() if name.startswith("state.")}
        )
        if extra:
            model.load_other_parameter({name: _unpack(name, kind, tensors) for name, kind in extra.items()})
    except Exception as error:
        raise RunFolderError(
            f"The model in {folder} cannot be restored: {first_line(error)}. Run the training again."
        ) from error


def _pack(name: str, value: Any, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    key = f"other.{name}"
    if isinstance(value, torch.Tensor):
        tensors[key] = value.detach().cpu().contiguous().clone()
        return {"kind": "tensor"}
    if isinstance(value, np.ndarray) and value.dtype != object:
        tensors[key] = torch.from_numpy(np.ascontiguousarray(value))
        return {"kind": "array"}
    if sparse.issparse(value):
        matrix = value.tocsr()
        for part in ("data", "indices", "indptr"):
            tensors[f"{key}.{part}"] = torch.from_numpy(np.ascontiguousarray(getattr(matrix, part)))
        return {"kind": "sparse", "format": value.format, "shape": list(matrix.shape)}
    if isinstance(value, Mapping):  # RippleNet: user -> for each hop, a tuple of `[M]` tensors of one size
        tensors[f"{key}.names"] = torch.tensor(list(value), dtype=torch.int64)
        hops = [torch.stack([torch.stack(list(hop)) for hop in user]) for user in value.values()]
        tensors[key] = torch.stack(hops).cpu().contiguous()
        return {"kind": "hops"}
    if value is None or isinstance(value, (bool, int, float, str)):
        return {"kind": "plain", "value": value}
    raise RunFolderError(
        f"The model keeps `{name}` of type {type(value).__name__}, which cannot be saved without pickle."
    )


def _unpack(name: str, kind: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Any:
    key = f"other.{name}"
    if kind["kind"] == "tensor":
        return tensors[key]
    if kind["kind"] == "array":
        return tensors[key].cpu().numpy()
    if kind["kind"] == "hops":
        names = tensors[f"{key}.names"].tolist()
        return {name: [tuple(hop) for hop in hops] for name, hops in zip(names, tensors[key], strict=True)}
    if kind["kind"] == "sparse":
        parts = tuple(tensors[f"{key}.{part}"].cpu().numpy() for part in ("data", "indices", "indptr"))
        return sparse.csr_matrix(parts, shape=tuple(kind["shape"])).asformat(kind["format"])
    return kind["value"]
