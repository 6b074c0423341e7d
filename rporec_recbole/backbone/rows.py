"""Texts that a model reads together: what it has read of each, and which columns of the cache belong to it.

All rows share the columns of the cache; a column that holds nothing for a row (padding, a wrong guess) is masked there. What all
texts of a call begin with, an instruction for example, is read once.

Letters in shapes: B rows, Q new tokens of each, C columns, V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from rporec_recbole.backbone.kv_cache import Place, new_cache, select_rows
from rporec_recbole.backbone.prefix_tree import in_common

# Prompt tokens of one pass. On a processor more do not fit its cache and are read more slowly.
_READ_AT_ONCE = {"cpu": 1024}
_READ_ELSEWHERE = 32768
_MORE = 64  # columns that are added when those that were made are used up
WORTH_SHARING = 16  # tokens; less is read with each text as quickly


@dataclass(frozen=True)
class Beginning:
    """What all texts of a call begin with.

    Attributes:
        tokens: none where that is nothing worth sharing.
        cache: after them, of one row.
    """

    tokens: list[int]
    cache: Cache | None = None


def read_beginning(
    model: Any, prompts: Sequence[Sequence[int]], windows: list[int | None] | None, room: int
) -> Beginning:
    """Reads what all prompts begin with, if that pays and leads to the same texts.

    A layer that looks back a fixed number of columns would count the padding between the beginning and the rest of a text.

    Args:
        model: a transformers causal LM, in eval mode.
        prompts: as tokens.
        windows: see `layer_windows`.
        room: tokens that may follow a prompt.
    """
    first, last = min(map(tuple, prompts)), max(map(tuple, prompts))  # what these share they all share
    own = min(map(len, prompts)) - 1  # each keeps a token of its own, whose logits are asked for
    tokens = list(first[: min(in_common(first, last), own)]) if len(prompts) > 1 else []
    longest = max(map(len, prompts)) + room
    if len(tokens) < WORTH_SHARING or windows is None or any(window and longest > window for window in windows):
        return Beginning([])
    rows = Rows(model, windows, pad=0, room=0)
    rows.begin([tokens])
    return Beginning(tokens, rows.cache)


class Rows:
    """Texts under way.

    Args:
        model: a transformers causal LM, in eval mode, with the attention of the engine if `windows` are given.
        windows: see `layer_windows`.
        pad: padding token.
        room: tokens that are expected behind the prompts.
        beginning: what all prompts begin with, read already.

    Attributes:
        count: rows that are read on; others that are kept stand behind them.
        cache: keys and values.
    """

    def __init__(
        self,
        model: Any,
        windows: list[int | None] | None,
        *,
        pad: int,
        room: int,
        beginning: Beginning | None = None,
    ) -> None:
        self.model, self.windows, self._pad, self._room = model, windows, pad, room
        self._beginning = beginning or Beginning([])
        self._device = model.device

    def begin(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Reads prompts; one that several rows share (a GRPO group) is read once.

        Returns:
            `[B, 1, V]`, logits behind the last token of each.
        """
        shared = len(self._beginning.tokens)
        distinct = sorted(dict.fromkeys(tuple(p[shared:]) for p in prompts), key=len, reverse=True)
        width = shared + len(distinct[0])
        columns = width + self._room
        self._place = Place(slice(0, len(distinct)), 0, width, columns, len(distinct), shared)
        self.cache = new_cache(self.model, self._place, self.windows, self._beginning.cache)
        at_once = _READ_AT_ONCE.get(self._device.type, _READ_ELSEWHERE)
        logits, start = [], 0
        while start < len(distinct):
            longest = len(distinct[start])
            count = len(distinct) if self.windows is None else max(1, at_once // longest)
            part = distinct[start : start + count]
            self._place.rows = slice(start, start + len(part))
            self._place.first = self._place.end = width - longest
            tokens = torch.tensor([[self._pad] * (longest - len(p)) + list(p) for p in part], device=self._device)
            mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in part], device=self._device)
            out = self.model(
                input_ids=tokens,
                attention_mask=torch.nn.functional.pad(mask, (shared, 0), value=1),
                position_ids=mask.cumsum(1).sub_(1).clamp_(min=0).add_(shared),
                past_key_values=self.cache,
                use_cache=True,
                logits_to_keep=1,
            )
            logits.append(out.logits)
            start += len(part)
        self._place.first, self._place.end = 0, width
        self.count = len(prompts)
        self._place.rows = slice(0, self.count)
        own = torch.tensor([len(p) - shared for p in prompts], device=self._device)
        column = torch.arange(columns, device=self._device)
        place = torch.where(column < shared, column, column - (width - own - shared)[:, None])
        nothing = (column >= shared) & (place < shared)
        # Columns of the cache: their place in the text of each row, and what is added to scores: -inf where a row has none.
        self._places = place.clamp_(min=0)
        self._bias = torch.zeros(place.shape, device=self._device).masked_fill_(nothing, -torch.inf)
        self._position = own + shared
        self._last_position = width + self._room - 1
        number = {prompt: i for i, prompt in enumerate(distinct)}
        source = [number[tuple(p[shared:])] for p in prompts]
        if source != list(range(len(distinct))):
            index = torch.tensor(source, device=self._device)
            select_rows(self.cache, index)
            return torch.cat(logits)[index]
        return torch.cat(logits)

    def read(self, blocks: Sequence[Sequence[int]]) -> Tensor:
        """One pass over new tokens of each row, at least one; `keep` says afterwards how many of them count.

        Returns:
            `[B, Q, V]`; behind the end of a shorter block stands nothing of use.
        """
        new = max(map(len, blocks))
        end, count = self._place.end, self.count
        if end + new > self._bias.shape[1]:
            self._bias = torch.nn.functional.pad(self._bias, (0, new + _MORE))
            self._places = torch.nn.functional.pad(self._places, (0, new + _MORE))
        tokens = torch.tensor([[*one, *[self._pad] * (new - len(one))] for one in blocks], device=self._device)
        position = self._position[:count, None] + torch.arange(new, device=self._device)
        self._places[:count, end : end + new] = position
        self._bias[count:, end : end + new] = -torch.inf
        out = self.model(
            input_ids=tokens,
            attention_mask=self._mask(end, new),
            position_ids=position.clamp_(max=self._last_position),
            past_key_values=self.cache,
            use_cache=True,
        )
        self._new = new
        return out.logits

    def keep(self, kept: Sequence[int]) -> None:
        """The first tokens of each block that was read last stay, so many of each row."""
        new, end = self._new, self._place.end
        lengths = torch.tensor(kept, device=self._device)
        if new > 1:
            wrong = torch.arange(new, device=self._device) >= lengths[:, None]
            self._bias[: self.count, end : end + new].masked_fill_(wrong, -torch.inf)
        self._place.end += new
        self._position[: self.count] += lengths

    def go_on_with(self, stays: Sequence[int], *, keep_others: bool) -> list[int]:
        """Reads on with some rows. Rows from the end take the places of those that leave, so that little is copied.

        Args:
            stays: rows, in rising order.
            keep_others: those that leave stand behind the others afterwards, and may be `taken`.

        Returns:
            the row that each row was before, of all that were read on until now if the others are kept.
        """
        count = len(stays)
        last = [row for row in stays if row >= count]
        free = sorted(set(range(count)) - set(stays))
        order = list(range(self.count if keep_others else count))
        for row, source in zip(free, last, strict=True):
            order[row] = source
            if keep_others:
                order[source] = row
        if keep_others:
            self._select([*order, *range(self.count, len(self._position))], count)
        elif count:
            self._select(order, count)
        self.count = count
        return order

    def become(self, rows: Sequence[int]) -> None:
        """Row i becomes what row `rows[i]` is; a row may be named several times."""
        if list(rows) != list(range(len(self._position))):
            self._select(rows, len(rows))
        self.count = len(rows)

    def taken(self, rows: Sequence[int], lengths: Sequence[int], room: int) -> Rows:
        """Some rows as they are after their first tokens, apart from the others; of a cache that is written in place.

        Args:
            rows: which.
            lengths: how many tokens of each stay.
            room: tokens that are expected behind them.
        """
        index = torch.tensor(rows, device=self._device)
        other = copy.copy(self)
        end = self._place.end
        other._place = Place(slice(0, len(rows)), 0, end, end + room, len(rows), self._place.shared)
        other.cache = Cache(layers=[layer.taken(index, other._place) for layer in self.cache.layers])
        other._position = torch.tensor(lengths, device=self._device)
        other._places = torch.nn.functional.pad(self._places[index, :end], (0, room))
        bias = self._bias[index, :end].masked_fill_(other._places[:, :end] >= other._position[:, None], -torch.inf)
        other._bias = torch.nn.functional.pad(bias, (0, room))
        other._last_position = max(self._last_position, max(lengths) + room - 1)
        other.count = len(rows)
        return other

    def _select(self, rows: Sequence[int], count: int) -> None:
        index = torch.tensor(rows, device=self._device)
        select_rows(self.cache, index)
        self._bias, self._position, self._places = self._bias[index], self._position[index], self._places[index]
        self._place.rows = slice(0, count)

    def _mask(self, end: int, new: int) -> Any:
        """What `new` tokens of each row may look at, in the form that the model takes."""
        bias = self._bias[: self.count, : end + new]
        if self.windows is None:
            return (bias == 0).long()
        mask = bias[:, None, None]
        if new > 1:
            mask = mask.repeat(1, 1, new, 1)
            mask[..., end:] += torch.full((new, new), -torch.inf, device=self._device).triu_(1)
        kinds = {}
        for window in set(self.windows):
            kinds["full_attention" if window is None else "sliding_attention"] = mask
            if window is not None and end + new > window:
                places = self._places[: self.count, None, None, : end + new]
                far = places <= places[..., end:].transpose(2, 3) - window
                kinds["sliding_attention"] = mask.masked_fill(far, -torch.inf)
        # Models with layers of both kinds take a mask for each, others one for all.
        return kinds if len(kinds) > 1 else next(iter(kinds.values()))
