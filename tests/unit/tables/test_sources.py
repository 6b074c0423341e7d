"""Public data sets: small files in the form of the raw ones, traps included, and what plain pandas makes of them."""

import ast
import gzip
import html
import io
import json
import zipfile

import pandas as pd
import pytest

from rporec_recbole.cli import group
from rporec_recbole.errors import ConfigError, DatasetError
from rporec_recbole.settings.properties import read_yaml
from rporec_recbole.tables.sources import SOURCES
from rporec_recbole.tables.sources.cleaning import brand, film_title, film_year, without_html
from tests.unit.tables.shops import write


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words):
    with group.make_context("rporec", ["import", *words]) as context:
        group.invoke(context)


def table(name, kind="inter"):
    """A written file as texts; names of columns without their types."""
    found = pd.read_csv(f"dataset/{name}/{name}.{kind}", sep="\t", dtype=str, keep_default_na=False, quoting=3)
    return found.rename(columns=lambda column: column.split(":")[0])


def same(name, expected, columns):
    """Whether a data set has the interactions of a frame, in its order."""
    found, wanted = table(name), expected[columns].reset_index(drop=True)
    assert found["user_id"].tolist() == wanted[columns[0]].astype(str).tolist()
    assert found["item_id"].tolist() == wanted[columns[1]].astype(str).tolist()
    assert found["rating"].astype(float).tolist() == wanted[columns[2]].astype(float).tolist()
    assert found["timestamp"].astype(float).tolist() == wanted[columns[3]].astype(float).tolist()


def texts(name):
    found = table(name, "item")
    return {row[0]: tuple(row[1:]) for row in found.itertuples(index=False)}


def zipped(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


FLAGS = "0|0|0|1|1|1|0|0|0|0|0|0|0|0|0|0|0|0|0"


def test_movielens_100k(place):
    data = "196\t242\t3\t881250949\n186\t267\t3\t891717742\n196\t1\t5\t881250950\n"
    films = (
        f"1|Toy Story (1995)|01-Jan-1995||http://us.imdb.com/M/title-exact?Toy%20Story%20(1995)|{FLAGS}\n"
        f"242|Mis\xe9rables, Les (1995)|01-Jan-1995||http://x|{FLAGS}\n"
        "267|unknown||||1|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
    )
    people = "196|49|M|writer|55105\n186|39|F|executive|00000\n7|1|M|other|1\n"
    zipped(
        place / "ml-100k.zip",
        {
            "ml-100k/u.data": data,
            "ml-100k/u.item": films.encode("latin-1"),
            "ml-100k/u.user": people,
            "ml-100k/u1.base": "1\t2\t3\t4\n",
        },
    )
    run("ml-100k", "ml-100k.zip")
    same("ml-100k", pd.read_csv(io.StringIO(data), sep="\t", names=list("uirt")), list("uirt"))
    genres = "Animation Children's Comedy"
    assert texts("ml-100k") == {
        "1": ("Toy Story", genres, "1995"),
        "242": ("Les Misérables", genres, "1995"),
        "267": ("unknown", "", ""),
    }
    assert table("ml-100k", "user").to_dict("list") == {
        "user_id": ["196", "186"],
        "age": ["49", "39"],
        "gender": ["M", "F"],
        "occupation": ["writer", "executive"],
        "zip_code": ["55105", "00000"],
    }
    assert read_yaml("dataset/ml-100k/ml-100k.yaml")["item_text_fields"] == ["movie_title", "class", "release_year"]


def test_movielens_1m_and_10m(place, capsys):
    ratings = "1::1193::5::978300760\n1::661::3::978302109\n2::1193::4.5::978298413\n"
    films = '661::Star Wars: Episode IV - A "New" Hope (1977)::Action|Sci-Fi\n1193::Caf\xe9, The (1975)::Drama\n9::Never::Drama\n'
    people = "1::F::1::10::48067\n2::M::56::16::70072\n"
    folder = place / "raw"
    folder.mkdir()
    write(folder / "ratings.dat", ratings)
    write(folder / "movies.dat", films.encode("latin-1"))
    write(folder / "users.dat", people)
    expected = pd.read_csv(io.StringIO(ratings), sep="::", names=list("uirt"), engine="python")
    run("ml-1m", "raw/ratings.dat")  # the others lie beside it
    same("ml-1m", expected, list("uirt"))
    assert texts("ml-1m") == {
        "661": ('Star Wars: Episode IV - A "New" Hope', "Action Sci-Fi", "1977"),
        "1193": ("The Café", "Drama", "1975"),
    }
    assert table("ml-1m", "user")["zip_code"].tolist() == ["48067", "70072"]
    with pytest.raises(DatasetError, match="not written in utf-8"):
        run("ml-10m", "raw")
    write(folder / "movies.dat", films)
    run("ml-10m", "raw", "--name=ten")
    same("ten", expected, list("uirt"))
    assert texts("ten")["1193"][0] == "The Café"
    assert "1 item nobody chose" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["ml-20m", "ml-25m", "ml-32m"])
