"""Several processes share each step of stage 2, and learn what one process learns."""

import contextlib
import json
import os
import runpy
import socket
import sqlite3
import subprocess
import sys
from unittest import mock

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from rporec_recbole.errors import ConfigError
from rporec_recbole.rewards.rechead_reward import FAILURE
from rporec_recbole.runs.folder import read_results
from rporec_recbole.runs.run import run
from rporec_recbole.text.completions import parse_completion
from rporec_recbole.training.state.processes import Processes
from tests.started import ROOT, Started
from tests.toy import FLUENT, SHORT, TEXT, write_toy

WORKER = """
import json, sys, torch
from rporec_recbole.training.state.processes import Processes
from rporec_recbole.training.stage2.grpo import Hooks
from tests.unit.training.stage2.test_grpo import nano, train, vowels

backbone, settings = nano(rl_steps=6, rl_prompts=2, group_size=4, rl_learning_rate=0.01, rl_validate_every=3)
curve = []
hooks = Hooks(
    on_step=lambda step, batch, numbers: curve.append((sum(batch.rewards) / len(batch.rewards), numbers["kl"])),
    validate=lambda step: -step,
)
done = train(backbone, settings, vowels, tokens=6, hooks=hooks)
processes = Processes(torch.device("cpu"))
same = len(set(processes.gather([backbone.fingerprint])))
if processes.main:
    with open(sys.argv[1], "w") as file:
        json.dump({"curve": curve, "kept": done.kept_step, "writers": same, "count": processes.count}, file)
"""


COUNTED = """
import json, os, sys
from pathlib import Path
from rporec_recbole.cli import main
from rporec_recbole.cot import reasoner

reasoner.SHARED = 8
folder, written, write = Path(sys.argv[1]), [], reasoner.Reasoner._write

def counted(self, prompts, writer, decoding, desc):
    written.append((writer, len(prompts)))
    return write(self, prompts, writer, decoding, desc)

reasoner.Reasoner._write = counted
code = main(sys.argv[2:])
(folder / f"{os.environ.get('RANK', '0')}.json").write_text(json.dumps(written))
sys.exit(code)
"""


