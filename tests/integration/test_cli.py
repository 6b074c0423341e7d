"""Bad input ends with exit code 2 and one clear message."""

import pytest

from rporec_recbole.cli import COMMANDS, main
from rporec_recbole.commands.arguments import split_arguments
from rporec_recbole.errors import ConfigError
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
        ({"stages": "[1b,1c]", "cot_weight": 0}, "`cot_weight=0` and `warmup_examples="),
        ({"data_path": "/nowhere"}, "--data_path"),
        ({"run_dir": "/proc/nothing/here"}, "--run_dir"),
        ({"config_files": "/nowhere.yaml"}, "/nowhere.yaml"),
    ],
)
def test_bad_settings(capsys, toy, tmp_path, extra, message):
    given = {**extra}
    assert message in fails(capsys, arguments(given.pop("data_path", toy), tmp_path, **given))


def test_bad_words(capsys):
    assert "Did you mean `SASRec`" in fails(capsys, ["--model=SASRek", "--dataset=ml-100k"])
    assert "--dataset=NAME is missing" in fails(capsys, ["--model=SASRec"])
    assert "Write --epochs=VALUE" in fails(capsys, ["--epochs", "3"])


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


def test_controls_is_a_switch():
    found = split_arguments(["--controls", "--epochs=3"], switches=["controls"])
    assert found == ([], {"controls": True, "epochs": 3})
    with pytest.raises(ConfigError, match="--epochs=VALUE"):
        split_arguments(["--epochs"], switches=["controls"])


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    assert main([command, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: rporec {command}")
