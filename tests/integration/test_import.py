"""Two tables of a shop become recommendations, through the command line and without any further flag."""

import contextlib
import gzip
import io
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import rporec_recbole
from rporec_recbole.cli import main
from rporec_recbole.errors import ConfigError
from rporec_recbole.settings import properties
from rporec_recbole.settings.properties import data_set_file, layered_properties
from tests.toy import SHORT

KEPT = {"1e5": "Lamp", "NA": "Bed", "007": 'Stool "oak"'}


def write_shop(folder, users=60, items=40, seed=0):
    """Customers, many of whom came once; ids that a table program would change."""
    rng = np.random.default_rng(seed)
    names = [*KEPT, *(f"A-{number:03d}" for number in range(items - len(KEPT)))]
    rows = ["order;customer;sku;when;stars"]
    for user in range(users):
        times = 1 if user % 3 == 0 else int(rng.integers(2, 16))
        for _ in range(times):
            day = pd.Timestamp("2023-01-01") + pd.Timedelta(minutes=int(rng.integers(500_000)))
            rows.append(
                f'{len(rows)};"{user:04d}, Mr";{names[int(rng.integers(items))]};{day.isoformat()};{int(rng.integers(1, 6))}'
            )
    products = [
        "sku,name,brand",
        *(f'{name},"{KEPT.get(name, f"Chair, no. {name}").replace(chr(34), chr(34) * 2)}",Oak' for name in names[:-1]),
    ]
    (folder / "purchases.csv").write_text("\r\n".join(rows) + "\r\n", encoding="utf-8-sig")
    (folder / "products.csv.gz").write_bytes(gzip.compress("\n".join(products).encode()))


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A folder with a shop that was imported, and what the import said."""
    folder = tmp_path_factory.mktemp("shop")
    write_shop(folder)
    said = io.StringIO()
    with contextlib.chdir(folder) if hasattr(contextlib, "chdir") else inside(folder), contextlib.redirect_stdout(said):
        assert main(["import", "purchases.csv", "--items=products.csv.gz", "--name=shop"]) == 0
    return folder, said.getvalue()


class inside:  # Python 3.10 has no contextlib.chdir
    def __init__(self, folder):
        self.folder = folder

    def __enter__(self):
        self.before = os.getcwd()
        os.chdir(self.folder)

    def __exit__(self, *_):
        os.chdir(self.before)


@pytest.fixture
def place(shop, monkeypatch, tmp_path):
    """Inside that folder; models train for moments."""
    monkeypatch.chdir(shop[0])
    short = {**SHORT, "epochs": 1, "stages": ["1a", "1b", "1c"]}
    settings = yaml.safe_load((properties.properties_dir() / "model/RPORec.yaml").read_text(encoding="utf-8"))
    quick = tmp_path / "properties"
    for name in ("overall", "model/RPORec", "model/SASRec", "model/Pop"):
        path = properties.properties_dir() / f"{name}.yaml"
        there = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
        known = short if name == "model/RPORec" else {"epochs": 1, "show_progress": False}
        (quick / name).parent.mkdir(parents=True, exist_ok=True)
        (quick / f"{name}.yaml").write_text(yaml.safe_dump({**there, **known}), encoding="utf-8")
    assert settings.keys() >= {"stages"}
    monkeypatch.setattr(properties, "properties_dir", lambda: quick)
    return shop[0]


def test_what_an_import_says(shop):
    said = shop[1]
    for part in (
        "shop: ",
        "of 60 users and 40 items, 2023-01-0",
        "user: customer · item: sku · time: when (dates) · rating: stars · text: name, brand",
        "    0000, Mr",
        "20 users (33%) have one interaction",
        "39 of 40 items (98%) have a text (name, brand).",
        "1 item of the interactions has no row among the items, such as 'A-036'.",
        "without a time zone, taken as UTC.",
        "Models learn from and are measured on users with at least 4 interactions:",
        "Written: dataset/shop (shop.inter, shop.item, shop.yaml)",
        "Next:    rporec --model=RPORec --dataset=shop\n",
    ):
        assert part in said, part


def test_a_baseline_runs_without_a_flag(place, capsys):
    assert main(["--model=Pop", "--dataset=shop", "--run_dir=saved/pop"]) == 0
    ranks = pd.read_parquet("saved/pop/ranks.parquet")
    inter = pd.read_csv("dataset/shop/shop.inter", sep="\t", dtype=str, keep_default_na=False)
    often = inter["user_id:token"].value_counts()
    assert set(ranks["user_id"]) == set(often[often >= 4].index)
    assert set(KEPT) & set(ranks["item_id"])
    config = yaml.safe_load((place / "saved/pop/config.yaml").read_text(encoding="utf-8"))
    assert config["load_col"] == {"inter": ["user_id", "item_id", "rating", "timestamp"]}


def test_rporec_runs_without_a_flag(place, capsys):
    assert main(["--model=RPORec", "--dataset=shop", "--run_dir=saved/rporec"]) == 0
    run = rporec_recbole.load_run("saved/rporec")
    titles = {
        str(token): item.title
        for token, item in zip(run.dataset.field2id_token["item_id"], run.model.catalogue.items, strict=True)
    }
    assert {name: titles[name] for name in KEPT} == KEPT
    assert titles["A-036"] == "item A-036"
    assert set(run.evaluate("test")[1]["user_id"]) >= {"0001, Mr"}


def test_two_commands_from_tables_to_recommendations_with_titles(place, capsys):
    assert main(["--model=Pop", "--dataset=shop", "--recommend=recs.csv"]) == 0
    assert "recommendations for" in capsys.readouterr().out
    recs = pd.read_csv("recs.csv", dtype=str, keep_default_na=False)
    assert list(recs) == ["user_id", "rank", "item_id", "score", "title"]
    assert {
        name: title for name, title in zip(recs["item_id"], recs["title"], strict=True) if name in KEPT
    }.items() <= KEPT.items()
    had = pd.read_csv("dataset/shop/shop.inter", sep="\t", dtype=str, quoting=3)
    bought = set(zip(had["user_id:token"], had["item_id:token"], strict=True))
    assert set(recs["user_id"]) <= set(had["user_id:token"])
    assert not bought & set(zip(recs["user_id"], recs["item_id"], strict=True))


@pytest.mark.parametrize("model", ["Pop", "SASRec"])
def test_settings_for_rporec_beside_the_data_are_none_of_other_models(tmp_path, monkeypatch, model):
    """A run of another model on a small shop, whose file leaves stages of RPORec out, comes back."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {"user": np.repeat(np.arange(60), 5), "item": rng.integers(0, 30, 300), "time": np.arange(300)}
    )
    items = pd.DataFrame({"item": np.arange(30), "title": [f"Chair {number}" for number in range(30)]})
    rporec_recbole.from_frames(frame, items, name="shop")
    assert "stages" in yaml.safe_load(Path("dataset/shop/shop.yaml").read_text(encoding="utf-8"))
    given = [f"--model={model}", "--dataset=shop", "--epochs=1", "--run_dir=run", "--recommend=recs.csv"]
    assert main(given) == 0
    assert "stages" not in yaml.safe_load(Path("run/config.yaml").read_text(encoding="utf-8"))
    assert set(pd.read_csv("recs.csv")["title"]) <= set(items["title"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--recommend=recs.txt"], "`--recommend=recs.txt` must end in"),
        (["--recommend=recs.csv", "--seeds=2"], "`--recommend` is of one run"),
    ],
)
def test_recommendations_that_cannot_be_written(place, capsys, given, message):
    before = sorted(path.name for path in Path("saved").glob("*"))
    assert main(["--model=Pop", "--dataset=shop", *given]) == 2
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in Path("saved").glob("*")) == before


