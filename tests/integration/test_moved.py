"""Runs whose folder, data, base model or sentence encoder lie elsewhere now, through the entry as a user would."""

import contextlib
import json
import os
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from safetensors.torch import load_file, save_file

from rporec_recbole import load_run
from rporec_recbole.cli import COMMANDS, main
from rporec_recbole.errors import BackboneError, ConfigError
from tests.backbones import adapter_on, folder_of, qwen, sentence_model, word_tokenizer
from tests.gguf_file import write_gguf
from tests.toy import SHORT, TEXT, write_toy

SMALL = {
    **SHORT, **TEXT, "warmup_examples": 16, "fusion_epochs": 1, "fusion_strengths": [1], "prompt_style": "compact",
    "max_prompt_tokens": 200, "max_new_tokens": 4, "lora_rank": 2,
}  # fmt: skip
TAKES_A_RUN = {
    "recommend": ["recommend", "RUN", "--output=OUT/recs.csv"],
    "export": ["export", "RUN", "--output=OUT/vectors"],
    "explain": ["explain", "RUN", "--sample=2", "--output=OUT/page.html"],
    "index": ["index", "RUN", "--output=OUT/index"],
    "cots": ["cots", "write", "RUN"],
    "controls": ["controls", "RUN", "--only=no CoT"],
    "serve": ["serve", "RUN", "--worker_only=True"],
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A working folder with data, models and runs in it, all named by relative paths."""
    place = tmp_path_factory.mktemp("moved") / "project"
    write_toy(place / "dataset")
    folder_of(qwen(0), place / "models/base", word_tokenizer())
    adapter_on(place / "models/base", place / "models/adapter", None)
    write_gguf(place / "models/small.gguf")
    with inside(place):
        train("saved/llm", backbone="models/base", stages="[1a,1b,1c]")
        train("saved/trunk", stages="[1a]")
    return place


@contextlib.contextmanager
def inside(folder):
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        yield


def train(folder, model="RPORec", expected=0, **more):
    settings = {**(SMALL if model == "RPORec" else {"epochs": 1, "show_progress": False}), **more, "run_dir": folder}
    assert (
        main([f"--model={model}", "--dataset=toy", *(f"--{key}={value}" for key, value in settings.items())])
        == expected
    )
    return Path(folder)


@contextlib.contextmanager
def away(path):
    """Where something is that is not in its place any more."""
    moved = path.with_name(f"{path.name}-moved")
    path.rename(moved)
    try:
        yield moved
    finally:
        moved.rename(path)


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def command(monkeypatch, tmp_path):
    """Runs a command for a run from another working folder; a worker ends when its queue is empty."""
    from rporec_recbole.serve import worker_process

    run_worker = worker_process.run_worker
    monkeypatch.setattr(
        worker_process, "run_worker", lambda run, stop, **places: run_worker(run, lambda: True, **places)
    )
    monkeypatch.chdir(tmp_path)

    def call(name, run, *options):
        words = [word.replace("RUN", str(run)).replace("OUT", str(tmp_path)) for word in TAKES_A_RUN[name]]
        return main([*words, *options])

    return call


@pytest.mark.parametrize("name", TAKES_A_RUN)
def test_a_command_says_what_is_missing_and_takes_where_it_is(name, project, command, capsys, tmp_path):
    run = shutil.copytree(project / "saved/llm", tmp_path / "elsewhere")
    before = contents(run)
    with away(project / "dataset") as data, away(project / "models") as models:
        assert command(name, run) == 2
        said = capsys.readouterr().err
        assert f"is not in {project}/dataset/toy" in said
        assert "--data_path=DIR" in said
        assert command(name, run, f"--data_path={data}") == 2
        said = capsys.readouterr().err
        assert f"is an adapter on {project}/models/base, and nothing is there" in said
        assert "--backbone=FOLDER_OR_ID_OR_GGUF" in said
        assert contents(run) == before
        assert command(name, run, f"--data_path={data}", f"--backbone={models}/base") == 0


def test_every_command_that_loads_a_run_is_tried_here():
    none = {"import", "run", "compare", "split", "models", "datasets", "doctor", "completion"}  # these load none
    assert set(COMMANDS) - TAKES_A_RUN.keys() == none | {"fit"}  # it refuses this run, whose fusion counts


@pytest.mark.parametrize("name", TAKES_A_RUN)
def test_help_names_them(name, capsys):
    assert main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert [place for place in ("--data_path", "--backbone", "--text_encoder") if place not in shown] == []


def test_relative_places_are_found_from_any_working_folder(project, command):
    assert command("recommend", project / "saved/llm") == 0
    assert command("recommend", project / "saved/trunk") == 0


def test_a_working_folder_that_moved_as_a_whole_needs_no_options(project):
    with away(project) as moved:
        with inside(moved):
            for name in ("llm", "trunk"):
                assert main(["recommend", f"saved/{name}", f"--output={name}.csv"]) == 0
            again = train_again("saved/trunk/config.yaml", "saved/again")
        same_ranks(moved / "saved/trunk", moved / again)


def train_again(config, folder, *options):
    assert main([f"--config_files={config}", f"--run_dir={folder}", *options]) == 0
    return Path(folder)


def same_ranks(one, other):
    pd.testing.assert_frame_equal(*(pd.read_parquet(run / "ranks.parquet") for run in (one, other)))


def test_a_config_repeats_its_run_from_any_working_folder(project, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = project / "saved/trunk/config.yaml"
    same_ranks(project / "saved/trunk", train_again(config, "there"))
    with away(project / "dataset") as data:
        assert main([f"--config_files={config}", "--run_dir=nothing"]) == 2
        assert "--data_path=DIR" in capsys.readouterr().err
        assert not Path("nothing").exists()
        same_ranks(project / "saved/trunk", train_again(config, "again", f"--data_path={data}"))


def test_what_is_no_place(project, command, capsys, tmp_path):
    run, data = project / "saved/llm", project / "dataset"
    other = write_toy(tmp_path / "other", seed=1)
    (tmp_path / "empty/toy").mkdir(parents=True)
    for options, message in (
        ([f"--data_path={other}"], "The data files are not those"),
        ([f"--data_path={tmp_path}/empty"], "holds no interactions"),
        ([f"--data_path={data}/toy"], f"is not in {data}/toy/toy: it does not exist"),
        (["--data_path="], "names nothing"),
        ([f"--backbone={tmp_path}/gone"], f"`backbone={tmp_path}/gone` is a local path but no model"),
        (["--backbone=./gone.gguf"], "`backbone=./gone.gguf` is a local path but no model"),
        (["--backbone=tiny"], "cannot stand in for"),
        ([f"--text_encoder={tmp_path}"], "needs none but what is in it"),
    ):
        assert command("recommend", run, *options) == 2
        assert message in capsys.readouterr().err
    assert command("recommend", project / "saved/trunk", f"--backbone={project}/models/base") == 2
    assert "needs none but what is in it" in capsys.readouterr().err
    assert main(["cots", "stats", str(run), f"--data_path={data}"]) == 2
    assert "`--data_path` means nothing to `cots stats`" in capsys.readouterr().err


def retouched(base, path):
    """The same model with one weight that is another, as after a further training."""
    shutil.copytree(base, path)
    weights = load_file(path / "model.safetensors")
    name = next(name for name, weight in weights.items() if weight.dim() == 2)
    weights[name][0, 0] += 1
    save_file(weights, path / "model.safetensors", {"format": "pt"})
    return path


def test_an_adapter_on_other_weights_is_refused(project, tmp_path):
    run, base = project / "saved/llm", project / "models/base"
    with pytest.raises(BackboneError, match="are not those that the adapter was trained on"):
        load_run(run, backbone=str(retouched(base, tmp_path / "retouched")))
    with pytest.raises(BackboneError, match="does not fit its base"):
        load_run(run, backbone=str(folder_of(qwen(0, hidden_size=48), tmp_path / "wide", word_tokenizer())))
    with away(base):  # another model in the very place
        retouched(base.with_name("base-moved"), base)
        with pytest.raises(BackboneError, match="are not those that the adapter was trained on"):
            load_run(run)
        given = {"data_path": project / "dataset", "backbone": run / "backbone", "stages": "[1a,1b]"}
        train(tmp_path / "further", expected=2, **given)
        shutil.rmtree(base)


def test_of_an_older_run_nobody_knows_the_weights(project, tmp_path, caplog):
    run = shutil.copytree(project / "saved/llm", tmp_path / "run")
    kept = json.loads((run / "backbone/writer.json").read_text())
    del kept["base"]
    (run / "backbone/writer.json").write_text(json.dumps(kept))
    load_run(run)
    assert "did not keep what its base was" not in caplog.text
    load_run(run, backbone=str(shutil.copytree(project / "models/base", tmp_path / "copy")))
    assert "did not keep what its base was" in caplog.text


@pytest.mark.parametrize("name", ["small.gguf", "adapter"])
def test_other_kinds_of_backbones(name, project, tmp_path):
    models = shutil.copytree(project / "models", tmp_path / "models")
    note = models / "adapter/adapter_config.json"
    note.write_text(note.read_text().replace(str(project), str(tmp_path)))
    given = {"data_path": project / "dataset", "backbone": models / name, "stages": "[1a,1b]"}
    run = train(tmp_path / "run", **given)
    with away(models) as moved:
        with pytest.raises(BackboneError, match=re.escape(f"{models}/{'base' if name == 'adapter' else name}")):
            load_run(run)
        stand_in = "base" if name == "adapter" else name
        fingerprint = load_run(run, backbone=str(moved / stand_in)).model.backbone.fingerprint
    assert load_run(run).model.backbone.fingerprint == fingerprint


def test_a_whole_model_needs_no_base(project, tmp_path):
    models = shutil.copytree(project / "models", tmp_path / "models")
    given = {"data_path": project / "dataset", "backbone": models / "base", "stages": "[1a,1b]", "lora": False}
    run = train(tmp_path / "run", **given)
    with away(models):
        assert load_run(run).model.backbone.parameters > 0


def test_a_sentence_encoder(project, sentences, tmp_path):
    given = {"data_path": project / "dataset", "text_encoder": sentences, "stages": "[1a]"}
    run = train(tmp_path / "run", **given)
    ranks = load_run(run).evaluate("test")[1]
    with away(sentences) as moved:
        with pytest.raises(ConfigError, match=r"is not in .*/model\. .*--text_encoder=FOLDER_OR_ID"):
            load_run(run)
        pd.testing.assert_frame_equal(load_run(run, text_encoder=str(moved)).evaluate("test")[1], ranks)
        same_ranks(run, train_again(run / "config.yaml", tmp_path / "again", f"--text_encoder={moved}"))


@pytest.fixture
def sentences(tmp_path):
    return sentence_model(tmp_path, word_tokenizer())


def test_a_run_folder_that_cannot_be_written(project, tmp_path):
    """Nothing but what is asked for is written there; see also `test_a_command_says_what_is_missing_and_takes_where_it_is`."""
    run = shutil.copytree(project / "saved/llm", tmp_path / "run")
    before = set(run.rglob("*"))
    for path in [run, *before]:
        path.chmod(path.stat().st_mode & ~0o222)
    try:
        if os.access(run, os.W_OK):
            pytest.skip("this user may write everywhere")
        assert main(["recommend", str(run), f"--output={tmp_path}/recs.csv"]) == 0
        assert main(["cots", "write", str(run)]) == main(["controls", str(run)]) == 2
        assert set(run.rglob("*")) == before
    finally:
        for path in [run, *before]:
            path.chmod(path.stat().st_mode | 0o200)
