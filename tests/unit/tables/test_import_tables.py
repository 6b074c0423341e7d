"""From tables to files: columns found and named, ids letter by letter, rows that cannot be used, texts, what is said."""

import re

import pandas as pd
import pyarrow as pa
import pytest
import yaml

from rporec_recbole.errors import ConfigError, DatasetError, RPORecError, RunFolderError
from rporec_recbole.settings.properties import read_yaml
from rporec_recbole.tables import importing
from tests.unit.tables.shops import imported, rows, write

SHOP = "customer,sku,when\na,x,2024-03-05\na,y,2024-03-06\nb,x,2024-03-05\n"


def test_usual_names_are_found_and_said(tmp_path):
    done = imported(tmp_path, "Order,Customer ID,SKU,Ordered At,Stars\n1,a,x,2024-03-05,4\n1,b,y,2024-03-06,\n")
    assert rows(done) == [
        ["user_id:token", "item_id:token", "rating:float", "timestamp:float"],
        ["a", "x", "4", "1709596800"],
        ["b", "y", "", "1709683200"],
    ]
    assert "user: Customer ID · item: SKU · time: Ordered At (dates) · rating: Stars · text: none" in done.summary
    assert "shop: 2 interactions of 2 users and 2 items, 2024-03-05 to 2024-03-06" in done.summary


def test_an_id_is_taken_before_a_name(tmp_path):
    done = imported(
        tmp_path, "product,product_id,user,user_id,date\nChair,7,Ann,1,2024-03-05\nTable,8,Ann,1,2024-03-06\n"
    )
    assert rows(done)[1][:2] == ["1", "7"]


def test_numbers_of_customers_and_articles(tmp_path):
    done = imported(tmp_path, "customer_no,article-nr,date,price\n1,7,2024-03-05,3\n1,8,2024-03-06,4\n")
    assert rows(done)[1][:2] == ["1", "7"]


@pytest.mark.parametrize(
    ("header", "options", "said"),
    [
        (
            "customer_id,user_id,sku,when",
            {},
            r"which column is the user\? `customer_id` and `user_id` may be.*--user=customer_id",
        ),
        ("who,sku,when", {}, r"Which column is the user\?.*has: who, sku, when.*--user=COLUMN"),
        ("who,what,when", {}, r"the user and which the item\?.*--user=COLUMN --item=COLUMN"),
        ("user,sku,note", {}, r"is the time\?.*--time=COLUMN \(--time=none"),
        (
            "user,sku,when",
            {"user": "usr"},
            r"no column `usr` \(--user\). Did you mean `user`\? It has: user, sku, when",
        ),
        ("user,user,sku,when", {}, "two columns named `user`"),
        ("user,sku,when", {"item": "user"}, "need a column each"),
        ("user,sku,when", {"text": ("name",)}, r"no column `name` \(--text\)"),
        ("user_id:token,item_id:token,timestamp:float", {}, "RecBole's atomic files already"),
        ("user_id:token,item_id:token,timestamp:float", {"user": "user_id"}, "atomic file already"),
    ],
)
def test_columns_that_are_not_clear(tmp_path, header, options, said):
    with pytest.raises(RPORecError, match=said):
        imported(tmp_path, f"{header}\n{','.join('1' for _ in header.split(','))}\n", **options)
    assert not (tmp_path / "data").exists()


def test_a_table_of_one_column_and_one_without_a_header(tmp_path):
    with pytest.raises(DatasetError, match="--separator=semicolon"):
        imported(tmp_path, "user#item#when\n1#2#3\n")
    with pytest.raises(DatasetError, match="--columns=user,item,time"):
        imported(tmp_path, "17,4,1709596800\n17,5,1709596801\n")


def test_ids_survive_letter_by_letter(tmp_path):
    ids = ["007", "1.0", "1e5", "NA", "null", "None", "nan", "True", "a  b", 'q"', "é", "-0", "#1", "[x]", "a,b"]
    table = "user,item,time\n" + "".join(
        f'"{one.replace(chr(34), chr(34) * 2)}","{one.replace(chr(34), chr(34) * 2)}",{1709596800 + n}\n'
        for n, one in enumerate(ids)
    )
    done = imported(tmp_path, table)
    assert [row[:2] for row in rows(done)[1:]] == [[one, one] for one in ids]
    frame = pd.DataFrame({"user": ids, "item": ids, "time": range(len(ids))})
    assert [row[:2] for row in rows(imported(tmp_path, frame, name="frame"))[1:]] == [[one, one] for one in ids]


