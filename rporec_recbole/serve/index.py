"""An index of item vectors that finds the largest inner products, with faiss.

items-HASH.faiss  the index, in faiss's own format
index.json        format, kind, options, dimension, count, and hashes of the file and of what the vectors came from

The heads score with the plain product `u . e_i`: no cosine, no temperature. So the metric is the inner product, on vectors as
they are; vectors of length 1 or a scale on all scores would give another ranking, or the same one at a price.

Needs the extra `[serve]`. Letters in shapes: B users, N items (0 is padding), H hidden size, K items wanted.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rporec_recbole.data.files import unwritable, write_json
from rporec_recbole.errors import ConfigError, RunFolderError, first_line
from rporec_recbole.serve.index_options import check_fits, check_options

_POINTS = 64  # of each list, to find its centre: a fourth of faiss's own number, for a fourth of the time
DESCRIPTION, _FORMAT = "index.json", 1


class ItemIndex:
    """Finds the items with the largest `u . e_i`. Made by `build` or `load`.

    Attributes:
        kind: `exact`, `hnsw` or `ivfpq`.
        options: all options of the kind.
        vectors_hash: what the vectors came from.
    """

    def __init__(self, index: Any, kind: str, options: Mapping[str, int], vectors_hash: str) -> None:
        self.kind, self.options, self.vectors_hash = kind, dict(options), vectors_hash
        self._index = index
        if kind == "hnsw":
            index.hnsw.efSearch = options["hnsw_search"]
        elif kind == "ivfpq":
            index.nprobe = options["ivf_probes"]

    @property
    def dimension(self) -> int:
        """H."""
        return int(self._index.d)

    @property
    def count(self) -> int:
        """How many items can be found: N - 1."""
        return int(self._index.ntotal)

    @classmethod
    def build(
        cls,
        vectors: np.ndarray,
        kind: str = "exact",
        options: Mapping[str, Any] | None = None,
        vectors_hash: str | None = None,
    ) -> ItemIndex:
        """An index of item vectors.

        Args:
            vectors: `[N, H]`; row 0 is the padding item, which is never found.
            kind: `exact`, `hnsw` (a graph) or `ivfpq` (lists of short codes).
            options: of the kind (`index_options`); what is not given has its default.
            vectors_hash: names what the vectors came from; None takes `hash_of` the vectors.

        Raises:
            ConfigError: kind or options do not exist or do not fit the vectors; or faiss is not installed.
        """
        chosen = check_options(kind, options or {})
        faiss = _faiss()
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if vectors.ndim != 2 or len(vectors) < 2:
            raise ConfigError(
                f"Item vectors of the shape {list(vectors.shape)} hold no item. Give [N, H] with at least one item beside the padding "
                "in row 0."
            )
        if not np.isfinite(vectors[1:]).all():
            raise ConfigError("Some item vectors are no finite numbers, so they have no ranking. Train the run again.")
        count, dimension = len(vectors) - 1, vectors.shape[1]
        if kind == "exact":
            index = faiss.IndexFlatIP(dimension)
        elif kind == "hnsw":
            index = faiss.IndexHNSWFlat(dimension, chosen["hnsw_neighbours"], faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = chosen["hnsw_build"]
        else:
            check_fits(chosen, count, dimension)
            index = faiss.IndexIVFPQ(
                faiss.IndexFlatIP(dimension),
                dimension,
                *(chosen[name] for name in ("ivf_lists", "pq_parts", "pq_bits")),
                faiss.METRIC_INNER_PRODUCT,
            )
            index.cp.max_points_per_centroid = _POINTS
            index.train(vectors[1:])
        index.add(vectors[1:])
        return cls(index, kind, chosen, vectors_hash or hash_of(vectors))

    def search(self, users: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The items with the largest inner products, best first.

        `ivfpq` knows vectors by their codes, so its values are near the inner products, not equal to them.

        Args:
            users: `[B, H]`.
            k: items per user, at least 1.

        Returns:
            values and item ids, `[B, K]` with `K = min(k, count)`; where the index finds fewer, `-inf` and 0 at the end.

        Raises:
            ValueError: users have another dimension, or `k` is less than 1.
        """
        users = np.ascontiguousarray(users, dtype=np.float32)
        if users.ndim != 2 or users.shape[1] != self.dimension or k < 1:
            raise ValueError(
                f"users of the shape {list(users.shape)}, k={k}: [B, {self.dimension}] and at least 1 are needed."
            )
        values, places = self._index.search(users, min(k, self.count))
        return np.where(places < 0, np.float32(-np.inf), values), places + 1

    def save(self, folder: str | Path) -> None:
        """Writes the index; an older one in the folder is replaced when the new one is complete.

        Args:
            folder: made if missing.

        Raises:
            RunFolderError: it cannot be written.
        """
        folder = Path(folder)
        with unwritable(f"The index cannot be written to {folder}", "--output", RuntimeError):  # faiss raises the last
            folder.mkdir(parents=True, exist_ok=True)
            content = self._write(folder)
            about = {
                "format": _FORMAT,
                "kind": self.kind,
                "options": self.options,
                "dimension": self.dimension,
                "count": self.count,
                "vectors": self.vectors_hash,
                "file": content,
            }
            write_json(folder / DESCRIPTION, about)  # from here on the new file is the index
            for old in set(folder.glob("items-*.faiss")) - {folder / _file(content)}:
                old.unlink()

    def _write(self, folder: Path) -> str:
        """Writes the index under a name that its content gives; the hash of the content."""
        growing = folder / f"items.{os.getpid()}.writing"
        try:
            _faiss().write_index(self._index, str(growing))
            content = _hash_of_file(growing)
            os.replace(growing, folder / _file(content))
        finally:
            growing.unlink(missing_ok=True)
        return content

    @classmethod
    def load(cls, folder: str | Path, vectors_hash: str | None = None) -> ItemIndex:
        """What `save` wrote.

        Args:
            folder: of the index.
            vectors_hash: what the vectors must have come from; None takes any.

        Raises:
            RunFolderError: there is no index, it is damaged, of another version, or made from other vectors.
            ConfigError: faiss is not installed.
        """
        folder = Path(folder)
        again = "Make it again with `rporec index RUN`."
        try:
            about = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        except OSError as error:
            raise RunFolderError(f"{folder} holds no index: {error}. {again}") from error
        except ValueError as error:
            raise RunFolderError(f"{folder / DESCRIPTION} is damaged: {error}. {again}") from error
        found = about.get("format") if isinstance(about, dict) else None
        if found != _FORMAT:
            raise RunFolderError(
                f"{folder / DESCRIPTION} has the format {found}, this version reads format {_FORMAT}. {again}"
            )
        try:
            kind, made_from, content = (str(about[name]) for name in ("kind", "vectors", "file"))
            options = check_options(kind, dict(about["options"]))
            shape = int(about["count"]), int(about["dimension"])
        except (KeyError, TypeError, ValueError) as error:
            raise RunFolderError(f"{folder / DESCRIPTION} is damaged: {first_line(error)}. {again}") from error
        if vectors_hash is not None and vectors_hash != made_from:
            raise RunFolderError(
                f"The index in {folder} was made from other item vectors (hash {made_from[:12]}, here {vectors_hash[:12]}): from another "
                f"run, or before this one was trained again. {again}"
            )
        faiss = _faiss()
        path = folder / _file(content)
        try:
            if _hash_of_file(path) != content:  # before faiss reads it: its reader trusts the numbers in a file
                raise RuntimeError("its content has changed since it was written")
            index = cls(faiss.read_index(str(path)), kind, options, made_from)
            if (index.count, index.dimension) != shape:
                raise RuntimeError(
                    f"it holds {index.count} items of dimension {index.dimension}, {DESCRIPTION} says {shape}"
                )
        except (OSError, RuntimeError, AttributeError) as error:
            raise RunFolderError(f"{path} is damaged or missing: {first_line(error)}. {again}") from error
        return index


def hash_of(vectors: np.ndarray) -> str:
    """SHA-256 of item vectors, `[N, H]`, and their shape. Vectors that differ in the last bit have another one."""
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    return hashlib.sha256(str(vectors.shape).encode() + vectors.tobytes()).hexdigest()


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise ConfigError(
            f'An index of items needs faiss ({error}). Install it with: pip install "rporec_recbole[serve]"'
        ) from error
    return faiss


def _file(content: str) -> str:
    return f"items-{content[:12]}.faiss"


def _hash_of_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
