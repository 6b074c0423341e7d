"""The first 100 bytes of a store, which SQLite calls its header, may be damaged without the loss of a text."""

import contextlib
import logging
import os
import shutil
import sqlite3

import pytest

from rporec_recbole.cot.salvage import set_aside_if_damaged
from rporec_recbole.cot.store import CoTStore, Decoding
from rporec_recbole.errors import StoreError

HEADER = 100
TEXTS = {f"key {i}": f"text {i} " + "ü" * i for i in range(60)}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """The bytes of a closed store."""
    path = tmp_path_factory.mktemp("sound") / "s.sqlite"
    store = CoTStore(path)
    put(store, TEXTS)
    store.close()
    return path.read_bytes()


def put(store, texts):
    store.put({key: (f"prompt of {key}" * 5, text) for key, text in texts.items()}, "writer", Decoding())


def flipped(data, place, bit):
    return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


def readable(path):
    """What a store holds after `set_aside_if_damaged`, and that it can be written unless it was set aside."""
    rows = set_aside_if_damaged(path)
    if not path.exists():
        return {row[0]: row[2] for row in rows}
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA synchronous=OFF")
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO claims VALUES ('a', 'b', 0)")
        db.commit()
        return dict(db.execute("SELECT key, text FROM completions"))


@pytest.mark.parametrize("start", range(0, HEADER, 20))
def test_no_bit_of_the_header_costs_a_text(sound, tmp_path, start):
    path = tmp_path / "s.sqlite"
    for place in range(start, start + 20):
        for bit in range(8):
            path.write_bytes(flipped(sound, place, bit))
            assert readable(path) == TEXTS, (place, bit)
            for file in tmp_path.iterdir():
                file.unlink()


@pytest.mark.parametrize("place", [0, 16, 18, 19, 20, 21, 31, 47, 59, 60, 63])
def test_a_store_with_a_damaged_header_goes_on(sound, tmp_path, place, caplog):
    path = tmp_path / "s.sqlite"
    path.write_bytes(flipped(sound, place, 1))
    with caplog.at_level(logging.WARNING):
        store = CoTStore(path)
    assert store.get(TEXTS) == TEXTS
    put(store, {"new": "text"})
    store.close()
    assert CoTStore(path).get([*TEXTS, "new"]) == {**TEXTS, "new": "text"}
    aside = list(tmp_path.glob("s.sqlite.damaged-*"))
    assert len(aside) == caplog.text.count("60 of its texts could be read")
    assert all(one.read_bytes() == flipped(sound, place, 1) for one in aside)


@pytest.mark.parametrize("fill", [b"\0", b"\xff", None])
def test_a_header_of_which_nothing_is_left(sound, tmp_path, fill):
    path = tmp_path / "s.sqlite"
    path.write_bytes((os.urandom(HEADER) if fill is None else fill * HEADER) + sound[HEADER:])
    assert CoTStore(path).get(TEXTS) == TEXTS


@pytest.mark.parametrize("size", [1024, 8192, 65536])
@pytest.mark.parametrize("place", [0, 16, 17])
def test_pages_of_any_size(tmp_path, size, place):
    with contextlib.closing(sqlite3.connect(tmp_path / "s.sqlite")) as db:
        db.execute(f"PRAGMA page_size={size}")
        db.execute("VACUUM")
    store = CoTStore(tmp_path / "s.sqlite")
    put(store, TEXTS)
    store.close()
    path = tmp_path / "s.sqlite"
    data = path.read_bytes()
    assert int.from_bytes(data[16:18], "big") == size % 65535
    path.write_bytes(flipped(flipped(data, place, 3), 16, 6))
    assert CoTStore(path).get(TEXTS) == TEXTS


@pytest.mark.parametrize("place", [0, 16, 18, 31, 47, 60, 63])
@pytest.mark.parametrize("checkpoint", [False, True])
def test_a_store_whose_writer_was_killed(tmp_path, place, checkpoint):
    store = CoTStore(tmp_path / "open.sqlite")
    put(store, TEXTS)
    if checkpoint:  # page 1 lies in the file and not in its journal
        store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        put(store, {"new": "text"})
    path = tmp_path / "s.sqlite"
    shutil.copyfile(tmp_path / "open.sqlite-wal", tmp_path / "s.sqlite-wal")
    path.write_bytes(flipped((tmp_path / "open.sqlite").read_bytes(), place, 1))
    assert CoTStore(path).get([*TEXTS, "new"]) == ({**TEXTS, "new": "text"} if checkpoint else TEXTS)


def test_a_cut_file_without_its_header(sound, tmp_path):
    for cut, kind in ((len(sound) * 6 // 10, "whole"), (len(sound) * 6 // 10, "damaged")):
        path = tmp_path / kind / "s.sqlite"
        path.parent.mkdir()
        path.write_bytes((sound if kind == "whole" else bytes(HEADER) + sound[HEADER:])[:cut])
        found = CoTStore(path).get(TEXTS)
        assert found.items() < TEXTS.items()
        assert len(found) > len(TEXTS) // 4, kind


@pytest.mark.parametrize("version", [0, 1, 3, 2**31 - 1])
def test_a_store_of_another_version_is_refused_and_not_touched(tmp_path, version):
    path = tmp_path / "s.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE completions (key, prompt, text, generator, decoding, digest)")
        db.execute("INSERT INTO completions VALUES ('k', 'p', 't', 'g', 'd', 'a digest of another kind')")
        db.execute(f"PRAGMA user_version={version}")
        db.commit()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=rf"another version.*format {version}\).*Move it away"):
        CoTStore(path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["s.sqlite"]


def test_a_damaged_schema_is_not_taken_for_an_empty_store(sound, tmp_path):
    path = tmp_path / "s.sqlite"
    assert sound[103:105] == b"\0\4"
    path.write_bytes(flipped(sound, 104, 2))  # how many rows the schema has
    CoTStore(path)
    assert (tmp_path / "s.sqlite.damaged-1").read_bytes() == flipped(sound, 104, 2)


def test_a_damaged_number_of_a_row_does_not_make_the_reading_endless(sound, tmp_path):
    path = tmp_path / "s.sqlite"
    path.write_bytes(sound)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE completions SET rowid = rowid + (1 << 60) WHERE rowid > 30")
        db.commit()
    data = bytearray(path.read_bytes())
    place = data.index(b"text 30 ")
    page = place // 4096 * 4096
    data[page : page + 4096] = bytes(4096)
    path.write_bytes(bytes(data))
    found = CoTStore(path).get(TEXTS)
    assert found.items() < TEXTS.items()
    assert found
