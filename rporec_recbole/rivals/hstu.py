"""HSTU: pointwise attention with a gate and a bias by position and time, in the place of SASRec's softmax.

J. Zhai et al., ICML 2024 (arXiv 2402.17152). What differs from the paper and its code: docs/rivals.md.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rporec_recbole.data.clock import history_times
from rporec_recbole.model.clock import time_buckets
from rporec_recbole.rivals.recommender import WindowRecommender
from rporec_recbole.rivals.stu import TransductionUnit


class HSTU(WindowRecommender):
    """Settings: properties/model/HSTU.yaml.

    Args:
        config: RecBole's Config.
        dataset: RecBole's data set of the training.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        width, length = int(config["hidden_size"]), int(self.max_seq_length)
        self.temperature = float(config["temperature"])
        self.times = history_times(dataset, int(config["time_buckets"]))
        self.buckets = 0 if self.times is None else int(config["time_buckets"])
        self.item_embedding = nn.Embedding(self.n_items, width, padding_idx=0)
        self.position_embedding = nn.Embedding(length, width)
        self.dropout = nn.Dropout(float(config["dropout_prob"]))
        self.units = nn.ModuleList(
            TransductionUnit(width, int(config["n_heads"]), length, self.buckets, float(config["dropout_prob"]))
            for _ in range(int(config["n_layers"]))
        )
        nn.init.trunc_normal_(self.item_embedding.weight, std=0.02)
        nn.init.trunc_normal_(self.position_embedding.weight, std=width**-0.5)
        with torch.no_grad():
            self.item_embedding.weight[0] = 0

    def states(self, items: Tensor, clock: Tensor | None) -> Tensor:
        """As `WindowRecommender.states`."""
        steps = items.shape[1]
        x = self.item_embedding(items) * self.item_embedding.embedding_dim**0.5
        x = self.dropout(x + self.position_embedding.weight[:steps])
        buckets = None if clock is None else time_buckets(clock, self.buckets)
        for unit in self.units:
            x = cast(TransductionUnit, unit)(x, buckets)
        return x

    def users(self, states: Tensor) -> Tensor:
        """Of length 1 / temperature: scores are cosines, sharpened."""
        return F.normalize(states, dim=-1) / self.temperature

    def item_vectors(self) -> Tensor:
        """Of length 1."""
        return F.normalize(self.item_embedding.weight, dim=-1)
