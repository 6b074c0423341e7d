import logging
import os
import socket
import sqlite3
import subprocess
import sys
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rporec_recbole.cot import store as store_module
from rporec_recbole.cot.store import CoTStore, Decoding, StoredText, completion_key
from rporec_recbole.errors import StoreError


def filled(path, count=400):
    """A closed store of many pages; returns key -> text."""
    store = CoTStore(path)
    texts = {f"key {i}": f"text {i} " + "ü" * (i % 90) for i in range(count)}
    store.put({key: (f"prompt of {key}" * 5, text) for key, text in texts.items()}, "writer", Decoding())
    store.close()
    return texts


def test_keeps_and_finds(tmp_path):
    store = CoTStore(tmp_path / "s.sqlite")
    store.put({"k": ("prompt", "text")}, "writer", Decoding())
    again = CoTStore(tmp_path / "s.sqlite")
    assert again.get(["k", "other"]) == {"k": "text"}
    assert len(again) == 1
    (row,) = again
    assert (row.key, row.prompt, row.text, row.generator) == ("k", "prompt", "text", "writer")


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
    whole = '["g", {"max_new_tokens": 96, "temperature": 0.0}, "ü\\n\\""]'  # stores of before are found by it
    assert completion_key('ü\n"', "g", Decoding()) == sha256(whole.encode()).hexdigest()


def test_a_sound_store_is_left_alone(tmp_path):
    texts = filled(tmp_path / "s.sqlite")
    assert CoTStore(tmp_path / "s.sqlite").get(texts) == texts
    assert not list(tmp_path.glob("*.damaged*"))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**31), st.integers(1, 40))
def test_flipped_bits_never_come_back_as_text(tmp_path_factory, seed, flips):
    path = tmp_path_factory.mktemp("flipped") / "s.sqlite"
    texts = filled(path, 120)
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    for place in rng.integers(0, len(data), flips):
        data[place] ^= 1 << int(rng.integers(8))
    path.write_bytes(bytes(data))
    try:
        found = CoTStore(path).get(texts)
    except StoreError:  # the flip made it look like a file of another version, say; nothing was touched
        assert path.read_bytes() == bytes(data)
        return
    assert found.items() <= texts.items()
    if found != texts:
        assert list(path.parent.glob("s.sqlite.damaged-1"))


def test_one_damaged_page_costs_only_its_own_texts(tmp_path, caplog):
    path = tmp_path / "s.sqlite"
    texts = filled(path)
    data = bytearray(path.read_bytes())
    place = data.index(b"text 200 ")  # a page in the middle
    page = place // 4096 * 4096
    data[page : page + 4096] = os.urandom(4096)
    path.write_bytes(bytes(data))
    with caplog.at_level(logging.WARNING):
        found = CoTStore(path).get(texts)
    assert found.items() < texts.items()
    assert len(found) > len(texts) - 30
    assert "is damaged and was moved to" in caplog.text
    assert f"{len(found)} of its texts" in caplog.text
    assert (tmp_path / "s.sqlite.damaged-1").read_bytes() == bytes(data)
    assert CoTStore(path).get(texts) == found  # sound again
    assert not (tmp_path / "s.sqlite.damaged-2").exists()


