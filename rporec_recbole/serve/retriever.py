"""The head's own ranking of the best items, from all scores or with an index of the items.

Letters in shapes: B users, T items of the history, N items (0 is padding), H hidden size, K items wanted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from rporec_recbole.errors import RunFolderError
from rporec_recbole.evaluation.ranking import top_of
from rporec_recbole.model.answers import BEST
from rporec_recbole.model.rechead import distinct, in_rows, score_items
from rporec_recbole.serve.index import ItemIndex


class Heard(NamedTuple):
    """What answers add to the scores of the items that they name.

    Attributes:
        items: `[B, P]` item ids, 0 for none; an item may stand several times.
        added: their scores without it, `[B, P]`, and the best scores of each row, `[B, M]`, to what is added, `[B, P]`
            (`RecHead.heard`).
    """

    items: Tensor
    added: Callable[[Tensor, Tensor], Tensor]


class Retriever:
    """The head's own ranking: `u . e_i + b(s) [i in history]` and what answers add, best items of each row.

    With an index, only what the index names and the history are scored, with the exact product: values are the head's whatever
    the kind of the index, and an exact index gives the head's ranking (up to rounding: items whose scores differ in the last
    bit may change places).

    Args:
        items: e_i, `[N, H]`; row 0 is the padding item.
        index: made from these vectors; None scores all items.

    Raises:
        RunFolderError: the index holds another number of items, or vectors of another dimension.
    """

    def __init__(self, items: Tensor, index: ItemIndex | None = None) -> None:
        if index is not None and (index.count + 1, index.dimension) != tuple(items.shape):
            raise RunFolderError(
                f"The index holds {index.count:,} items of dimension {index.dimension}, the run has {len(items) - 1:,} of dimension "
                f"{items.shape[1]}. Make it again from this run with `rporec index RUN`."
            )
        self.items, self.index = items, index

    @torch.no_grad()
    def top(
        self,
        users: Tensor,
        seen: Tensor,
        offset: Tensor | None,
        hidden: Tensor | None,
        k: int,
        heard: Heard | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The best items of each row, best first; of equal scores the smaller id first.

        Args:
            users: u, `[B, H]`.
            seen: `[B, T]` distinct items of the history, 0 elsewhere (`rechead.distinct`).
            offset: `[B]` b(s), added to the scores of the history's items; or None.
            hidden: `[B, T']` items that are no candidates, 0 elsewhere; or None. Repeats are allowed.
            k: items per row, at least 1.
            heard: what answers add; None where there are none. With an index the named items are scored beside those that it
                names, so no score of the whole catalogue is needed.

        Returns:
            scores and item ids, `[B, K]` with `K = min(k, N - 1)`; where fewer are left to rank, `-inf` and 0 at the end.

        Raises:
            ValueError: `k` is less than 1.
        """
        if k < 1:
            raise ValueError(f"k={k} must be at least 1.")
        k = min(k, len(self.items) - 1)
        if self.index is None:
            scores = score_items(users, self.items, seen, offset)
            if heard is not None:
                best = scores.topk(min(BEST, scores.shape[1] - 1), dim=1).values
                scores.scatter_add_(1, heard.items, heard.added(scores.gather(1, heard.items), best))
            if hidden is not None:
                scores.scatter_(1, hidden, -torch.inf)  # fillers hide the padding item, which is no candidate anyway
            values, ids = top_of(scores, k)
        else:
            # The expert looks at the best scores of all items, hidden ones too, so they leave after it has been heard.
            ids = self._candidates(self.index, users, seen, hidden, max(k, BEST) if heard else k, heard)
            scores = torch.einsum("bh,bch->bc", users, self.items[ids])
            if offset is not None:
                scores = scores + offset[:, None] * in_rows(ids, seen)
            scores = scores.masked_fill(ids == 0, -torch.inf)
            if heard is not None:
                best = scores.topk(min(BEST, scores.shape[1]), dim=1).values
                places = torch.searchsorted(ids, heard.items).clamp(max=ids.shape[1] - 1)
                scores = scores.scatter_add(1, places, heard.added(scores.gather(1, places), best))
                if hidden is not None:
                    scores = scores.masked_fill(in_rows(ids, hidden), -torch.inf)
            values, places = top_of(scores, k)
            ids = ids.gather(1, places)
        return values, ids.masked_fill(values == -torch.inf, 0)

    def _candidates(
        self, index: ItemIndex, users: Tensor, seen: Tensor, hidden: Tensor | None, k: int, heard: Heard | None
    ) -> Tensor:
        """Items of which some are the best `k`, `[B, C]`, by ascending id; 0 for none. No item stands twice in a row.

        The offset only moves items of the history, and these are all here. Of the others the best `k` are among the best of
        the index once it gives as many more as the history and the hidden items can take away.
        """
        taken = seen if hidden is None else torch.cat([seen, hidden], dim=1)
        more = int((taken != 0).sum(dim=1).max()) if taken.numel() else 0
        found = torch.from_numpy(index.search(users.float().cpu().numpy(), k + more)[1]).to(seen)
        ids = torch.cat([seen, found.masked_fill(in_rows(found, seen), 0)], dim=1)
        if heard is not None:  # each of them once
            named = distinct(heard.items)
            ids = torch.cat([ids, named.masked_fill(in_rows(named, ids), 0)], dim=1)
        elif hidden is not None:
            ids = ids.masked_fill(in_rows(ids, hidden), 0)
        return ids.sort(dim=1).values
