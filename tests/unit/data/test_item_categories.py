"""Which column of an `.item` file holds categories, and how its texts are taken apart."""

import pytest

from rporec_recbole.data.item_texts import item_categories
from rporec_recbole.errors import DatasetError


def categories(tmp_path, header, *rows, separator=" "):
    folder = tmp_path / "d"
    folder.mkdir(exist_ok=True)
    (folder / "d.item").write_text("\n".join([f"item_id:token\t{header}", *rows]) + "\n", encoding="utf-8")
    config = {
        "data_path": str(folder), "dataset": "d", "ITEM_ID_FIELD": "item_id", "field_separator": "\t", "encoding": None,
        "seq_separator": separator,
    }  # fmt: skip
    return item_categories(config, ["[PAD]", "a", "b", "c"])


@pytest.mark.parametrize(
    ("header", "text", "found"),
    [
        ("genre:token_seq", "Drama Crime", ["Crime", "Drama"]),
        ("class:token", "Film noir", ["Film noir"]),
        ("Main_Category:token", "Toys", ["Toys"]),
        ("categories:token_seq", "Board Games, Toys, Toys, ", ["Board Games", "Toys"]),
        ("genres:token", "Drama|Crime", ["Crime", "Drama"]),
        ("genre:token_seq", "", []),
    ],
)
def test_texts_are_taken_apart(tmp_path, header, text, found):
    assert categories(tmp_path, header, f"a\t{text}", "c\tOther") == [[], found, [], ["Other"]]


def test_another_separator_and_several_columns(tmp_path):
    assert categories(tmp_path, "genre:token_seq", "a\tFilm noir;Drama", separator=";")[1] == ["Drama", "Film noir"]
    assert categories(tmp_path, "category:token\tgenre:token", "a\tx\ty")[1] == ["y"]  # the first in the order of names


def test_no_column_is_called_so(tmp_path):
    assert categories(tmp_path, "title:token_seq\tbrand:token", "a\tx\ty") is None
    assert categories(tmp_path, "genre:float", "a\t1") is None  # numbers are no names
    (tmp_path / "d/d.item").unlink()
    with pytest.raises(DatasetError):
        item_categories(
            {"data_path": str(tmp_path), "dataset": "d", "field_separator": "\t", "encoding": None}, ["[PAD]"]
        )
