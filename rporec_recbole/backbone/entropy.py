"""How uncertain the policy was at each token of its reasoning.

A rollout knows the log-probability of the tokens that it drew, and no more. The entropy needs the whole distribution, so
one forward pass over the finished completions makes it, and only if somebody asks: it works with any engine that wrote them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from rporec_recbole.backbone.losses import IGNORE
from rporec_recbole.backbone.model import Backbone
from rporec_recbole.text.completions import THINK, THINK_END

_LOGITS_AT_ONCE = 1 << 26  # 256 MB in float32


@torch.no_grad()
def cot_entropies(
    backbone: Backbone, prompts: Sequence[str], completions: Sequence[Sequence[int]], temperature: float = 1.0
) -> list[Tensor]:
    """Entropy of the next-token distribution, in nats, at every token of each cot.

    `H_t = -sum_v p_t(v) log p_t(v)` with `p_t = softmax(logits_t / temperature)`.

    Args:
        backbone: the policy; it stays as it is.
        prompts: B texts.
        completions: B lists of tokens, as written.
        temperature: of the rollout.

    Returns:
        B float32 tensors on the CPU, one number for each token that starts inside `<think>`; empty without a closed one.
    """
    found = [torch.zeros(0)] * len(completions)
    spans = [cot_span(backbone, tokens) for tokens in completions]
    rows = [i for i, (start, stop) in enumerate(spans) if stop > start]
    if not rows:
        return found
    read = dict(zip(rows, backbone.prompts.encode([prompts[i] for i in rows]), strict=True))
    longest = max(len(completions[i]) for i in rows) + 1
    at_once = max(1, _LOGITS_AT_ONCE // (longest * backbone.model.config.get_text_config().vocab_size))
    was_training = backbone.model.training
    backbone.model.eval()
    try:
        for part in (rows[i : i + at_once] for i in range(0, len(rows), at_once)):
            batch = backbone.collate(
                [(read[i] + list(completions[i]), [IGNORE] * len(read[i]) + list(completions[i])) for i in part]
            )
            logits = backbone.logits(batch)
            for row, i in enumerate(part):
                start, stop = spans[i]
                # Completions end together, and the logits in front of a token are the ones that it was drawn from.
                first = logits.shape[1] - len(completions[i]) - 1
                logp = torch.log_softmax(logits[row, first + start : first + stop].float() / temperature, dim=-1)
                found[i] = torch.special.entr(logp.exp()).sum(dim=-1).cpu()
    finally:
        backbone.model.train(was_training)
    return found


def cot_span(backbone: Backbone, tokens: Sequence[int]) -> tuple[int, int]:
    """The tokens `[start, stop)` that start inside `<think>...</think>`; (0, 0) if it is not there or not closed.

    The tags are plain ASCII, so they can be found in tokens that are decoded one by one, even where a character of the text
    is spread over several of them.
    """
    pieces = backbone.tokenizer.batch_decode([[token] for token in tokens])
    text = "".join(pieces)
    opened = text.find(THINK)
    closed = text.find(THINK_END, opened)
    if opened < 0 or closed < 0:
        return 0, 0
    begins = list(itertools.accumulate(map(len, pieces), initial=0))[:-1]
    inside = [i for i, at in enumerate(begins) if opened + len(THINK) <= at < closed]
    return (inside[0], inside[-1] + 1) if inside else (0, 0)
