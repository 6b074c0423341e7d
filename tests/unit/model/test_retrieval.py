import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rporec_recbole.model import retrieval


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(2, 700) | st.integers(5000, 12_000),
    st.integers(1, 9) | st.integers(100, 200),  # k
    st.integers(0, 1),
    st.integers(0, 2**31),
)
def test_equals_topk_of_all_scores(users, items, k, first, seed):
    generator = torch.Generator().manual_seed(seed)
    u, e = torch.randn(users, 5, generator=generator), torch.randn(items, 5, generator=generator)
    k = min(k, items - first)
    kept = retrieval._USERS, retrieval._ITEMS
    retrieval._USERS, retrieval._ITEMS = 7, 512  # many blocks
    try:
        values, ids = retrieval.top_items(u, e, k, first)
    finally:
        retrieval._USERS, retrieval._ITEMS = kept
    scores = u @ e.T
    scores[:, :first] = -torch.inf
    torch.testing.assert_close(values, scores.topk(k, dim=1).values)
    torch.testing.assert_close(scores.gather(1, ids), values)
    assert all(len(set(row)) == k for row in ids.tolist())


def test_asking_for_more_than_there_is():
    with pytest.raises(ValueError, match="between 1 and 4"):
        retrieval.top_items(torch.randn(2, 3), torch.randn(5, 3), 5)
