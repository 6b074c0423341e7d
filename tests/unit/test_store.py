import pytest

from rporec_recbole.cot.store import CoTStore, Decoding, completion_key
from rporec_recbole.errors import StoreError


def test_keeps_and_finds(tmp_path):
    store = CoTStore(tmp_path / "s.sqlite")
    store.put({"k": ("prompt", "text")}, "writer", Decoding())
    again = CoTStore(tmp_path / "s.sqlite")
    assert again.get(["k", "other"]) == {"k": "text"}
    assert len(again) == 1


def test_key_depends_on_all_that_determines_the_text():
    base = completion_key("p", "g", Decoding())
    others = [
        completion_key("q", "g", Decoding()),
        completion_key("p", "h", Decoding()),
        completion_key("p", "g", Decoding(0.7)),
        completion_key("p", "g", Decoding(0.7, seed=1)),
    ]
    assert len({base, *others}) == 5
    assert completion_key("p", "g", Decoding(seed=3)) == base  # greedy ignores the seed


def test_no_store(tmp_path):
    (tmp_path / "s.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(StoreError, match="Move it away"):
        CoTStore(tmp_path / "s.sqlite")