def test_a_folder_that_may_not_be_written_to_is_seen_before_the_run(place, capsys, monkeypatch):
    """The one who runs the tests may be allowed everything."""
    access = os.access
    locked = Path("locked").absolute()
    locked.mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).absolute() != locked and access(path, mode))
    assert main(["--model=Pop", "--dataset=shop", "--recommend=locked/recs.csv", "--run_dir=seldom"]) == 2
    assert f"you may not write to the folder {locked}" in capsys.readouterr().err
    assert not Path("seldom").exists()


def test_what_to_type_repeats_what_was_typed(tmp_path, monkeypatch, capsys):
    (tmp_path / "sold.csv").write_text("who,what,when\n1,2,2024-03-05\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert main(["import", "sold.csv", "--name=shop", "--item=what"]) == 2
    assert "Write: rporec import sold.csv --name=shop --item=what --user=COLUMN" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("lengths", "said"),
    [
        ([1] * 60, "the most popular items are all that can be recommended"),
        ([1, 3] * 30, "split by time: models learn from the first 80 %"),
        ([1, 4, 5] * 20, "40 of 60 users with 180 of 200 interactions. The other 20 users are left out of both."),
    ],
)
def test_shops_whose_customers_come_seldom_run_too(place, tmp_path, monkeypatch, lengths, said):
    """What the import decides and says is what the run takes."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"user": np.repeat(np.arange(60), lengths)})
    frame["item"] = rng.integers(0, 12, len(frame))
    frame["time"] = 1.7e9 + rng.permutation(len(frame))
    items = pd.DataFrame({"item": range(12), "name": [f"Thing {number}" for number in range(12)]})
    done = rporec_recbole.from_frames(frame, items, name="small")
    assert said in done.summary
    _, *words = done.next_command.split()
    assert main([*words, "--run_dir=saved/run"]) == 0


def test_a_yaml_file_beside_the_data_is_found_and_others_win(place, monkeypatch, tmp_path):
    quick = properties.properties_dir()
    (quick / "dataset").mkdir()
    (quick / "dataset/D.yaml").write_text("epochs: 2\nseed: 2\nlearning_rate: 0.2\nweight_decay: 0.2\n")
    (quick / "model/M-D.yaml").write_text("learning_rate: 0.4\n")
    folder = tmp_path / "data/D"
    folder.mkdir(parents=True)
    (folder / "D.yaml").write_text("seed: 3\nlearning_rate: 0.3\nweight_decay: 0.3\n")
    own = data_set_file("D", tmp_path / "data")
    found = layered_properties("M", "D", own)
    assert [found[key] for key in ("epochs", "seed", "learning_rate", "weight_decay")] == [2, 3, 0.4, 0.3]
    assert layered_properties("M", "D")["seed"] == 2
    assert data_set_file("ml-100k") is None
    assert data_set_file("shop") is not None


def test_a_wrong_setting_beside_the_data_is_refused(place):
    path = place / "dataset/shop/shop.yaml"
    before = path.read_text(encoding="utf-8")
    path.write_text(before + "lerning_rate: 0.1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"Settings in .*shop.yaml:\n  `lerning_rate` .*Did you mean `learning_rate`"):
        rporec_recbole.run("SASRec", "shop")
    path.write_text(before, encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing.csv"], "There is no file nothing.csv"),
        (["purchases.csv", "products.csv.gz"], "takes one table of interactions"),
        (["ml-1n", "x.zip"], "Did you mean `ml-1m`?"),
        ([], "Missing argument"),
        (["purchases.csv", "--name=shop"], "is there already"),
        (["purchases.csv", "--name=other", "--user=kunde"], "no column `kunde`"),
        (["purchases.csv", "--name=other", "--duplicates=count"], "must be drop or keep"),
        (["purchases.csv", "--name=other", "--since=soon"], "is no date"),
        (["purchases.csv", "--name=other", "--as_in_paper"], "amazon-2023"),
        (["purchases.csv", "--name=other", "--separator="], "is empty"),
        (["dataset"], "is a folder; it holds shop"),
        (["dataset/shop/shop.inter", "--name=other"], "RecBole's atomic files already"),
    ],
)
def test_what_cannot_be_followed_is_one_message(place, words, said, capsys):
    before = sorted(path.name for path in (place / "dataset").iterdir())
    assert main(["import", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("rporec: ")
    assert said in error
    assert sorted(path.name for path in (place / "dataset").iterdir()) == before


def test_a_header_of_its_own(place, tmp_path, capsys):
    (tmp_path / "plain.csv").write_text("7|x|1709596800\n7|y|1709596801\n")
    assert main(["import", str(tmp_path / "plain.csv"), "--columns=user,item,time", f"--data_path={tmp_path}"]) == 0
    assert f"Next:    rporec --model=Pop --dataset=plain --data_path={tmp_path}" in capsys.readouterr().out
    assert (tmp_path / "plain/plain.inter").read_text().splitlines()[1] == "7\tx\t1709596800"
