"""The head's losses, as pure functions: tensors in, one number out.

L = L_rec + lambda L_CoT. L_rec is softmax cross-entropy over the full catalogue, an estimate of it, or over a few
negatives; L_CoT stands in `backbone/losses.py`. Head and backbone meet in text only, so the two terms have no parameter in
common.

The three take the same arguments, in whose place one number differs, so that a caller can choose among them.
Letters in shapes: P positions, R rows, T steps, H hidden size, N items.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rporec_recbole.errors import TrainingError


def recommendation_loss(
    users: Tensor,
    items: Tensor,
    targets: Tensor,
    seen: Tensor,
    seen_rows: Tensor,
    seen_until: Tensor,
    offset: Tensor | None,
    logit_budget: int,
    candidates: Tensor | None = None,
) -> Tensor:
    """Mean cross-entropy of the targets over the full catalogue.

    The scores are those of `rechead.score_items`. They are made in chunks of at most `logit_budget` numbers, and the
    gradients are taken while a chunk is there, so memory does not grow with positions times items and nothing is
    computed twice.

    Args:
        users: `[P, H]` user vectors.
        items: `[N, H]` item vectors.
        targets: `[P]` item ids.
        seen: `[R, T]` distinct items of the input rows, 0 elsewhere (see `rechead.distinct`).
        seen_rows: `[P]` which row of `seen` is the history of each position.
        seen_until: `[P]` the history of a position is its row up to and including this step.
        offset: `[P]` offset of the history's items, or None.
        logit_budget: see above.
        candidates: `[N]` False for items to leave out; None leaves out the padding item alone.
    """
    with torch.autocast(users.device.type, enabled=False):
        return _FullSoftmax.apply(
            users.float(),
            items.float(),
            offset if offset is None else offset.float(),
            targets,
            seen,
            seen_rows,
            seen_until,
            logit_budget,
            (~_taking_part(candidates, items)).nonzero().flatten(),
        )


def _history_of(seen: Tensor, rows: Tensor, until: Tensor) -> Tensor:
    """`[P, T]` distinct items of each position's history, 0 elsewhere; arguments as in `recommendation_loss`."""
    steps = torch.arange(seen.shape[1], device=seen.device)
    return torch.where(steps <= until[:, None], seen[rows], 0)


def _taking_part(candidates: Tensor | None, items: Tensor) -> Tensor:
    """`[N]` True for the items that take part; the padding item never does."""
    part = items.new_ones(len(items), dtype=torch.bool) if candidates is None else candidates.clone()
    part[0] = False
    return part


