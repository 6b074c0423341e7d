"""Which head a run's settings ask for."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor

from rporec_recbole.model.encoder import TextEncoder
from rporec_recbole.model.fusedhead import FusedHead
from rporec_recbole.model.history_text import HistoryText
from rporec_recbole.model.rechead import RecHead
from rporec_recbole.model.sentences import SentenceEncoder
from rporec_recbole.model.textform import TextForm
from rporec_recbole.model.texthead import TextHead
from rporec_recbole.model.texttowers import TextTowers
from rporec_recbole.settings.types import Settings
from rporec_recbole.text.catalogue import Catalogue
from rporec_recbole.text.prompts import PromptTemplate


def new_head(
    settings: Settings, n_items: int, item_text: Tensor | None, catalogue: Catalogue | None, encoder: TextEncoder | None
) -> RecHead:
    """A head that has learned nothing.

    Args:
        settings: of the run.
        n_items: N, padding item 0 included.
        item_text: `[N, D]`, or None for a head of ids only.
        catalogue: of the items; a text head needs it, and the encoder.
        encoder: of all texts.

    Raises:
        ConfigError: sizes do not fit.
    """
    head = settings.head
    sizes: dict[str, Any] = {
        "hidden_size": head.hidden_size,
        "layers": head.n_layers,
        "heads": head.n_heads,
        "inner_size": head.inner_size,
        "dropout": head.dropout,
        "initializer_range": head.initializer_range,
        "history_bias": head.history_bias,
        "hears_answers": settings.fusion.fusion_hears_answers,
    }
    if head.rechead == "fused":
        shown = settings.text.prompt_items if settings.fusion.fusion_reads_history else 0
        return FusedHead(
            n_items, item_text, id_dropout=head.id_dropout, history_items=shown, time_buckets=head.time_buckets, **sizes
        )
    assert item_text is not None, "settings refuse a text head without item text"
    assert encoder is not None, "a text head needs an encoder"
    form = TextForm(**{field.name: getattr(head, field.name) for field in dataclasses.fields(TextForm)})
    towers = None
    if head.head_encoder == "trained":
        assert isinstance(encoder, SentenceEncoder), "settings refuse copies of lsa"
        towers = TextTowers(encoder.trainable, encoder.size)
    return TextHead(item_text, history_text(settings, catalogue, encoder), form=form, towers=towers, **sizes)


def history_text(settings: Settings, catalogue: Catalogue | None, encoder: TextEncoder | None) -> HistoryText:
    """What a text head reads of histories."""
    assert encoder is not None, "a text head needs an encoder"
    assert catalogue is not None, "a text head needs item text"
    shown, render = settings.text.prompt_items, None
    if settings.text.history_text == "prompt":
        render = PromptTemplate(catalogue, shown, settings.backbone.prompt_style).prompt
    return HistoryText(encoder, catalogue.lines, shown, render)
