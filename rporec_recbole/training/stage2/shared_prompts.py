"""One reading of a prompt for all completions of its group, in the update of stage 2.

A trainer that knows nothing of groups repeats a prompt before each completion: with 8 completions of 45 tokens after 150
tokens of history three quarters of what it reads it has read before. Here the trainer is shown one token in place of each
prompt, and hooks on the decoder put the prompt there, once a group:

    rows of the trainer       what the decoder reads
    [0] c0 c0 c0              prompt c0 c0 c0 c1 c1 c2 c2 c2
    [1] c1 c1
    [2] c2 c2 c2              each token sees the prompt, its own completion up to itself, and nothing else

Positions go on after the prompt in every completion, so the hidden states are those of separate rows, up to float rounding.

Letters in shapes: B rows, C tokens of the longest completion, G groups, W tokens of the longest group, H hidden size.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rporec_recbole.backbone.kv_cache import layer_windows

_CLOSE = 1e-3  # hidden states, relative to the largest


class SharedPrompts:
    """What stands before the rows of a batch.

    Args:
        windows: how far each layer looks back, in tokens; None is everything (`kv_cache.layer_windows`).

    Attributes:
        prompts: tokens of the prompt of each row; the first token of a row is its number. While there are none, calls pass as
            they are.
        needed: whether a row is learned from; the others are not read, and what comes out for them means nothing.
    """

    def __init__(self, windows: Sequence[int | None]) -> None:
        self._windows = set(windows)
        self.prompts: Sequence[Sequence[int]] = []
        self.needed: Sequence[bool] = []
        self._index: Tensor | None = None

    @contextlib.contextmanager
    def in_front_of(self, *models: Any) -> Iterator[None]:
        """Hooks on the decoders of transformers causal LMs; calls with a cache, which generate, pass as they are."""
        handles = []
        for model in models:
            decoder = model.base_model
            handles.append(decoder.register_forward_pre_hook(self._pack, with_kwargs=True))
            handles.append(decoder.register_forward_hook(self._unpack))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _pack(self, decoder: Any, arguments: Any, named: dict[str, Any]) -> Any:
        if not self.prompts or named.get("past_key_values") is not None:
            return None
        tokens, mask = named["input_ids"], named["attention_mask"]
        numbers, lengths = tokens[:, 0].tolist(), (mask.sum(1) - 1).tolist()
        rows = [row for row, number in enumerate(numbers) if self.needed[number]] or [0]
        key = lambda row: tuple(self.prompts[numbers[row]])  # noqa: E731
        groups = [(prompt, list(members)) for prompt, members in itertools.groupby(sorted(rows, key=key), key=key)]
        width = max(len(prompt) + sum(lengths[row] for row in members) for prompt, members in groups)
        packed = torch.zeros(len(groups), width, dtype=tokens.dtype)
        position, part = torch.zeros_like(packed), torch.full_like(packed, -1)
        index = torch.zeros(tokens.shape, dtype=torch.int64)
        tokens = tokens.cpu()
        for g, (prompt, members) in enumerate(groups):
            end = len(prompt)
            packed[g, :end], position[g, :end], part[g, :end] = torch.tensor(prompt), torch.arange(end), 0
            for number, row in enumerate(members, start=1):
                to = end + lengths[row]
                packed[g, end:to] = tokens[row, 1 : 1 + lengths[row]]
                position[g, end:to] = len(prompt) + torch.arange(lengths[row])
                part[g, end:to] = number
                index[row] = g * width + len(prompt) - 1
                index[row, 1 : 1 + lengths[row]] = g * width + torch.arange(end, to)
                end = to
        device = mask.device
        packed, position, part, self._index = (one.to(device) for one in (packed, position, part, index))
        return arguments, {
            **named,
            "input_ids": packed,
            "position_ids": position,
            "attention_mask": self._mask(part, position),
        }

    def _mask(self, part: Tensor, position: Tensor) -> Any:
        """Which tokens see which, `[G, 1, W, W]`; one for each kind of layer where a model has two.

        Args:
            part: `[G, W]`, 0 in the prompt, the number of the completion behind it, -1 in padding.
            position: `[G, W]`.
        """
        back = position[:, :, None] - position[:, None, :]
        same = (part[:, None, :] == 0) | (part[:, None, :] == part[:, :, None])
        itself = torch.eye(part.shape[1], dtype=torch.bool, device=part.device)
        kinds = {}
        for window in self._windows:
            seen = same & (back >= 0) & (back < (window or part.shape[1])) | itself
            kinds["full_attention" if window is None else "sliding_attention"] = seen[:, None]
        return kinds if len(kinds) > 1 else next(iter(kinds.values()))

    def _unpack(self, decoder: Any, arguments: Any, out: Any) -> Any:
        if self._index is not None:
            # Not `hidden[index]`: the rows of a group share a position, and on a CPU that gradient adds in the threads' order.
            out.last_hidden_state = F.embedding(self._index, out.last_hidden_state.flatten(0, 1))
            self._index = None
        return out


@torch.no_grad()
def shared_prompts(model: Any) -> SharedPrompts | None:
    """Prompts to be shared, if a model gives the same hidden states with them, tried out on a few tokens.

    Not so without positions of its own, with recurrent layers, or with kernels that take no mask; None then, and every row
    reads its prompt.

    Args:
        model: a transformers causal LM, or a PEFT model around one.
    """
    causal = model.get_base_model() if hasattr(model, "peft_config") else model
    windows = layer_windows(causal)
    if windows is None:
        return None
    shared = SharedPrompts(windows)
    prompts, written = [[3, 4, 5, 6, 7], [8, 9, 3]], [[4, 5], [6, 7, 8], [9, 3]]
    of_row = [0, 0, 1]
    shared.prompts, shared.needed = [prompts[p] for p in of_row], [True] * len(of_row)
    device = model.device
    was_training = model.training
    model.eval()
    try:
        rows = torch.tensor(
            [[row, *tokens, *[0] * (3 - len(tokens))] for row, tokens in enumerate(written)], device=device
        )
        mask = torch.tensor([[1] * (1 + len(tokens)) + [0] * (3 - len(tokens)) for tokens in written], device=device)
        with shared.in_front_of(causal):
            found = causal.base_model(input_ids=rows, attention_mask=mask, use_cache=False).last_hidden_state
        for row, (p, tokens) in enumerate(zip(of_row, written, strict=True)):
            whole = torch.tensor([prompts[p] + tokens], device=device)
            plain = causal.base_model(input_ids=whole, attention_mask=torch.ones_like(whole), use_cache=False)
            expected = plain.last_hidden_state[0, len(prompts[p]) - 1 :]
            if (found[row, : len(expected)] - expected).abs().max() > _CLOSE * expected.abs().max():
                return None
    except (TypeError, ValueError, RuntimeError, KeyError):
        return None
    finally:
        model.train(was_training)
    shared.prompts = []
    return shared
