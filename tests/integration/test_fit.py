"""`rporec fit`: a finished run trained once more on everything, for production."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from safetensors.torch import load_file

from rporec_recbole.cli import main
from rporec_recbole.outputs.export import export
from rporec_recbole.runs.finished import load_run
from rporec_recbole.runs.fit import fit
from rporec_recbole.runs.run import run
from rporec_recbole.serve.question import Question
from rporec_recbole.serve.rows import Rows
from tests.integration.reasoned import with_texts
from tests.toy import SHORT, TEXT, write_toy


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("data"), users=40)


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    folder, made = tmp_path_factory.mktemp("runs"), {}
    short = {**SHORT, **TEXT, "data_path": str(data), "epochs": 3}
    plain = {"epochs": 3, "eval_step": 1, "show_progress": False, "data_path": str(data)}
    for name, model, settings in (
        ("trunk", "RPORec", {**short, "stages": ["1a"]}),
        ("texts", "RPORec", {**short, "stages": ["1a", "1b", "1c", "refresh"]}),
        ("SASRec", "SASRec", plain),
        ("BPR", "BPR", plain),
        ("Pop", "Pop", plain),
    ):
        made[name] = run(model, "toy", overrides={**settings, "run_dir": str(folder / name)}).run_dir
    return made


def read(folder, name="metrics.json"):
    return json.loads((folder / name).read_text(encoding="utf-8"))


def rows_of(data):
    table = pd.read_csv(data / "toy" / "toy.inter", sep="\t")
    table.columns = [name.split(":")[0] for name in table.columns]
    return table


@pytest.mark.parametrize("name", ["trunk", "texts", "SASRec", "BPR", "Pop"])
def test_everything_teaches_and_what_validation_chose_stays(runs, data, tmp_path, capsys, name):
    before, output = read(runs[name]), tmp_path / "all"
    assert main(["fit", str(runs[name]), f"--output={output}"]) == 0
    said = capsys.readouterr().out
    assert "It has no metrics of its own: every interaction taught it" in said
    after, config = read(output), yaml.safe_load((output / "config.yaml").read_text())
    assert after["interactions"] == len(rows_of(data))
    assert not {"valid", "test"} & after.keys()
    assert after["fitted_from"]["run"] == str(runs[name].resolve())
    assert after["fitted_from"]["test"] == before["test"]
    if name in ("SASRec", "BPR"):
        best = max(before["validations"], key=lambda one: one["score"])["epoch"]
    elif name == "Pop":
        best = config["epochs"]
    else:
        refresh = before["stages"].get("refresh", {"note": ""})
        best = (before["stages"]["1a"] if "note" in refresh else refresh)["best_epoch"]
    assert config["epochs"] == after["stages"]["train"]["epochs"] == best
    assert not list(output.glob("resume*"))
    recs = tmp_path / "recs.csv"
    assert main(["recommend", str(output), f"--output={recs}", "--top_k=5"]) == 0
    past = rows_of(data).groupby("user_id")["item_id"].apply(set)
    table = pd.read_csv(recs)
    assert set(table["user_id"]) == set(past.index)
    assert not [row for row in table.itertuples() if row.item_id in past[row.user_id]]


def test_the_language_model_comes_along(runs, tmp_path):
    output = tmp_path / "all"
    done = fit(runs["texts"], str(output))
    assert done.recipe.reasoned
    for name in ("model.safetensors", "tokenizer.json"):
        assert (output / "backbone" / name).read_bytes() == (runs["texts"] / "backbone" / name).read_bytes()
    here, there = load_file(output / "head.safetensors"), load_file(runs["texts"] / "head.safetensors")
    kept = [name for name in there if name.endswith("strength") or ("expert" in name and "trust" in name)]
    assert len(kept) > 1
    for name in kept:
        np.testing.assert_array_equal(here[name].numpy(), there[name].numpy())
    loaded, before = load_run(output), load_run(runs["texts"])
    assert loaded.model.reasoning_on == before.model.reasoning_on
    assert loaded.model.reads_reasoning == before.model.reads_reasoning
    assert loaded.model.backbone.fingerprint == before.model.backbone.fingerprint
    for one in (loaded, before):
        one.model.reasoner.store.close()


def test_new_data_are_taken_as_they_are_now(runs, data, tmp_path):
    newer = shutil.copytree(data, tmp_path / "newer")
    with (newer / "toy" / "toy.inter").open("a", encoding="utf-8") as file:
        file.writelines(f"u1\ti{item}\t4\t{890000000 + item}\n" for item in range(3))
        file.writelines(f"fresh\ti{item}\t4\t{890000000 + item}\n" for item in range(5))
    done = fit(runs["trunk"], str(tmp_path / "all"), data_path=str(newer))
    assert (done.interactions, done.users) == (len(rows_of(data)) + 8, 41)
    question = Question(user="fresh", top_k=3, hide_seen=True)
    row = Rows(load_run(tmp_path / "all")).read(question)
    ids = load_run(tmp_path / "all").dataset.field2token_id["item_id"]
    assert row.items == [ids[f"i{item}"] for item in range(5)]
    assert sorted(row.hidden) == sorted(row.items)
    assert export(tmp_path / "all", tmp_path / "vectors")["users"] == 41


def test_a_run_on_everything_has_nothing_to_measure(runs, tmp_path, capsys):
    output = tmp_path / "all"
    fit(runs["trunk"], str(output))
    for command, message in (
        (["recommend", str(output), "--split=test"], "its test split is empty"),
        (["explain", str(output)], "its test split is empty"),
        (["compare", str(output), str(runs["trunk"])], "was trained on everything"),
        (["fit", str(output)], "Name the run that it came from"),
        ([f"--config_files={output / 'config.yaml'}"], "rporec fit"),
        (["fit", str(runs["trunk"]), f"--output={output}"], "is not empty"),
        (["fit", str(tmp_path)], "holds no run"),
        (["fit"], "rporec fit RUN"),
    ):
        assert main(command) == 2
        said = capsys.readouterr().err
        assert message in said
        assert "Traceback" not in said


def test_a_map_of_the_old_trunk_cannot_come_along(runs, tmp_path, capsys):
    folder = with_texts(runs["texts"], tmp_path / "moved")
    assert main(["fit", str(folder), f"--output={tmp_path / 'all'}"]) == 2
    assert "move the ranking by a map that belongs to its own trunk" in capsys.readouterr().err
    assert not (tmp_path / "all").exists()
