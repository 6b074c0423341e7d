"""Guesses behind an answer come back as they were, whatever titles hold; nothing that a model writes is read as guesses."""

from hypothesis import given
from hypothesis import strategies as st

from rporec_recbole.text.catalogue import ItemText, clean_text, describe
from rporec_recbole.text.completions import (
    TAGS,
    Guess,
    parse_completion,
    render_completion,
    render_guesses,
)

# Titles that would like to close a section, open the tail, start a line or forge a number.
hostile = st.lists(
    st.sampled_from(
        [
            *TAGS,
            "<guesses>",
            "</guesses>",
            "\n",
            "-0.5",
            "-1.2345 ",
            "\r",
            "\u2028",
            "\x85",
            "|",
            "Heat",
            " ",
            "é",
            "\x00",
        ]
    ),
    min_size=1,
    max_size=8,
).map("".join) | st.text(max_size=40)
titles = hostile.map(lambda raw: clean_text(raw, 80)).filter(bool)
lines = st.tuples(titles, titles).map(lambda parts: describe(ItemText(parts[0], parts[1:])))
numbers = st.floats(-60, 0).map(lambda value: round(value, 4))


@given(st.lists(st.tuples(lines, numbers), min_size=1, max_size=20))
def test_round_trip(pairs):
    values = sorted((value for _, value in pairs), reverse=True)
    guesses = tuple(Guess(line, value) for (line, _), value in zip(pairs, values, strict=True))
    written = render_completion("because", guesses[0].answer)
    one = parse_completion(written + render_guesses(guesses))
    assert one.guesses == guesses
    assert (one.text, one.cot, one.answer, one.well_formed) == (written, "because", guesses[0].answer, True)


@given(hostile, hostile)
def test_sections_cannot_forge_a_tail(cot, answer):
    assert parse_completion(f"<think>{cot}</think><answer>{answer}</answer>").guesses == ()


@given(lines, st.text(max_size=60))
def test_a_tail_of_another_form_is_no_tail_and_changes_nothing_else(line, tail):
    written = render_completion("because", line)
    one, plain = parse_completion(written + tail), parse_completion(written)
    if not one.guesses:
        assert (one.cot, one.answer, one.well_formed) == (plain.cot, plain.answer, plain.well_formed) or any(
            tag in tail for tag in TAGS
        )
