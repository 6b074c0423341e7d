"""Atomic files: one way to take them apart, whoever reads, and one message where they cannot be read."""

import codecs

import pytest

from rporec_recbole.data.atomic import check_rows, read_header, read_table, text_lines
from rporec_recbole.errors import DatasetError

# Each is an end of a line or of a field, white space, or a quotation for some reader, and here none of them.
ODD = [
    "\0",
    "\r",
    "\x0b",
    "\x0c",
    "\x1c",
    "\x1d",
    "\x1e",
    "\x1f",
    "\x85",
    "\xa0",
    "\u2028",
    "\u2029",
    "\ufeff",
    '"',
    "'",
    "\\",
    "#",
    ",",
    ";",
]
HEADER = "item_id:token\ttitle:token_seq\tyear:token"


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("separator", ["\t", "|"])
def test_lines_and_fields_end_where_they_should_and_nowhere_else(tmp_path, end, last, separator):
    rows = [["i0", "plain", "1"]]
    for number, odd in enumerate(ODD):
        rows += [
            [f"{odd}a{number}", "x", "1"],
            [f"b{number}{odd}c", f"two{odd}words", "1"],
            [f"d{number}", f"{odd}{odd}", f"z{odd}"],
        ]
    rows += [["NA", "", "null"], ["e", " spaces ", ""]]
    if end == "\n":  # before a line feed a carriage return belongs to the end
        rows = [row for row in rows if not row[-1].endswith("\r")]
    lines = [separator.join(row) for row in [HEADER.split("\t"), *rows]]
    lines.insert(3, "")  # an empty line is no row
    path = write(tmp_path / "x.item", end.join(lines) + (end if last else ""))
    check_rows(path, separator)
    assert list(read_header(path, separator)) == ["item_id", "title", "year"]
    table = read_table(path, separator, dtype=str)
    assert table.fillna("").values.tolist() == rows
    assert list(table.columns) == HEADER.split("\t")
    assert [line for _, line in text_lines(path)] == lines


def test_pairs_are_not_torn_apart_where_pandas_reads_on(tmp_path):
    for shift in range(18):  # it asks for 262,144 characters at a time, which are no whole number of these lines
        lines = ["a:token\tb:token", f"{'y' * shift}\tz", *[f"{number:06}\t{'x' * 9}" for number in range(20_000)]]
        path = write(tmp_path / "x.item", "\r\n".join(lines))
        assert read_table(path, dtype=str).iloc[:, 1].value_counts().to_dict() == {"x" * 9: 20_000, "z": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("item_id:token\rx\ry\r", "line 1: there is a carriage return, but no line feed behind it"),
        ("\0i\0t\0e\0m", "it was read as utf-8 (--encoding)"),
        ("\ufeffitem_id:token\nx\n", "--encoding=utf-8-sig"),
        ("item_id:token\t\nx\t\n", "the column '' must read `name:type`"),
        ("item_id:token\tb:token \nx\ty\n", "the column 'b:token ' must read"),
        ("item_id:token\ta:b:token\nx\ty\n", "the column 'a:b:token' must read"),
        ("item_id:token\titem_id:float\nx\t1\n", "two columns are named `item_id`"),
        ("item_id:token\tb:token\nx\ty\t\n", "line 2 has 3 fields instead of 2"),
        ("item_id:token\tb:token\nx\ty\n\n  \nz\n", "line 4 has 1 fields instead of 2"),
        ("item_id:token\tb:float\nx\t1_000\n", "line 2: `b` is '1_000', not a number"),
        ("item_id:token\tb:float\nx\t\u0661\n", "not a number"),
        ("item_id:token\tb:float\nx\t1\x85\n", "not a number"),
        ("item_id:token\tb:float\nx\tnan\n", "not a number"),
        ("item_id:token\tb:float_seq\nx\t1 2\ny\t\nz\t1 two 3\n", "line 4: `b` has 'two', not a number"),
        ("item_id:token\tb:float_seq\nx\t1 inf\n", "line 2: `b` has 'inf', not a number"),
        ("item_id:token\tb:float\nx\t1e999\n", "not a number"),
        ("item_id:token\tb:float\n  \t1\n", "`item_id` is empty"),
        ("item_id:token\n\n\n", "a header but no rows"),
        ("", "line 1: the column ''"),
    ],
)
def test_what_is_refused(tmp_path, text, message):
    path = write(tmp_path / "x.item", text)
    with pytest.raises(DatasetError) as error:
        check_rows(path, required=("item_id",))
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_numbers_that_pandas_reads_pass(tmp_path):
    texts = ["1", "-1.5", "+.5", "5.", "1e5", "1E-5", " 7 ", "", "00012"]
    path = write(tmp_path / "x.item", "item_id:token\tb:float\n" + "".join(f"i{text}\t{text}\n" for text in texts))
    check_rows(path)
    found = read_table(path, dtype={"item_id:token": str, "b:float": float})["b:float"]
    assert found.fillna(-9).tolist() == [float(text or -9) for text in texts]


@pytest.mark.parametrize("encoding", ["ISO-8859-1", "cp1252", "gbk", "shift_jis", "utf-16", "utf-8-sig", "cp037"])
def test_encodings(tmp_path, encoding):
    title = {"gbk": "安静的海港", "shift_jis": "静かな港", "utf-16": "静かな港\r", "utf-8-sig": "Señor"}.get(
        encoding, "Café Señor"
    )
    path = write(tmp_path / "x.item", f"item_id:token\ttitle:token_seq\r\ni\t{title}\r\n", encoding)
    check_rows(path, encoding=encoding)
    assert read_table(path, encoding=encoding, dtype=str).values.tolist() == [["i", title]]
    if encoding != "utf-8-sig":
        for read in (check_rows, read_table):
            with pytest.raises(DatasetError, match=r"is not written in utf-8\. Name its encoding with --encoding=NAME"):
                read(path, encoding="utf-8")


def test_utf8_that_is_to_be_read_as_something_else_is_no_other_encoding(tmp_path):
    path = write(tmp_path / "x.item", "item_id:token\ttitle:token_seq\ni\tCafé\n")
    for encoding in ("ISO-8859-1", "cp1252", "gbk"):
        with pytest.raises(DatasetError, match=f"is not written in {encoding}"):
            check_rows(path, encoding=encoding)
    with pytest.raises(DatasetError, match="is not written in utf-16"):
        check_rows(path, encoding="utf-16")


def test_the_line_that_is_in_no_encoding_is_named(tmp_path):
    path = tmp_path / "x.item"
    path.write_bytes(b"item_id:token\n" + b"i\n" * 5000 + b"Caf\xe9\n" + b"i\n" * 9)
    with pytest.raises(DatasetError, match=r"Line 5002: b'Caf\\xe9'"):
        check_rows(path)
    path.write_bytes(codecs.BOM_UTF16_LE + "item_id:token\ni\n".encode("utf-16-le"))
    with pytest.raises(DatasetError, match="is not written in utf-8"):
        read_header(path)
