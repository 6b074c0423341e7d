"""Search spaces: both formats mean the same, and mistakes are named with their lines."""

import math

import pytest

from rporec_recbole.errors import ConfigError
from rporec_recbole.settings.known import known_keys
from rporec_recbole.settings.properties import properties_dir
from rporec_recbole.sweep.space import Choice, Range, check_space, read_space

HYPER_TEST = """\
learning_rate loguniform -8,0
embedding_size choice [64,96 ,128]
train_batch_size quniform 500,2048,512

mlp_hidden_size choice ['[64, 64]','[128]']
dropout_prob uniform 0.0,1.0
reg_weight quniform 0.05,0.5,0.1
"""
YAML = """\
trials: 7
space:
  learning_rate: {loguniform: [-8, 0]}
  embedding_size: {choice: [64, 96, 128]}
  train_batch_size: {quniform: [500, 2048, 512]}
  mlp_hidden_size: {choice: [[64, 64], [128]]}
  dropout_prob: {uniform: [0.0, 1.0]}
  reg_weight: {quniform: [0.05, 0.5, 0.1]}
"""


def written(tmp_path, text, name):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_both_formats_give_the_same_space(tmp_path):
    space = read_space(written(tmp_path, HYPER_TEST, "hyper.test"))
    assert space == read_space(written(tmp_path, YAML, "sweep.yaml"))
    assert space == [
        Range("learning_rate", math.exp(-8), 1.0, log=True),
        Choice("embedding_size", (64, 96, 128)),
        Range("train_batch_size", 512, 2048, 512),
        Choice("mlp_hidden_size", ([64, 64], [128])),
        Range("dropout_prob", 0.0, 1.0),
        Range("reg_weight", 0.1, 0.5, 0.1),
    ]
    assert [one.line for one in space] == [1, 2, 3, 5, 6, 7]


def test_log_has_the_bounds_and_int_whole_numbers(tmp_path):
    space = read_space(written(tmp_path, "space: {lr: {log: [1e-4, 1e-2]}, layers: {int: [1, 3]}}", "a.yml"))
    assert space == [Range("lr", 1e-4, 1e-2, log=True), Range("layers", 1, 3, 1)]
    assert space[1].grid() == [1, 2, 3]
    assert all(type(value) is int for value in space[1].grid())


@pytest.mark.parametrize("name", ["a.yaml", "hyper.test"])
def test_what_a_space_says_of_itself_is_the_same_space(tmp_path, name):
    import yaml

    space = read_space(written(tmp_path, YAML if name == "a.yaml" else HYPER_TEST, name))
    text = yaml.safe_dump({"space": {one.name: one.as_yaml() for one in space}}, sort_keys=False)
    assert read_space(written(tmp_path, text, "again.yaml")) == space


class Recording:
    """Stands for an Optuna trial and keeps what it is asked for."""

    def suggest_categorical(self, name, choices):
        self.asked = choices
        return choices[0]

    def suggest_float(self, name, low, high, *, step=None, log=False):
        self.asked = (low, high, step, log)

    def suggest_int(self, name, low, high, *, step=1):
        self.asked = (low, high, step)


def test_what_optuna_is_asked_and_what_comes_back():
    trial = Recording()
    choice = Choice("stages", (["1a"], "all", 1, True))
    choice.suggest(trial)
    assert trial.asked == ['["1a"]', "all", 1, True]
    assert [choice.value(kept) for kept in trial.asked] == [["1a"], "all", 1, True]
    Range("x", 0.1, 0.5, 0.1).suggest(trial)
    assert trial.asked == (0.1, 0.5, 0.1, False)
    assert Range("x", 0.1, 0.5, 0.1).value(0.1 + 2 * 0.1) == 0.3
    Range("x", 64, 256, 64).suggest(trial)
    assert trial.asked == (64, 256, 64)
    Range("x", 0.001, 0.1, log=True).suggest(trial)
    assert trial.asked == (0.001, 0.1, None, True)


