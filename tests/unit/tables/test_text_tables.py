"""Text tables: separators, quotes, line ends, encodings, packing, and files that are none."""

import bz2
import gzip
import io
import tarfile
import zipfile

import pytest

from rporec_recbole.errors import ConfigError, DatasetError
from rporec_recbole.tables import delimited
from rporec_recbole.tables.delimited import Delimited, separator_of
from rporec_recbole.tables.opening import Place, find
from rporec_recbole.tables.reading import open_table
from tests.unit.tables.shops import write

ROWS = {"user": ["01", "NA"], "item": ["1e5", "1.0"], "note": ['a, "b"\nc', ""]}


def content(table, columns=None):
    batches = list(table.batches(columns or table.columns))
    return {name: [one for batch in batches for one in batch[name].to_pylist()] for name in columns or table.columns}


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_separators_and_line_ends_are_found(tmp_path, separator, end):
    lines = ["user;item;note", '01;1e5;"a, ""b""\nc"', "NA;1.0;"]
    path = write(tmp_path / "t.csv", end.join(line.replace(";", separator) for line in lines) + end)
    table = open_table(path)
    assert (table.columns, content(table), table.torn.count) == (("user", "item", "note"), ROWS, 0)


def test_a_byte_order_mark_blank_lines_and_blanks_in_names(tmp_path):
    table = open_table(write(tmp_path / "t.csv", "\ufeffuser, item ,\n\n1,2,\n"))
    assert table.columns == ("user", "item", "")
    assert content(table, ["item"]) == {"item": ["2"]}


def test_a_name_over_two_lines(tmp_path):
    table = open_table(write(tmp_path / "t.csv", '"User\nname",item\n1,2\n'))
    assert content(table) == {"User\nname": ["1"], "item": ["2"]}


def test_rows_with_another_number_of_fields_are_counted(tmp_path):
    table = open_table(write(tmp_path / "t.csv", "user,item\n1,2\n3\n4,5,6\n7,8\n"))
    assert content(table) == {"user": ["1", "7"], "item": ["2", "8"]}
    assert table.torn.count == 2
    assert table.torn.examples[0] == "'3' has 1 fields instead of 2"
    assert content(table)["user"] == ["1", "7"]
    assert table.torn.count == 2  # counted anew


def test_quotes_that_are_none(tmp_path):
    path = write(tmp_path / "t.tsv", 'user\titem\n1\t"7 inch\n2\tb\n')
    assert content(open_table(path, quotes=False)) == {"user": ["1", "2"], "item": ['"7 inch', "b"]}


@pytest.mark.parametrize("rows", [1, 20, 300_000])
@pytest.mark.parametrize("start", ['1,"a,', '1,a,"'])
def test_a_quote_that_is_never_closed_swallows_no_file(tmp_path, rows, start):
    path = write(tmp_path / "t.csv", f"user,item,note\n1,a,\n{start}\n" + "2,b,\n" * rows)
    if start == '1,a,"':
        with pytest.raises(DatasetError, match="--quotes=False"):
            content(open_table(path), ["user"])
    else:
        table = open_table(path)
        assert len(content(table, ["user"])["user"]) == 1
        assert table.torn.count == 1  # so that the import is refused


def test_a_row_larger_than_what_is_read_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "_BLOCK", 1 << 16)
    path = write(tmp_path / "t.csv", 'user,item\n1,"a\n' + "2,b\n" * 100_000 + '3,"c"\n' * 2)
    with pytest.raises(DatasetError, match="--quotes=False"):
        content(open_table(path))


def test_texts_of_several_lines_are_no_open_quote(tmp_path):
    poem = "roses, red\n" * 50
    table = open_table(write(tmp_path / "t.csv", f'id,text\n1,"{poem}"\n2,"a,b\nc"\n'))
    assert content(table)["text"] == [poem, "a,b\nc"]


def test_a_huge_field_is_read(tmp_path):
    table = open_table(write(tmp_path / "t.csv", "user,item\n1," + "x" * 5_000_000 + "\n"))
    assert len(content(table)["item"][0]) == 5_000_000


