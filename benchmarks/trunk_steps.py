"""Training steps of the trunk over synthetic histories, for the benchmarks that grow the catalogue."""

from __future__ import annotations

from time import perf_counter

DIMENSION, BATCH, LENGTH = 64, 128, 50


def timed_steps(items: int, exact: bool) -> tuple[list[float], list[float]]:
    """Seconds and loss of each of four training steps at 128 x 50 positions; the first step warms up.

    Args:
        items: of the catalogue, the padding item included.
        exact: the full softmax instead of the sampled one, each with the default settings' limits.
    """
    import torch

    from rporec_recbole.model.fusedhead import FusedHead
    from rporec_recbole.model.losses import recommendation_loss, sampled_recommendation_loss
    from rporec_recbole.model.rechead import distinct
    from rporec_recbole.settings.reader import default_settings

    limits = default_settings().head
    loss_of = recommendation_loss if exact else sampled_recommendation_loss
    most = limits.logit_budget if exact else limits.sampled_negatives
    torch.manual_seed(0)
    head = FusedHead(
        items, None, hidden_size=DIMENSION, layers=2, heads=2, inner_size=4 * DIMENSION, dropout=0.2,
        initializer_range=0.02, history_bias=True,
    )  # fmt: skip
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3)
    rows, steps = torch.arange(BATCH).repeat_interleave(LENGTH), torch.arange(LENGTH).repeat(BATCH)
    seconds, losses = [], []
    for _ in range(4):
        histories, targets = (torch.randint(1, items, (BATCH, LENGTH)) for _ in range(2))
        start = perf_counter()
        vectors = head.item_vectors()
        users = head.states(histories, vectors).flatten(0, 1)
        offset = head.history_offset(users)
        loss = loss_of(users, vectors, targets.flatten(), distinct(histories), rows, steps, offset, most)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds.append(perf_counter() - start)
        losses.append(loss.item())
    return seconds, losses