def test_movielens_20m_and_later(place, name):
    ratings = "userId,movieId,rating,timestamp\r\n1,2,3.5,1112486027\r\n1,29,0.5,1112484676\r\n2,29,4.0,1112484677\r\n"
    films = 'movieId,title,genres\r\n2,"American President, The (1995)",Comedy|Drama\r\n29,"City of Lost Children, The (Cité des ""enfants"" perdus, La) (1995)",(no genres listed)\r\n'
    tags = "userId,movieId,tag,timestamp\r\n1,2,good,1\r\n"
    zipped(
        place / f"{name}.zip", {f"{name}/ratings.csv": ratings, f"{name}/movies.csv": films, f"{name}/tags.csv": tags}
    )
    run(name, f"{name}.zip")
    same(name, pd.read_csv(io.StringIO(ratings)), ["userId", "movieId", "rating", "timestamp"])
    assert texts(name) == {
        "2": ("The American President", "Comedy Drama", "1995"),
        "29": ('The City of Lost Children (Cité des "enfants" perdus, La)', "", "1995"),
    }


REVIEWS = [
    {
        "reviewerID": "A3BY5KCNQZXV5U",
        "asin": "0594451647",
        "overall": 5.0,
        "unixReviewTime": 1390176000,
        "reviewText": "a\nb",
    },
    {"reviewerID": "AT09WGFUM934H", "asin": "0594451647", "overall": 3.0, "unixReviewTime": 1372032000, "summary": "x"},
    {"reviewerID": "AT09WGFUM934H", "asin": "B000001OM5", "overall": 1.0, "unixReviewTime": 1372032000},
    {
        "reviewerID": "AT09WGFUM934H",
        "asin": "B000001OM5",
        "overall": 1.0,
        "unixReviewTime": 1372032000,
    },  # twice, as some are
]
AMAZON = ["reviewerID", "asin", "overall", "unixReviewTime"]


def json_lines(records):
    return "".join(json.dumps(one) + "\n" for one in records)


def test_amazon_2014(place):
    write(place / "reviews_Electronics_5.json.gz", gzip.compress(json_lines(REVIEWS).encode()))
    products = [
        {
            "asin": "0594451647",
            "title": "Barnes &amp; Noble &quot;HDTV&quot;",
            "categories": [["Electronics", "Cables & <b>Plugs</b>"]],
            "related": {"also_bought": ["x"]},
        },
        {"asin": "B000001OM5", "imUrl": "http://x", "description": "no 'title'"},
        {"asin": "9999999999", "title": "never"},
    ]
    write(place / "meta_Electronics.json.gz", gzip.compress("".join(f"{one!r}\n" for one in products).encode()))
    run("amazon-2014", "reviews_Electronics_5.json.gz")
    expected = pd.DataFrame(REVIEWS).drop_duplicates(AMAZON)
    same("amazon-2014-Electronics", expected, AMAZON)
    assert texts("amazon-2014-Electronics") == {
        "0594451647": ('Barnes & Noble "HDTV"', "", "Electronics, Cables & Plugs"),
        "B000001OM5": ("", "", ""),
    }
    ratings = "A39HTATAQ9V7YF,0205616461,5.0,1369699200\nA3JM6GV9MNOF9X,0558925278,3.0,1355443200\n"
    write(place / "ratings_Beauty.csv", ratings)
    run("amazon-2014", "ratings_Beauty.csv")
    same("amazon-2014-Beauty", pd.read_csv(io.StringIO(ratings), names=list("uirt"), dtype={"i": str}), list("uirt"))