def test_blanks_around_ids_go_and_breaks_inside_become_spaces(tmp_path):
    done = imported(tmp_path, 'user,item,time\n a ,x,1\na,"x\ty",2\n"b\nc",x,3\n')
    assert [row[:2] for row in rows(done)[1:]] == [["a", "x"], ["a", "x y"], ["b c", "x"]]
    assert "White space around 1 user id was taken away." in done.summary
    assert "1 item id had a tab or a line break inside" in done.summary


def test_rows_that_cannot_be_used_are_counted_and_refused_or_left_out(tmp_path):
    table = "user,item,time,stars\na,x,2024-03-05,1\n,x,2024-03-05,2\na, ,2024-03-06,3\na,z,soon,4\nb,x\nb,y,2024-03-05,good\nb,y,2024-03-05,5\n"
    with pytest.raises(DatasetError) as error:
        imported(tmp_path, table)
    assert "5 of the 7 rows" in str(error.value)
    for part in (
        "1 without a user (row 2)",
        "1 without an item (row 3)",
        "cannot be read (row 4: 'soon')",
        "no number (row 5: 'good')",
        "fields ('b,x' has 2 fields instead of 4)",
        "--bad_rows=skip",
    ):
        assert part in str(error.value)
    assert not (tmp_path / "data").exists()
    done = imported(tmp_path, table, bad_rows="skip")
    assert [row[1] for row in rows(done)[1:]] == ["x", "y"]
    assert (done.skipped, done.interactions) == (5, 2)
    assert "Left out: 1 without a user" in done.summary
    with pytest.raises(DatasetError, match=r"None of the 1 rows .* 1 without a user"):
        imported(tmp_path, "user,item,time\n,x,2024-03-05\n", bad_rows="skip", name="other")
    with pytest.raises(ConfigError, match="refuse or skip"):
        imported(tmp_path, table, bad_rows="drop")


def test_repeated_rows_are_dropped_or_kept_as_said(tmp_path):
    table = SHOP + "a,x,2024-03-05\na,x,2024-03-07\n"
    done = imported(tmp_path, table)
    assert (done.interactions, done.repeated) == (4, 1)
    assert (
        "1 row with the user, the item and the time of an earlier one: left out; --duplicates=keep keeps them."
        in done.summary
    )
    kept = imported(tmp_path, table, name="kept", duplicates="keep")
    assert (kept.interactions, kept.repeated) == (5, 1)
    assert [row[0] for row in rows(kept)[1:]] == ["a", "a", "b", "a", "a"]  # the order of the rows


def test_ratings_with_a_decimal_comma_where_that_is_certain(tmp_path):
    done = imported(tmp_path, "user;item;time;rating\na;x;1;4,5\na;y;2;3\nb;x;3;NA\n")
    assert [row[2] for row in rows(done)[1:]] == ["4.5", "3", ""]
    assert "Ratings have a decimal comma." in done.summary
    with pytest.raises(DatasetError, match="no number"):
        imported(tmp_path, "user;item;time;rating\na;x;1;1,500\na;y;2;3\nb;x;3;4\n", name="thousands")


def test_ratings_that_are_names(tmp_path):
    done = imported(tmp_path, "user,item,time,rating\na,x,1,like\na,y,2,love it\n")
    assert [row[2] for row in rows(done)] == ["rating:token", "like", "love it"]


def test_rows_in_their_order_in_time(tmp_path):
    done = imported(tmp_path, "user,item\na,x\na,y\n", time="none")
    assert [row[2] for row in rows(done)[1:]] == ["0", "1"]
    assert "time: the order of the rows" in done.summary


def test_texts_of_products(tmp_path):
    products = 'sku;name;brand;price\nx;"Chair\n\t""oak""";Kü;1\ny;;;2\nx;other;;3\nnever;Lamp;;4\n;lost;;\n'
    done = imported(tmp_path, SHOP + "b,gone,2024-03-07\n", products, bad_rows="skip")
    assert rows(done, "item") == [
        ["item_id:token", "name:token_seq", "brand:token_seq"],
        ["x", 'Chair "oak"', "Kü"],
        ["y", "", ""],
        ["never", "Lamp", ""],
    ]
    for part in (
        "1 of 3 items (33%) have a text (name, brand).",
        "1 item of the interactions has no row among the items, such as 'gone'.",
        "1 item nobody chose",
        "1 row of the items had the id of an earlier row, which holds.",
        "1 row of the items could not be used and was left out.",
        "1 text had a tab or a line break, which is a space now.",
    ):
        assert part in done.summary, part
    with pytest.raises(DatasetError, match="1 without an id"):
        imported(tmp_path, SHOP, products, name="other")


