"""Data in another encoding, with odd characters in ids and titles, through every command that reads a user's files."""

import re

import pandas as pd
import pytest

from rporec_recbole.cli import main
from rporec_recbole.runs import known, titles
from rporec_recbole.runs.finished import load_run
from tests.toy import SHORT, write_toy

SHARED = {**SHORT, "stages": "[1a]", "item_text_fields": "[title,genre]"}


@pytest.fixture(scope="module")
def latin(tmp_path_factory):
    """The toy data set in ISO-8859-1: ids with an accent and a no-break space, titles with a lone carriage return and a NEL."""
    parent = write_toy(tmp_path_factory.mktemp("latin"), "toy")
    for path in (parent / "toy").iterdir():
        text = re.sub(r"\bi(\d+)\b", "é\xa0\\1", path.read_text(encoding="utf-8"))
        path.write_bytes(text.replace("Film 7 of", "Señor 7\rof\x85").encode("ISO-8859-1"))
    return parent


def trained(latin, folder, model, capsys, **extra):
    settings = {**(SHARED if model == "RPORec" else {"epochs": 1, "show_progress": False}), **extra}
    given = [f"--model={model}", "--dataset=toy", f"--data_path={latin}", f"--run_dir={folder}"]
    done = main([*given, *(f"--{key}={value}" for key, value in settings.items())])
    return done, capsys.readouterr().err


@pytest.mark.parametrize("model", ["RPORec", "Pop"])
def test_a_wrong_encoding_is_one_message_before_anything_else(latin, tmp_path, capsys, model):
    for extra in ({}, {"encoding": "utf-16"}):
        done, said = trained(latin, tmp_path / "run", model, capsys, **extra)
        assert done == 2
        assert f"toy.inter is not written in {extra.get('encoding', 'utf-8')}" in said
        assert "--encoding=NAME" in said
        assert "Traceback" not in said
    done, said = trained(latin, tmp_path / "run", model, capsys, encoding="latin-nine-hundred")
    assert done == 2
    assert "`encoding='latin-nine-hundred'` must be the name of an encoding" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("model", ["RPORec", "SASRec"])
def test_the_encoding_holds_for_every_file(latin, tmp_path, capsys, monkeypatch, model):
    monkeypatch.setattr(
        known, "layered_properties", lambda model, dataset, own: {"item_text_fields": ["title", "genre"]}
    )
    folder = tmp_path / "run"
    done, said = trained(latin, folder, model, capsys, encoding="ISO-8859-1")
    assert done == 0, said
    items = {item.item_id: item.title for item in titles.items_of(load_run(folder))}
    assert items["é\xa07"] == "Señor 7 of the Crime"
    assert pd.read_parquet(folder / "ranks.parquet")["item_id"].str.startswith("é\xa0").all()

    output = tmp_path / "recs.jsonl"
    for name, content, written_in, given in (
        ("h.txt", "néw\té\xa01 é\xa02 é\xa03\r\n", "ISO-8859-1", []),
        ("h.txt", "néw\té\xa01 é\xa02 é\xa03\n", "utf-8", ["--encoding=utf-8"]),
        ("h.jsonl", '{"user": "néw", "items": ["é\xa01", "é\xa02", "é\xa03"]}\n', "utf-8-sig", []),
        ("h.jsonl", '{"user": "néw", "items": ["é\xa01", "é\xa02", "é\xa03"]}\n', "cp1252", ["--encoding=cp1252"]),
    ):
        (tmp_path / name).write_bytes(content.encode(written_in))
        assert main(["recommend", str(folder), f"--histories={tmp_path / name}", f"--output={output}", *given]) == 0
        table = pd.read_json(output, lines=True)
        assert set(table["user_id"]) == {"néw"}
        assert table["item_id"].str.startswith("é\xa0").all()

    (tmp_path / "h.txt").write_bytes("néw\té\xa01\n".encode("ISO-8859-1"))
    given = ["recommend", str(folder), f"--histories={tmp_path / 'h.txt'}", f"--output={output}"]
    capsys.readouterr()
    assert main([*given, "--encoding=utf-8"]) == 2
    assert "is not written in utf-8" in capsys.readouterr().err