def test_amazon_2018(place, capsys):
    write(
        place / "Software.json.gz",
        gzip.compress(json_lines([{**one, "verified": True, "overall": one["overall"]} for one in REVIEWS]).encode()),
    )
    products = [
        {
            "asin": "0594451647",
            "title": "TurboTax &amp; <b>more</b>",
            "brand": "\n    by\n    \n    Intuit",
            "category": ["Software", "Tax</span></span>"],
        },
        {"asin": "B000001OM5", "title": "var aPageStart = (new Date()).getTime();", "brand": "", "category": []},
        {"asin": "B000001OM5", "title": "second row"},
    ]
    write(place / "meta_Software.json.gz", gzip.compress(json_lines(products).encode()))
    run("amazon-2018", "Software.json.gz")
    same("amazon-2018-Software", pd.DataFrame(REVIEWS).drop_duplicates(AMAZON), AMAZON)
    assert texts("amazon-2018-Software") == {
        "0594451647": ("TurboTax & more", "Intuit", "Software, Tax"),
        "B000001OM5": ("", "", ""),
    }
    said = capsys.readouterr().out
    assert "1 row with the user, the item and the time of an earlier one: left out" in said
    assert "1 row of the items had the id of an earlier row" in said
    ratings = "0205616461,A39HTATAQ9V7YF,5.0,1369699200\n0558925278,A3JM6GV9MNOF9X,3.0,1355443200\n"  # the item first
    write(place / "All_Beauty.csv", ratings)
    run("amazon-2018", "All_Beauty.csv")
    same(
        "amazon-2018-All_Beauty", pd.read_csv(io.StringIO(ratings), names=list("iurt"), dtype={"i": str}), list("uirt")
    )
    write(place / "ratings_All_Beauty.csv", ratings)
    with pytest.raises(DatasetError, match="That is the form of `rporec import amazon-2018`"):
        run("amazon-2014", "ratings_All_Beauty.csv")


def reviews_2023(count=1):
    times = [1588687728923, 1696000000000, 1664582400000, 1680000000123]  # 2020-05, 2023-09, 2022-10-01, 2023-03
    return [
        {"rating": 5.0, "title": "Nice!", "text": "...", "asin": f"B{n}", "parent_asin": f"P{n % 3}", "user_id": f"AG{n // 4}", "timestamp": times[n % 4], "verified_purchase": True}
        for n in range(4 * count)
    ]  # fmt: skip


PRODUCTS_2023 = [
    {"main_category": "All Beauty", "title": "Cream &amp; Soap", "average_rating": 4.8, "rating_number": 10, "features": [], "description": ["Soft.", "Good — best."], "price": 6.99, "store": "Howard", "parent_asin": "P0", "details": {"x": 1}},
    {"main_category": "All Beauty", "title": "Brush", "average_rating": 4.0, "rating_number": 2, "description": [], "price": None, "store": None, "parent_asin": "P1"},
    {"main_category": None, "title": "word " * 51, "average_rating": 3.5, "rating_number": 1, "description": [], "price": 3.0, "store": "X", "parent_asin": "P2"},
]  # fmt: skip


def test_amazon_2023(place):
    reviews = reviews_2023(2)
    write(place / "All_Beauty.jsonl", json_lines(reviews))
    write(place / "meta_All_Beauty.jsonl.gz", gzip.compress(json_lines(PRODUCTS_2023).encode()))
    run("amazon-2023", "All_Beauty.jsonl")
    expected = pd.DataFrame(reviews)
    expected["timestamp"] = expected["timestamp"] / 1000
    same("amazon-2023-All_Beauty", expected, ["user_id", "parent_asin", "rating", "timestamp"])
    assert texts("amazon-2023-All_Beauty")["P0"] == ("Cream & Soap", "Howard", "All Beauty")
    frame = pd.DataFrame(reviews)[["user_id", "parent_asin", "rating", "timestamp"]]
    frame.to_csv(place / "All_Beauty.csv.gz", index=False)
    run("amazon-2023", "All_Beauty.csv.gz", "--name=rated", "--items=meta_All_Beauty.jsonl.gz")
    same("rated", expected, ["user_id", "parent_asin", "rating", "timestamp"])
    assert texts("rated") == texts("amazon-2023-All_Beauty")


