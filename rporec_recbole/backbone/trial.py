"""A small copy of a model's configuration writes a few texts before the first stage: with a cache as without one, or not at all.

Architectures keep what they have read in many ways. One that takes no notice of the cache it is given writes texts that are not its
own, and says nothing; another stops hours later, where rows of its cache are chosen.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from rporec_recbole.backbone.engine import generate_tokens
from rporec_recbole.backbone.lora import attach_lora
from rporec_recbole.cot.store import Decoding
from rporec_recbole.errors import first_line

_WORDS, _EXPERTS, _BACK = 200, 4, 12
_SMALL, _CUT = 64, 8  # widths from the first on are divided by the second, so that those that belong together still do
_KEPT = re.compile(r"heads$|token|position|layer|group|expert|top|section|kernel|scal")
_NARROW = 256  # hidden sizes up to this one stay
_CLOSE = 1e-2  # of log-probabilities, relative to how far these are apart
_NEW = 10  # tokens that are written
_MOST = 200_000_000  # weights of a copy: some seconds


def trial_problem(config: Any, device: torch.device, adapter: bool) -> list[str]:
    """What is wrong with an architecture, in a list of one; nothing where all is well, or where no copy could be made.

    Args:
        config: of a transformers causal LM; it stays as it is.
        device: where the model will run.
        adapter: whether an adapter will be trained on it.
    """
    texts, found = _texts(min(_WORDS, config.get_text_config(decoder=True).vocab_size)), []
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)  # not those of GPUs, which `fork_rng` would leave seeded
        for model, plain in itertools.islice(_copies(config, device, texts), 2):  # a refusal needs a second opinion
            problem = _problem(model, plain, texts, adapter)
            if problem is None:
                return []
            found = [
                f"its architecture ({config.model_type}) does not do: a small copy of it {problem}. Take a model of another one, Llama, "
                f"Qwen, Gemma, Mistral and their hybrids for example{', or try lora=False' if adapter else ''}"
            ]
    return found


def _problem(model: Any, plain: Tensor, texts: Sequence[Sequence[int]], adapter: bool) -> str | None:
    try:
        if adapter:
            model = attach_lora(model, 2, 2, 0).eval()
        spread = float((plain.max() - plain.min()).clamp(min=1e-6))
        far = max(_padding(model, texts), _writing(model, texts)) / spread
    except Exception as error:
        # Whatever an architecture raises that does not take our arguments, our cache or an adapter.
        return f"stopped with {type(error).__name__}: {first_line(error)}"
    if far < _CLOSE:
        return None
    return (
        "wrote other texts with its cache, or beside longer ones, than without (log-probabilities differ by "
        f"{far:.2g} of their range)"
    )


def _texts(words: int) -> list[list[int]]:
    """Token sequences of many lengths, one of them twice."""
    rng = random.Random(0)
    texts = [[rng.randrange(words) for _ in range(length)] for length in (3, 17, 9, 26, 6)]
    return [*texts, texts[1]]


def _copies(config: Any, device: torch.device, texts: Sequence[Sequence[int]]) -> Iterator[tuple[Any, Tensor]]:
    """Copies that read a text, from the smallest, and what they read from it: some widths fit together in one way only."""
    for cut, few in ((_CUT, True), (_CUT, False), (1, True)):
        try:
            small = _smaller(config, cut, few)
            with torch.device("meta"):
                weights = sum(weight.numel() for weight in AutoModelForCausalLM.from_config(small).parameters())
            if weights > _MOST:
                continue
            model = AutoModelForCausalLM.from_config(small, dtype=torch.float32).to(device).eval()
            with torch.no_grad():
                for weight in model.parameters():
                    if weight.ndim > 1:
                        weight.mul_(3.0)  # new weights are so small that all texts would be alike
            plain = _plain(model, texts[1])
        except Exception:  # a copy that does not fit together says nothing about the model
            continue
        if bool(torch.isfinite(plain).all()):
            yield model, plain


def _smaller(config: Any, cut: int, few: bool) -> Any:
    """A config of the same kind with fewer words and experts, narrower, and with one layer of each sort."""
    values = config.to_dict()
    values.pop("quantization_config", None)
    text = config.get_text_config(decoder=True)
    layers, cut = text.num_hidden_layers, 1 if text.hidden_size <= _NARROW else cut
    for part in (values, *(part for part in values.values() if isinstance(part, dict) and "model_type" in part)):
        chosen = _one_of_each(text, part) if few and part.get("num_hidden_layers") == layers else list(range(layers))
        for name, value in part.items():
            if isinstance(value, list) and len(value) == layers:
                part[name] = [_number(name, value[number], cut) for number in chosen]
            else:
                part[name] = _number(name, value, cut)
        if len(chosen) < layers:
            part["num_hidden_layers"] = len(chosen)
            part.update({name: 0 for name in part if name.endswith("_shared_layers")})
    return type(config).from_dict(values)


def _one_of_each(text: Any, part: dict[str, Any]) -> list[int]:
    """The first layer of each sort, two at least; all up to the last of these where nothing lists the layers."""
    named = [name for name in ("layer_types", "layers_block_type") if getattr(text, name, None)]
    sorts = list(getattr(text, named[0])) if named else [None] * text.num_hidden_layers
    chosen = {*(sorts.index(sort) for sort in sorts), *range(min(2, len(sorts)))}
    listed = not named or named[0] in part
    return sorted(chosen) if listed else list(range(max(chosen) + 1))


def _number(name: str, value: Any, cut: int) -> Any:
    """A smaller one in the place of a number; anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    if name.endswith(("token_id", "token_index")):
        return min(value, 1)
    if name.startswith("vocab"):
        return min(value, _WORDS)
    if "experts" in name:
        return min(value, 2 if name.endswith("per_tok") else _EXPERTS)
    if "chunk" in name or name.endswith(("window", "window_size")):
        return min(value, _BACK)
    return value // cut if value >= _SMALL and value % (4 * cut) == 0 and not _KEPT.search(name) else value


