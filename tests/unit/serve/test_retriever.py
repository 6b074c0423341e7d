"""The retriever against the plain definition of its ranking, and the index on disk."""

import json
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rporec_recbole.errors import ConfigError, RPORecError, RunFolderError
from rporec_recbole.model.rechead import distinct
from rporec_recbole.serve.index import ItemIndex, hash_of
from rporec_recbole.serve.retriever import Retriever

GENEROUS = {"hnsw_search": 1000, "hnsw_neighbours": 16}
SMALL_CODES = {"ivf_lists": 4, "ivf_probes": 4, "pq_parts": 4, "pq_bits": 4}


def vectors_of(items, dimension=8, seed=0):
    return torch.randn(items + 1, dimension, generator=torch.Generator().manual_seed(seed))


def by_definition(items, user, seen, offset, hidden, k):
    """Ids and scores of one row, one item after the other."""
    scores = {}
    for item in range(1, len(items)):
        if item not in hidden:
            bias = offset if offset is not None and item in seen else 0.0
            scores[item] = float(torch.dot(user, items[item])) + bias
    best = sorted(scores, key=lambda item: (-scores[item], item))[:k]
    return best, [scores[item] for item in best]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40),  # items
    st.integers(1, 4),  # users
    st.integers(0, 6),  # history
    st.none() | st.integers(0, 8),  # hidden
    st.booleans(),
    st.integers(1, 60),  # k
    st.sampled_from([None, "exact", "hnsw"]),
    st.integers(0, 2**31),
)
def test_equals_the_definition(count, users, history, hidden, biased, k, kind, seed):
    """Whole numbers as vectors: scores are exact, and many of them equal."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low, high, *shape):
        return torch.randint(low, high, shape, generator=generator)

    items, u = draw(-2, 3, count + 1, 3).float(), draw(-2, 3, users, 3).float()
    seen = distinct(draw(0, count + 1, users, history))
    offset = draw(-3, 4, users).float() if biased else None
    hide = None if hidden is None else draw(0, count + 1, users, hidden)
    index = None if kind is None else ItemIndex.build(items.numpy(), kind, GENEROUS if kind == "hnsw" else {})
    values, ids = Retriever(items, index).top(u, seen, offset, hide, k)
    assert values.shape == ids.shape == (users, min(k, count))
    for row in range(users):
        own = None if offset is None else float(offset[row])
        gone = set() if hide is None else set(hide[row].tolist())
        best, scores = by_definition(items, u[row], set(seen[row].tolist()), own, gone, k)
        there = len(best)
        assert values[row, :there].tolist() == scores
        assert (values[row, there:] == -torch.inf).all()
        assert not ids[row, there:].any()
        found = ids[row, :there].tolist()
        assert len(set(found)) == there
        if kind is None:
            assert found == best
        else:  # which of equal items an index names across the cut is its own affair
            own_scores = dict(zip(found, scores, strict=True))
            assert found == sorted(found, key=lambda item: (-own_scores[item], item))
            assert not set(found) & gone


@pytest.mark.parametrize(("kind", "options"), [("exact", {}), ("hnsw", GENEROUS)])
def test_an_index_gives_what_all_scores_give(kind, options):
    items = vectors_of(400)
    generator = torch.Generator().manual_seed(1)
    users = torch.randn(32, 8, generator=generator)
    seen = distinct(torch.randint(0, 401, (32, 20), generator=generator))
    hidden = torch.randint(0, 401, (32, 50), generator=generator)
    offset = 3 * torch.randn(32, generator=generator)
    index = ItemIndex.build(items.numpy(), kind, options)
    for given_offset, gone in ((offset, hidden), (None, hidden), (offset, None)):
        expected = Retriever(items).top(users, seen, given_offset, gone, 10)
        found = Retriever(items, index).top(users, seen, given_offset, gone, 10)
        assert torch.equal(found[1], expected[1])
        torch.testing.assert_close(found[0], expected[0])


def test_codes_give_near_items_with_exact_scores():
    items, users = vectors_of(400), torch.randn(16, 8, generator=torch.Generator().manual_seed(2))
    nothing = torch.zeros(16, 0, dtype=torch.int64)
    index = ItemIndex.build(items.numpy(), "ivfpq", SMALL_CODES)
    values, ids = Retriever(items, index).top(users, nothing, None, None, 50)
    torch.testing.assert_close(values, (users @ items.T).gather(1, ids))
    exact = Retriever(items).top(users, nothing, None, None, 50)[1]
    assert np.mean([len(set(a) & set(b)) for a, b in zip(ids.tolist(), exact.tolist(), strict=True)]) > 25


def test_no_rows_at_all():
    items = vectors_of(5)
    for index in (None, ItemIndex.build(items.numpy())):
        empty = torch.zeros(0, 3, dtype=torch.int64)
        values, ids = Retriever(items, index).top(torch.zeros(0, 8), empty, None, empty, 4)
        assert values.shape == ids.shape == (0, 4)


def test_nothing_to_ask_for():
    items = vectors_of(5)
    with pytest.raises(ValueError, match="at least 1"):
        Retriever(items).top(items[:1], torch.zeros(1, 1, dtype=torch.int64), None, None, 0)
    with pytest.raises(ValueError, match=r"\[B, 8\]"):
        ItemIndex.build(items.numpy()).search(np.zeros((2, 7)), 1)


def test_an_index_of_other_items_is_refused():
    index = ItemIndex.build(vectors_of(9).numpy())
    for items in (vectors_of(8), vectors_of(9, dimension=4)):
        with pytest.raises(RunFolderError, match="rporec index RUN"):
            Retriever(items, index)


# --- on disk ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "options"), [("exact", {}), ("hnsw", GENEROUS), ("ivfpq", SMALL_CODES)])
def test_comes_back(tmp_path, kind, options):
    vectors = vectors_of(300).numpy()
    made = ItemIndex.build(vectors, kind, options)
    made.save(tmp_path / "index")
    back = ItemIndex.load(tmp_path / "index", hash_of(vectors))
    assert (back.kind, back.options, back.count, back.dimension) == (kind, made.options, 300, 8)
    for one, other in zip(back.search(vectors[:20], 12), made.search(vectors[:20], 12), strict=True):
        np.testing.assert_array_equal(one, other)
    assert back.search(vectors[:3], 10**6)[1].shape == (3, 300)
    assert len(list((tmp_path / "index").iterdir())) == 2


def test_a_new_index_takes_the_place_of_the_old_one(tmp_path):
    for count in (20, 30):
        ItemIndex.build(vectors_of(count).numpy()).save(tmp_path)
        assert ItemIndex.load(tmp_path).count == count
        assert len(list(tmp_path.iterdir())) == 2


def test_what_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    import faiss

    ItemIndex.build(vectors_of(20).numpy()).save(tmp_path)

    def full(index, path):
        with open(path, "w") as file:
            file.write("half")
        raise RuntimeError("Error in write: No space left on device")

    monkeypatch.setattr(faiss, "write_index", full)
    with pytest.raises(RunFolderError, match="No space left"):
        ItemIndex.build(vectors_of(30).numpy()).save(tmp_path)
    assert ItemIndex.load(tmp_path).count == 20
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.undo()
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="cannot be written"):
        ItemIndex.build(vectors_of(30).numpy()).save(tmp_path / "file" / "index")


def damage(folder, what):
    (path,) = folder.glob("items-*.faiss")
    about = json.loads((folder / "index.json").read_text())
    if what == "cut":
        path.write_bytes(path.read_bytes()[:-10])
    elif what == "bit":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif what == "gone":
        path.unlink()
    elif what == "text":
        (folder / "index.json").write_text("{")
    elif what == "nothing":
        (folder / "index.json").unlink()
    else:
        key, value = what
        (folder / "index.json").write_text(json.dumps(about | {key: value}))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("cut", "content has changed"),
        ("bit", "content has changed"),
        ("gone", "damaged or missing"),
        ("text", "index.json is damaged"),
        ("nothing", "holds no index"),
        (("format", 7), "has the format 7"),
        (("kind", "tree"), "must be one of exact, hnsw, ivfpq"),
        (("kind", "hnsw"), "damaged"),
        (("options", 3), "damaged"),
        (("count", 3), "holds 20 items"),
        (("file", "../../etc/passwd"), "damaged or missing"),
    ],
)
def test_damage_is_named(tmp_path, what, message):
    ItemIndex.build(vectors_of(20).numpy()).save(tmp_path)
    damage(tmp_path, what)
    with pytest.raises(RunFolderError, match=message) as error:
        ItemIndex.load(tmp_path)
    assert "rporec index RUN" in str(error.value)


def test_vectors_of_another_run_are_refused(tmp_path):
    ItemIndex.build(vectors_of(20).numpy()).save(tmp_path)
    with pytest.raises(RunFolderError, match="other item vectors"):
        ItemIndex.load(tmp_path, hash_of(vectors_of(20, seed=1).numpy()))


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("hnws", {}, "Did you mean `hnsw`"),
        ("hnsw", {"hnsw_neighbors": 8}, "Did you mean `hnsw_neighbours`"),
        ("exact", {"ivf_probes": 8}, "option of --kind=ivfpq"),
        ("hnsw", {"hnsw_search": 0}, "from 1 to"),
        ("hnsw", {"hnsw_search": True}, "whole number"),
        ("ivfpq", {"pq_parts": 3}, "must divide the dimension 8"),
        ("ivfpq", {"pq_parts": 4}, "20 items are too few for ivf_lists=4096"),
        ("ivfpq", {**SMALL_CODES, "ivf_probes": 5}, "at most ivf_lists=4"),
    ],
)
def test_options_that_cannot_be(kind, options, message):
    with pytest.raises(ConfigError, match=message):
        ItemIndex.build(vectors_of(20).numpy(), kind, options)


def test_vectors_that_cannot_be():
    for vectors, message in (
        (np.zeros((1, 8)), "hold no item"),
        (np.zeros(8), "hold no item"),
        (np.full((3, 8), np.nan), "no finite numbers"),
    ):
        with pytest.raises(ConfigError, match=message):
            ItemIndex.build(vectors)


def test_without_faiss_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(RPORecError, match=r'pip install "rporec_recbole\[serve\]"'):
        ItemIndex.build(np.ones((3, 4)))
