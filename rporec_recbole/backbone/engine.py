"""The generation engine: length-sorted batches under a token budget, KV cache, left padding, shrinking batches.

Draws are reproducible row by row: each row has its own stream of uniform numbers, seeded by prompt and decoding, so the
text of a prompt does not depend on the batch in which it stood (up to float rounding).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from rporec_recbole.cot.store import Decoding
from rporec_recbole.memory import release_freed_memory


@dataclass(frozen=True)
class Generated:
    """One completion as tokens.

    Attributes:
        tokens: the new tokens, the end token included if it was written.
        logprobs: log-probability of each under the sampling distribution (temperature applied).
    """

    tokens: list[int]
    logprobs: list[float]


def batches_by_length(lengths: Sequence[int], new_tokens: int, budget: int) -> Iterator[list[int]]:
    """Groups row indices, longest first, so that rows times padded length stays within a budget.

    Args:
        lengths: prompt lengths in tokens.
        new_tokens: room for the completion of each row.
        budget: rows times (longest prompt + new tokens); a single row may exceed it.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    while order:
        rows = max(1, budget // (lengths[order[0]] + new_tokens))
        yield order[:rows]
        order = order[rows:]


@torch.inference_mode()
def generate_tokens(
    model: Any,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    *,
    ends: Sequence[int],
    pad: int,
    budget: int,
    identities: Sequence[str] | None = None,
    on_batch: Callable[[list[int], list[Generated]], None] | None = None,
    desc: str | None = None,
) -> list[Generated]:
    """Completes token sequences.

    Args:
        model: a transformers causal LM, in eval mode.
        prompts: token ids, not empty.
        decoding: greedy or sampled, and how long.
        ends: a row stops after any of these tokens.
        pad: padding token.
        budget: see `batches_by_length`.
        identities: names the stream of draws of each row; needed when sampling.
        on_batch: called with the row indices and completions of each finished batch.
        desc: label of the progress bar; None shows none.

    Returns:
        one `Generated` per prompt, in order.
    """
    results: list[Generated | None] = [None] * len(prompts)
    groups = list(batches_by_length([len(p) for p in prompts], decoding.max_new_tokens, budget))
    with tqdm(total=len(prompts), desc=desc, disable=desc is None, unit="text", leave=False) as bar:
        for rows in groups:
            uniforms = None
            if decoding.temperature > 0:
                assert identities is not None, "sampling needs an identity per row"
                uniforms = np.stack([_uniforms(identities[i], decoding) for i in rows])
            written = _generate_batch(model, [prompts[i] for i in rows], decoding, set(ends), pad, uniforms)
            for i, one in zip(rows, written, strict=True):
                results[i] = one
            if on_batch:
                on_batch(rows, written)
            release_freed_memory()
            bar.update(len(rows))
    return [one for one in results if one is not None]


def _uniforms(identity: str, decoding: Decoding) -> np.ndarray:
    digest = hashlib.sha256(f"{decoding.seed}/{decoding.sample}/{identity}".encode("utf-8", "surrogatepass")).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little")).random(decoding.max_new_tokens)


def _generate_batch(
    model: Any,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    ends: set[int],
    pad: int,
    uniforms: np.ndarray | None,
) -> list[Generated]:
    device = model.device
    # A prompt that several rows share (a GRPO group) is read once.
    distinct = list(dict.fromkeys(tuple(p) for p in prompts))
    place = {prompt: i for i, prompt in enumerate(distinct)}
    source = torch.tensor([place[tuple(p)] for p in prompts], device=device)
    longest = max(len(p) for p in distinct)
    tokens = torch.tensor([[pad] * (longest - len(p)) + list(p) for p in distinct], device=device)
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in distinct], device=device)
    position = mask.cumsum(1).sub_(1).clamp_(min=0)
    draws = None if uniforms is None else torch.as_tensor(uniforms, device=device)
    end_ids = torch.tensor(sorted(ends), device=device)

    alive = torch.arange(len(prompts), device=device)
    new_tokens = torch.full((len(prompts), decoding.max_new_tokens), pad, device=device)
    logprobs = torch.zeros(len(prompts), decoding.max_new_tokens, device=device)
    lengths = torch.zeros(len(prompts), dtype=torch.long, device=device)

    out = model(input_ids=tokens, attention_mask=mask, position_ids=position, use_cache=True, logits_to_keep=1)
    cache, logits, mask, position = out.past_key_values, out.logits[source, -1], mask[source], position[source, -1:]
    if len(distinct) < len(prompts):
        cache.batch_select_indices(source)
    for step in range(decoding.max_new_tokens):
        row_draws = None if draws is None else draws[alive, step]
        chosen, chosen_logprobs = _choose(logits, decoding.temperature, row_draws)
        new_tokens[alive, step] = chosen
        logprobs[alive, step] = chosen_logprobs
        lengths[alive] += 1
        going = ~torch.isin(chosen, end_ids)
        if step + 1 == decoding.max_new_tokens or not bool(going.any()):
            break
        if not bool(going.all()):
            keep = going.nonzero().squeeze(1)
            cache.batch_select_indices(keep)
            alive, chosen, mask, position = alive[keep], chosen[keep], mask[keep], position[keep]
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        position = position + 1
        out = model(
            input_ids=chosen[:, None], attention_mask=mask, position_ids=position, past_key_values=cache, use_cache=True
        )
        cache, logits = out.past_key_values, out.logits[:, -1]
    return [Generated(new_tokens[i, :n].tolist(), logprobs[i, :n].tolist()) for i, n in enumerate(lengths.tolist())]


def _choose(logits: Tensor, temperature: float, draws: Tensor | None) -> tuple[Tensor, Tensor]:
    """Greedy, or by inverting the cumulative distribution at `draws`. Shapes `[B, V], [B] -> [B], [B]`."""
    logp = torch.log_softmax(logits.float() / (temperature if temperature > 0 else 1.0), dim=-1)
    if draws is None:
        chosen = logp.argmax(dim=-1)
    else:
        cumulative = logp.double().exp().cumsum(dim=-1)
        chosen = torch.searchsorted(cumulative, (draws[:, None] * cumulative[:, -1:]), right=True).squeeze(1)
        chosen = chosen.clamp_(max=logits.shape[-1] - 1)
    return chosen, logp.gather(1, chosen[:, None]).squeeze(1)
