"""Streams cover a history once, stay inside their window and never reach beyond what may be learned."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rporec_recbole.cot.streams import streams_of


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=80),
    st.integers(0, 50),
    st.integers(0, 90),
    st.integers(10, 120),
    st.integers(0, 9),
)
def test_every_interaction_but_the_first_is_learned_once(lengths, start, known, window, seed):
    stop = start + len(lengths)
    streams = streams_of(start, start + known, stop, lengths, window, np.random.default_rng(seed))
    learned = [at for stream in streams for at in range(stream.learned, stream.last)]
    assert learned == list(range(start + max(1, known), stop))
    for stream in streams:
        assert start <= stream.first < stream.learned < stream.last <= stop
        shown = [lengths[at - start] for at in range(stream.first, stream.last)]
        # One line is always learned after one that is shown, however long they are.
        assert sum(shown) <= window or len(shown) == 2 or max(shown) > window // 5


def test_another_pass_has_other_borders():
    lengths = [5] * 200
    passes = [streams_of(0, 0, 200, lengths, 100, np.random.default_rng(seed)) for seed in range(2)]
    assert passes[0] != passes[1]
    assert passes[0] == streams_of(0, 0, 200, lengths, 100, np.random.default_rng(0))
    assert all(sum(lengths[one.first : one.last]) <= 100 for one in passes[0])
    assert max(one.learned - one.first for one in passes[0]) == 4
