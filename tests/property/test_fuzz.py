import re

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rporec_recbole.data.ladder import EARLY, FUSION, RL, rungs
from rporec_recbole.ranking import target_rank
from rporec_recbole.text.catalogue import clean_text
from rporec_recbole.text.completions import TAGS, parse_completion

pieces = st.lists(st.one_of(st.sampled_from(TAGS), st.text(max_size=6)), max_size=9).map("".join)


@given(pieces)
@settings(max_examples=3000, deadline=None)
def test_parser_never_raises_and_never_accepts_repeats(text):
    one = parse_completion(text)
    if one.well_formed:
        assert re.findall("|".join(map(re.escape, TAGS)), text) == list(TAGS)
        assert one.cot
        assert one.answer


@given(st.text(max_size=200), st.integers(1, 60))
@settings(max_examples=1000, deadline=None)
def test_clean_text_is_one_safe_line(text, limit):
    clean = clean_text(text, limit)
    assert len(clean) <= limit
    assert not set(clean) & set("<>|\n\r\t")


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