def test_amazon_2023_as_in_the_paper(place, capsys, monkeypatch):
    from rporec_recbole.tables import paper

    monkeypatch.setattr(paper, "ITEMS", 1)
    reviews = reviews_2023(12)
    write(place / "Games.jsonl", json_lines(reviews))
    write(place / "meta_Games.jsonl", json_lines(PRODUCTS_2023))
    run("amazon-2023", "Games.jsonl", "--as_in_paper")
    frame = pd.DataFrame(reviews)
    when = pd.to_datetime(frame["timestamp"], unit="ms")
    expected = frame[(frame["parent_asin"] == "P0") & (when >= "2022-10-01") & (when < "2023-10-01")].assign(
        timestamp=lambda rows: rows["timestamp"] / 1000
    )
    same("amazon-2023-Games", expected, ["user_id", "parent_asin", "rating", "timestamp"])
    assert texts("amazon-2023-Games") == {"P0": ("Cream & Soap", "4.8", "10", "Soft., Good best.")}
    settings = read_yaml("dataset/amazon-2023-Games/amazon-2023-Games.yaml")
    assert settings["eval_args"] == {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": None, "mode": "full"}
    assert (settings["MAX_ITEM_LIST_LENGTH"], settings["user_inter_num_interval"]) == (20, "[2,inf)")
    assert (
        "As in the paper: 2022-10-01 to 2023-10-01, no core filter; 32 reviews of products" in capsys.readouterr().out
    )
    monkeypatch.setattr(
        paper, "ITEMS", 10
    )  # never reached: back by three months at a time, into the first year of the data
    run("amazon-2023", "Games.jsonl", "--as_in_paper", "--name=all")
    assert "As in the paper: 2020-10-01 to 2023-10-01" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="for amazon-2023"):
        run("amazon-2014", "Games.jsonl", "--as_in_paper")


def test_yelp(place):
    reviews = [
        {"review_id": "r1", "user_id": "-u1", "business_id": "_b1", "stars": 3.0, "text": "x", "date": "2018-07-07 22:09:11"},
        {"review_id": "r2", "user_id": "--u2", "business_id": "b2", "stars": 5.0, "text": "y", "date": "2012-01-03 15:28:18"},
    ]  # fmt: skip
    places = [
        {"business_id": "_b1", "name": 'Café "A"', "city": "Tucson", "categories": "Doctors, Health & Medical"},
        {"business_id": "b2", "name": "B", "city": "Affton", "categories": None, "hours": None},
    ]
    folder = place / "yelp"
    folder.mkdir()
    write(folder / "yelp_academic_dataset_review.json", json_lines(reviews))
    write(folder / "yelp_academic_dataset_business.json", json_lines(places))
    run("yelp", "yelp")
    expected = pd.DataFrame(reviews)
    expected["date"] = pd.to_datetime(expected["date"]).astype("datetime64[s]").astype(int)
    same("yelp", expected, ["user_id", "business_id", "stars", "date"])
    assert texts("yelp") == {"_b1": ('Café "A"', "Doctors, Health & Medical", "Tucson"), "b2": ("B", "", "Affton")}


def test_steam(place):
    lines = [
        "{u'username': u'Chaos \\tSyren', u'hours': 0.1, u'product_id': u'725280', u'page': 1, u'date': u'2017-12-17', u'text': u\"it's {fun}\", u'early_access': False}",
        "{u'username': u'\u2665 Ariman', u'product_id': u'328100', u'date': u'2017-08-02', u'user_id': u'7656', u'text': u''}",
        "{u'username': u'\u2665 Ariman', u'product_id': u'328100', u'date': u'2017-08-02', u'text': u'again'}",
    ]
    games = [
        "{u'app_name': u'Lost &amp; Found', u'genres': [u'Action', u'Free to Play'], u'id': u'725280', u'developer': u'K'}",
        "{u'title': u'Two', u'app_name': u'2', u'id': u'328100', u'price': 4.99}",
        "{u'title': u'no id'}",
    ]
    write(place / "steam_reviews.json.gz", gzip.compress("\n".join(lines).encode()))
    write(place / "steam_games.json.gz", gzip.compress("\n".join(games).encode()))
    run("steam", "steam_reviews.json.gz", "--bad_rows=skip")
    expected = pd.DataFrame([ast.literal_eval(line) for line in lines]).drop_duplicates(
        ["username", "product_id", "date"]
    )
    found = table("steam")
    assert found["user_id"].tolist() == [name.replace("\t", " ") for name in expected["username"]]
    assert found["item_id"].tolist() == expected["product_id"].tolist()
    assert (
        found["timestamp"].astype(int).tolist()
        == pd.to_datetime(expected["date"]).astype("datetime64[s]").astype(int).tolist()
    )
    assert texts("steam") == {"725280": ("Lost & Found", "Action, Free to Play", "K"), "328100": ("Two", "", "")}


