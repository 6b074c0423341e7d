"""Several models and seeds through one command: only what is missing is trained, and the numbers are those of single runs."""

import json
import shutil

import pandas as pd
import pytest
import yaml

from rporec_recbole import run
from rporec_recbole.cli import main
from rporec_recbole.errors import RunFolderError
from rporec_recbole.runs import comparison
from tests.toy import SHORT, TEXT, write_toy

TRUNK = {**SHORT, **TEXT, "stages": ["1a"]}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("data"))


def command(data, folder, models="RPORec,Pop", seeds=2, **extra):
    settings = {**TRUNK, "data_path": data, "seeds": seeds, "run_dir": folder, **extra}
    return [f"--model={models}", "--dataset=toy", *[f"--{key}={value}" for key, value in settings.items()]]


@pytest.fixture(scope="module")
def compared(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared") / "all"
    assert main(command(data, folder)) == 0
    return folder


def test_one_folder_a_model_and_seed_and_every_form_of_the_table(compared):
    names = {path.name for path in compared.iterdir()}
    assert {"RPORec,seed=2020", "RPORec,seed=2021", "Pop,seed=2020", "Pop,seed=2021"} <= names
    assert {f"comparison.{ending}" for ending in ("md", "csv", "tex", "json", "png")} <= names


def test_numbers_equal_those_of_single_runs(data, compared, tmp_path):
    settings = {**TRUNK, "data_path": str(data), "seed": 2021, "run_dir": str(tmp_path / "single")}
    alone = run("RPORec", "toy", overrides=settings)
    theirs = json.loads((compared / "RPORec,seed=2021/metrics.json").read_text())
    assert alone.metrics["test"] == theirs["test"]
    pd.testing.assert_frame_equal(
        pd.read_parquet(alone.run_dir / "ranks.parquet"), pd.read_parquet(compared / "RPORec,seed=2021/ranks.parquet")
    )
    table = json.loads((compared / "comparison.json").read_text())
    means = [
        json.loads((compared / f"RPORec,seed={seed}/metrics.json").read_text())["test"]["ndcg@10"]
        for seed in (2020, 2021)
    ]
    assert table["entries"][0]["results"]["ndcg@10"]["mean"][0] == pytest.approx(sum(means) / 2)


def test_only_what_is_missing_is_trained(data, compared, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "again"
    shutil.copytree(compared, folder)
    shutil.rmtree(folder / "Pop,seed=2021")
    before = (folder / "comparison.json").read_text()
    made, train = [], comparison.run

    def counted(model, dataset, overrides, tell):
        made.append((model, overrides["seed"]))
        return train(model, dataset, overrides=overrides, tell=tell)

    monkeypatch.setattr(comparison, "run", counted)
    assert main(command(data, folder)) == 0
    assert made == [("Pop", 2021)]
    assert (folder / "Pop,seed=2021" / "report.html").is_file()
    again = json.loads((folder / "comparison.json").read_text())
    for entry, old in zip(again["entries"], json.loads(before)["entries"], strict=True):
        assert entry["results"] == old["results"]
    assert main(command(data, folder, dropout=0.5)) == 2
    assert "dropout was 0.2 and is 0.5" in capsys.readouterr().err
    assert len(made) == 1


def test_a_run_that_fails_stops_no_other(data, tmp_path, monkeypatch, capsys):
    train = comparison.run

    def failing(model, dataset, overrides, tell):
        if model == "RPORec":
            raise RunFolderError("no room")
        return train(model, dataset, overrides=overrides, tell=tell)

    monkeypatch.setattr(comparison, "run", failing)
    assert main(command(data, tmp_path / "some", models="RPORec,Pop,BPR", seeds=1)) == 2
    shown = capsys.readouterr()
    assert "RPORec, seed 2020: no room" in shown.err
    assert "minus Pop" in shown.out


def test_models_from_a_file(data, tmp_path, capsys):
    file = tmp_path / "models.yaml"
    trunk = {"model": "RPORec", "settings": TRUNK}
    models = {"trunk": trunk, "no bias": {**trunk, "settings": {**TRUNK, "history_bias": False}}, "Pop": {}}
    content = {
        "dataset": "toy",
        "reference": "Pop",
        "settings": {"data_path": str(data), "hide_seen": True},
        "models": models,
    }
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    assert main([f"--compare={file}", f"--run_dir={tmp_path / 'runs'}"]) == 0
    assert "minus Pop" in capsys.readouterr().out
    found = json.loads((tmp_path / "runs/comparison.json").read_text())
    assert [entry["name"] for entry in found["entries"]] == ["trunk", "no bias", "Pop"]
    assert found["hide_seen"] is True
    # The same folders without training.
    folders = [str(tmp_path / "runs" / f"{name},seed=2020") for name in ("trunk", "no-bias", "Pop")]
    assert main(["compare", *folders, f"--output={tmp_path / 'out'}"]) == 0
    assert "RPORec (history_bias=False)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--dropuot=0.1"], "`dropuot` is a setting of none of"),
        (["--seeds=0"], "`--seeds=0` must be"),
        (["--reference=Popp"], "`--reference=Popp` is none of"),
    ],
)
def test_bad_options_are_refused_before_anything_is_trained(data, tmp_path, capsys, extra, message):
    options = [f"--data_path={data}", f"--run_dir={tmp_path / 'none'}", *extra]
    assert main(["--model=Pop,BPR", "--dataset=toy", *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_mistakes_in_a_file(tmp_path, capsys):
    file = tmp_path / "models.yaml"
    for content, message in (
        ("dataset: toy", "must have `models`"),
        ("models: {Pop: {epochs: 3}}", "`epochs` of `Pop` is none of"),
        ("models: {Pop: 3}", "`Pop` must map to"),
    ):
        file.write_text(content, encoding="utf-8")
        assert main([f"--compare={file}"]) == 2
        assert message in capsys.readouterr().err
