"""Grounded texts end in a line of the catalogue; where no answer is reached they stay malformed."""

import dataclasses

import pytest
import torch

from rporec_recbole.backbone.engine import Generated
from rporec_recbole.backbone.grounding import Grounding, TagWatch
from rporec_recbole.backbone.model import Backbone
from rporec_recbole.backbone.tiny import build_tiny, train_tokenizer
from rporec_recbole.cot.store import CoTStore, Decoding, completion_key
from rporec_recbole.text.completions import parse_completion, render_completion

LINES = ("", *(f"Film {n} | {'Drama' if n % 2 else 'Crime'} | {1980 + n}" for n in range(1, 13)))
PROMPTS = [f"{LINES[n]}\n{LINES[n + 1]}\n" for n in range(1, 11)]


@pytest.fixture(scope="module")
def backbone():
    """It has learned the form and little else: some of its texts reach no answer."""
    tokenizer = train_tokenizer([*LINES, *PROMPTS, "evidence: Film. preference: Drama 2. intent: Crime."] * 3, 420)
    tiny = Backbone(build_tiny(tokenizer, 64, 2, 160, 0), tokenizer, "tiny", batch_tokens=900, max_prompt_tokens=80)
    texts = [render_completion(f"evidence: {n}", LINES[1 + n % 12]) for n in range(len(PROMPTS))]
    examples = tiny.encode_examples(PROMPTS, texts)
    optimizer = torch.optim.AdamW(tiny.trainable(), lr=0.01)
    tiny.model.train()
    for _ in range(70):
        batch = tiny.collate(examples)
        logits = tiny.logits(batch)[:, :-1].flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(logits, batch["labels"][:, 1:].flatten(), ignore_index=-100)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    tiny.model.eval()
    tiny.weights_changed()
    tiny.ground(LINES)
    return tiny


def grounded(temperature=0.0, guesses=4, **more):
    return Decoding(temperature, 40, 3, guesses=guesses, lines="x", **more)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_answers_are_lines_with_others_behind(backbone, temperature):
    kept = {}
    texts = backbone.generate(
        PROMPTS, grounded(temperature), lambda rows, some: kept.update(zip(rows, some, strict=True))
    )
    assert [kept[row] for row in range(len(PROMPTS))] == texts
    parsed = [parse_completion(text) for text in texts]
    assert any(one.well_formed for one in parsed)
    for one in parsed:
        if one.well_formed:
            assert one.answer in LINES[1:]
            assert [guess.answer for guess in one.guesses] == list(dict.fromkeys(guess.answer for guess in one.guesses))
            assert len(one.guesses) == 4
            assert one.guesses[0].answer == one.answer
            assert {guess.answer for guess in one.guesses} <= set(LINES[1:])
    free = backbone.generate(PROMPTS, Decoding(temperature, 40, 3))
    if temperature == 0:  # then the text before the answer is that of free writing
        heads = [
            (text.partition("<answer>")[0], other.partition("<answer>")[0])
            for text, other in zip(texts, free, strict=True)
        ]
        assert all(one == other for one, other in heads if other.startswith("<think>"))


def test_texts_do_not_depend_on_the_batch(backbone):
    together = [parse_completion(text) for text in backbone.generate(PROMPTS, grounded(0.7))]
    for prompt, one in zip(PROMPTS, together, strict=True):
        alone = parse_completion(backbone.generate([prompt], grounded(0.7))[0])
        assert alone.text == one.text
        assert [guess.answer for guess in alone.guesses] == [guess.answer for guess in one.guesses]
        assert [guess.logprob for guess in alone.guesses] == pytest.approx([g.logprob for g in one.guesses], abs=1e-3)


def test_drawn_answers_carry_their_own_log_probability(backbone):
    # At temperature 1 all draws are the likeliest item where a processor's sums have trained a surer model.
    identities = [f"1/{n}" for n in range(40)]
    drawn = backbone.generate_tokens([PROMPTS[0]] * 40, grounded(1.5, 1), identities=identities)
    texts = [parse_completion(text) for text in backbone.decode(drawn)]
    good = [(one, text) for one, text in zip(drawn, texts, strict=True) if text.well_formed]
    assert len({text.answer for _, text in good}) > 1
    for one, text in good:
        assert text.answer in LINES[1:]
        assert len(text.guesses) == 1
        assert one.tokens[-1] == backbone.tokenizer("</answer>")["input_ids"][0]
        assert backbone.tokenizer.decode(one.tokens) == text.text
        assert len(one.tokens) <= 40
    again = backbone.generate_tokens([PROMPTS[0]] * 3, grounded(1.5, 1), identities=identities[:3])
    assert [one.tokens for one in again] == [one.tokens for one in drawn[:3]]
    (greedy,) = backbone.generate_tokens([PROMPTS[0]], grounded(0.0, 1))
    assert greedy.guesses[0].answer in {line for line in LINES if line}