def refusal(path):
    """What a reader of the file is told."""
    with pytest.raises(ConfigError) as caught:
        read_space(path)
    assert path.name in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a uniform 0,1\nlearning_rate -8,0", "line 2: `learning_rate -8,0` is not `name type range`"),
        ("# a remark\n\na unifrom 0,1", "line 3: `a` is of the kind `unifrom`. Did you mean `uniform`?"),
        ("a uniform 0", "uniform takes lo, hi"),
        ("a uniform 0,x", "uniform takes lo, hi"),
        ("a uniform 0;1", "cannot be read"),
        ("a quniform 0,1", "quniform takes lo, hi, q"),
        ("a quniform 0,1,-1", "cannot be read"),
        ("a quniform 1.1,1.9,2", "no multiple of 2 lies between"),
        ("a uniform 1,0", "the lower bound comes first"),
        ("a log 0,1", "both above 0"),
        ("a int 1,2.5", "whole numbers"),
        ("a loguniform 1,1000", "natural logarithms"),
        ("a choice []", "at least one value"),
        ("a choice 3", "at least one value"),
        ("a choice __import__('os').getpid()", "at least one value"),
        ("a uniform 0,1\na uniform 0,2", "line 2: `a` stands twice"),
        ("", "has no parameter to search"),
    ],
)
def test_mistakes_in_hyper_test(tmp_path, text, message):
    assert message in refusal(written(tmp_path, text, "hyper.test"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trials: 3", "needs `space:`"),
        ("space:\n  a: 3", "line 2: `a: 3` is not one kind with its range"),
        ("space:\n  a: {uniform: [0, 1], log: [1, 2]}", "line 2:"),
        ("trials: 3\nspace:\n  a: {uniform: [0, 1]}\n  b: {normal: [0, 1]}", "line 4: `b` is of the kind `normal`"),
        ("space:\n  a: {uniform: [0, 1]}\n  a: {uniform: [0, 2]}", "line 3: `a` stands twice"),
        ("space:\n  a: {uniform: [0, true]}", "line 2:"),
        ("space: {a: [", "not valid YAML"),
    ],
)
def test_mistakes_in_yaml(tmp_path, text, message):
    assert message in refusal(written(tmp_path, text, "s.yaml"))


def test_a_file_that_is_not_there():
    for name in ("/nowhere/hyper.test", "/nowhere/s.yaml"):
        with pytest.raises(ConfigError, match="Cannot read"):
            read_space(name)


def test_names_and_types_are_checked_against_the_settings(tmp_path):
    path = written(
        tmp_path,
        "learnig_rate uniform 0,1\nn_layers uniform 1,3\nhidden_size choice [32,'big']\ntopk choice [[5],[10]]\n"
        "n_heads choice [1,2]\nhidden_act choice ['gelu']",
        "hyper.test",
    )
    with pytest.raises(ConfigError) as caught:
        check_space(path, read_space(path), "SASRec", "ml-100k", {"n_heads": 2})
    lines = str(caught.value).splitlines()
    assert len(lines) == 6
    assert "line 1: `learnig_rate` is not a setting of SASRec on ml-100k. Did you mean `learning_rate`?" in lines[1]
    assert "line 2: `n_layers=1.0` is of type float; expected int" in lines[2]
    assert "line 3: `hidden_size='big'` is of type str" in lines[3]
    assert "line 4: `topk` cannot be searched" in lines[4]
    assert "line 5: `n_heads` is searched, but also set to 2" in lines[5]


@pytest.mark.parametrize("model", ["RPORec", "SASRec"])
def test_the_examples_are_sweeps(model):
    path = properties_dir() / "sweep" / f"{model}.yaml"
    space = read_space(path)
    check_space(path, space, model, "ml-100k", {})
    assert {one.name for one in space} <= set(known_keys(model, "ml-100k"))
