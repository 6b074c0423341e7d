"""Composed texts state only what the prompt shows: every title, every trait and every count, over random catalogues."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from rporec_recbole.cot.compose import compose_completion, evidence_of
from rporec_recbole.cot.quality import QualityLimits, Written, bad_evidence, leak, titles_in
from rporec_recbole.text.catalogue import build_catalogue
from rporec_recbole.text.completions import parse_completion
from rporec_recbole.text.mentions import names
from rporec_recbole.text.prompts import PromptTemplate

LIMITS = QualityLimits(min_words=1, max_words=1000, repetition=1, copying=1)
COT = re.compile(r"evidence: (?P<evidence>.*)\. preference: (?P<preference>.*)\. intent: (?P<intent>.*)\.", re.DOTALL)
# No digits, no semicolons and few words: so titles share words with genres and with each other, and yet a count or the
# border between two titles is never a part of a title.
words = st.sampled_from(["Drama", "drama", "Crime", "Dark", "City", "the", "Łódź", "(II)", "O'Hara", "‹/think›", "a.b"])
titles = st.lists(words, min_size=1, max_size=3).flatmap(
    lambda parts: st.sampled_from([" ", ", "]).map(lambda joint: joint.join(parts))
)
genres = st.lists(st.sampled_from(["Drama", "Crime", "War,", "Sci-Fi", "Dark"]), max_size=3).map(" ".join)
years = st.sampled_from(["", "1994", "1999", "2001", "94"])


@st.composite
def cases(draw):
    size = draw(st.integers(2, 8))
    plain = draw(st.booleans())  # a catalogue of titles alone takes its traits from them
    columns = [
        draw(st.lists(kind, min_size=size, max_size=size)) for kind in ([titles] if plain else [titles, genres, years])
    ]
    tokens = ["[PAD]", *(f"token{i}" for i in range(size))]
    catalogue = build_catalogue(
        [["", *column] for column in columns], tokens, ["title", "genre", "year"][: len(columns)]
    )
    ids = st.integers(1, size)
    history = draw(st.lists(ids, min_size=1, max_size=12))
    template = PromptTemplate(catalogue, draw(st.integers(1, 10)), max_tokens=draw(st.integers(1, 200)))
    return catalogue, template, history, draw(ids), draw(ids)


def own_traits(line, plain):
    """What a line of the prompt says of its item, found without the code under test."""
    title, *attributes = line.split(" | ")
    if plain:
        parts = [word.strip(".,;:!?()'\"").lower() for word in title.split()]
        return {word for word in parts if len(word) > 3}
    parts = {word.strip(",;") for attribute in attributes for word in attribute.split()}
    return {re.sub(r"^(\d\d\d)\d$", r"\g<1>0s", word) for word in parts}


@given(cases())
@settings(max_examples=300, deadline=None)
def test_every_statement_is_in_the_prompt(case):
    catalogue, template, history, target, other = case
    prompt, shown = template.prompt(history), template.shown(history)
    assert prompt == "".join(f"{catalogue.lines[item]}\n" for item in shown)
    completion = parse_completion(compose_completion(catalogue, shown, target))
    assert completion.well_formed
    assert completion.answer == catalogue.lines[target]
    said = COT.fullmatch(completion.cot)
    lines = prompt.splitlines()
    # Without any attribute in the whole line an item's traits come from its title.
    per_line = [own_traits(line, plain=" | " not in line) for line in lines]

    newest = [line.split(" | ")[0] for line in lines[-2:]]
    assert said["evidence"] == "; ".join(newest) == evidence_of(completion.cot)
    assert set(newest) <= titles_in(prompt)

    counts = {trait: sum(trait in traits for traits in per_line) for trait in set().union(*per_line)}
    if counts:
        told = {trait: int(count) for trait, count in (part.rsplit(" ", 1) for part in said["preference"].split(", "))}
        assert told == {trait: counts[trait] for trait in told}
        assert len(told) == min(4, len(counts))
        assert min(told.values()) >= max((counts[trait] for trait in counts if trait not in told), default=0)
        assert set(said["intent"].split(", ")) <= set(counts)
    else:
        assert (said["preference"], said["intent"]) == ("no pattern", "something new")

    title = catalogue.items[target].title
    if names(completion.cot, title):
        assert names(prompt, title) or title.casefold() in {trait.casefold() for trait in counts}
        # ... and as a fact of the history it would stand there whatever the target is.
    again = COT.fullmatch(parse_completion(compose_completion(catalogue, shown, other)).cot)
    assert (again["evidence"], again["preference"]) == (said["evidence"], said["preference"])
    assert not bad_evidence(Written(completion, prompt), LIMITS)


def test_a_title_is_never_spelled_out_by_shared_words():
    catalogue = build_catalogue([["", "Dark Water", "City Lights", "dark, city"]], ["[PAD]", "a", "b", "c"], ["title"])
    prompt = PromptTemplate(catalogue, 5).prompt([1, 2])
    completion = parse_completion(compose_completion(catalogue, [1, 2], 3))
    assert "intent: dark." in completion.cot
    assert not leak(Written(completion, prompt, "dark, city"), LIMITS)
