"""Bad input ends with exit code 2 and one clear message."""

import os
import re
import runpy
import shutil
import subprocess
import sys

import pytest
import torch

from rporec_recbole.cli import COMMANDS, main
from rporec_recbole.commands.arguments import spelt_out
from rporec_recbole.commands.run import command as run
from rporec_recbole.errors import ConfigError
from rporec_recbole.host.bridge import build_config
from rporec_recbole.host.data import build_data
from rporec_recbole.settings.properties import read_yaml
from rporec_recbole.version import __version__
from tests.toy import SHORT, TEXT, write_toy


def arguments(data, tmp_path, model="RPORec", **extra):
    values = {**SHORT, **TEXT, "stages": ["1a"], "run_dir": tmp_path / "run", "data_path": data, **extra}
    return [
        f"--model={model}",
        "--dataset=toy",
        *[f"--{key}={value}" for key, value in values.items() if value is not None],
    ]


def fails(capsys, given):
    assert main(given) == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"epoch": 3}, "Did you mean `epochs`"),
        ({"epochs": "many"}, "expected int"),
        ({"dropout": 7}, "`dropout=7"),
        ({"item_text_fields": None}, "--item_text_fields"),
        ({"item_text_fields": "[name]"}, "no item text in ['name']"),
        ({"stages": "[2]"}, "needs stage 1c"),
        ({"stages": "[1c]"}, "trains no trunk"),
        ({"learning_rate": -0.1}, "`learning_rate=-0.1` must be a number above 0"),
        ({"weight_decay": -1.0}, "`weight_decay=-1.0` must be"),
        ({"train_batch_size": 0}, "`train_batch_size=0` must be"),
        ({"eval_batch_size": -1}, "`eval_batch_size=-1` must be"),
        ({"epochs": -1}, "`epochs=-1` must be"),
        ({"eval_step": -1}, "`eval_step=-1` must be"),
        ({"stopping_step": -3}, "`stopping_step=-3` must be"),
        ({"seed": -5}, "`seed=-5` must be"),
        ({"seed": 2**32}, "from 0 to 4294967295"),
        ({"learner": "sgdd"}, "`learner='sgdd'` must be one of adam"),
        ({"gpu_id": "abc"}, "numbers of GPUs, such as 0"),
        ({"device": "cuda"}, "`device` is not a setting"),
        ({"valid_metric": "NDCG"}, "`valid_metric=NDCG` must be one of metrics"),
        ({"topk": "[10,1000]"}, "has 25 items, and `topk=[10, 1000]`"),
        ({"clip_grad_norm": "{max_nrm: 1}"}, "such as {max_norm: 5"),
        ({"user_inter_num_interval": "abc"}, "an interval such as [5,inf)"),
        ({"user_inter_num_interval": "[1000,inf)"}, "is left after filtering by user_inter_num_interval='[1000,inf)'"),
        ({"val_interval": "{rating: abc}"}, "a mapping of columns to intervals"),
        ({"val_interval": "{ratng: '[3,inf)'}"}, "cannot make `toy` ready"),
        ({"val_interval": "{year: '[1990,inf)'}"}, "Add --filter_inter_by_user_or_item=True"),
        ({"load_col": "{intr: [user_id]}"}, "names a table `intr`. Did you mean `inter`?"),
        ({"load_col": "{inter: [user_id,item_id]}"}, "in order by `timestamp`, which is not among the columns"),
        ({"eval_args": "{splt: {LS: valid_and_test}}"}, "`eval_args` has no part `splt`. Did you mean `split`?"),
        ({"eval_args": "{split: {LS: valid_only}}"}, "LS must be valid_and_test"),
        ({"eval_args": "{split: {RS: [8,1]}}"}, "RS must be three numbers"),
        ({"eval_args": "{order: TOO}"}, "must be TO (by time)"),
        ({"eval_args": "{group_by: usr}"}, "`eval_args.group_by='usr'`"),
        ({"trials": 3}, "`--trials` is an option of a search"),
        ({"stages": "[1b,1c]", "cot_weight": 0}, "`cot_weight=0` and `warmup_examples="),
        ({"data_path": "/nowhere"}, "--data_path"),
        ({"run_dir": "/proc/nothing/here"}, "--run_dir"),
        ({"config_files": "/nowhere.yaml"}, "/nowhere.yaml"),
    ],
)
def test_bad_settings(capsys, toy, tmp_path, extra, message):
    given = {**extra}
    assert message in fails(capsys, arguments(given.pop("data_path", toy), tmp_path, **given))