def test_a_cut_file_keeps_what_can_be_read(tmp_path, caplog):
    path = tmp_path / "s.sqlite"
    texts = filled(path)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(size * 6 // 10)
    with caplog.at_level(logging.WARNING):
        found = CoTStore(path).get(texts)
    assert len(texts) // 4 < len(found) < len(texts)
    assert found.items() <= texts.items()
    assert "is damaged" in caplog.text


def test_a_file_that_is_no_store_is_kept_beside_the_new_one(tmp_path, caplog):
    (tmp_path / "s.sqlite").write_bytes(b"not a database" * 100)
    with caplog.at_level(logging.WARNING):
        store = CoTStore(tmp_path / "s.sqlite")
    assert len(store) == 0
    assert (tmp_path / "s.sqlite.damaged-1").read_bytes() == b"not a database" * 100
    assert "0 of its texts" in caplog.text


def test_a_store_of_another_version(tmp_path):
    with sqlite3.connect(tmp_path / "s.sqlite") as db:
        db.execute("CREATE TABLE completions (key TEXT PRIMARY KEY, text TEXT)")
    with pytest.raises(StoreError, match=r"another version.*format 0.*Move it away"):
        CoTStore(tmp_path / "s.sqlite")


def test_claims_are_exclusive_and_end_with_put_release_or_death(tmp_path, monkeypatch):
    mine = CoTStore(tmp_path / "s.sqlite")
    other = CoTStore(tmp_path / "s.sqlite")
    other._owner = f"{mine._owner.rpartition(':')[0]}:1"  # a living process
    assert mine.claim(["a", "b", "c"], 2) == ["a", "b"]
    assert other.claim(["a", "b", "c", "d"], 9) == ["c", "d"]
    mine.put({"a": ("p", "t")}, "w", Decoding())
    assert other.claim(["a", "b"], 9) == []
    mine.release()
    assert other.claim(["a", "b"], 9) == ["b"]
    other._owner = "x:2"
    assert mine.claim(["b", "c"], 9) == []
    monkeypatch.setattr(store_module, "is_dead", lambda owner: owner.endswith(":1"))
    assert mine.claim(["b", "c"], 9) == ["b", "c"]


def test_a_claim_of_another_host_ends_with_its_lease(tmp_path, monkeypatch):
    mine, other = CoTStore(tmp_path / "s.sqlite"), CoTStore(tmp_path / "s.sqlite")
    other._owner = "elsewhere:1"
    assert other.claim(["a"], 9) == ["a"]
    assert mine.claim(["a"], 9) == []
    now = store_module.time.time()
    monkeypatch.setattr(store_module.time, "time", lambda: now + store_module._LEASE + 1)
    assert mine.claim(["a"], 9) == ["a"]


def test_a_living_process_of_this_host_keeps_its_claims_however_long_it_writes(tmp_path, monkeypatch):
    mine, other = CoTStore(tmp_path / "s.sqlite"), CoTStore(tmp_path / "s.sqlite")
    assert other.claim(["a"], 9) == ["a"]
    now = store_module.time.time()
    monkeypatch.setattr(store_module.time, "time", lambda: now + 100 * store_module._LEASE)
    assert mine.claim(["a", "b"], 9) == ["b"]
    other.release()
    assert mine.claim(["a"], 9) == ["a"]


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="this system does not say when a process began")
def test_a_process_with_the_number_of_a_dead_one_does_not_hold_its_claims(tmp_path):
    mine, other = CoTStore(tmp_path / "s.sqlite"), CoTStore(tmp_path / "s.sqlite")
    other._owner = f"{socket.gethostname()}:{os.getpid()}@1#0"  # our number, but it began when the system did
    assert other.claim(["a"], 9) == ["a"]
    assert mine.claim(["a"], 9) == ["a"]


def test_a_process_that_nobody_waits_for_holds_nothing(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    mine, other = CoTStore(tmp_path / "s.sqlite"), CoTStore(tmp_path / "s.sqlite")
    other._owner = f"{socket.gethostname()}:{process.pid}"
    assert other.claim(["a"], 9) == ["a"]
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # over, and still listed
    if os.path.exists("/proc/self/stat"):
        assert mine.claim(["a"], 9) == ["a"]
    process.wait()


def test_what_a_store_claimed_and_did_not_write_it_may_claim_again(tmp_path):
    store = CoTStore(tmp_path / "s.sqlite")
    assert store.claim(["a", "b"], 9) == ["a", "b"]  # and then the disk is full, so that release fails too
    assert store.claim(["a", "b"], 9) == ["a", "b"]


def test_an_owner_that_is_no_text_any_more_holds_nothing(tmp_path):
    store = CoTStore(tmp_path / "s.sqlite")
    store._db.execute("INSERT INTO claims VALUES ('a', CAST(x'ff3a' AS TEXT), 0)")
    store._db.execute(f"INSERT INTO claims VALUES ('b', '{socket.gethostname()}:1x', 1e99)")
    store._db.commit()
    assert store.claim(["a", "b"], 9) == ["a", "b"]


def test_a_dead_process_holds_nothing(tmp_path):
    code = "import os, sys; from rporec_recbole.cot.store import CoTStore; CoTStore(sys.argv[1]).claim(['a', 'b'], 9); os._exit(3)"
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "s.sqlite")]).returncode == 3
    with sqlite3.connect(tmp_path / "s.sqlite") as left:
        assert left.execute("SELECT COUNT(*) FROM claims").fetchone() == (2,)
    assert CoTStore(tmp_path / "s.sqlite").claim(["a", "b"], 9) == ["a", "b"]


def change(path, old, new):
    """Damages a store that is open."""
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))


def overwrite(path):
    """Leaves nothing but the first page, from which an open store knows where its rows are."""
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))


