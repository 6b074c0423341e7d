"""Answers that name an item: the model chooses among the catalogue's lines, token by token, and nothing else may follow.

At each token the probabilities are those of the tokens that the tree allows, so a token without an alternative costs nothing
and is read only if a choice comes behind it; a way is at its end where one line is left. The cache is transformers' own.

Letters in shapes: B contexts, R ways under way, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from rporec_recbole.backbone.kv_cache import layer_windows, select_rows
from rporec_recbole.backbone.prefix_tree import OPEN, Node, PrefixTree


class Way(NamedTuple):
    """A way through the tree.

    Attributes:
        node: where it has come.
        logprob: natural log-probability of its choices.
    """

    node: Node
    logprob: float


@torch.inference_mode()
def likely_leaves(
    model: Any,
    contexts: Sequence[Sequence[int]],
    tree: PrefixTree,
    width: int,
    *,
    pad: int,
    budget: int,
    closed: Sequence[np.ndarray] | None = None,
) -> list[list[Way]]:
    """The leaves of a beam search for each context, most likely first, at most `width` of them.

    Args:
        model: a transformers causal LM, in eval mode.
        contexts: tokens up to where the tree begins.
        tree: what may follow.
        width: ways that are followed at once.
        pad: padding token.
        budget: tokens that are held at once, of all ways.
        closed: rows of the tree that each context leaves out (`PrefixTree.rows_of`).
    """
    if tree.root.is_leaf:
        return [[Way(tree.root, 0.0)] for _ in contexts]
    found: list[list[Way]] = [[] for _ in contexts]
    for rows, reader, logits in _batches(model, contexts, tree, width, pad, budget):
        ended: list[list[Way]] = [[] for _ in rows]
        shut = [OPEN if closed is None else closed[row] for row in rows]
        going = [_Going(b, Way(tree.root, 0.0), [], b) for b in range(len(rows))]
        while going:
            chosen = [one for one in going if not one.unread]
            candidates: list[list[_Going]] = [[_Going(b, way, [], -1) for way in ways] for b, ways in enumerate(ended)]
            for one in going:
                if one.unread:
                    candidates[one.context].append(one)
            for one, (logp, nodes) in zip(chosen, _choices(logits, chosen, tree, shut), strict=True):
                for child in np.argsort(-logp, kind="stable")[:width].tolist():
                    way = Way(nodes[child], one.way.logprob + float(logp[child]))
                    candidates[one.context].append(one.on(way, tree))
            best = [sorted(ones, key=_order)[:width] for ones in candidates]
            ended = [[one.way for one in ones if one.way.node.is_leaf] for ones in best]
            going = [one for ones in best for one in ones if not one.way.node.is_leaf]
            if going:
                logits, going = reader.read(going)
        for row, ways in zip(rows, ended, strict=True):
            found[row] = sorted(ways, key=lambda way: (-way.logprob, way.node))
    return found


@torch.inference_mode()
def drawn_leaves(
    model: Any,
    contexts: Sequence[Sequence[int]],
    tree: PrefixTree,
    draws: Sequence[np.ndarray],
    temperature: float,
    *,
    pad: int,
    budget: int,
    closed: Sequence[np.ndarray] | None = None,
) -> list[Way]:
    """One leaf for each context, drawn token by token.

    Args:
        model: a transformers causal LM, in eval mode.
        contexts: tokens up to where the tree begins.
        tree: what may follow.
        draws: some numbers from 0 up to 1 for each context; the token at place i of a sequence takes the i-th, or the last.
        temperature: of the draws; 0 takes the most likely token. Log-probabilities are those at 1 all the same.
        pad: padding token.
        budget: tokens that are held at once.
        closed: rows of the tree that each context leaves out (`PrefixTree.rows_of`).
    """
    if tree.root.is_leaf:
        return [Way(tree.root, 0.0) for _ in contexts]
    found: dict[int, Way] = {}
    for rows, reader, logits in _batches(model, contexts, tree, 1, pad, budget):
        going = [_Going(b, Way(tree.root, 0.0), [], b) for b in range(len(rows))]
        shut = [OPEN if closed is None else closed[row] for row in rows]
        while going:
            chosen = [one for one in going if not one.unread]
            after = [one for one in going if one.unread]
            for one, (logp, nodes) in zip(chosen, _choices(logits, chosen, tree, shut), strict=True):
                numbers = draws[rows[one.context]]
                child = _drawn(logp, temperature, numbers[min(one.way.node.depth, len(numbers) - 1)])
                after.append(one.on(Way(nodes[child], one.way.logprob + float(logp[child])), tree))
            found |= {rows[one.context]: one.way for one in after if one.way.node.is_leaf}
            going = [one for one in after if not one.way.node.is_leaf]
            if going:
                logits, going = reader.read(going)
    return [found[row] for row in range(len(contexts))]


class _Going(NamedTuple):
    """A way that is not at its end.

    Attributes:
        context: number of its context in the batch.
        way: where it is.
        unread: tokens that the model has not read yet.
        row: its row in the cache, and in the logits if nothing is unread.
    """

    context: int
    way: Way
    unread: list[int]
    row: int

    def on(self, way: Way, tree: PrefixTree) -> _Going:
        """The same, gone on to a node below; what leads there is unread, and of no interest once the end is reached."""
        unread = [] if way.node.is_leaf else tree.between(self.way.node, way.node)
        return _Going(self.context, way, unread, self.row)


def _order(one: _Going) -> tuple[float, Node]:
    return -one.way.logprob, one.way.node


def _drawn(logp: np.ndarray, temperature: float, draw: float) -> int:
    if temperature == 0:
        return int(logp.argmax())
    cumulative = np.exp((logp - logp.max()) / temperature).cumsum()
    return min(int(np.searchsorted(cumulative, draw * cumulative[-1], side="right")), len(logp) - 1)


def _choices(
    logits: Tensor, ways: Sequence[_Going], tree: PrefixTree, shut: Sequence[np.ndarray]
) -> Iterator[tuple[np.ndarray, list[Node]]]:
    """For each way the log-probabilities of what may follow, and where that leads; one look at the device for all."""
    if not ways:
        return
    allowed = [tree.children(one.way.node, shut[one.context]) for one in ways]
    counts = [len(tokens) for tokens, _ in allowed]
    rows = torch.from_numpy(np.repeat([one.row for one in ways], counts)).to(logits.device)
    tokens = torch.from_numpy(np.concatenate([tokens for tokens, _ in allowed])).to(logits.device)
    values = logits[rows, tokens].double().cpu().numpy()
    for one, (_, nodes) in zip(np.split(values, np.cumsum(counts)[:-1]), allowed, strict=True):
        yield one - (one.max() + np.log(np.exp(one - one.max()).sum())), nodes


def _batches(
    model: Any, contexts: Sequence[Sequence[int]], tree: PrefixTree, width: int, pad: int, budget: int
) -> Iterator[tuple[list[int], _Reader, Tensor]]:
    """Contexts of similar length, read up to the root: their numbers, what reads on, and the logits `[B, V]`."""
    forced = tree.tokens(tree.root)
    order = sorted(range(len(contexts)), key=lambda i: (-len(contexts[i]), i))
    while order:
        length = len(contexts[order[0]]) + tree.depth
        count = max(1, budget // (length * width))
        rows, order = order[:count], order[count:]
        reader = _Reader(model, pad)
        yield rows, reader, reader.begin([[*contexts[i], *forced] for i in rows])


class _Reader:
    """Reads on behind what was read, several tokens of each row at once where the model allows it.

    A row may get fewer tokens than its neighbours: the columns that are left over are masked. Layers that look back a fixed
    number of columns, and layers with a state instead of columns, would take those for tokens: there each row gets one.
    """

    def __init__(self, model: Any, pad: int) -> None:
        self._model, self._pad = model, pad
        windows = layer_windows(model)
        self._most = 1 if windows is None or any(window is not None for window in windows) else 1 << 30
        self._cache = DynamicCache(config=model.config)

    def begin(self, contexts: Sequence[Sequence[int]]) -> Tensor:
        """Reads contexts, padded on the left; `[B, V]`."""
        width = max(map(len, contexts))
        device = self._model.device
        tokens = torch.tensor([[self._pad] * (width - len(c)) + list(c) for c in contexts], device=device)
        self._mask = torch.tensor([[0] * (width - len(c)) + [1] * len(c) for c in contexts], device=device)
        self._position = self._mask.sum(1)
        return self._pass(tokens, self._mask.cumsum(1).sub(1).clamp(min=0), 1)[:, -1]

    def read(self, ways: Sequence[_Going]) -> tuple[Tensor, list[_Going]]:
        """Reads on along ways, each of which has something unread.

        Returns:
            logits behind the last token read of each, `[R, V]`, and the ways with their new rows.
        """
        device = self._model.device
        rows = [one.row for one in ways]
        if rows != list(range(len(self._mask))):
            index = torch.tensor(rows, device=device)
            select_rows(self._cache, index)
            self._mask, self._position = self._mask[index], self._position[index]
        blocks = [one.unread[: self._most] for one in ways]
        lengths = [len(block) for block in blocks]
        width = max(lengths)
        tokens = torch.tensor([block + [self._pad] * (width - len(block)) for block in blocks], device=device)
        mask = torch.tensor([[1] * length + [0] * (width - length) for length in lengths], device=device)
        self._mask = torch.cat([self._mask, mask], dim=1)
        position = self._position[:, None] + torch.arange(width, device=device)
        self._position = self._position + torch.tensor(lengths, device=device)
        logits = self._pass(tokens, torch.where(mask > 0, position, 0), width)
        last = logits[torch.arange(len(ways), device=device), torch.tensor(lengths, device=device) - 1]
        return last, [_Going(one.context, one.way, one.unread[self._most :], row) for row, one in enumerate(ways)]

    def _pass(self, tokens: Tensor, position: Tensor, kept: int) -> Tensor:
        out = self._model(
            input_ids=tokens,
            attention_mask=self._mask,
            position_ids=position,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=kept,
        )
        return out.logits