def launch(processes, *command):
    """What torchrun starts, without itself."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    own = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]
    for process in [Started(command, env={**os.environ, **shared, **one}) for one in own]:
        assert process.wait() == 0, process.stderr[-3000:]


def curve_of(processes, folder):
    script, out = folder / "worker.py", folder / f"{processes}.json"
    script.write_text(WORKER, encoding="utf-8")
    if processes > 1:
        launch(processes, script, out)
    else:
        with mock.patch.object(sys, "argv", [str(script), str(out)]):
            runpy.run_path(str(script))
    return json.loads(out.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("variable", "name"), [("ACCELERATE_USE_FSDP", "FSDP"), ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed")]
)
def test_sharded_weights_are_refused(monkeypatch, variable, name):
    monkeypatch.setenv(variable, "true")
    with pytest.raises(ConfigError, match=f"set to {name}"):
        Processes(torch.device("cpu"))


def test_two_processes_have_the_reward_curve_of_one(tmp_path):
    one, two = curve_of(1, tmp_path), curve_of(2, tmp_path)
    assert (one["count"], two["count"]) == (1, 2)
    assert two["writers"] == 1, "all processes end with the same weights"
    assert one["kept"] == two["kept"] == 0
    # Gradients are summed in another order: float rounding, and a draw that it tips over would show in the reward at once.
    assert [reward for reward, _ in two["curve"]] == [reward for reward, _ in one["curve"]]
    assert [kl for _, kl in two["curve"]] == pytest.approx([kl for _, kl in one["curve"]], rel=1e-3, abs=1e-6)
    assert one["curve"][-1] != one["curve"][0]


def equal_up_to_rounding(one, other):
    """The same words; log-probabilities of guesses are rounded sums, whose last digit a batch may change, and so the order of two
    that are as likely."""
    mine, its = parse_completion(one), parse_completion(other)
    if not mine.guesses:
        return one == other
    sure, its_sure = dict(mine.guesses), dict(its.guesses)
    common = sure.keys() & its_sure.keys()
    near = all(abs(sure[answer] - its_sure[answer]) < 3e-4 for answer in common)
    return mine.cot == its.cot and near and len(common) >= len(sure) - 1


def test_a_whole_run_is_shared(tmp_path):
    """Steps of stage 2, and all texts, none of which is written twice."""
    (tmp_path / "counted.py").write_text(COUNTED, encoding="utf-8")
    toy = write_toy(tmp_path / "data", users=60)
    changes = {"rl_steps": 4, "rl_learning_rate": 0.002, "rl_validate_every": 0, "rounds": 2, "data_path": str(toy)}
    overrides = {**SHORT, **TEXT, **FLUENT, **changes}
    alone = run("RPORec", "toy", overrides={**overrides, "run_dir": str(tmp_path / "alone")})
    flags = [f"--{key}={value}" for key, value in {**overrides, "run_dir": tmp_path / "shared"}.items()]
    launch(2, tmp_path / "counted.py", tmp_path, "--model=RPORec", "--dataset=toy", *flags)
    metrics, ranks = read_results(tmp_path / "shared")
    pd.testing.assert_frame_equal(ranks, read_results(alone.run_dir)[1])
    for stage in ("2", "2, round 2"):
        assert metrics["stages"][stage]["steps"] == 4
        assert metrics["stages"][stage]["kept_step"] == alone.metrics["stages"][stage]["kept_step"]
    positions = [pd.read_parquet(folder / "positions.parquet") for folder in (tmp_path / "shared", alone.run_dir)]
    pd.testing.assert_frame_equal(*positions)
    # Gradients are summed in another order, so weights differ by rounding: by a tenth of one of their eight steps at most.
    one, two = (load_file(folder / "backbone" / "model.safetensors") for folder in (alone.run_dir, tmp_path / "shared"))
    for name in one:
        torch.testing.assert_close(two[name], one[name], atol=2e-4, rtol=1e-3)
    with contextlib.closing(sqlite3.connect(tmp_path / "shared" / "reasoning.sqlite")) as store:
        writers = {writer for (writer,) in store.execute("SELECT DISTINCT generator FROM completions")}
    assert len(writers) == 3, "each round has changed the weights"

    texts = [texts_of(folder) for folder in (alone.run_dir, tmp_path / "shared")]
    main, helper = (json.loads((tmp_path / f"{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1))
    assert len({writer for writer, _ in helper} & writers) >= 2, "before stage 2 and after it"
    written = [sum(number for writer, number in one if writer in writers) for one in (main, helper)]
    assert sum(written) == len(texts[1]), "none was written twice"
    assert written[1] > len(texts[1]) // 5
    # The first writer's weights are those of one process; stage 2 sums its gradients in another order.
    both = texts[0].keys() & texts[1].keys()
    assert len(both) > len(texts[0]) // 5
    assert all(equal_up_to_rounding(texts[1][key], texts[0][key]) for key in both)


def texts_of(run_dir):
    with contextlib.closing(sqlite3.connect(run_dir / "reasoning.sqlite")) as store:
        return dict(store.execute("SELECT key, text FROM completions"))


FAILS_IN_THE_HELPER = """
import os, torch

def part(record):
    if os.environ["RANK"] == "1":
        raise ValueError("no such film")
    return torch.ones(len(record))
"""


def test_a_reward_that_fails_in_a_helper_leaves_its_texts_in_the_run_folder(tmp_path):
    """Under torchrun itself, which ends all processes as soon as one has failed."""
    toy = write_toy(tmp_path / "data", users=60)
    (tmp_path / "in_helper.py").write_text(FAILS_IN_THE_HELPER, encoding="utf-8")
    overrides = {**SHORT, **TEXT, "stages": "[1a,1b,1c,2]", "data_path": toy, "run_dir": tmp_path / "run"}
    overrides["reward_weights"] = "{ndcg: 0.9, in_helper:part: 0.1}"
    flags = [f"--{key}={value}" for key, value in overrides.items()]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(ROOT / "run_recbole.py")]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, "--model=RPORec", "--dataset=toy", *flags]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "`in_helper:part` (ValueError: no such film)" in done.stderr
    saved = json.loads((tmp_path / "run" / FAILURE).read_text(encoding="utf-8"))
    assert "no such film" in saved["error"]
    assert saved["rows"]
    assert all(row["prompt"] and row["completion"] for row in saved["rows"])