@torch.no_grad()
def _plain(model: Any, text: Sequence[int]) -> Tensor:
    """Log-probabilities of the next word, `[T, V]`, of one text that is read alone and at once."""
    logits = model(input_ids=torch.tensor([list(text)], device=model.device), use_cache=False).logits[0]
    return torch.log_softmax(logits.float(), dim=-1)


@torch.no_grad()
def _padding(model: Any, texts: Sequence[Sequence[int]]) -> float:
    """How far the next word of a text depends on the longer ones beside it, as training reads them."""
    width = max(map(len, texts))
    tokens = torch.tensor([[0] * (width - len(text)) + list(text) for text in texts], device=model.device)
    mask = torch.tensor([[0] * (width - len(text)) + [1] * len(text) for text in texts], device=model.device)
    position = mask.cumsum(1).sub(1).clamp(min=0)
    logits = model(
        input_ids=tokens, attention_mask=mask, position_ids=position, use_cache=False, logits_to_keep=1
    ).logits
    found = torch.log_softmax(logits[:, -1].float(), dim=-1)
    return max(float((row - _plain(model, text)[-1]).abs().max()) for row, text in zip(found, texts, strict=True))


def _writing(model: Any, texts: Sequence[Sequence[int]]) -> float:
    """How far the words that are written with a cache differ in probability from those of one reading."""
    names = [str(number) for number in range(len(texts))]
    decoding = Decoding(temperature=1.0, max_new_tokens=_NEW)
    written = generate_tokens(model, texts, decoding, ends=[], pad=0, budget=10**6, identities=names, logprobs=True)
    far = 0.0
    for text, one in zip(texts, written, strict=True):
        plain = _plain(model, [*text, *one.tokens])[len(text) - 1 : -1].cpu()
        expected = plain.gather(1, torch.tensor(one.tokens)[:, None])[:, 0]
        far = max(far, float((torch.tensor(one.logprobs) - expected).abs().max()))
    return far
