"""Several processes share each step of stage 2, and learn what one process learns."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
WORKER = """
import json, sys, torch
from rporec_recbole.training.processes import Processes
from rporec_recbole.training.rl import Hooks
from tests.unit.test_rl import nano, train, vowels

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


def curve_of(processes, folder):
    script, out = folder / "worker.py", folder / f"{processes}.json"
    script.write_text(WORKER, encoding="utf-8")
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *launcher, str(script), str(out)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(out.read_text(encoding="utf-8"))


def test_two_processes_have_the_reward_curve_of_one(tmp_path):
    one, two = curve_of(1, tmp_path), curve_of(2, tmp_path)
    assert (one["count"], two["count"]) == (1, 2)
    assert two["writers"] == 1, "all processes end with the same weights"
    assert one["kept"] == two["kept"] == 0
    # Gradients are summed in another order: float rounding, and a draw that it tips over would show in the reward at once.
    assert [reward for reward, _ in two["curve"]] == [reward for reward, _ in one["curve"]]
    assert [kl for _, kl in two["curve"]] == pytest.approx([kl for _, kl in one["curve"]], rel=1e-3, abs=1e-6)
    assert one["curve"][-1] != one["curve"][0]
