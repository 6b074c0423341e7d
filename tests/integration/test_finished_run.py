"""A finished run comes back as it was, or says what has changed."""

import contextlib
import json
import logging
import shutil

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from rporec_recbole.cli import main
from rporec_recbole.errors import RunFolderError
from rporec_recbole.runs.finished import load_run
from rporec_recbole.runs.folder import logging_to
from rporec_recbole.runs.run import run
from tests.toy import SHORT, TEXT, write_toy

COMMANDS = {
    "controls": [],
    "explain": ["--sample=2"],
    "recommend": ["--output=OUT/recs.csv"],
    "export": ["--output=OUT/vectors"],
    "index": ["--output=OUT/index"],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    """Name of a model -> its finished run."""
    own = {"RPORec": {**SHORT, **TEXT, "stages": ["1a", "1b", "1c"]}, "SASRec": {"epochs": 1}}
    parent = tmp_path_factory.mktemp("runs")
    return {
        model: run(model, "toy", overrides={**settings, "data_path": str(data), "run_dir": str(parent / model)}).run_dir
        for model, settings in own.items()
    }


def shuffled(path):
    head, *rows = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([head, *rows[::-1]]) + "\n", encoding="utf-8")


def retitled(path):
    path.write_text(path.read_text(encoding="utf-8").replace("Film 3", "Film three", 1), encoding="utf-8")


def rerated(path):
    head, first, *rows = path.read_text(encoding="utf-8").splitlines()
    user, item, rating, time = first.split("\t")
    path.write_text("\n".join([head, f"{user}\t{item}\t{int(rating) % 5 + 1}\t{time}", *rows]) + "\n")


@pytest.mark.parametrize(("change", "file"), [(shuffled, "inter"), (retitled, "item"), (rerated, "inter")])
def test_other_data_are_refused(runs, data, tmp_path, monkeypatch, capsys, change, file):
    path = data / "toy" / f"toy.{file}"
    before = path.read_bytes()
    try:
        change(path)
        assert path.read_bytes() != before
        for model, folder in runs.items():
            if (model, file) == ("SASRec", "item"):
                continue  # it reads no texts
            with pytest.raises(RunFolderError, match="The data files are not those"):
                load_run(folder)
        for command, options in COMMANDS.items():
            words = [word.replace("OUT", str(tmp_path)) for word in options]
            assert main([command, str(runs["RPORec"]), *words]) == 2
            assert "The data files are not those" in capsys.readouterr().err
        settings = {**SHORT, **TEXT, "data_path": str(data), "run_dir": str(tmp_path / "later")}
        settings |= {"stages": ["1a", "1b", "1c", "refresh"], "start_from": str(runs["RPORec"])}
        with pytest.raises(RunFolderError, match="The data files are not those"):
            run("RPORec", "toy", overrides=settings)
    finally:
        path.write_bytes(before)
    for folder in runs.values():
        load_run(folder)


def test_whoever_may_read_the_config_may_read_the_weights(runs):
    for folder in runs.values():
        weights = list(folder.rglob("*.safetensors"))
        assert weights
        assert {file.stat().st_mode for file in weights} == {(folder / "config.yaml").stat().st_mode}


def test_a_run_of_a_version_without_a_digest_comes_back(runs, tmp_path):
    folder = shutil.copytree(runs["RPORec"], tmp_path / "run")
    facts = json.loads((folder / "metrics.json").read_text())
    assert len(facts.pop("data")) == 64
    (folder / "metrics.json").write_text(json.dumps(facts))
    load_run(folder)


def test_weights_that_are_no_numbers_are_refused(runs, tmp_path):
    folder = shutil.copytree(runs["RPORec"], tmp_path / "run")
    weights = load_file(folder / "head.safetensors")
    name = next(name for name, weight in weights.items() if weight.dim() == 2)
    weights[name][0] = torch.nan
    save_file(weights, folder / "head.safetensors")
    with pytest.raises(RunFolderError, match="no finite numbers"):
        load_run(folder)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("rporec.json", "[]", "format None"),
        ("rporec.json", "7", "cannot be read"),
        ("metrics.json", "[]", "cannot be read"),
        ("config.yaml", "", "names no model"),
    ],
)
def test_files_of_another_form_are_refused(runs, tmp_path, file, content, message):
    folder = shutil.copytree(runs["RPORec"], tmp_path / "run")
    (folder / file).write_text(content)
    with pytest.raises(RunFolderError, match=message):
        load_run(folder)


def test_a_run_without_its_backbone_is_not_whole(runs, tmp_path):
    folder = shutil.copytree(runs["RPORec"], tmp_path / "run", ignore=shutil.ignore_patterns("backbone"))
    with pytest.raises(RunFolderError, match="is not whole"):
        load_run(folder)


@pytest.mark.parametrize("content", ["[]", "{}", "7"])
def test_results_of_another_form_cannot_be_compared(runs, tmp_path, capsys, content):
    folder = shutil.copytree(runs["SASRec"], tmp_path / "run")
    (folder / "metrics.json").write_text(content)
    assert main(["compare", str(folder)]) == 2
    assert "holds no finished run" in capsys.readouterr().err


@pytest.mark.parametrize("change", [lambda table: table.drop(columns="rank"), lambda table: table.assign(rank=-1)])
def test_ranks_that_are_none_cannot_be_compared(runs, tmp_path, capsys, change):
    folder = shutil.copytree(runs["SASRec"], tmp_path / "run")
    change(pd.read_parquet(folder / "ranks.parquet")).to_parquet(folder / "ranks.parquet")
    assert main(["compare", str(folder)]) == 2
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["recommend", "RUN", "--output=RUN/ranks.parquet"],
        ["recommend", "RUN", "--output=RUN/positions.parquet"],
        ["explain", "RUN", "--format=json", "--output=RUN/metrics.json"],
        ["index", "RUN", "--output=RUN"],
    ],
)
def test_no_command_writes_over_the_run(runs, capsys, words):
    folder = runs["RPORec"]
    before = {path: path.read_bytes() for path in folder.iterdir() if path.suffix in (".json", ".parquet")}
    assert main([word.replace("RUN", str(folder)) for word in words]) == 2
    assert "--output" in capsys.readouterr().err
    assert all(path.read_bytes() == content for path, content in before.items())


# --- its log ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("kept", [False, True])
def test_what_logged_before_a_run_logs_after_it(kept, fails, tmp_path, monkeypatch):
    """And what is said then is not added to the run's log, nor are later events to its TensorBoard."""
    root, own = logging.getLogger(), [logging.NullHandler()]
    monkeypatch.setattr(root, "handlers", list(own))
    level = root.level
    with contextlib.suppress(KeyError), logging_to(tmp_path if kept else None):
        root.info("inside")
        if fails:
            raise KeyError
    assert (root.handlers, root.level) == (own, level)
    root.error("outside")
    if kept:
        log = (tmp_path / "log.txt").read_text(encoding="utf-8")
        assert "inside" in log
        assert "outside" not in log
