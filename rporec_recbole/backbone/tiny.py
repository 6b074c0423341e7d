"""The embedded default backbone: a small Qwen3-architecture causal LM with a BPE tokenizer made from the catalogue.

Both are ordinary transformers objects, so `save_pretrained`, PEFT and TRL work on them as on any hub model.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from rporec_recbole.text.completions import TAGS

END, PAD = "<|end|>", "<|pad|>"
_HEAD_SIZE = 32
# A catalogue's text is a small closed language: its titles come again and again, word for word. So tokens may span words, up to a
# whole title, and only the marks of prompt and completion end them: the fields of a line, the sections of a reasoning text
# and the numbers that it counts. A history then has a third of the tokens that it has word by word.
_PIECES = (
    (r" \| rated [\d.]+\n", "isolated"),
    (r" \| (?!rated )|(?<![\d.])\n", "merged_with_next"),
    (r"evidence: |\. preference: |\. intent: |; | \d+, | \d+(?=\. intent)", "isolated"),
)


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on given texts; it can encode any string and loses nothing.

    The four tags are single tokens but not special ones, so that decoding with `skip_special_tokens=True` keeps them.

    Args:
        texts: training texts.
        vocabulary: size including the 256 bytes, the tags and the end and padding tokens.
    """
    tokenizer = Tokenizer(models.BPE())
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
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in TAGS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


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
        torch.manual_seed(seed)
        return Qwen3ForCausalLM(config)