def test_kuairec(place, capsys):
    matrix = (
        "user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio\n"
        "0,3649,13838,10867,2020-07-05 00:08:23.438,20200705,1593878903.438,1.2733965215790926\n"
        "0,9598,13665,10984,,,,1.2440823015294975\n"
        "1,9598,851,7908,2020-07-05 00:16:06.687,20200705.0,1593879366.687,0.10761254425897825\n"
    )
    captions = (
        "video_id,manual_cover_text,caption,topic_tag,first_level_category_id,first_level_category_name,second_level_category_id,second_level_category_name\n"
        '3649,UNKNOWN,"#猫 \n可爱",[猫],1,宠物,2,UNKNOWN\n'
        "9598,UNKNOWN,,[],-124,UNKNOWN,-124,UNKNOWN\n"
        "broken line\n"
        "8,UNKNOWN,x"
    ).encode() + b"\xff,[],1,y,2,z\n"
    write(place / "small_matrix.csv", matrix)
    write(place / "kuairec_caption_category.csv", captions)
    run("kuairec", "small_matrix.csv")
    expected = pd.read_csv(io.StringIO(matrix)).dropna(subset=["timestamp"])
    same("kuairec", expected, ["user_id", "video_id", "watch_ratio", "timestamp"])
    assert table("kuairec")["timestamp"][0] == "1593878903.438"
    assert texts("kuairec") == {"3649": ("#猫 可爱", "宠物", "", "[猫]"), "9598": ("", "", "", "")}
    said = capsys.readouterr().out
    assert "Left out: 1 whose time cannot be read (row 2: '')." in said
    assert "1 row of the items could not be used" in said


def test_recboles_own_files_need_no_import(place):
    """RecBole's ml-1m.zip has the name of MovieLens' own."""
    with zipfile.ZipFile(place / "ml-1m.zip", "w") as archive:
        archive.writestr("ml-1m/ml-1m.inter", "user_id:token\titem_id:token\n1\t2\n")
        archive.writestr("ml-1m/ml-1m.item", "item_id:token\tmovie_title:token_seq\n2\tHeat\n")
    with pytest.raises(DatasetError, match=r"RecBole's own files, which need no import. Put them into dataset/ml-1m/"):
        run("ml-1m", "ml-1m.zip")


def test_files_that_are_not_the_source(place):
    write(place / "other.csv", "a,b\n1,2\n")
    with pytest.raises(
        DatasetError, match=r"is not MovieLens 1M: it holds other.csv, and ratings.dat is looked for.*https://"
    ):
        run("ml-1m", "other.csv")
    with pytest.raises(ConfigError, match=r"rporec import ml-1m FILE.*https://"):
        run("ml-1m")
    with pytest.raises(DatasetError, match=r"no file ml-1m\.zip"):
        run("ml-1m", "ml-1m.zip")
    with pytest.raises(ConfigError, match="`--user` is not for `rporec import ml-1m`"):
        run("ml-1m", "other.csv", "--user=a")
    zipped(place / "two.zip", {"reviews_A.json": json_lines(REVIEWS), "reviews_B_5.json": json_lines(REVIEWS)})
    with pytest.raises(DatasetError, match="several parts of Amazon reviews of 2014, a category: A, B"):
        run("amazon-2014", "two.zip")
    run("amazon-2014", "two.zip/reviews_B_5.json")
    assert "There is no meta_B.json beside it" in (place / "dataset/amazon-2014-B/amazon-2014-B.yaml").read_text()


def test_every_source_says_where_its_format_is_described():
    for source in SOURCES.values():
        assert source.documented
        assert all(page.startswith("https://") for page in source.documented)


@pytest.mark.parametrize(
    ("title", "expected", "year"),
    [
        ("Matrix, The (1999)", "The Matrix", "1999"),
        ("Avventura, L' (Adventure, The) (1960)", "L'Avventura (Adventure, The)", "1960"),
        ("Good, the Bad and the Ugly, The (1966)", "The Good, the Bad and the Ugly", "1966"),
        ("Me, Myself & Irene (2000)", "Me, Myself & Irene", "2000"),
        ("Andromeda (2000–2005)", "Andromeda", "2000"),
        ("Series (2009– )", "Series", "2009"),
        ("2001: A Space Odyssey (1968) ", "2001: A Space Odyssey", "1968"),
        ("unknown", "unknown", ""),
    ],
)
def test_titles_of_films(title, expected, year):
    assert (film_title(title), film_year(title)) == (expected, year)


def test_texts_of_web_pages():
    assert without_html(html.escape(html.escape("A & B"))) == "A & B"
    assert without_html("a <b>c</b>\n d 3 < 4") == "a c d 3 < 4"
    assert without_html("<script>x()</script>") == ""
    assert brand("\n by\n\n Byron") == "Byron"