@pytest.mark.parametrize("new", [b"texx 200 ", b"\xff\xff\xff\xff 200 "])
def test_a_row_that_is_damaged_while_the_store_is_open_is_missing_and_is_written_again(tmp_path, new):
    path = tmp_path / "s.sqlite"
    texts = filled(path)
    store = CoTStore(path)
    change(path, b"text 200 ", new)
    others = {key: text for key, text in texts.items() if key != "key 200"}
    assert store.get(texts) == others
    assert {row.key: row.text for row in store} == others
    assert store.claim(["key 199", "key 200"], 9) == ["key 200"]
    store.put({"key 199": ("p", "again"), "key 200": ("p", "again")}, "writer", Decoding())
    assert store.get(texts) == {**others, "key 200": "again"}
    store.close()
    assert CoTStore(path).get(texts) == {**others, "key 200": "again"}
    assert not list(tmp_path.glob("*.damaged*"))


def test_a_damaged_row_is_not_taken_from_another_store(tmp_path):
    texts = filled(tmp_path / "other.sqlite")
    store, other = CoTStore(tmp_path / "s.sqlite"), CoTStore(tmp_path / "other.sqlite")
    change(tmp_path / "other.sqlite", b"text 200 ", b"texx 200 ")
    store.take_from(other)
    assert len(store) == len(texts) - 1
    assert store.get(texts) == other.get(texts)


@pytest.mark.parametrize(
    "use",
    [
        list,
        len,
        lambda store: store.get(["key 200"]),
        lambda store: store.claim(["key 200"], 1),
        lambda store: store.put({"key 200": ("p", "t")}, "writer", Decoding()),
    ],
)
def test_a_store_that_is_damaged_while_it_is_open_says_so(tmp_path, use):
    path = tmp_path / "s.sqlite"
    filled(path)
    store = CoTStore(path)
    overwrite(path)
    with pytest.raises(StoreError, match=r"s\.sqlite cannot be (read|written) \(.*malformed.*Start again"):
        use(store)
    store.close()


def test_another_store_that_cannot_be_read_is_not_blamed_on_this_one(tmp_path):
    filled(tmp_path / "other.sqlite")
    store, other = CoTStore(tmp_path / "s.sqlite"), CoTStore(tmp_path / "other.sqlite")
    store.put({"k": ("prompt", "text")}, "writer", Decoding())
    overwrite(tmp_path / "other.sqlite")
    with pytest.raises(StoreError, match=r"other\.sqlite cannot be read") as caught:
        store.take_from(other)
    assert "disk space" not in str(caught.value)
    store.put({"l": ("prompt", "text")}, "writer", Decoding())
    assert store.get(["k", "l"]) == {"k": "text", "l": "text"}
    assert len(store) == 2


def test_opening_a_store_twice_leaves_the_locks_of_the_first(tmp_path):
    # POSIX drops all locks of a process on a file as soon as it closes any descriptor of it, so SQLite alone may open one.
    # Without them the last other process deletes the journal, and what this one has open looks damaged.
    path = tmp_path / "s.sqlite"
    texts = filled(path)
    store = CoTStore(path)
    assert store.get(texts) == texts
    second = CoTStore(path)
    script = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute('DELETE FROM claims'); db.close()"
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)
    assert (tmp_path / "s.sqlite-wal").exists()
    assert CoTStore(path).get(texts) == second.get(texts) == texts
    assert not list(tmp_path.glob("*.damaged*"))


def rows(*texts):
    return [StoredText(key, f"prompt of {key}", text, "somebody", "{}") for key, text in texts]


def test_texts_from_outside_are_taken_whole_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "_TAKEN_AT_ONCE", 2)
    store = CoTStore(tmp_path / "s.sqlite")
    store.put({"k": ("prompt of k", "text")}, "writer", Decoding())
    assert store.take(rows(("a", "A"), ("k", "text"), ("b", "B"), ("a", "A"))) == 2
    assert store.take(rows(("a", "A"), ("b", "B"))) == 0
    assert store.get(["a", "b", "k"]) == {"a": "A", "b": "B", "k": "text"}
    for texts in ((("c", "C"), ("d", "D"), ("k", "other")), (("c", "C"), ("d", "D"), ("e", "E"), ("c", "other"))):
        with pytest.raises(StoreError, match=f"1 keys have two different texts; the first: {texts[-1][0]}"):
            store.take(rows(*texts))
    with pytest.raises(ZeroDivisionError):
        store.take(row if row.key == "c" else 1 / 0 for row in rows(("c", "C"), ("d", "D"), ("e", "E")))
    assert len(store) == 3
    store.close()
    assert {row.key: row.generator for row in CoTStore(tmp_path / "s.sqlite")} == {
        "k": "writer",
        "a": "somebody",
        "b": "somebody",
    }