def test_encodings(tmp_path):
    path = write(tmp_path / "t.csv", "user,item\n1,Café\n".encode("cp1252"))
    with pytest.raises(DatasetError, match=r"not written in utf-8.*cp1252.*1,Caf\\xe9"):
        content(open_table(path))
    assert content(open_table(path, "cp1252"))["item"] == ["Café"]
    path = write(tmp_path / "late.csv", b"user,item\n" + b"1,a\n" * 200_000 + b"1,\xe9\n")
    with pytest.raises(DatasetError, match="not written in utf-8"):
        content(open_table(path))
    path = write(tmp_path / "u.csv", "user,item\n1,Café\n")
    with pytest.raises(DatasetError, match="Leave --encoding out"):
        open_table(path, "cp1252")
    with pytest.raises(ConfigError, match="no encoding `latin-9000`"):
        open_table(path, "latin-9000")
    path = write(tmp_path / "w.csv", "user,item\n1,Café\n".encode("utf-16"))
    with pytest.raises(DatasetError, match="--encoding=utf-16"):
        open_table(path)
    assert content(open_table(path, "utf-16")) == {"user": ["1"], "item": ["Café"]}


def test_separators_of_two_characters_across_pieces(tmp_path):
    rows = [f"{number}::a:b{'x' * 50}::{number}" for number in range(60_000)]
    table = Delimited(Place(write(tmp_path / "t.dat", "\n".join(rows))), separator="::", header=("u", "i", "t"))
    found = content(table)
    assert found["u"] == found["t"] == [str(number) for number in range(60_000)]
    assert set(found["i"]) == {"a:b" + "x" * 50}


def test_how_a_separator_is_named():
    assert [separator_of(one) for one in ("tab", "\\t", ";", "Comma", "::")] == ["\t", "\t", ";", ",", "::"]
    with pytest.raises(ConfigError, match="is empty"):
        separator_of("")


def test_packed_files_and_archives(tmp_path):
    text = b"user,item\n1,2\n"
    write(tmp_path / "a.csv.gz", gzip.compress(text))
    write(tmp_path / "b.csv", bz2.compress(text))  # called otherwise than it is packed
    with zipfile.ZipFile(tmp_path / "one.zip", "w") as archive:
        archive.writestr("in/purchases.csv", text)
        archive.writestr("__MACOSX/._purchases.csv", b"x")
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("in/purchases.csv", text)
        archive.writestr("in/products.csv.gz", gzip.compress(text))
    with tarfile.open(tmp_path / "t.tgz", "w:gz") as packed:
        info = tarfile.TarInfo("in/purchases.csv")
        info.size = len(text)
        packed.addfile(info, io.BytesIO(text))
    for name in ("a.csv.gz", "b.csv", "one.zip", "two.zip/purchases.csv", "two.zip/in/products.csv.gz", "t.tgz"):
        assert content(open_table(tmp_path / name)) == {"user": ["1"], "item": ["2"]}, name
    assert find(tmp_path / "two.zip/products.csv.gz").name == "products.csv"
    with pytest.raises(DatasetError, match=r"in/products.csv.gz, in/purchases.csv. Name the one"):
        open_table(tmp_path / "two.zip")
    with pytest.raises(DatasetError, match=r"no single file `x\.csv`"):
        open_table(tmp_path / "two.zip/x.csv")
    write(tmp_path / "torn.csv.gz", gzip.compress(text * 1000)[:-20])
    with pytest.raises(DatasetError, match="Check that the file is whole"):
        content(open_table(tmp_path / "torn.csv.gz"))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"user,item\n", "no rows below it"),
        (b"user,item\n\n\n", "no rows below it"),
        (b"\x00\x01\x02" * 100, "holds zero bytes"),
        (b"PK\x03\x04rest", "a workbook"),
        (b"SQLite format 3\x00", "a database"),
        (b"\x80\x04\x95rest", "never loaded"),
    ],
)
def test_files_that_are_no_table(tmp_path, data, said):
    with pytest.raises(DatasetError, match=said):
        open_table(write(tmp_path / "t.csv", data))


def test_paths_that_are_no_file(tmp_path):
    write(tmp_path / "purchases.csv", "user,item\n1,2\n")
    with pytest.raises(DatasetError, match=r"no file .*purchase.csv. Did you mean `purchases.csv`\?"):
        open_table(tmp_path / "purchase.csv")
    with pytest.raises(DatasetError, match=r"is a folder; it holds purchases\.csv"):
        open_table(tmp_path)


def test_a_separator_that_the_file_says_itself(tmp_path):
    table = open_table(write(tmp_path / "t.csv", "sep=;\r\nuser;item\r\n1;a,b\r\n"))
    assert content(table) == {"user": ["1"], "item": ["a,b"]}


def test_lines_above_the_header_are_seen(tmp_path):
    with pytest.raises(
        DatasetError, match=r"'# export', names no columns: lines below it have 3 fields, separated by ','"
    ):
        open_table(write(tmp_path / "t.csv", "# export\n\nuser,item,time\n1,2,3\n"))
