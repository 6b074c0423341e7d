import random
import re

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rporec_recbole.cot.compose import compose_completion
from rporec_recbole.data.ladder import EARLY, FUSION, RL, rungs
from rporec_recbole.evaluation.ranking import target_rank
from rporec_recbole.text.catalogue import build_catalogue, clean_text
from rporec_recbole.text.completions import TAGS, parse_completion
from rporec_recbole.text.prompts import PromptTemplate

# Half of the pieces are tags, whole or broken.
BROKEN = [
    "<think",
    "think>",
    "</",
    "<THINK>",
    "< think>",
    "<answer/>",
    "<<answer>>",
    "&lt;think&gt;",
    "\x00",
    "\ud800",
    "\n",
    "",
    "a",
    " ",
]
PIECES = [*TAGS, *TAGS, *TAGS, *BROKEN]
anything = st.lists(st.one_of(st.sampled_from(TAGS), st.text(max_size=6)), max_size=9).map("".join)


def check_parser(text):
    one = parse_completion(text)
    if one.well_formed:
        assert re.findall("|".join(map(re.escape, TAGS)), text) == list(TAGS), repr(text)
        assert one.cot, repr(text)
        assert one.answer, repr(text)
    return one.well_formed


def test_parser_never_raises_and_never_accepts_repeats():
    """Many short texts, other ones each time: drawn without hypothesis, which takes a hundred times as long for each of them."""
    draw, right = random.Random(), 0
    for _ in range(20_000):
        check_parser("".join(draw.choices(PIECES, k=draw.randrange(10))))
        pieces = [TAGS[0], "a", TAGS[1], TAGS[2], "b", TAGS[3]]  # right, and then changed in a few places
        for _ in range(draw.randrange(4)):
            place = draw.randrange(len(pieces))
            pieces[place : place + draw.randrange(2)] = draw.choices(PIECES, k=draw.randrange(3))
        right += check_parser("".join(pieces))
    assert 1000 < right < 19_000


@given(anything)
@settings(max_examples=1000, deadline=None)
def test_parser_on_any_text(text):
    check_parser(text)


@given(st.text(max_size=200), st.integers(1, 60))
@settings(max_examples=1000, deadline=None)
def test_clean_text_is_one_safe_line(text, limit):
    clean = clean_text(text, limit)
    assert len(clean) <= limit
    assert not set(clean) & set("<>|\n\r\t")


hostile = st.one_of(
    anything,
    st.lists(
        st.sampled_from([*TAGS, "\n", "\r\n", "\u2028", "\x00", "\x1b[2J", "\u202e", "שלום", "|", "a" * 10_000, " "])
    ).map("".join),
)


@given(st.lists(hostile, min_size=1, max_size=4))
@settings(max_examples=300, deadline=None)
def test_titles_change_no_structure(titles):
    """Whatever a title holds: one line an item in the prompt, and a completion that quotes titles is read back whole."""
    columns = [["", *titles], ["", *reversed(titles)]]
    catalogue = build_catalogue(columns, [str(i) for i in range(len(titles) + 1)], ["title", "genre"])
    history = list(range(1, len(titles) + 1))
    prompt = PromptTemplate(catalogue, max_items=len(titles)).prompt(history)
    assert prompt == "".join(line + "\n" for line in catalogue.lines[1:])
    assert len(prompt.splitlines()) == len(titles)
    assert all(len(line) <= 2 * 80 + 3 and line.isprintable() for line in prompt.splitlines())
    read = parse_completion(compose_completion(catalogue, history, target=1))
    assert read.well_formed
    assert read.answer == catalogue.lines[1]


@given(st.integers(0, 200), st.floats(0.05, 1.0), st.floats(0.0, 0.95))
def test_ladder_is_ordered_in_time_and_complete(n, early, rl):
    ladder = rungs(n, early, rl)
    assert set(ladder) <= {EARLY, FUSION, RL}
    late = np.flatnonzero(ladder != EARLY)
    assert (np.diff(late) == 1).all()
    assert n == 0 or ladder[0] == EARLY
    assert not len(late) or late[-1] == n - 1


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=12), st.data())
def test_rank_counts_ties_against_the_model(values, data):
    target = data.draw(st.integers(0, len(values) - 1))
    rank = target_rank(torch.tensor([values], dtype=torch.float), torch.tensor([target])).item()
    assert rank == sum(v >= values[target] for v in values)