@pytest.mark.parametrize(
    ("model", "extra", "message"),
    [
        ("SASRec", {"hidden_size": 7}, "SASRec cannot be made with these settings"),
        ("BPR", {"embedding_size": -3}, "BPR cannot be made with these settings"),
        ("MKR", {}, "toy.kg does not exist"),
        ("GRU4RecF", {}, "`selected_features=['class']` names what is not there"),
    ],
)
def test_what_recbole_refuses_is_one_message(capsys, toy, tmp_path, model, extra, message):
    given = [f"--{key}={value}" for key, value in {"data_path": toy, "run_dir": tmp_path / "run", **extra}.items()]
    assert message in fails(capsys, [f"--model={model}", "--dataset=toy", *given])


@pytest.mark.parametrize("given", ["0", "", "0,1"])
def test_a_gpu_is_named_by_its_number(toy, given, tmp_path):
    assert main(arguments(toy, tmp_path, stages="[1a]", gpu_id=given)) == 0
    file = tmp_path / "mine.yaml"
    file.write_text("gpu_id: 0\n")
    assert build_config("RPORec", "toy", [str(file)], {"data_path": str(toy), **TEXT})["gpu_id"] == "0"


@pytest.mark.parametrize(
    ("file", "before", "after", "message"),
    [
        ("inter", "timestamp:float", "timestamp:token", "`timestamp:token` must be `timestamp:float`"),
        ("inter", "user_id:token", "user_id:float", "`user_id:float` must be `user_id:token`"),
        ("inter", "item_id:token", "item_id:token_seq", "`item_id:token_seq` must be"),
        ("inter", "user_id:token", "\ufeffuser_id:token", "byte order mark"),
        ("item", "item_id:token", "\ufeffitem_id:token", "byte order mark"),
        ("item", "item_id:token", "item:token", "its items are known by `item_id:token`"),
    ],
)
def test_columns_that_cannot_be(capsys, tmp_path, file, before, after, message):
    parent = write_toy(tmp_path / "data")
    path = parent / "toy" / f"toy.{file}"
    path.write_text(path.read_text(encoding="utf-8").replace(before, after, 1), encoding="utf-8")
    assert message in fails(capsys, arguments(parent, tmp_path))


def test_help_and_version_anywhere(capsys):
    for words, shown in (
        (["explain", "RUN", "--help"], "usage: rporec explain"),
        (["--model=RPORec", "--help"], "usage: rporec --model"),
        (["run", "--help"], "usage: rporec --model"),
        (["--help"], "usage: rporec --model"),
        (["--version"], "rporec_recbole "),
    ):
        assert main(words) == 0
        assert capsys.readouterr().out.startswith(shown)


def test_a_later_file_names_where_the_data_are(tmp_path, toy):
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text(f"data_path: {tmp_path / 'nowhere'}\n")
    second.write_text(f"data_path: {toy}\nepochs: 1\n")
    given = ["--model=Pop", "--dataset=toy", "--config_files", str(first), str(second), f"--run_dir={tmp_path / 'run'}"]
    assert main(given) == 0


def test_a_name_twice_in_a_file(capsys, tmp_path, toy):
    path = tmp_path / "a.yaml"
    path.write_text("epochs: 1\nepochs: 2\n")
    assert "line 2: `epochs` stands twice" in fails(capsys, arguments(toy, tmp_path, config_files=path))


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (
            "a: &a {k: 1}\nb: {<<: *a, k: 2}\nc: {d: {<<: *a}, <<: *a}\n",
            {"a": {"k": 1}, "b": {"k": 2}, "c": {"k": 1, "d": {"k": 1}}},
        ),
        ("a: {b: 1}\nc: {b: 2}\n", {"a": {"b": 1}, "c": {"b": 2}}),
    ],
)
def test_names_that_may_stand_twice(tmp_path, text, content):
    (tmp_path / "a.yaml").write_text(text)
    assert read_yaml(tmp_path / "a.yaml") == content


