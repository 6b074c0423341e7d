"""SASRec whose items are vectors of their texts, through a small adapter; their ids may be learned beside them, or alone.

W.-C. Kang and J. McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018, with item vectors of a language model as in Y. Hou et al.,
"Towards Universal Sequence Representation Learning for Recommender Systems" (UniSRec), KDD 2022. Differences: docs/rivals.md.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from recbole.model.layers import TransformerEncoder
from torch import Tensor, nn

from rporec_recbole.rivals.recommender import WindowRecommender
from rporec_recbole.rivals.text_vectors import kept, text_vectors

_EPSILON = 1e-12
_VECTORS = "text_vectors"


class TextSASRec(WindowRecommender):
    """Settings: properties/model/TextSASRec.yaml.

    Args:
        config: RecBole's Config.
        dataset: RecBole's data set of the training.
    """

    text_vectors: Tensor  # [N, D]

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        width, dropout = int(config["hidden_size"]), float(config["dropout_prob"])
        items_from = config["items_from"]
        self.item_embedding = nn.Embedding(self.n_items, width, padding_idx=0) if items_from != "text" else None
        self.adapter = None
        self.register_buffer(_VECTORS, None)
        if items_from != "ids":
            vectors = kept(config, _VECTORS)
            self.text_vectors = text_vectors(config, dataset) if vectors is None else vectors
            inner = (int(config["adapter_size"]), width)
            self.adapter = nn.Sequential(nn.Linear(self.text_vectors.shape[1], inner[0]), nn.GELU(), nn.Linear(*inner))
        self.position_embedding = nn.Embedding(int(self.max_seq_length), width)
        self.norm, self.dropout = nn.LayerNorm(width, eps=_EPSILON), nn.Dropout(dropout)
        self.encoder = TransformerEncoder(
            n_layers=int(config["n_layers"]),
            n_heads=int(config["n_heads"]),
            hidden_size=width,
            inner_size=int(config["inner_size"]),
            hidden_dropout_prob=dropout,
            attn_dropout_prob=dropout,
            hidden_act="gelu",
            layer_norm_eps=_EPSILON,
        )
        for part in (self.item_embedding, self.position_embedding, self.encoder):
            if part is not None:
                part.apply(_as_sasrec)

    def states(self, items: Tensor, clock: Tensor | None) -> Tensor:
        """As `WindowRecommender.states`; times are not read."""
        x = F.embedding(items, self.item_vectors()) + self.position_embedding.weight[: items.shape[1]]
        return self.encoder(self.dropout(self.norm(x)), self.get_attention_mask(items))[-1]

    def item_vectors(self) -> Tensor:
        """`[N, H]`: of ids, of texts, or the sum of both."""
        ids = None if self.item_embedding is None else self.item_embedding.weight
        if self.adapter is None:
            assert ids is not None
            return ids
        texts = self.adapter(self.text_vectors)
        return texts if ids is None else ids + texts


def _as_sasrec(module: nn.Module) -> None:
    """First weights as RecBole's SASRec has them."""
    if isinstance(module, (nn.Linear, nn.Embedding)):
        module.weight.data.normal_(std=0.02)
    if isinstance(module, nn.Linear):
        torch.nn.init.zeros_(module.bias)
