"""Runs that go on from something that lies elsewhere now: a run before, a killed run, a comparison, a sweep."""

import shutil
from pathlib import Path

import pytest
import yaml

from rporec_recbole.cli import main
from rporec_recbole.runs.comparison import Contestant, found_folder
from rporec_recbole.training.stage1.head_stages import HeadStages
from tests.backbones import folder_of, qwen, word_tokenizer
from tests.integration.test_moved import away, inside, retouched, same_ranks, train, train_again
from tests.toy import write_toy


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("moved")
    write_toy(place / "dataset")
    folder_of(qwen(0), place / "base", word_tokenizer())
    return place


@pytest.fixture(scope="module")
def first(place):
    """A run that others start from."""
    return train(place / "first", data_path=place / "dataset", backbone=place / "base", stages="[1a,1b,1c]")


def test_from_a_run_that_moved_with_all_it_needs(place, first, tmp_path, capsys):
    own = {"stages": "[1a,1b,1c]", "start_from": first}
    one = train(tmp_path / "one", data_path=place / "dataset", backbone=place / "base", **own)
    with away(first) as run, away(place / "dataset") as data, away(place / "base") as base:
        other = train(tmp_path / "other", data_path=data, backbone=base, **{**own, "start_from": run})
        same_ranks(one, other)
        wrong = {"data_path": data, "backbone": retouched(base, tmp_path / "retouched"), **own, "start_from": run}
        train(tmp_path / "wrong", expected=2, **wrong)
        assert "are not those that the adapter was trained on" in capsys.readouterr().err


def test_another_base_is_another_setting_while_the_first_one_is_there(place, first, tmp_path, capsys):
    given = {"data_path": place / "dataset", "backbone": shutil.copytree(place / "base", tmp_path / "copy")}
    train(tmp_path / "run", expected=2, **given, stages="[1a,1b,1c]", start_from=first)
    assert "was run with other settings" in capsys.readouterr().err


def test_a_killed_run_goes_on_elsewhere(place, first, tmp_path, monkeypatch, capsys):
    given = {"data_path": place / "dataset", "backbone": place / "base", "stages": "[1a,1b,1c]"}
    with monkeypatch.context() as patched:
        patched.setattr(HeadStages, "fusion", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        run = train(tmp_path / "run", expected=130, **given)
    assert (run / "resume").is_dir()
    run = Path(shutil.move(run, tmp_path / "there"))
    with away(place / "dataset") as data, away(place / "base") as base:
        other = {**given, "data_path": data, "backbone": retouched(base, tmp_path / "retouched")}
        kept = (run / "config.yaml").read_text()
        train(run, expected=2, **other)
        assert (run / "config.yaml").read_text() == kept
        assert "are not those that the adapter was trained on" in capsys.readouterr().err
        train(run, **{**given, "data_path": data, "backbone": base})
        assert yaml.safe_load((run / "config.yaml").read_text())["data_path"] == str(data)
    assert "stage 1a (" not in (run / "log.txt").read_text().split("going on after stage")[-1]
    same_ranks(first, run)


def test_a_comparison_goes_on_where_its_data_are_now(place, tmp_path, capsys):
    def compare(data):
        given = {"data_path": data, "run_dir": tmp_path / "compared", "epochs": 1, "show_progress": False}
        return main(["--model=BPR,Pop", "--dataset=toy", *(f"--{key}={value}" for key, value in given.items())])

    data = shutil.copytree(place / "dataset", tmp_path / "data")
    assert compare(data) == 0
    shutil.rmtree(data)
    assert compare(place / "dataset") == 0
    assert "2 of 2 runs are finished" in capsys.readouterr().out
    assert compare(write_toy(tmp_path / "others", seed=1)) == 2
    assert "The data files are not those" in capsys.readouterr().err


def test_a_comparison_is_found_without_its_folder_where_its_data_moved(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def compare(data, said):
        assert main(["--model=Pop,Random", "--dataset=toy", f"--data_path={data}", "--show_progress=False"]) == 0
        assert said in capsys.readouterr().out
        return [one.name for one in Path("saved").iterdir()]

    def found(data):
        models = [Contestant(name, name, [], {}) for name in ("Pop", "Random")]
        return found_folder(models, "toy", [], {"data_path": str(data), "show_progress": False}).name

    data = shutil.copytree(place / "dataset", tmp_path / "data")
    (first,) = compare(data, "0 of 2 runs are finished")
    assert found(data) == first
    assert found(place / "dataset") != first  # both are there, and may differ some day
    moved = shutil.move(data, tmp_path / "there")
    assert compare(moved, "2 of 2 runs are finished") == [first]
    assert found(place / "dataset") == first
    shutil.rmtree(moved)
    assert found(write_toy(tmp_path / "others", seed=1)) != first  # what lies there is not what is gone


@pytest.mark.parametrize("named", [True, False])
def test_a_sweep_goes_on_where_its_data_are_now(place, tmp_path, monkeypatch, capsys, named):
    pytest.importorskip("optuna", reason='a sweep needs optuna: pip install "rporec_recbole[sweep]"')
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "sweep.yaml"
    file.write_text("space: {embedding_size: {choice: [8]}}\ntrials: 1\n")
    given = [f"--sweep={file}", "--epochs=1", "--show_progress=False", *(["--run_dir=saved/sweep"] if named else [])]

    def sweep(data, expected=0):
        capsys.readouterr()
        assert main(["--model=BPR", "--dataset=toy", f"--data_path={data}", *given]) == expected
        return capsys.readouterr()

    data = shutil.copytree(place / "dataset", tmp_path / "data")
    assert "trial 1 of 1 starts" in sweep(data).out
    moved = shutil.move(data, tmp_path / "there")
    assert "starts" not in sweep(moved).out
    assert len(list(Path("saved").iterdir())) == 1
    shutil.rmtree(moved)
    said = sweep(write_toy(tmp_path / "others", seed=1), expected=2 if named else 0)
    assert ("holds another sweep" in said.err) if named else ("trial 1 of 1 starts" in said.out)


def test_the_best_of_a_sweep_is_repeated_from_any_working_folder(place, tmp_path, monkeypatch):
    pytest.importorskip("optuna", reason='a sweep needs optuna: pip install "rporec_recbole[sweep]"')
    file = tmp_path / "sweep.yaml"
    file.write_text("space: {embedding_size: {choice: [8]}}\ntrials: 1\n")
    given = [f"--sweep={file}", f"--run_dir={tmp_path}/sweep", "--epochs=1", "--show_progress=False"]
    with inside(place):
        assert main(["--model=BPR", "--dataset=toy", *given]) == 0
    monkeypatch.chdir(tmp_path)
    same_ranks(tmp_path / "sweep/trial-01", train_again("sweep/best.yaml", "again"))
