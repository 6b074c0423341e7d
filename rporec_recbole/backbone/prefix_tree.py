"""A prefix tree over the catalogue's lines as tokens: which token may follow in an answer that names an item.

The lines are tokenised where a model reads and writes them, between `<answer>` and `</answer>`, so the tokens are those of
training. Nothing is built but a sorted table: a node is a range of rows that begin alike, and what follows it is looked up
when somebody asks.

Letters in shapes: S distinct token sequences, L tokens of the longest, C children of a node, E closed rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from rporec_recbole.text.completions import ANSWER, ANSWER_END, THINK_END

OPEN = np.empty(0, dtype=np.int64)
"""No row is closed."""
_BEFORE = f"{THINK_END}{ANSWER}"


class Node(NamedTuple):
    """Rows `low` to `high`, the latter left out, that have their first `depth` tokens in common."""

    low: int
    high: int
    depth: int

    @property
    def is_leaf(self) -> bool:
        """Whether one line is left: what follows is no choice any more."""
        return self.high - self.low == 1


class PrefixTree:
    """Token sequences, and the items that each stands for.

    No sequence is the beginning of another one: each ends with the tokens of `</answer>`, which no line holds.

    Args:
        sequences: of tokens, not empty; equal ones become one.
        items: the item of each.

    Attributes:
        root: the node of all sequences.
        depth: tokens of the longest sequence.
    """

    def __init__(self, sequences: Sequence[Sequence[int]], items: Sequence[int]) -> None:
        order = sorted(range(len(sequences)), key=lambda i: (sequences[i], items[i]))
        distinct = [i for n, i in enumerate(order) if n == 0 or sequences[i] != sequences[order[n - 1]]]
        self._lengths = np.array([len(sequences[i]) for i in distinct])
        self.depth = int(self._lengths.max())
        self._tokens = np.full((len(distinct), self.depth), -1, dtype=np.int32)  # [S, L]
        filled = np.arange(self.depth) < self._lengths[:, None]
        self._tokens[filled] = np.concatenate([np.asarray(sequences[i], dtype=np.int32) for i in distinct])
        row = {tuple(sequences[i]): number for number, i in enumerate(distinct)}
        self._items: list[list[int]] = [[] for _ in distinct]
        for i in order:
            self._items[row[tuple(sequences[i])]].append(items[i])
        self._row_of = {item: number for number, those in enumerate(self._items) for item in those}
        self._children: dict[Node, tuple[np.ndarray, list[Node], np.ndarray]] = {}
        self.root = self._after_what_is_forced(0, len(distinct), 0)

    def __len__(self) -> int:
        """Distinct sequences."""
        return len(self._lengths)

    def children(self, node: Node, closed: np.ndarray = OPEN) -> tuple[np.ndarray, list[Node]]:
        """The tokens that may follow, `[C]` in rising order, and where each leads: as far as there is no choice.

        Args:
            node: no leaf; one of its rows is open.
            closed: see `rows_of`: what leads to these alone does not follow.
        """
        if node not in self._children:
            column = self._tokens[node.low : node.high, node.depth]
            starts = np.flatnonzero(np.r_[True, column[1:] != column[:-1]])
            borders = np.r_[starts, len(column)] + node.low
            nodes = [
                self._after_what_is_forced(int(low), int(high), node.depth + 1)
                for low, high in itertools.pairwise(borders)
            ]
            self._children[node] = column[starts].astype(np.int64), nodes, borders
        tokens, nodes, borders = self._children[node]
        if not len(closed):
            return tokens, nodes
        kept = np.flatnonzero(np.diff(np.searchsorted(closed, borders)) < np.diff(borders))
        return (tokens, nodes) if len(kept) == len(nodes) else (tokens[kept], [nodes[i] for i in kept])

    def rows_of(self, items: Iterable[int]) -> np.ndarray:
        """The rows of some items, `[E]` in rising order, to be closed; none if they are all rows, for a way must stay open."""
        rows = np.unique([self._row_of[item] for item in items]).astype(np.int64)
        return rows if len(rows) < len(self) else OPEN

    def between(self, above: Node, below: Node) -> list[int]:
        """The tokens that lead from a node to one below it."""
        return self._tokens[below.low, above.depth : below.depth].tolist()

    def tokens(self, node: Node) -> list[int]:
        """All tokens up to a node."""
        return self._tokens[node.low, : node.depth].tolist()

    def items(self, leaf: Node) -> list[int]:
        """The items whose line a leaf is, in rising order."""
        return self._items[leaf.low]

    def _after_what_is_forced(self, low: int, high: int, depth: int) -> Node:
        """Rows are sorted, so what the first and the last one share they all share."""
        if high - low == 1:
            return Node(low, high, int(self._lengths[low]))
        differ = self._tokens[low, depth:] != self._tokens[high - 1, depth:]
        return Node(low, high, depth + int(differ.argmax()))


def tree_of_lines(lines: Sequence[str], tokenizer: Any) -> tuple[PrefixTree, list[int]]:
    """The tree of a catalogue's lines.

    A tokenizer may join the end of `<answer>` and the beginning of a line in one token. Then the tree begins some tokens
    earlier, before all that differs.

    Args:
        lines: by item id; row 0 is the padding item.
        tokenizer: a transformers tokenizer.

    Returns:
        the tree, and the last tokens of `</think><answer>` that its sequences begin with; none for most tokenizers.
    """
    whole = tokenizer([f"{_BEFORE}{line}{ANSWER_END}" for line in lines[1:]], add_special_tokens=False)["input_ids"]
    before = tokenizer(_BEFORE, add_special_tokens=False)["input_ids"]
    kept = min(in_common(before, tokens) for tokens in whole)
    return PrefixTree([tokens[kept:] for tokens in whole], range(1, len(lines))), before[kept:]


def in_common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))