@pytest.mark.parametrize(
    "text",
    [
        "<think>a",
        "<think>a</think>",
        "<answer>",
        "<think></think><answer>",
        "<think>a</think><think>b</think><answer>",
        "<think>a</answer>",
    ],
)
def test_malformed_texts_stay_as_they_are(backbone, text):
    tokens = backbone.tokenizer(text)["input_ids"]
    (one,) = backbone.answer(PROMPTS[:1], [Generated(tokens, [])], grounded())
    assert one == Generated(tokens, [])
    (one,) = backbone.answer(PROMPTS[:1], [Generated(tokens, [])], grounded(1.0, 1), ["0"])
    assert one == Generated(tokens, [])


def test_what_stands_behind_the_tag_in_its_last_token_is_forgotten(backbone):
    tokens = [*backbone.tokenizer("<think>a</think><answer>")["input_ids"], *backbone.tokenizer("Film")["input_ids"]]
    (one,) = backbone.answer(PROMPTS[:1], [Generated(tokens, [])], grounded())
    (same,) = backbone.answer(
        PROMPTS[:1], [Generated(tokens[: tokens.index(tokens[-1])][: len(tokens) - 1], [])], grounded()
    )
    assert backbone.decode([one])[0].startswith("<think>a</think><answer>Film")
    assert one.guesses[0].answer in LINES
    assert same.guesses


def test_keys_say_what_was_guessed_among():
    free = Decoding(0.7, 40, 3)
    assert free.identity == {"temperature": 0.7, "max_new_tokens": 40, "seed": 3, "sample": 0}
    assert Decoding(max_new_tokens=40).identity == {"temperature": 0.0, "max_new_tokens": 40}
    one = dataclasses.replace(free, guesses=4, lines="a")
    others = [free, dataclasses.replace(one, guesses=5), dataclasses.replace(one, lines="b")]
    assert len({completion_key("p", "w", each) for each in [one, *others]}) == 4


def test_a_store_keeps_guesses(backbone, tmp_path):
    (text,) = backbone.generate(PROMPTS[:1], grounded())
    store = CoTStore(tmp_path / "s.sqlite")
    store.put({"k": (PROMPTS[0], text)}, "w", grounded())
    assert store.get(["k"]) == {"k": text}
    store.close()


def test_digest_is_of_the_lines(backbone):
    assert Grounding(LINES, backbone.tokenizer).digest == backbone.grounding.digest
    assert Grounding(LINES[:-1], backbone.tokenizer).digest != backbone.grounding.digest


def test_tags_of_several_tokens_are_seen():
    tokenizer = train_tokenizer(["a"], 300)
    watch = TagWatch(tokenizer, "<x>", "</answer>")
    assert watch.needed
    assert watch.tokens == tokenizer("</answer>")["input_ids"]
    assert watch(tokenizer("b<x>")["input_ids"])
    assert not watch(tokenizer("b<x")["input_ids"])


@pytest.mark.parametrize("rated", [False, True])
def test_what_a_prompt_shows_is_no_answer_where_nobody_has_an_item_twice(backbone, rated):
    prompts = [p.replace("\n", " | rated 3.5\n") for p in PROMPTS] if rated else PROMPTS
    backbone.ground(LINES, repeats=False)
    assert backbone.grounding.digest == Grounding(LINES, backbone.tokenizer, repeats=False).digest
    begun = [Generated(backbone.tokenizer("<think>a</think><answer>")["input_ids"], [])] * len(prompts)
    first = backbone.answer(prompts, begun, grounded(guesses=12))
    drawn = backbone.answer(prompts, begun, grounded(1.0, 1), [str(n) for n in range(len(prompts))])
    backbone.ground(LINES)
    assert backbone.grounding.digest != Grounding(LINES, backbone.tokenizer, repeats=False).digest
    for number, (likely, one) in enumerate(zip(first, drawn, strict=True), start=1):
        shown = {LINES[number], LINES[number + 1]}
        assert {guess.answer for guess in likely.guesses} == set(LINES[1:]) - shown
        assert one.guesses[0].answer not in shown
    again = backbone.answer(prompts, begun, grounded(guesses=12))
    assert all(len(one.guesses) == 12 for one in again)
