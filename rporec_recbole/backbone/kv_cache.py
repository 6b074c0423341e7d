"""Keys and values of a batch of texts, written in place, and the attention that reads them.

transformers' own cache copies all it holds at every token, and its attention repeats keys and values for each head that
shares them. Both cost more than the arithmetic of a small model, so the engine brings its own through the public
interfaces: `Cache` layers, `AttentionInterface` and `AttentionMaskInterface`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

ATTENTION = "rporec_grouped"  # name under which transformers knows `grouped_attention`
_GROWTH = 64  # columns


@dataclass
class Place:
    """Where all layers of a cache read and write.

    Attributes:
        rows: the rows under way.
        first: column of the first token that may be read.
        end: column of the next token that is written.
        columns: columns that are made at first; more follow when they are needed.
        capacity: rows that are made.
        shared: first columns, which hold what all rows begin with.
    """

    rows: slice
    first: int
    end: int
    columns: int
    capacity: int
    shared: int = 0

    @property
    def before(self) -> int:
        """Tokens that the next one sees, masked ones included. A row of which nothing is read yet sees what all begin with."""
        return self.end - self.first or self.shared


class InPlaceLayer(CacheLayerMixin):
    """One layer: keys lie as `[B, heads, size, columns]`, as the product with queries wants them, values as
    `[B, heads, columns, size]`.

    Args:
        place: shared by all layers; `Rows` moves it.
        shared: the same layer after what all rows begin with, read as one row; None where they begin with nothing in common.
    """

    is_sliding = False

    def __init__(self, place: Place, shared: InPlaceLayer | None = None) -> None:
        super().__init__()
        self.place, self._shared = place, shared

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Makes room; zeros, because what is masked is still multiplied by zero."""
        place, (heads, size) = self.place, (key_states.shape[1], key_states.shape[3])
        self.keys = key_states.new_zeros(place.capacity, heads, size, place.columns)
        self.values = value_states.new_zeros(place.capacity, heads, place.columns, value_states.shape[3])
        if self._shared is not None:
            self.keys[..., : place.shared] = self._shared.keys[..., : place.shared]
            self.values[:, :, : place.shared] = self._shared.values[:, :, : place.shared]
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Writes `[R, heads, T, size]` behind what is there.

        Returns:
            keys and values from `place.first` on; views that hold until the next write.
        """
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        place = self.place
        stop = place.end + key_states.shape[2]
        if stop > self.keys.shape[3]:
            self._grow(stop + _GROWTH)
        self.keys[place.rows, :, :, place.end : stop] = key_states.transpose(2, 3)
        self.values[place.rows, :, place.end : stop] = value_states
        if place.first == place.end:
            if not place.shared:
                return key_states, value_states
            keys = self.keys[place.rows, :, :, : place.shared].transpose(2, 3)
            values = self.values[place.rows, :, : place.shared]
            return torch.cat([keys, key_states], dim=2), torch.cat([values, value_states], dim=2)
        read = slice(place.first, stop)
        return self.keys[place.rows, :, :, read].transpose(2, 3), self.values[place.rows, :, read]

    def _grow(self, columns: int) -> None:
        keys, values = self.keys, self.values
        rows, heads, size, used = keys.shape
        self.keys = keys.new_zeros(rows, heads, size, columns)
        self.values = values.new_zeros(rows, heads, columns, values.shape[3])
        self.keys[:, :, :, :used], self.values[:, :, :used] = keys, values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Row i becomes what row `indices[i]` is. Rows that stay where they are cost nothing."""
        if len(indices) > len(self.keys):
            self.keys, self.values = self.keys[indices], self.values[indices]
            return
        to = (indices != torch.arange(len(indices), device=indices.device)).nonzero().squeeze(1)
        if len(to):
            used = slice(self.place.end)
            self.keys[to, :, :, used] = self.keys[indices[to], :, :, used]
            self.values[to, :, used] = self.values[indices[to], :, used]

    def taken(self, indices: Tensor, place: Place) -> InPlaceLayer:
        """Copies of some rows, with room of their own."""
        layer, used = InPlaceLayer(place), slice(self.place.end)
        layer.lazy_initialization(self.keys.transpose(2, 3), self.values)
        layer.keys[..., used] = self.keys[..., used][indices]
        layer.values[:, :, used] = self.values[:, :, used][indices]
        return layer

    def get_seq_length(self) -> int:
        """Tokens before the next one."""
        return self.place.before

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Keys that `query_length` new tokens see, and the first of them."""
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        """No maximum."""
        return -1


def layer_windows(model: Any) -> list[int | None] | None:
    """How far each layer looks back, in tokens; None is everything. Without a list the model needs transformers' own
    cache: it has layers of another kind (recurrent ones, for example) or attention other than `sdpa`."""
    text = model.config.get_text_config(decoder=True)
    kinds = set(getattr(text, "layer_types", None) or ())
    chunked = getattr(text, "attention_chunk_size", None) is not None
    if model.config._attn_implementation != "sdpa" or chunked or kinds - {"full_attention", "sliding_attention"}:
        return None
    layers = DynamicCache(config=model.config).layers
    if not layers or any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers):
        return None
    return [layer.sliding_window if layer.is_sliding else None for layer in layers]


def new_cache(model: Any, place: Place, windows: list[int | None] | None, shared: Cache | None = None) -> Cache:
    """An empty cache; written in place if `windows`, from `attention_of_engine`, says that the model allows it.

    Args:
        model: a transformers causal LM.
        place: where the layers read and write.
        windows: see `layer_windows`.
        shared: what all rows begin with, read as one row.
    """
    if windows is None:
        return DynamicCache(config=model.config)
    layers = [None] * len(windows) if shared is None else shared.layers
    return Cache(layers=[InPlaceLayer(place, layer) for layer in layers])


def select_rows(cache: Cache, rows: Tensor) -> None:
    """Row i of a cache becomes what row `rows[i]` is, of keys and values and of convolution and recurrent states alike."""
    if isinstance(cache, DynamicCache):  # whose own selection knows no layers with states
        cache.reorder_cache(rows)
    else:
        cache.batch_select_indices(rows)


def grouped_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention of few new tokens over many old ones; heads that share keys and values read them once.

    A prompt has a boolean mask or none and goes to `sdpa`.

    Args:
        module: the attention layer.
        query: `[B, heads, Q, D]`.
        key: `[B, key heads, S, D]`.
        value: `[B, key heads, S, D']`.
        attention_mask: `[B, 1, Q, S]`, added to the scores.
        scaling: of the scores.

    Returns:
        `[B, Q, heads, D']` and no weights.
    """
    if attention_mask is None or not attention_mask.is_floating_point():
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    (rows, heads, new, size), shared = query.shape, key.shape[1]
    grouped = (query * (size**-0.5 if scaling is None else scaling)).reshape(rows, shared, -1, size)
    scores = torch.matmul(grouped, key.transpose(2, 3)).view(rows, shared, -1, new, key.shape[2])
    weights = torch.softmax(scores.add_(attention_mask[:, :, None]), dim=-1, dtype=torch.float32).to(value.dtype)
    mixed = torch.matmul(weights.flatten(2, 3), value).view(rows, heads, new, value.shape[3])
    return mixed.transpose(1, 2).contiguous(), None


AttentionInterface.register(ATTENTION, grouped_attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


@contextmanager
def attention_of_engine(model: Any) -> Iterator[list[int | None] | None]:
    """Lets a model attend by `grouped_attention` meanwhile, if it can; gives `layer_windows`."""
    windows = layer_windows(model)
    if windows is None:
        yield None
        return
    before = model.config._attn_implementation
    model.set_attn_implementation(ATTENTION)
    try:
        yield windows if model.config._attn_implementation == ATTENTION else None
    finally:
        model.set_attn_implementation(before)
