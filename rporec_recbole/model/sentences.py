"""Text encoder from sentence-transformers: any hub id or local folder. Needs the extra `encoders`."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from rporec_recbole.data.files import write_text
from rporec_recbole.errors import ConfigError, RunFolderError, first_line
from rporec_recbole.settings.bars import watched

_FILE, _PROBE = "encoder.json", "A user who liked quiet films about the sea."
_KEPT_TEXTS = 50_000


class SentenceEncoder:
    """Vectors of a sentence-transformers model (Reimers and Gurevych, "Sentence-BERT", EMNLP 2019).

    Args:
        source: hub id or folder. Code from the hub is never run.
        device: where the model runs, such as `cpu`.
        unit: vectors have length 1; otherwise the length that the model gives them.

    Raises:
        ConfigError: the package is missing or the model cannot be loaded.
    """

    def __init__(self, source: str, device: str, unit: bool = True) -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise ConfigError(
                f'`text_encoder={source}` needs sentence-transformers: pip install "rporec_recbole[encoders]", or use `lsa`.'
            ) from error
        try:
            alone = Path(source).exists() or not _hub_answers()
            self._model: Any = SentenceTransformer(
                source, device=device, trust_remote_code=False, local_files_only=alone
            )
        except Exception as error:  # transformers and the hub raise many kinds; the user needs one message
            reason = first_line(error)
            raise ConfigError(
                f"`text_encoder={source}` cannot be loaded: {reason}. Give `lsa`, a sentence-transformers folder, or a hub "
                "id that is downloaded already or reachable."
            ) from error
        self.source, self._unit = source, unit
        self._vectors: dict[str, np.ndarray] = {}
        self.size = len(self._model.encode(_PROBE, show_progress_bar=False))

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """`[len(texts), D]` float32, 0 for a blank text. Known texts are not encoded again."""
        if not len(texts):
            return np.zeros((0, self.size), dtype=np.float32)
        wanted = [text for text in dict.fromkeys(texts) if text.strip()]
        missing = [text for text in wanted if text not in self._vectors]
        if len(self._vectors) + len(missing) > _KEPT_TEXTS:
            self._vectors, missing = {}, wanted
        if missing:
            made = self._model.encode(
                missing, normalize_embeddings=self._unit, show_progress_bar=len(missing) > 2000 and watched()
            )
            self._vectors.update(zip(missing, np.asarray(made, dtype=np.float32), strict=True))
        blank = np.zeros(self.size, dtype=np.float32)
        return np.stack([self._vectors.get(text, blank) for text in texts])

    def trainable(self) -> nn.Module:
        """A copy of the model that can be trained: texts to `[B, D]`, of the length that the model gives them."""
        return _Trainable(copy.deepcopy(self._model))

    def save(self, folder: Path) -> None:
        """Writes `encoder.json`: the model's name, for people, and what it makes of one sentence. The weights stay where they are."""
        probe = [float(value) for value in self.encode([_PROBE])[0]]
        kept = {"encoder": "sentence-transformers", "source": self.source, "probe": probe}
        write_text(folder / _FILE, json.dumps(kept))

    @classmethod
    def load(cls, source: str, folder: Path, device: str, unit: bool = True) -> SentenceEncoder:
        """The encoder that `save` described, wherever it lies now.

        Args:
            source: hub id or folder.
            folder: that `save` wrote to.
            device: where it runs.
            unit: as when it was saved.

        Raises:
            ConfigError: its model cannot be loaded.
            RunFolderError: the file is damaged, or the model makes other vectors now.
        """
        try:
            kept = json.loads((folder / _FILE).read_text(encoding="utf-8"))
            probe = np.asarray(kept["probe"], dtype=np.float32)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunFolderError(f"{folder / _FILE} cannot be read ({error}). Run the training again.") from error
        encoder = cls(source, device, unit)
        found = encoder.encode([_PROBE])[0]
        if found.shape != probe.shape or not np.allclose(found, probe, atol=1e-2):
            raise RunFolderError(
                f"The text encoder `{source}` makes other vectors than when this run was trained, so the head cannot read "
                "them. Restore the model that was there, name it with --text_encoder=FOLDER_OR_ID, or train again."
            )
        return encoder


class _Trainable(nn.Module):
    """Texts to `[B, D]`, with a gradient."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model.requires_grad_(True)

    def forward(self, texts: Sequence[str]) -> Tensor:
        features = self.model.preprocess(list(texts))
        device = next(self.model.parameters()).device
        on_device = {name: one.to(device) if isinstance(one, Tensor) else one for name, one in features.items()}
        return self.model(on_device)["sentence_embedding"]


def _hub_answers() -> bool:
    """Without a network each file of a model would be asked for six times, for half a minute, also where all are here already."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=5)
    except Exception:  # of whichever library the session is made
        return False
    return True
