"""Text encoders: strings to fixed-size vectors. Items, reasoning and answers share one space.

`lsa` stands here; encoders of sentence-transformers in `model/sentences.py`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize
from torch import Tensor

from rporec_recbole.data.files import read_tensors, write_tensors, write_text
from rporec_recbole.errors import RunFolderError
from rporec_recbole.model.sentences import SentenceEncoder
from rporec_recbole.model.words import LETTERS, WORD
from rporec_recbole.settings.types import TextSettings

_WORDS = {WORD: "by script", LETTERS: "by spaces"}  # as encoder.json names them; a file of before names none
_UNSEEN = 0.03  # a larger share of zero vectors is a warning
_PATTERNS = {name: pattern for pattern, name in _WORDS.items()}


class TextEncoder(Protocol):
    """What the head needs of an encoder."""

    @property
    def size(self) -> int:
        """Dimension D of the vectors."""
        ...

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """`[len(texts), D]` float32, rows of length 1 (or 0), unless the encoder keeps lengths of its own."""
        ...

    def save(self, folder: Path) -> None:
        """Writes what `load_encoder` needs into a folder."""
        ...


def make_encoder(
    source: str, texts: Sequence[str], size: int, seed: int, device: str, unit: bool = True
) -> TextEncoder:
    """The encoder that `text_encoder` names.

    Args:
        source: `lsa`, or a sentence-transformers id or folder.
        texts: the catalogue's, which `lsa` is fitted on.
        size: dimension of `lsa`; other encoders have their own.
        seed: of `lsa`.
        device: where a neural encoder runs.
        unit: vectors of a neural encoder have length 1; otherwise their own.

    Raises:
        ConfigError: the encoder cannot be loaded.
    """
    return LSAEncoder.fit(texts, size, seed) if source == "lsa" else SentenceEncoder(source, device, unit)


def load_encoder(source: str, folder: Path, device: str, unit: bool = True) -> TextEncoder:
    """What `save` wrote; arguments as `make_encoder`.

    Raises:
        RunFolderError: a file is missing or damaged.
        ConfigError: the encoder cannot be loaded.
    """
    return LSAEncoder.load(folder) if source == "lsa" else SentenceEncoder.load(source, folder, device, unit)


def unseen_texts(vectors: Tensor, what: str, settings: TextSettings) -> str | None:
    """What to say where an encoder sees nothing in more than a few of some texts; None where it sees enough.

    Args:
        vectors: `[B, D]` of the texts.
        what: names them.
        settings: name the encoder.
    """
    share = float((vectors == 0).all(dim=1).float().mean()) if len(vectors) else 0.0
    if share <= _UNSEEN:
        return None
    return (
        f"{share:.0%} of the {what} are zero vectors and say nothing to the head: `text_encoder={settings.text_encoder}` knows none of their "
        "words. lsa knows words of the item texts alone; a sentence encoder knows others (--text_encoder=ID or FOLDER)."
    )


class LSAEncoder:
    """TF-IDF over words and word pairs, then truncated SVD to unit vectors (latent semantic analysis).

    S. Deerwester et al., "Indexing by Latent Semantic Analysis", JASIS 41(6), 1990. Needs no download; fitted on the
    catalogue, so a text without any catalogue word becomes the zero vector.

    Args:
        vocabulary: term -> column.
        idf: `[terms]` inverse document frequencies.
        components: `[D, terms]` right singular vectors.
        word: pattern of a word (`model.words`).
    """

    def __init__(self, vocabulary: dict[str, int], idf: np.ndarray, components: np.ndarray, word: str = WORD) -> None:
        self._tfidf = TfidfVectorizer(vocabulary=vocabulary, ngram_range=(1, 2), sublinear_tf=True, token_pattern=word)
        self._tfidf.idf_ = idf.astype(np.float64)
        self.components = components.astype(np.float32)

    @classmethod
    def fit(cls, texts: Sequence[str], size: int, seed: int) -> LSAEncoder:
        """Fits on the catalogue's texts.

        Args:
            texts: one per item.
            size: wanted dimension; a small catalogue gives fewer, the rest of the vector is zero.
            seed: seed of the randomized SVD.
        """
        tfidf = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=WORD, max_features=50_000)
        matrix = tfidf.fit_transform(texts)
        rank = max(1, min(size, min(matrix.shape) - 1))
        svd = TruncatedSVD(rank, random_state=seed).fit(matrix)
        components = np.zeros((size, matrix.shape[1]), dtype=np.float32)
        components[:rank] = svd.components_
        vocabulary = {term: int(column) for term, column in tfidf.vocabulary_.items()}
        return cls(vocabulary, tfidf.idf_, components)

    @property
    def size(self) -> int:
        """Dimension D of the vectors."""
        return len(self.components)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """`[len(texts), D]` float32; rows have length 1, or 0 where no known word stands."""
        if not len(texts):
            return np.zeros((0, self.size), dtype=np.float32)
        vectors = self._tfidf.transform(texts) @ self.components.T
        return normalize(np.asarray(vectors, dtype=np.float32))

    def save(self, folder: Path) -> None:
        """Writes `encoder.json` (terms) and `encoder.safetensors` (numbers) into a folder."""
        vocabulary = self._tfidf.vocabulary
        terms = sorted(vocabulary, key=vocabulary.__getitem__)
        write_text(
            folder / "encoder.json",
            json.dumps(
                {"encoder": "lsa", "words": _WORDS[self._tfidf.token_pattern], "terms": terms}, ensure_ascii=False
            ),
        )
        numbers = {"idf": self._tfidf.idf_, "components": self.components}
        write_tensors(folder / "encoder.safetensors", {name: torch.from_numpy(own) for name, own in numbers.items()})

    @classmethod
    def load(cls, folder: Path) -> LSAEncoder:
        """Reads what `save` wrote.

        Raises:
            RunFolderError: a file is missing or damaged.
        """
        numbers, _ = read_tensors(folder / "encoder.safetensors", "Run the training again.")
        try:
            written = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
            vocabulary = {term: i for i, term in enumerate(written["terms"])}
            word = _PATTERNS[written.get("words", _WORDS[LETTERS])]
            return cls(vocabulary, numbers["idf"].numpy(), numbers["components"].numpy(), word)
        except Exception as error:
            raise RunFolderError(
                f"The text encoder in {folder} cannot be restored ({error}). Run the training again."
            ) from error