@pytest.mark.parametrize("text", ["a: {{ x }}\n", "? [a, b]\n: 1\n"])
def test_names_that_are_none(capsys, tmp_path, toy, text):
    (tmp_path / "a.yaml").write_text(text)
    assert "a.yaml" in fails(capsys, arguments(toy, tmp_path, config_files=tmp_path / "a.yaml"))


def test_metrics_without_a_k_need_no_topk(toy):
    own = {
        "data_path": str(toy),
        "metrics": ["AUC", "LogLoss"],
        "valid_metric": "AUC",
        "topk": [1000],
        "threshold": {"rating": 3},
    }
    own |= {"eval_args": {"split": {"RS": [8, 1, 1]}, "order": "RO", "group_by": "user", "mode": "labeled"}}
    config = build_config("FM", "toy", overrides={**own, "load_col": {"inter": ["user_id", "item_id", "rating"]}})
    dataset, train, *_ = build_data(config)
    assert dataset.item_num < 1000
    assert len(train.dataset) > 0


def test_a_sample_of_candidates_is_said(capsys, tmp_path, toy):
    assert (
        main(
            arguments(
                toy,
                tmp_path,
                stages="[1a]",
                eval_args="{split: {LS: valid_and_test}, order: TO, group_by: user, mode: {valid: full, test: uni10}}",
            )
        )
        == 0
    )
    assert "samples of 25 items (`uni10`)" in capsys.readouterr().out


def test_metrics_that_numpy_made_are_kept(tmp_path, toy):
    assert main(arguments(toy, tmp_path, stages="[1a,1b,1c]", metrics="[NDCG,GAUC]")) == 0


def test_a_full_disk_is_one_message(capsys, tmp_path, toy, monkeypatch):
    def full(*arguments, **options):
        raise RuntimeError("[enforce fail at inline_container.cc:672] unexpected pos")

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(torch, "save", full)
    given = ["--model=SASRec", "--dataset=toy", f"--data_path={toy}", "--epochs=1", f"--run_dir={tmp_path / 'run'}"]
    with pytest.raises(RuntimeError, match="unexpected pos"):
        main(given)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    assert "is full ([enforce fail" in fails(capsys, given)


def test_bad_words(capsys):
    assert "Did you mean `SASRec`" in fails(capsys, ["--model=SASRek", "--dataset=ml-100k"])
    assert "--dataset=NAME is missing" in fails(capsys, ["--model=SASRec"])
    assert "Write --epochs=VALUE" in fails(capsys, ["--epochs"])
    assert "Did you mean `recommend`" in fails(capsys, ["--model=RPORec", "--dataset=ml-100k", "--recomend=recs.csv"])


def test_broken_yaml(capsys, tmp_path, toy):
    path = tmp_path / "a.yaml"
    path.write_text("epochs: [1\n")
    assert "not valid YAML" in fails(capsys, arguments(toy, tmp_path, config_files=path))


def test_malformed_row(capsys, tmp_path):
    parent = write_toy(tmp_path / "data")
    path = parent / "toy" / "toy.inter"
    path.write_text(path.read_text() + "u1\ti1\tfive\n")
    assert "instead of 4" in fails(capsys, arguments(parent, tmp_path))
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\nu1\ti1\t5\tnoon\n")
    assert "not a number" in fails(capsys, arguments(parent, tmp_path))


def test_backbone_folder_that_is_no_model(capsys, tmp_path, toy):
    empty = tmp_path / "empty"
    empty.mkdir()
    err = fails(capsys, arguments(toy, tmp_path, stages="[1a,1c]", backbone=empty))
    assert "no model" in err


def test_used_run_folder_is_left_alone(capsys, tmp_path, toy):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("keep")
    assert "not empty" in fails(capsys, arguments(toy, tmp_path))
    assert (tmp_path / "run" / "mine.txt").read_text() == "keep"


def test_ids_only_runs_the_trunk_without_text(capsys, tmp_path, toy):
    assert main(arguments(toy, tmp_path, item_text_fields=None, stages=None, ids_only=True)) == 0
    assert "Everything is in" in capsys.readouterr().out


