"""Completions come back from tokens as they were, or a backbone is refused before the first stage."""

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rporec_recbole.backbone.engine import Generated
from rporec_recbole.backbone.load import check_backbone, make_backbone
from rporec_recbole.backbone.spelling import Spelling, spelling_problems
from rporec_recbole.errors import BackboneError
from rporec_recbole.settings.reader import default_settings
from rporec_recbole.text.completions import TAGS, parse_completion, render_completion
from tests.backbones import folder_of, qwen, word_tokenizer

LIMITS = {"max_prompt_tokens": 200, "max_new_tokens": 40, "prompt_style": "compact", "lora": False}


def special():
    tokenizer = word_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": [*TAGS, "<|item|>"]})
    return tokenizer


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    tokenizer = special()
    return folder_of(qwen(len(tokenizer)), tmp_path_factory.mktemp("special"), tokenizer)


def test_tags_that_are_special_tokens_stay_in_a_text_and_the_others_go(source):
    chosen = default_settings(backbone=str(source), **LIMITS).backbone
    check_backbone(chosen)
    backbone = make_backbone(chosen, [], torch.device("cpu"), 0)
    ((tokens, labels),) = backbone.encode_examples(["Film 3\n"], [render_completion("a drama", "Film 4 | Drama")])
    written = [token for token, label in zip(tokens, labels, strict=True) if label == token]
    item = backbone.tokenizer.convert_tokens_to_ids("<|item|>")
    (text,) = backbone.decode([Generated([item, *written], [])])
    assert parse_completion(text).well_formed
    assert text == render_completion("a drama", "Film 4 | Drama")
    assert backbone.has_answered.tokens[0] in backbone.end_tokens


def test_grounded_answers_with_such_tags(source):
    backbone = make_backbone(default_settings(backbone=str(source), **LIMITS).backbone, [], torch.device("cpu"), 0)
    backbone.ground(["", "Film 3 | Drama", "Film 4 | Comedy"])
    begun = backbone.tokenizer("<think>a drama</think><answer>", add_special_tokens=False)["input_ids"]
    from rporec_recbole.cot.store import Decoding

    answered = backbone.answer(["Film 3 | Drama\n"], [Generated(begun, [])], Decoding(guesses=2))
    found = parse_completion(backbone.decode(answered)[0])
    assert found.well_formed
    assert {guess.answer for guess in found.guesses} == {"Film 3 | Drama", "Film 4 | Comedy"}


def test_an_end_token_that_is_a_tag():
    tokenizer = special()
    tokenizer.eos_token = "</answer>"
    text = render_completion("a drama", "Film 4")
    assert Spelling(tokenizer)(tokenizer(text)["input_ids"]) == text
    assert spelling_problems(tokenizer, len(tokenizer), None) == []


def words_of(normalizer=None):
    """A tokenizer of whole words that keeps no `<`."""
    known = [
        "[UNK]",
        "[PAD]",
        "[END]",
        *[
            "evidence",
            "film",
            "3",
            "of",
            "1984",
            "more",
            "it",
            "intent",
            "a",
            "drama",
            "4",
            "the",
            "comedy",
            "1985",
            "think",
            "answer",
        ],
    ]
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(known)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.normalizer = normalizer
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[UNK]", pad_token="[PAD]", eos_token="[END]")


def test_a_tokenizer_without_the_marks_is_refused(tmp_path):
    (problem,) = spelling_problems(words_of(), 100, None)
    assert "comes back as" in problem
    assert "tokenizer.add_tokens" in problem
    tokenizer = words_of(normalizers.Lowercase())
    source = folder_of(qwen(len(tokenizer)), tmp_path, tokenizer)
    with pytest.raises(BackboneError, match="a completion does not come through its tokenizer"):
        check_backbone(default_settings(backbone=str(source), **LIMITS).backbone)


def test_small_letters_and_moved_spaces_are_no_reason():
    tokenizer = word_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    assert spelling_problems(tokenizer, len(tokenizer), None) == []


def test_no_end_token_and_too_many_tokens_are_said_at_once():
    tokenizer = word_tokenizer()
    embeddings = len(tokenizer)
    tokenizer.add_tokens(["<user>", "<item>"])
    tokenizer.eos_token = None
    first, second = spelling_problems(tokenizer, embeddings, [1])
    assert "no end token" in first
    assert repr(tokenizer.convert_ids_to_tokens(1)) in first
    assert f"2 tokens, up to number {embeddings + 1} ('<item>')" in second
    assert f"resize_token_embeddings({embeddings + 2})" in second


def test_special_tokens_beyond_the_embeddings_that_no_text_can_reach_do_no_harm():
    tokenizer = word_tokenizer()
    embeddings = len(tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image_soft_token>"]})  # as Gemma 3 1B has it
    assert spelling_problems(tokenizer, embeddings, None) == []
    tokenizer.pad_token = "<image_soft_token>"
    assert "longer than its embeddings" in spelling_problems(tokenizer, embeddings, None)[0]
