"""Parts of the reward that say how well the frozen head ranks the true next item. Ranks are the evaluation's."""

from __future__ import annotations

import torch
from torch import Tensor

from rporec_recbole.evaluation.ranking import ndcg_at, reciprocal_rank_at
from rporec_recbole.rewards.record import RewardRecord


def ndcg(record: RewardRecord) -> Tensor:
    """NDCG@k over the full catalogue, `[B]` in [0, 1]: `1 / log2(rank + 1)` if `rank <= k`, else 0.

    With one relevant item the ideal DCG is 1. K. Järvelin and J. Kekäläinen, ACM TOIS 20(4), 2002.
    """
    return ndcg_at(record.ranks, record.k)


def probability(record: RewardRecord) -> Tensor:
    """Softmax probability of the target over the full catalogue, `[B]` in [0, 1]: `exp(s_t) / sum_i exp(s_i)`.

    Tells apart completions that leave the target on the same rank; ours.
    """
    return torch.softmax(record.scores.double(), dim=1).gather(1, record.targets[:, None]).squeeze(1)


def reciprocal_rank(record: RewardRecord) -> Tensor:
    """`1 / rank` if `rank <= k`, else 0, `[B]` in [0, 1].

    The mean of it is MRR@k. E. Voorhees, "The TREC-8 Question Answering Track Report", 1999.
    """
    return reciprocal_rank_at(record.ranks, record.k)
