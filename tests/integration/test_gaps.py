"""What a data file does not say is said nowhere: in no prompt, no answer, no page; and its numbers read as they stand in it."""

import json
import re
import shutil
import sqlite3

import numpy as np
import pandas as pd
import pytest

from rporec_recbole.cli import main
from rporec_recbole.runs.finished import load_run
from tests.toy import SHORT, write_toy

FIELDS = ["title", "price", "sold", "sizes", "year"]
STARS = ["", "4", "3.25", "1234567.5"]
WORDS = ["", "good", "b </answer>ad", "NA"]


def write_gaps(parent, kind, ratings):
    """The toy data set with gaps: every fourth rating, a third of the prices, half of the sizes."""
    folder = write_toy(parent) / "toy"
    head, *rows = (folder / "toy.inter").read_text(encoding="utf-8").splitlines()
    lines = [head.replace("rating:float", f"rating:{kind}")]
    for number, row in enumerate(rows):
        user, item, _, time = row.split("\t")
        lines.append("\t".join([user, item, ratings[number % len(ratings)], time]))
    (folder / "toy.inter").write_text("\n".join(lines) + "\n", encoding="utf-8")
    lines = ["item_id:token\ttitle:token_seq\tprice:float\tsold:float\tsizes:float_seq\tyear:token"]
    for item in range(25):
        price, sizes = ("", "12.50", "1235567")[item % 3], ("", f"{item} 2.5")[item % 2]
        lines.append(f"i{item}\tFilm {item}\t{price}\t{20161231 + item}\t{sizes}\t{'' if item == 4 else 1980}")
    (folder / "toy.item").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return parent


@pytest.fixture(scope="module", params=[("float", STARS), ("token", WORDS)], ids=["numbers", "names"])
def run(request, tmp_path_factory):
    kind, ratings = request.param
    parent = tmp_path_factory.mktemp(kind)
    settings = {**SHORT, "stages": "[1a,1b,1c]", "item_text_fields": f"[{','.join(FIELDS)}]"}
    given = [f"--{key}={value}" for key, value in settings.items()]
    data = write_gaps(parent, kind, ratings)
    assert main(["--model=RPORec", "--dataset=toy", f"--data_path={data}", f"--run_dir={parent / 'run'}", *given]) == 0
    return parent / "run", ratings


def test_items_read_as_in_the_file(run):
    lines = load_run(run[0]).model.catalogue.lines
    number = {line.split(" | ")[0]: line for line in lines[1:]}
    assert number["Film 0"] == "Film 0 | 20161231 | 1980"
    assert number["Film 1"] == "Film 1 | 12.50 | 20161232 | 1 2.5 | 1980"
    assert number["Film 2"] == "Film 2 | 1235567 | 20161233 | 1980"
    assert number["Film 4"] == "Film 4 | 12.50 | 20161235"


def test_prompts_rate_what_was_rated_and_nothing_else(run):
    folder, ratings = run
    with sqlite3.connect(folder / "reasoning.sqlite") as store:
        tables = [name for (name,) in store.execute("select name from sqlite_master where type = 'table'")]
        prompts = [prompt for table in tables for prompt in _column(store, table, "prompt")]
    lines = [line for prompt in prompts for line in prompt.splitlines() if line.startswith("Film")]
    shown = {line.partition(" | rated ")[2] for line in lines}
    assert shown == {_clean(rating) for rating in ratings}, "a gap, or a rating that nobody gave"


def test_pages_and_json_say_what_the_file_says(run, tmp_path):
    folder, ratings = run
    assert main(["explain", str(folder), "--sample=30", "--format=json", f"--output={tmp_path / 'e.json'}"]) == 0
    table = pd.read_csv(folder.parent / "toy" / "toy.inter", sep="\t", dtype=str, keep_default_na=False)
    table.columns = [name.partition(":")[0] for name in table.columns]
    for one in json.loads((tmp_path / "e.json").read_text(encoding="utf-8"))["users"]:
        own = table[table["user_id"] == one["user_id"]].sort_values(
            "timestamp", key=lambda column: column.astype(float)
        )
        assert [step["rating"] for step in one["history"]] == [_given(rating) for rating in own["rating"]][:-1]
    assert main(["explain", str(folder), "--sample=30", f"--output={tmp_path / 'e.html'}"]) == 0
    page = (tmp_path / "e.html").read_text(encoding="utf-8")
    assert set(re.findall('class="rating">rated (.*?)</span>', page)) == {
        _clean(rating) for rating in ratings if rating
    }


