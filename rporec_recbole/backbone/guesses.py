"""Answers that name an item: the model chooses among the catalogue's lines, token by token, and nothing else may follow.

At each token the probabilities are those of the tokens that the tree allows, so a token without an alternative costs nothing
and is read only if a choice comes behind it; a way is at its end where one line is left. What the engine has read of a context is
not read again.

Letters in shapes: B contexts, R ways under way, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rporec_recbole.backbone.engine import Read
from rporec_recbole.backbone.kv_cache import attention_of_engine
from rporec_recbole.backbone.possible_words import PossibleWords, possible_words
from rporec_recbole.backbone.prefix_tree import OPEN, Node, PrefixTree, in_common
from rporec_recbole.backbone.rows import Rows, read_beginning


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
    read: Read | None = None,
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
        read: what was read of each context; None if nothing was.
    """
    if tree.root.is_leaf:
        return [[Way(tree.root, 0.0)] for _ in contexts]
    found: list[list[Way]] = [[] for _ in contexts]
    with attention_of_engine(model) as windows, possible_words(model) as output:
        for rows, reader, given in _batches(model, windows, contexts, tree, width, pad, budget, read):
            ended: list[list[Way]] = [[] for _ in rows]
            shut = [OPEN if closed is None else closed[row] for row in rows]
            going = [_Going(b, Way(tree.root, 0.0), [], b) for b in range(len(rows))]
            while going:
                chosen = [one for one in going if not one.unread]
                candidates: list[list[_Going]] = [
                    [_Going(b, way, [], -1) for way in ways] for b, ways in enumerate(ended)
                ]
                for one in going:
                    if one.unread:
                        candidates[one.context].append(one)
                for one, (logp, nodes) in zip(chosen, _choices(given, chosen, tree, shut, output), strict=True):
                    for child in np.argsort(-logp, kind="stable")[:width].tolist():
                        way = Way(nodes[child], one.way.logprob + float(logp[child]))
                        candidates[one.context].append(one.on(way, tree))
                best = [sorted(ones, key=_order)[:width] for ones in candidates]
                ended = [[one.way for one in ones if one.way.node.is_leaf] for ones in best]
                going = [one for ones in best for one in ones if not one.way.node.is_leaf]
                if going:
                    given, going = reader.read(going)
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
    read: Read | None = None,
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
        read: what was read of each context; None if nothing was.
    """
    if tree.root.is_leaf:
        return [Way(tree.root, 0.0) for _ in contexts]
    found: dict[int, Way] = {}
    with attention_of_engine(model) as windows, possible_words(model) as output:
        for rows, reader, given in _batches(model, windows, contexts, tree, 1, pad, budget, read):
            going = [_Going(b, Way(tree.root, 0.0), [], b) for b in range(len(rows))]
            shut = [OPEN if closed is None else closed[row] for row in rows]
            while going:
                chosen = [one for one in going if not one.unread]
                after = [one for one in going if one.unread]
                for one, (logp, nodes) in zip(chosen, _choices(given, chosen, tree, shut, output), strict=True):
                    numbers = draws[rows[one.context]]
                    child = _drawn(logp, temperature, numbers[min(one.way.node.depth, len(numbers) - 1)])
                    after.append(one.on(Way(nodes[child], one.way.logprob + float(logp[child])), tree))
                found |= {rows[one.context]: one.way for one in after if one.way.node.is_leaf}
                going = [one for one in after if not one.way.node.is_leaf]
                if going:
                    given, going = reader.read(going)
    return [found[row] for row in range(len(contexts))]


class _Going(NamedTuple):
    """A way that is not at its end.

    Attributes:
        context: number of its context in the batch.
        way: where it is.
        unread: tokens that the model has not read yet.
        row: its row in the cache, and in what the model gives if nothing is unread.
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
    given: Tensor, ways: Sequence[_Going], tree: PrefixTree, shut: Sequence[np.ndarray], output: PossibleWords
) -> Iterator[tuple[np.ndarray, list[Node]]]:
    """For each way the log-probabilities of what may follow, and where that leads; one look at the device for all."""
    if not ways:
        return
    allowed = [tree.children(one.way.node, shut[one.context]) for one in ways]
    counts = [len(tokens) for tokens, _ in allowed]
    words, columns = np.unique(np.concatenate([tokens for tokens, _ in allowed]), return_inverse=True)
    own = torch.tensor([one.row for one in ways], device=given.device)
    logits = output.logits(given[own], torch.from_numpy(words).to(given.device)).double().cpu().numpy()
    values = logits[np.repeat(np.arange(len(ways)), counts), columns]
    for one, (_, nodes) in zip(np.split(values, np.cumsum(counts)[:-1]), allowed, strict=True):
        yield one - (one.max() + np.log(np.exp(one - one.max()).sum())), nodes


def _batches(
    model: Any,
    windows: list[int | None] | None,
    contexts: Sequence[Sequence[int]],
    tree: PrefixTree,
    width: int,
    pad: int,
    budget: int,
    read: Read | None,
) -> Iterator[tuple[list[int], _Reader, Tensor]]:
    """Contexts of similar length, read up to the root: their numbers, what reads on, and what the model gives there, `[B, V]` or `[B, H]`."""
    forced = tree.tokens(tree.root)
    texts = [[*context, *forced] for context in contexts]
    order = sorted(range(len(texts)), key=lambda i: (-len(texts[i]), i))
    beginning = read_beginning(model, texts, windows, tree.depth) if texts and read is None else None
    while order:
        count = max(1, budget // ((len(texts[order[0]]) + tree.depth) * width))
        numbers, order = order[:count], order[count:]
        some = [texts[number] for number in numbers]
        if read is None:
            rows = Rows(model, windows, pad=pad, room=tree.depth, beginning=beginning)
            given = rows.begin(some)[:, -1]
        else:
            rows, given = _read_on(read, numbers, some, tree.depth)
        yield numbers, _Reader(rows), given


def _read_on(read: Read, numbers: Sequence[int], texts: Sequence[list[int]], room: int) -> tuple[Rows, Tensor]:
    """Texts of which the beginning is read, at least in part, read to their end; and what the model gives there."""
    known = [min(in_common(read.tokens[i], one), len(one) - 1) for i, one in zip(numbers, texts, strict=True)]
    blocks = [one[length:] for one, length in zip(texts, known, strict=True)]
    rows = read.rows.taken([read.slots[i] for i in numbers], known, max(map(len, blocks)) + room)
    return rows, _read_all(rows, blocks)


def _read_all(rows: Rows, blocks: Sequence[Sequence[int]]) -> Tensor:
    """Reads a block of each row; what the model gives behind its last token."""
    lengths = [len(block) for block in blocks]
    given = rows.read(blocks)
    rows.keep(lengths)
    return given[torch.arange(len(lengths), device=given.device), torch.tensor(lengths, device=given.device) - 1]


class _Reader:
    """Reads on along ways, several tokens of each at once where the model can leave out what was padded."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._most = 1 if rows.windows is None else 1 << 30

    def read(self, ways: Sequence[_Going]) -> tuple[Tensor, list[_Going]]:
        """Reads on along ways, each of which has something unread.

        Returns:
            what the model gives behind the last token read of each, and the ways with their new rows.
        """
        self._rows.become([one.row for one in ways])
        given = _read_all(self._rows, [one.unread[: self._most] for one in ways])
        return given, [_Going(one.context, one.way, one.unread[self._most :], row) for row, one in enumerate(ways)]
