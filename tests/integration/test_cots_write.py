"""`rporec cots write`: several processes fill the store of one run."""

import os
import re
import sqlite3

import pytest

from rporec_recbole.cli import main
from rporec_recbole.commands.cots import gpu_of_this_process
from rporec_recbole.cot.store import CoTStore
from rporec_recbole.runs.finished import load_run
from rporec_recbole.runs.run import run
from tests.started import Started
from tests.toy import SHORT, TEXT

# What a process of torchrun does, and a log of every prompt that it gives its backbone.
SCRIPT = """
import importlib, json, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
import rporec_recbole
from rporec_recbole.backbone.model import Backbone
from rporec_recbole.cli import main
importlib.import_module("rporec_recbole.runs.finished").SHARED = 5
generate, logs = Backbone.generate, [Path(path) for path in sys.argv[2:]]

def logged(self, prompts, *arguments):
    with logs[0].open("a") as file:
        file.writelines(json.dumps(prompt) + "\\n" for prompt in prompts)
    until = time.monotonic() + 100
    while not logs[1].exists():  # nobody begins before the other has got something to do
        assert time.monotonic() < until
        time.sleep(0.05)
    return generate(self, prompts, *arguments)

Backbone.generate = logged
sys.exit(main(["cots", "write", sys.argv[1]]))
"""


@pytest.fixture(scope="module")
def finished(toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    settings = {**SHORT, **TEXT, "stages": ["1a", "1b", "1c"], "fusion_strengths": [1]}
    return run("RPORec", "toy", overrides={**settings, "data_path": str(toy), "run_dir": str(folder)})


def empty(run_dir):
    with sqlite3.connect(run_dir / "reasoning.sqlite") as db:
        db.execute("DELETE FROM completions")
    db.close()


def greedy(run_dir):
    store = CoTStore(run_dir / "reasoning.sqlite")
    rows = {row.key: row.text for row in store if '"temperature": 0.0' in row.decoding}
    store.close()
    return rows


def test_two_processes_write_every_text_once(finished, tmp_path):
    run_dir = finished.run_dir
    expected = greedy(run_dir)
    assert expected
    empty(run_dir)
    logs = [tmp_path / f"log{rank}" for rank in (0, 1)]
    processes = [
        Started(
            ["-c", SCRIPT, run_dir, log, logs[1 - rank]],
            env={**os.environ, "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"},
        )
        for rank, log in enumerate(logs)
    ]
    said = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    asked = [log.read_text().splitlines() for log in logs]
    assert greedy(run_dir) == expected
    assert all(asked)
    assert sum(map(len, asked)) == len({*asked[0], *asked[1]}) == len(expected)
    counted = [sum(map(int, re.findall(r"wrote (\d+) texts", out))) for out, _ in said]
    assert counted == [len(lines) for lines in asked]
    store = CoTStore(run_dir / "reasoning.sqlite")
    assert len(store) == len(expected)

    loaded = load_run(run_dir)
    loaded.model.backbone.generate = lambda *_: pytest.fail("the store lacks a text")
    for split in ("valid", "test"):
        assert loaded.evaluate(split)[0] == finished.metrics[split]
    assert len(store) == len(expected)
    store.close()


def test_one_split(finished, capsys):
    empty(finished.run_dir)
    assert main(["cots", "write", str(finished.run_dir), "--split=test"]) == 0
    wrote = int(re.search(r"^test: this process wrote (\d+) texts", capsys.readouterr().out)[1])
    assert 0 < wrote == len(greedy(finished.run_dir))
    assert main(["cots", "write", str(finished.run_dir), "--split=test"]) == 0
    assert "wrote 0 texts" in capsys.readouterr().out


def test_metrics_tell_of_the_backbone(finished):
    facts = finished.metrics["backbone"]
    assert (facts["name"], facts["dtype"], facts["device"], facts["lora"]) == ("tiny-nano", "float32", "cpu", [])
    assert facts["parameters"] == facts["trainable"] > 50_000
    log = (finished.run_dir / "log.txt").read_text()
    assert "backbone tiny-nano (qwen3): 0.1 M weights" in log


def test_mistakes(finished, toy, tmp_path, capsys):
    assert main(["cots", "write", str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err
    assert main(["cots", "write", str(finished.run_dir), "--split=train"]) == 2
    assert "valid or test" in capsys.readouterr().err
    settings = {**SHORT, **TEXT, "stages": ["1a"], "data_path": str(toy), "run_dir": str(tmp_path / "trunk")}
    run("RPORec", "toy", overrides=settings)
    assert main(["cots", "write", str(tmp_path / "trunk")]) == 2
    assert "use no reasoning" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rank", "visible", "gpu"),
    [(None, None, None), ("1", None, "1"), ("1", "4,5", "5"), ("0", "4,5", "4"), ("1", "", "1")],
)
def test_each_process_takes_its_own_gpu(monkeypatch, rank, visible, gpu):
    for name, value in (("LOCAL_RANK", rank), ("CUDA_VISIBLE_DEVICES", visible)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert gpu_of_this_process() == gpu


def test_the_run_takes_it(finished, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    load_run(finished.run_dir, gpu="3")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
