"""The backbone's loss: tensors in, one number out. Letters in shapes: R rows, K steps, V vocabulary."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

IGNORE = -100
"""The label of a token that is not learned."""


def cot_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean next-token cross-entropy over the completion's tokens, L_CoT.

    Args:
        logits: `[R, K, V]`; step t predicts token t + 1.
        labels: `[R, K]` token ids, `IGNORE` at the prompt and at padding.
    """
    return F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=IGNORE)