def test_which_columns_describe_items(tmp_path):
    products = "id,rating,item_id2,my text,name\nx,5,q,long " + "word " * 400 + ",Chair\ny,4,q,b,Table\n"
    done = imported(tmp_path, SHOP, products, text=("my text", "rating"))
    assert [name.split(":")[0] for name in rows(done, "item")[0]] == ["item_id", "my_text", "item_rating"]
    assert len(rows(done, "item")[1][1]) <= 1000
    assert "1 text had more than 1,000 characters and was cut." in done.summary
    assert read_yaml(done.folder / "shop.yaml")["item_text_fields"] == ["my_text", "item_rating"]


def test_texts_in_the_table_of_interactions(tmp_path):
    table = "user,item_id,product_name,time\na,x,,1\na,y,Table,2\nb,x,Chair,3\nb,x,Stool,4\n"
    done = imported(tmp_path, table)
    assert rows(done, "item") == [["item_id:token", "product_name:token_seq"], ["x", "Chair"], ["y", "Table"]]
    reviews = imported(tmp_path, "user,asin,title,time\na,x,Great!,1\na,y,Bad!,2\n", name="reviews")
    assert not (reviews.folder / "reviews.item").exists()  # a review's title describes no item


def test_products_that_match_nothing_are_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"the one has 'x', 'y', the other '01', '02' in `sku`.*neither `010`"):
        imported(tmp_path, SHOP, "sku,name\n01,Chair\n02,Table\n")
    assert list((tmp_path / "data").iterdir()) == []
    with pytest.raises(
        DatasetError, match=r"is the item's id\? It has: number, name.*call theirs `sku`.*--items_id=COLUMN"
    ):
        imported(tmp_path, SHOP, "number,name\nx,Chair\n")
    assert imported(tmp_path, SHOP, "number,name\nx,Chair\n", items_id="number").items == 2


def test_only_a_time_that_is_wanted(tmp_path):
    done = imported(tmp_path, SHOP, since=1709596800_000000, until=1709683200_000000)
    assert (done.interactions, done.users) == (2, 2)
    assert "1 row outside the wanted time left out." in done.summary
    with pytest.raises(DatasetError, match="they reach from 2024-03-05 to 2024-03-06"):
        imported(tmp_path, SHOP, since=1809596800_000000, name="later")


def test_a_data_set_that_is_there_is_not_lost(tmp_path):
    done = imported(tmp_path, SHOP)
    before = rows(done)
    with pytest.raises(ConfigError, match=r"`shop` is there already.*shop.inter.*--overwrite"):
        imported(tmp_path, SHOP + "c,x,2024-03-09\n")
    with pytest.raises(DatasetError):
        imported(tmp_path, SHOP + "c,x,soon\n", overwrite=True)
    assert rows(done) == before
    assert imported(tmp_path, SHOP + "c,x,2024-03-09\n", overwrite=True).interactions == 4
    write(done.folder / "notes.txt", "mine")
    with pytest.raises(ConfigError, match=r"holds notes.txt, which no import wrote"):
        imported(tmp_path, SHOP, overwrite=True)
    with pytest.raises(ConfigError, match=re.escape("`my shop` is no name")):
        imported(tmp_path, SHOP, name="my shop")


def test_the_settings_say_what_they_are(tmp_path):
    done = imported(tmp_path, SHOP, "sku,name\nx,Chair\ny,Table\n")
    text = (done.folder / "shop.yaml").read_text(encoding="utf-8")
    assert text.startswith("# Written by `rporec import` from purchases.csv and products.csv.")
    assert yaml.safe_load(text)["load_col"] == {"inter": ["user_id", "item_id", "timestamp"]}
    assert sorted(one.name for one in done.folder.iterdir()) == ["shop.inter", "shop.item", "shop.yaml"]


