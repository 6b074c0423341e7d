"""Tables of records and tables with types: JSON lines, Python literals, Parquet, saved data sets, data frames."""

import json

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rporec_recbole.errors import DatasetError
from rporec_recbole.tables.columnar import InMemory
from rporec_recbole.tables.reading import open_table
from rporec_recbole.tables.table import as_texts
from tests.unit.tables.shops import write


def content(table):
    found = {name: [] for name in table.columns}
    for batch in table.batches(table.columns):
        for name, array in batch.items():
            found[name] += as_texts(array).to_pylist()
    return found


def test_numbers_of_json_stay_as_they_are_written(tmp_path):
    lines = [
        '{"user": 1.0, "item": "007", "tags": ["a", "b", "a"], "x": {"y": 1}}',
        "",
        '{"item": 1e5, "user": null, "fine": true}',
    ]
    table = open_table(write(tmp_path / "t.jsonl", "\n".join(lines)))
    assert content(table) == {
        "user": ["1.0", None], "item": ["007", "1e5"], "tags": ["a, b", None], "x": [None, None], "fine": [None, "True"],
    }  # fmt: skip


def test_a_list_of_records(tmp_path):
    table = open_table(write(tmp_path / "t.json", json.dumps([{"user": "a", "item": 1}, {"user": "b"}, 5], indent=1)))
    assert content(table) == {"user": ["a", "b"], "item": ["1", None]}
    assert table.torn.examples == ["'5' is no record"]


def test_python_literals_are_read_and_never_run(tmp_path):
    lines = [
        "{u'user': u'a\\'b', 'item': 5, 'early': False}",
        "{'user': __import__('os').getcwd()}",
        "{'user': 'c', 'item': [['x', 'y']]}",
    ]
    table = open_table(write(tmp_path / "t.json", "\n".join(lines)))
    assert content(table) == {"user": ["a'b", "c"], "item": ["5", "x, y"], "early": ["False", None]}
    assert table.torn.count == 1


def test_records_that_are_none(tmp_path):
    with pytest.raises(DatasetError, match=r"holds no records.*is no record"):
        open_table(write(tmp_path / "t.json", '{"user": \n'))
    with pytest.raises(DatasetError, match="begins like a JSON list"):
        open_table(write(tmp_path / "t.json", "[{,"))
    with pytest.raises(DatasetError, match="not written in utf-8"):
        open_table(write(tmp_path / "t.json", b'{"user": "\xe9"}\n'))


def test_parquet(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(
        pa.table({"user": pa.array(["a", None]).dictionary_encode(), "item": [1, 2], "tags": [["x"], []]}), path
    )
    assert content(open_table(path)) == {"user": ["a", None], "item": ["1", "2"], "tags": ["x", None]}
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DatasetError, match="as Parquet"):
        open_table(path)
    pq.write_table(pa.table({"user": pa.array([], pa.string())}), path)
    with pytest.raises(DatasetError, match="no rows"):
        open_table(path)


def test_a_saved_data_set(tmp_path):
    data = datasets.Dataset.from_dict({"user": ["01", "b"], "item": [3, 4]})
    data.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": data, "test": data}).save_to_disk(tmp_path / "parts")
    expected = {"user": ["01", "b"], "item": ["3", "4"]}
    assert content(open_table(tmp_path / "one")) == content(open_table(tmp_path / "parts/test")) == expected
    assert content(open_table(data)) == expected
    with pytest.raises(DatasetError, match=r"the parts test, train. Name the folder of one"):
        open_table(tmp_path / "parts")


def test_data_frames():
    frame = pd.DataFrame(
        {
            "user": ["01", 2, None],
            "item": [1.0, np.nan, 3.0],
            "score": [0.5, 2.0, np.inf],
            "kind": pd.Categorical(["a", "b", None]),
            "when": pd.to_datetime(["2024-03-05", None, "2024-03-06"], utc=True),
        }
    )
    found = content(InMemory(frame))
    assert found["user"] == ["01", "2", None]
    assert found["item"] == ["1", None, "3"]  # a gap made floats of whole numbers
    assert found["score"] == ["0.5", "2", None]
    assert found["kind"] == ["a", "b", None]
    assert content(InMemory(pa.table({"user": ["a"]}))) == {"user": ["a"]}
    for wrong, said in (([1, 2], "is a list"), (frame.iloc[:0], "no rows"), (pd.DataFrame(), "no rows")):
        with pytest.raises(DatasetError, match=said):
            InMemory(wrong)


def test_whatever_speaks_the_interface_of_arrow():
    class Frame:
        def __arrow_c_stream__(self, schema=None):
            return pa.table({"user": ["a"]}).__arrow_c_stream__(schema)

    assert content(InMemory(Frame())) == {"user": ["a"]}
