"""The embedded default backbone: a small Qwen3-architecture causal LM with a BPE tokenizer made from the catalogue.

Both are ordinary transformers objects, so `save_pretrained`, PEFT and TRL work on them as on any hub model.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from rporec_recbole.text.completions import ANY_TAG, TAGS

END, PAD = "<|end|>", "<|pad|>"
_HEAD_SIZE = 32
# A catalogue's text is a small closed language: its titles come again and again, word for word. So tokens may span words, up to a
# whole title, and only the marks of prompt and completion end them: the fields of a line, its end, the sections of a reasoning text
# and the numbers that it counts. A title has the same tokens wherever it stands: behind `<answer>` a model can use what lists have taught it.
_PIECES = (
    (r" \| rated [^|\n]+\n|\n", "isolated"),
    (r" \| (?!rated )", "merged_with_next"),
    (r"evidence: |\. preference: |\. intent: |; | \d+, | \d+(?=\. intent)", "isolated"),
)
_OFTEN = 5  # times: what comes so often as a piece is a token
_WHOLE = 16_384  # of these tokens at most


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on given texts; it can encode any string and loses nothing.

    A piece that comes often, such as a title, is a token of its own. The four tags are single tokens but not special ones, so that
    decoding with `skip_special_tokens=True` keeps them.

    Args:
        texts: training texts.
        vocabulary: size including the 256 bytes, the tags and the end and padding tokens, without the frequent pieces.
    """
    tokenizer = Tokenizer(models.BPE())
    # Tags are tokens anyway: what is learned of them, or across them, would never be used.
    texts = [part for text in texts for part in ANY_TAG.split(text)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            *(pre_tokenizers.Split(Regex(pattern), behavior) for pattern, behavior in _PIECES),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(TAGS),
        special_tokens=[PAD, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    learned = json.loads(tokenizer.to_str())["model"]
    whole = [piece for piece in _frequent_pieces(tokenizer, texts) if piece not in learned["vocab"]][:_WHOLE]
    tokens = {**learned["vocab"], **{piece: len(learned["vocab"]) + number for number, piece in enumerate(whole)}}
    merges = [tuple(pair) for pair in learned["merges"]]
    tokenizer.model = models.BPE(tokens, merges, ignore_merges=True)
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in TAGS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def _frequent_pieces(tokenizer: Tokenizer, texts: Iterable[str]) -> list[str]:
    """Pieces between marks, as bytes are written in a vocabulary, the most frequent first."""
    counts: Counter[str] = Counter()
    for line, times in Counter(line for text in texts for line in text.splitlines(keepends=True)).items():
        for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(line):
            counts[piece] += times
    return [piece for piece, times in counts.most_common() if times >= _OFTEN]


def build_tiny(
    tokenizer: PreTrainedTokenizerFast, hidden_size: int, layers: int, max_length: int, seed: int
) -> Qwen3ForCausalLM:
    """An untrained Qwen3 model; `settings.TINY` has the sizes, from a tenth of a million to eight million weights.

    Args:
        tokenizer: gives the vocabulary and the end and padding tokens.
        hidden_size: width, a multiple of 64.
        layers: depth.
        max_length: longest sequence, prompt and completion together, in tokens.
        seed: seed of the weights; the global random state is left as it was.
    """
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=hidden_size * 8 // 3,
        num_hidden_layers=layers,
        num_attention_heads=hidden_size // _HEAD_SIZE,
        num_key_value_heads=hidden_size // (2 * _HEAD_SIZE),
        head_dim=_HEAD_SIZE,
        max_position_embeddings=max_length,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # not those of GPUs, which `fork_rng` would leave seeded
        model = Qwen3ForCausalLM(config)
    _begin_with_words(model, tokenizer)
    return model


def _begin_with_words(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """A piece that is a token of its own begins as the sum of what it would be spelled with: titles of the same words begin alike."""
    learned = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    spelling = models.BPE(learned["vocab"], [tuple(pair) for pair in learned["merges"]])
    weights = model.get_input_embeddings().weight
    with torch.no_grad():
        for piece, number in learned["vocab"].items():
            parts = [token.id for token in spelling.tokenize(piece)]
            if len(parts) > 1:
                weights[number] = weights[parts].sum(0) / len(parts) ** 0.5  # as long as the others