def test_names_that_cannot_be_used(tmp_path):
    with pytest.raises(DatasetError, match=r"One item is called `\[PAD\]`"):
        imported(tmp_path, SHOP + "a,[PAD],2024-03-05\n")
    with pytest.raises(DatasetError, match=r"describe an item\? It has: sku, price. Add --text=COLUMN,COLUMN"):
        imported(tmp_path, SHOP, "sku,price\nx,1\n")
    assert imported(tmp_path, SHOP, "sku,price\nx,1\n", text=("price",)).items == 2


def test_plain_numbers_are_shown_as_no_dates(tmp_path):
    assert "2 items\n" in imported(tmp_path, "user,item,time\na,x,1\na,y,2\n").summary


def test_a_disk_that_fills_up_loses_nothing(tmp_path, monkeypatch):
    done = imported(tmp_path, SHOP)
    before = rows(done)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(importing, "write_settings", full)
    with pytest.raises(RunFolderError, match=r"cannot be written: .*No space left.*--data_path"):
        imported(tmp_path, SHOP + "c,x,2024-03-09\n", overwrite=True)
    with pytest.raises(RunFolderError):
        imported(tmp_path, SHOP, name="other")
    assert [one.name for one in (tmp_path / "data").iterdir()] == ["shop"]
    assert rows(done) == before


def test_frames_of_interactions_items_and_users(tmp_path):
    from rporec_recbole.data import from_frames

    interactions = pd.DataFrame({"who": [1, 1, 2], "what": ["x", "y", "x"], "day": pd.to_datetime(["2024-03-05"] * 3)})
    items = pd.DataFrame({"what": ["x"], "called": ["Chair"]})
    users = pd.DataFrame({"who": [2, 1, 9], "home town": ["Ulm", None, "Bonn"]})
    done = from_frames(
        interactions, items, users, name="shop", user="who", item="what", text=["called"], data_path=tmp_path
    )
    assert rows(done)[1] == ["1", "x", "1709596800"]
    assert rows(done, "item") == [["item_id:token", "called:token_seq"], ["x", "Chair"]]
    assert rows(done, "user") == [["user_id:token", "home_town:token"], ["2", "Ulm"], ["1", ""]]
    assert (done.users, done.items, done.interactions, done.skipped) == (2, 2, 3, 0)


def test_frames_with_an_index_periods_and_words_for_python(tmp_path):
    from rporec_recbole import from_frames

    frame = pd.DataFrame(
        {"item": ["x", "y"], "time": pd.period_range("2024-03-05", periods=2, freq="D")},
        index=pd.Index(["a", "b"], name="user"),
    )
    done = from_frames(frame, name="shop", data_path=tmp_path)
    assert rows(done)[1:] == [["a", "x", "1709596800"], ["b", "y", "1709683200"]]
    assert (
        from_frames(
            pa.table(frame.reset_index()[["user", "item"]]), time="none", name="arrow", data_path=tmp_path
        ).users
        == 2
    )
    with pytest.raises(DatasetError, match=r'Which column is the user\?.*Write: from_frames user="COLUMN"$'):
        from_frames(frame.reset_index(drop=True), name="other", data_path=tmp_path)
    with pytest.raises(ConfigError, match=r"Choose another name, or replace it with overwrite=True\."):
        from_frames(frame, name="shop", data_path=tmp_path)
    with pytest.raises(DatasetError, match=r'Add text=\["COLUMN", "COLUMN"\], title first'):
        from_frames(frame, pd.DataFrame({"item": ["x"], "weight": [1]}), name="heavy", data_path=tmp_path)
    with pytest.raises(DatasetError, match="interactions is None"):
        from_frames(None, name="other", data_path=tmp_path)


def test_what_a_link_points_to_is_replaced(tmp_path):
    done = imported(tmp_path, SHOP)
    done.folder.rename(tmp_path / "elsewhere")
    done.folder.symlink_to(tmp_path / "elsewhere")
    assert imported(tmp_path, SHOP + "c,x,2024-03-09\n", overwrite=True).interactions == 4
    assert len(rows(done)) == 5
    assert [one.name for one in (tmp_path / "data").iterdir()] == ["shop"]
    assert not list(tmp_path.glob(".*"))


def test_where_texts_may_come_from_is_said(tmp_path):
    assert "Texts come from a table of items (--items=FILE)" in imported(tmp_path, SHOP).summary
    assert "Texts come from" not in imported(tmp_path, SHOP, "sku,name\nx,Chair\n", name="told").summary