def test_help_and_doctor(capsys):
    assert main(["--help"]) == 0
    assert main(["doctor"]) == 0
    assert "remove when" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "spelt"),
    [
        (["--controls", "--epochs=3"], ["--controls=True", "--epochs=3"]),
        (["--controls", "False"], ["--controls=False"]),
        (["-m", "SASRec", "-d", "toy"], ["--model=SASRec", "--dataset=toy"]),
        (["--model", "SASRec", "--topk", "[5,10]"], ["--model=SASRec", "--topk=[5,10]"]),
        (["--config_files", "a.yaml", "b.yaml", "--seed", "1"], ["--config_files=a.yaml b.yaml", "--seed=1"]),
        (["--config_files=a.yaml b.yaml"], ["--config_files=a.yaml b.yaml"]),
        (["--learning_rate", "-1", "--run_dir=--odd"], ["--learning_rate=-1", "--run_dir=--odd"]),
        (["--seed=1", "--seed=1"], ["--seed=1", "--seed=1"]),
    ],
)
def test_ways_to_write_an_option(given, spelt):
    assert spelt_out(run, given) == spelt


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--epochs"], "--epochs=VALUE"),
        (["--epochs", "--seed=1"], "--epochs=VALUE"),
        (["--seed=1", "--seed=2"], "`--seed` is given twice, as 1 and 2"),
        (["-m", "SASRec", "--model=BPR"], "`--model` is given twice"),
        (["--", "x"], "Cannot read the argument `--`"),
        (["--=3"], "Cannot read the argument `--=3`"),
    ],
)
def test_options_that_cannot_be_read(given, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        spelt_out(run, given)


LATE = ("torch", "recbole", "numpy", "pandas", "transformers")
"""What takes seconds to import."""


def test_help_and_refusals_come_at_once(tmp_path):
    """Nothing heavy is imported before it is known that there is something to do. One process: each starts with a clean slate."""
    commands = [
        *[["--help"], ["--version"], ["models"], ["datasets"], ["completion", "bash"]],
        *[[name, "--help"] for name in COMMANDS],
        *[["recomend", "RUN"], ["recommend", "saved/RNU"], ["recommend", ".", "--top_n=5"], ["--modle=SASRec"]],
        *[["--model=SASRek", "--dataset=ml-100k"], ["-m", "SASRec", "-d", "ml-10k"]],
        *[["--model=RPORec", "--dataset=ml-100k", "--epohcs=3"], ["--model=SASRec", "--dataset=ml-100k", "--trials=3"]],
        ["--model=SASRec,BPRR", "--dataset=ml-100k"],
    ]
    script = f"""
import json, sys
from rporec_recbole.cli import main
for given in {commands!r}:
    code = main(given)
    late = [name for name in {LATE!r} if name in sys.modules]
    assert not late, (given, late)
    expected = 2 if not given[0] in {(*COMMANDS, "--help", "--version")!r} or given[0] == "recommend" and given[1] != "--help" else 0
    assert code == expected, (given, code)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for hint in ("`recommend`", "`SASRec`", "`ml-100k`", "`epochs`", "`top_k`", "`BPR`", "--model=NAME is missing"):
        assert hint in done.stderr, hint


def test_python_m_is_the_command_too(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["rporec_recbole", "--version"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("rporec_recbole", run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out.strip().endswith(__version__)


def test_a_shell_completes_names(tmp_path):
    (tmp_path / "saved" / "one").mkdir(parents=True)
    (tmp_path / "saved" / "one" / "config.yaml").touch()
    (tmp_path / "saved" / "no run").mkdir()
    asked = {"rporec comp": {"compare", "completion"}, "rporec --model SASRecC": {"SASRecCPR"},
             "rporec recommend saved/": {"saved/one"}, "rporec recommend saved/one --top_": {"--top_k"}}  # fmt: skip
    for typed, wanted in asked.items():
        words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1), "_RPOREC_COMPLETE": "bash_complete"}
        code = "import sys; from rporec_recbole.cli import main; sys.exit(main([]))"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, **words}, capture_output=True, text=True
        )
        assert {line.split(",")[1] for line in done.stdout.splitlines()} == wanted, done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    assert main([command, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: rporec {'--model' if command == 'run' else command}")