def test_a_model_without_ratings_shows_none(run, tmp_path):
    data = run[0].parent
    given = [f"--data_path={data}", "--epochs=1", f"--run_dir={tmp_path / 'run'}", "--show_progress=False"]
    assert main(["--model=SASRec", "--dataset=toy", *given]) == 0
    assert main(["explain", str(tmp_path / "run"), "--sample=9", f"--output={tmp_path / 'e.html'}"]) == 0
    assert "rated " not in (tmp_path / "e.html").read_text(encoding="utf-8")


def test_what_is_missing_has_no_place_among_the_ratings(run):
    ratings = load_run(run[0]).model.ratings
    assert ratings.values[0] is None
    assert not any(isinstance(value, float) and np.isnan(value) for value in ratings.values)


@pytest.mark.parametrize(
    ("file", "before", "after"), [("item", "12.50", "12.500"), ("item", "\t\t2016", "\t7\t2016"), ("inter", "", "")]
)
def test_other_words_are_other_data(run, tmp_path, capsys, file, before, after):
    """Also where RecBole's own columns, which have the mean in place of a gap, would be the same."""
    folder = shutil.copytree(run[0].parent / "toy", tmp_path / "toy")
    path = folder / f"toy.{file}"
    text = path.read_text(encoding="utf-8")
    if file == "inter":
        head, *rows = text.splitlines()
        table = [row.split("\t") for row in rows]
        given = [float(row[2]) for row in table if row[2][:1].isdigit()]
        fill = repr(sum(given) / len(given)) if given else "good"
        text = "\n".join([head, *("\t".join([*row[:2], row[2] or fill, row[3]]) for row in table)]) + "\n"
    else:
        text = text.replace(before, after)
    path.write_text(text, encoding="utf-8")
    assert main(["explain", str(run[0]), f"--data_path={tmp_path}", f"--output={tmp_path / 'e.html'}"]) == 2
    assert "The data files are not those" in capsys.readouterr().err


def test_one_name_with_two_types_is_refused(tmp_path, capsys):
    data = write_gaps(tmp_path, "float", STARS)
    path = tmp_path / "toy" / "toy.item"
    path.write_text(path.read_text(encoding="utf-8").replace("year:token", "rating:token"), encoding="utf-8")
    given = ["--item_text_fields=[title,rating]", f"--run_dir={tmp_path / 'run'}"]
    assert main(["--model=RPORec", "--dataset=toy", f"--data_path={data}", *given]) == 2
    assert "have one name and two types" in capsys.readouterr().err


def test_labels_are_not_made_of_gaps(tmp_path, capsys):
    data = write_gaps(tmp_path, "float", STARS)
    given = ["--model=FM", "--dataset=toy", f"--data_path={data}", "--threshold={rating: 4}", "--epochs=1"]
    labels = [
        "--metrics=[AUC]",
        "--valid_metric=AUC",
        "--eval_args={split: {RS: [0.8,0.1,0.1]}, order: RO, mode: labeled}",
    ]
    assert main([*given, *labels, f"--run_dir={tmp_path / 'run'}"]) == 2
    message = capsys.readouterr().err
    assert "lack, and RecBole takes the mean" in message
    only = ["--val_interval={rating: '(-inf,inf)'}", "--user_inter_num_interval=[0,inf)"]
    assert main([*given, *labels, *only, f"--run_dir={tmp_path / 'run'}", "--show_progress=False"]) == 0
    label = load_run(tmp_path / "run").dataset.inter_feat["label"]
    table = pd.read_csv(tmp_path / "toy" / "toy.inter", sep="\t")
    assert (int(label.sum()), len(label)) == (
        int((table["rating:float"] >= 4).sum()),
        int(table["rating:float"].count()),
    )


def test_what_is_known_of_single_interactions_ranks_nothing(tmp_path, capsys):
    data = write_gaps(tmp_path, "token", WORDS)
    assert main(["--model=FM", "--dataset=toy", f"--data_path={data}", f"--run_dir={tmp_path / 'run'}"]) == 2
    assert "['rating'] is known of single interactions alone" in capsys.readouterr().err
    columns = "--load_col={inter: [user_id,item_id,timestamp], item: [item_id,year]}"
    given = [columns, "--epochs=1", "--show_progress=False", f"--run_dir={tmp_path / 'run'}"]
    assert main(["--model=FM", "--dataset=toy", f"--data_path={data}", *given]) == 0


def _column(store, table, column):
    names = [row[1] for row in store.execute(f"pragma table_info({table})")]
    return [value for (value,) in store.execute(f"select {column} from {table}")] if column in names else []


def _clean(rating):
    return rating.replace("</answer>", "‹/answer›")  # names are untrusted: they close no section


def _given(rating):
    return float(rating) if rating[:1].isdigit() else _clean(rating) or None
