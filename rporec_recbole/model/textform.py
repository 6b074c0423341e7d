"""In which form a text head reads: each choice for itself. The defaults are ours; what the paper's release has is named beside them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TextForm:
    """The choices, under the names of their settings.

    Attributes:
        text_base: what the user vector begins with: `history`, or `answer` (the release): the answer's vector where it is
            well-formed.
        gate_limit: the most that the gate lets through (the release: 0.1).
        gate_layers: linear layers of the gate (the release: 3).
        reasoning_map: `learned`, or `none` (the release): nothing stands between Transformer and gate.
        mixing: `prenorm`, or `postnorm` (the release).
        mixing_reads: `history`, or `last` (the release).
        item_vectors: `mapped`, or `raw` (the release).
        malformed_texts: `ignored`, or `read` (the release).
    """

    text_base: str = "history"
    gate_limit: float = 1.0
    gate_layers: int = 1
    reasoning_map: str = "learned"
    mixing: str = "prenorm"
    mixing_reads: str = "history"
    item_vectors: str = "mapped"
    malformed_texts: str = "ignored"
