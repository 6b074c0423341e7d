"""Histories in files of every form, one or many, and names that came before."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rporec_recbole.data import histories
from rporec_recbole.data.histories import interaction_of, read_histories
from rporec_recbole.data.met import Met
from rporec_recbole.errors import DatasetError

IDS = {"[PAD]": 0, **{f"i{number}": number for number in range(1, 30)}, "7": 30}
USERS = {f"u{user}": [f"i{1 + (user + step) % 29}" for step in range(1 + user % 4)] for user in range(9)}


def write(folder, name, users):
    if name.endswith(".parquet"):
        pq.write_table(pa.table({"user": list(users), "items": list(users.values())}), folder / name)
    elif name.endswith(".csv"):
        rows = {"user": list(users), "items": [" ".join(items) for items in users.values()]}
        pd.DataFrame(rows).to_csv(folder / name, index=False)
    elif name.endswith(".jsonl"):
        lines = (json.dumps({"user": user, "items": items}) for user, items in users.items())
        (folder / name).write_text("\n".join(lines))
    else:
        (folder / name).write_text("".join(f"{user}\t{' '.join(items)}\n" for user, items in users.items()))


def read(given, **options):
    return {one.user: one.items.tolist() for one in read_histories(given, IDS, **options).found}


EXPECTED = {user: [IDS[item] for item in items] for user, items in USERS.items()}


@pytest.mark.parametrize("name", ["h.parquet", "h.csv", "h.jsonl", "h.txt"])
def test_all_forms_say_the_same(tmp_path, name):
    write(tmp_path, name, USERS)
    assert read(tmp_path / name) == EXPECTED


def test_a_folder_and_a_pattern_are_read_in_the_order_of_their_files(tmp_path):
    names = list(USERS)
    for number, end in enumerate((".parquet", ".csv", ".jsonl")):
        write(tmp_path, f"part-{number}{end}", {user: USERS[user] for user in names[3 * number : 3 * number + 3]})
    (tmp_path / "_SUCCESS").write_text("")
    assert list(read(tmp_path).items()) == list(EXPECTED.items())
    assert list(read(tmp_path / "part-[02]*")) == [*names[:3], *names[6:]]
    found = read_histories(tmp_path, IDS)
    assert found.count == 9
    assert [len(piece) for piece in found.pieces(4)] == [4, 4, 1]


def test_ids_that_are_numbers(tmp_path):
    pq.write_table(pa.table({"user_id": [1, 2], "history": [[7], [7, 7]]}), tmp_path / "h.parquet")
    assert read(tmp_path / "h.parquet") == {"1": [30], "2": [30, 30]}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"user": ["a"], "goods": [["i1"]]}, "must have a column of users"),
        ({"items": [["i1"]]}, "must have a column of users"),
        ({"user": ["a"], "items": [[["i1"]]]}, "must hold lists of item ids"),
        ({"user": ["a"], "items": [["i1", "i1,i2"]]}, "row 1: the user 'a' has 1 unknown"),
        ({"user": ["a"], "items": [1.5]}, "must hold lists of item ids"),
        ({"user": ["a", None], "items": [["i1"], ["i2"]]}, "row 2: has no user"),
        ({"user": ["a", "b"], "items": [["i1"], None]}, "row 2: the user 'b' has no items"),
        ({"user": ["a"], "items": [["i1", None]]}, "row 1: an item is empty"),
        ({"user": ["a", "b", "a"], "items": [["i1"]] * 3}, "row 3: the user 'a' stands on row 1 already"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, table, message):
    pq.write_table(pa.table(table), tmp_path / "h.parquet")
    with pytest.raises(DatasetError, match=message):
        read(tmp_path / "h.parquet")


def test_files_that_are_not_there(tmp_path):
    for given, message in (
        (tmp_path, "holds no file"),
        (tmp_path / "*.parquet", "holds no file"),
        (tmp_path / "no.parquet", "There is no file"),
        (tmp_path / "no.txt", "Cannot read"),
    ):
        with pytest.raises(DatasetError, match=message):
            read(given)
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(DatasetError, match="cannot be read as Parquet"):
        read(tmp_path / "torn.parquet")


def test_a_user_of_another_file_is_found_however_many_stand_between(tmp_path, monkeypatch):
    monkeypatch.setattr(histories, "_NAMES_AT_ONCE", 2)
    write(tmp_path, "a.txt", USERS)
    write(tmp_path, "b.txt", {"x": ["i1"], "u1": ["i2"], "u2": ["i2"]})
    with pytest.raises(DatasetError) as error:
        read(tmp_path)
    assert "b.txt, line 2: the user 'u1' stands further up already" in str(error.value)
    assert "'u2'" in str(error.value)


def test_files_that_change_while_they_are_read(tmp_path):
    write(tmp_path, "h.txt", USERS)
    found = read_histories(tmp_path / "h.txt", IDS)
    write(tmp_path, "h.txt", {"a": ["unknown"]})
    with pytest.raises(DatasetError, match="has changed while it was read"):
        list(found.pieces(5))


def test_rows_have_the_newest_items():
    found = [histories.History("a", np.array([1, 2, 3])), histories.History("b", np.array([4]))]
    rows = interaction_of(found, 2, "items", "length")
    assert (rows["items"].tolist(), rows["length"].tolist()) == ([[2, 3], [4, 0]], [2, 1])


def test_names_are_met_once():
    met, rng = Met(), np.random.default_rng(0)
    known: set[str] = set()
    for _ in range(60):
        names = [str(number) for number in np.unique(rng.integers(0, 3000, rng.integers(1, 200)))]
        assert met.again(names).tolist() == [name in known for name in names]
        known |= set(names)
    assert len(met) == len(known)
    assert met.again(["\udcff", "new"]).tolist() == [False, False]
    assert met.again([]).tolist() == []


TIMES = {user: [100.5 * (step + 1) for step in range(len(items))] for user, items in USERS.items()}


def write_timed(folder, name, users, times):
    columns = {"user": list(users), "items": list(users.values()), "times": [times[user] for user in users]}
    if name.endswith(".parquet"):
        pq.write_table(pa.table(columns), folder / name)
    elif name.endswith(".csv"):
        joined = {
            key: columns[key] if key == "user" else [" ".join(map(str, row)) for row in columns[key]] for key in columns
        }
        pd.DataFrame(joined).to_csv(folder / name, index=False)
    else:
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        (folder / name).write_text("\n".join(map(json.dumps, rows)))
    return folder / name


@pytest.mark.parametrize("name", ["h.parquet", "h.csv", "h.jsonl"])
def test_times_stand_beside_items_in_every_form_that_has_names(tmp_path, name):
    given = {**USERS, "u1": ["strange", *USERS["u1"][1:]]}
    found = read_histories(write_timed(tmp_path, name, given, TIMES), IDS, skip_unknown=True).found
    assert {one.user: one.times.tolist() for one in found} == {
        **TIMES,
        "u1": TIMES["u1"][1:],
    }  # an unknown item takes its time with it
    assert {one.user: one.items.tolist() for one in found} == {**EXPECTED, "u1": EXPECTED["u1"][1:]}


@pytest.mark.parametrize(
    ("name", "times", "fault"),
    [
        ("h.parquet", [3.0], "are 1, and there are 2 items"),
        ("h.parquet", [9, 3], "go back somewhere"),
        ("h.csv", ["1", "noon"], "must be a list of numbers"),
        ("h.csv", ["1", "nan"], "must be a list of numbers"),
    ],
)
def test_times_that_cannot_be_are_named(tmp_path, name, times, fault):
    path = write_timed(tmp_path, name, {"a": ["i1", "i2"]}, {"a": times})
    with pytest.raises(DatasetError, match=f"row 1: the times of the user 'a' {fault}"):
        read_histories(path, IDS)