class _FullSoftmax(torch.autograd.Function):
    """Forward computes the loss and its gradients chunk by chunk: with p = softmax(scores) and y one-hot,

    d/du = (p - y) E / P,    dE = sum (p - y)^T u / P,    db = sum over the history of (p - y) / P.
    """

    @staticmethod
    def forward(
        ctx: Any,
        users: Tensor,
        items: Tensor,
        offset: Tensor | None,
        targets: Tensor,
        seen: Tensor,
        rows: Tensor,
        until: Tensor,
        budget: int,
        left_out: Tensor,
    ) -> Tensor:
        positions, n_items = len(users), len(items)
        scale = 1.0 / max(1, positions)
        size = max(1, min(positions, budget // n_items))
        grad_users, grad_items = torch.empty_like(users), torch.zeros_like(items)
        grad_offset = None if offset is None else torch.empty_like(offset)
        buffer = users.new_empty(size, n_items)
        total = users.new_zeros((), dtype=torch.float64)
        for start in range(0, positions, size):
            part = slice(start, min(start + size, positions))
            count = part.stop - start
            logits = torch.mm(users[part], items.T, out=buffer[:count])
            # The padding item among them, which swallows the offsets of padded steps: they all point at item 0.
            logits.index_fill_(1, left_out, -torch.inf)
            history = _history_of(seen, rows[part], until[part])
            if offset is not None:
                logits.scatter_add_(1, history, offset[part, None].expand(-1, history.shape[1]))
            target = targets[part, None]
            own = logits.gather(1, target)
            peak = logits.amax(dim=1, keepdim=True)
            p = logits.sub_(peak).exp_()
            mass = p.sum(dim=1, keepdim=True)
            total += (mass.log() + peak - own).sum()
            p.mul_(scale / mass)
            p.scatter_add_(1, target, p.new_full((count, 1), -scale))
            torch.mm(p, items, out=grad_users[part])
            grad_items.addmm_(p.T, users[part])
            if grad_offset is not None:
                grad_offset[part] = (p.gather(1, history) * (history != 0)).sum(dim=1)
        ctx.save_for_backward(grad_users, grad_items, *(() if grad_offset is None else (grad_offset,)))
        return (total * scale).to(users.dtype)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        grad_users, grad_items, *rest = ctx.saved_tensors
        return (
            upstream * grad_users,
            upstream * grad_items,
            upstream * rest[0] if rest else None,
            None,
            None,
            None,
            None,
            None,
            None,
        )


def sampled_recommendation_loss(
    users: Tensor,
    items: Tensor,
    targets: Tensor,
    seen: Tensor,
    seen_rows: Tensor,
    seen_until: Tensor,
    offset: Tensor | None,
    negatives: int,
    candidates: Tensor | None = None,
) -> Tensor:
    """`recommendation_loss` with the sum over the catalogue estimated, for catalogues too large for all logits.

    Target and history items are summed exactly, which the history bias needs: a uniform draw hardly ever meets them. The
    rest of the catalogue is one stratum; each of its drawn items stands for `log(stratum size / drawn from it)` of them
    (the sampled softmax of Bengio and Senecal, 2008, with a uniform proposal). With as many negatives as items the loss
    is exactly the full one.

    Args: as in `recommendation_loss`, but for
        negatives: items drawn without replacement, shared by all positions; drawn from torch's global generator.
    """
    with torch.autocast(users.device.type, enabled=False):
        users, items = users.float(), items.float()
        rows, width = seen.shape
        pool = _taking_part(candidates, items).nonzero().flatten()
        drawn = pool[torch.randperm(len(pool))[:negatives].sort().values.to(pool.device)]
        # First step at which a row meets a drawn item; `width` if it never does.
        place = torch.searchsorted(drawn, seen).clamp_(max=len(drawn) - 1)
        met_row, met_step = ((drawn[place] == seen) & (seen != 0)).nonzero(as_tuple=True)
        met = torch.full((rows, len(drawn)), width, dtype=torch.int32, device=seen.device)
        met[met_row, place[met_row, met_step]] = met_step.int()

        history = _history_of(seen, seen_rows, seen_until)
        by_row = users.new_zeros(rows, width, users.shape[1]).index_put((seen_rows, seen_until), users)
        of_history = torch.bmm(by_row, F.embedding(seen, items).transpose(1, 2))[seen_rows, seen_until]
        of_target = (users * F.embedding(targets, items)).sum(dim=1, keepdim=True)
        repeated = (history == targets[:, None]).any(dim=1, keepdim=True)
        if offset is not None:
            of_history = of_history + offset.float()[:, None]
            of_target = of_target + torch.where(repeated, offset.float()[:, None], 0.0)
        counted = (history != 0) & (history != targets[:, None])
        of_history = of_history.masked_fill(~counted, -torch.inf)

        left_out = (met[seen_rows] <= seen_until[:, None]) | (drawn == targets[:, None])
        stratum = len(pool) - 1 - counted.sum(dim=1)
        used = (~left_out).sum(dim=1)
        weight = (stratum / used.clamp(min=1)).log()[:, None]
        of_drawn = (users @ F.embedding(drawn, items).T + weight).masked_fill(left_out, -torch.inf)
        losses = torch.cat([of_target, of_history, of_drawn], dim=1).logsumexp(dim=1) - of_target.squeeze(1)
        # A batch may hold late positions alone: its mean would be NaN, and its loss is nothing.
        return losses.sum() / max(1, len(losses))


def negatives_loss(
    users: Tensor,
    items: Tensor,
    targets: Tensor,
    seen: Tensor,
    seen_rows: Tensor,
    seen_until: Tensor,
    offset: Tensor | None,
    negatives: int,
    candidates: Tensor | None = None,
    others: Tensor | None = None,
) -> Tensor:
    """Mean cross-entropy of each target among itself and a few others: what RPORec's paper trains its head with.

    Unlike `sampled_recommendation_loss` this estimates no catalogue: a position sees its target and its own uniform draw
    (with replacement, never the target), each with its plain score.

    Args: as in `recommendation_loss`, but for
        negatives: items drawn for each position, from torch's global generator.
        candidates: targets must be among them.
        others: `[P, K]` item ids that are taken in the place of a draw; they need not be candidates.

    Raises:
        TrainingError: there is one candidate alone.
    """
    with torch.autocast(users.device.type, enabled=False):
        users, items = users.float(), items.float()
        if others is None:
            others = _drawn(_taking_part(candidates, items).nonzero().flatten(), targets, negatives)
        ids = torch.cat([targets[:, None], others], dim=1)
        scores = torch.bmm(F.embedding(ids, items), users[:, :, None]).squeeze(2)
        if offset is not None:
            history = _history_of(seen, seen_rows, seen_until)
            repeated = (history[:, :, None] == ids[:, None, :]).any(dim=1)
            scores = scores + torch.where(repeated, offset.float()[:, None], 0.0)
        return F.cross_entropy(scores, torch.zeros_like(targets), reduction="sum") / max(1, len(targets))


def _drawn(pool: Tensor, targets: Tensor, count: int) -> Tensor:
    """`[P, count]` items of a sorted pool, drawn with replacement for each target, never itself."""
    if len(pool) < 2:
        raise TrainingError("There is one item to learn from; a loss over negatives needs two.")
    numbers = torch.randint(len(pool) - 1, (len(targets), count)).to(pool.device)
    place = torch.searchsorted(pool, targets)
    return pool[numbers + (numbers >= place[:, None])]
