"""A run killed at any moment and started again with the same command ends as if nothing had happened."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from rporec_recbole.errors import RunFolderError
from rporec_recbole.run import run
from tests.toy import SHORT, TEXT

ROOT = Path(__file__).parent.parent.parent
SETTINGS = {**SHORT, **TEXT, "epochs": 6, "refresh_epochs": 4, "lr_schedule": "cosine", "lr_warmup_steps": 3}


def command(toy, folder):
    flags = [f"--{key}={value}" for key, value in {**SETTINGS, "data_path": toy, "run_dir": folder}.items()]
    return [sys.executable, str(ROOT / "run_recbole.py"), "--model=RPORec", "--dataset=toy", *flags]


@pytest.fixture(scope="module")
def whole(toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    return run("RPORec", "toy", overrides={**SETTINGS, "data_path": str(toy), "run_dir": str(folder)})


@pytest.mark.parametrize("moment", ["1a trunk", "stage 1b", "stage 1c", "refresh"])
def test_killed_and_started_again(whole, toy, tmp_path, moment):
    """Killed as soon as the run has come to a moment, in the middle of what follows."""
    folder = tmp_path / "run"
    process = subprocess.Popen(command(toy, folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    snapshot = folder / "resume" / ("epoch.safetensors" if moment == "1a trunk" else "stage.safetensors")
    log = folder / "log.txt"
    wanted = "stage 1a" if moment == "1a trunk" else f"stage {moment.removeprefix('stage ')}"
    while process.poll() is None:
        if snapshot.exists() and wanted in log.read_text(encoding="utf-8"):
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run was over before it could be killed"
    assert not (folder / "metrics.json").exists()

    done = subprocess.run(command(toy, folder), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "it goes on where it stood" in (folder / "log.txt").read_text(encoding="utf-8")
    assert not (folder / "resume").exists()
    pd.testing.assert_frame_equal(
        pd.read_parquet(folder / "ranks.parquet"), pd.read_parquet(whole.run_dir / "ranks.parquet")
    )
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["valid_after_stage"] == whole.metrics["valid_after_stage"]


def test_an_interrupted_run_is_not_continued_with_other_settings(whole, toy, tmp_path):
    folder = tmp_path / "run"
    (folder / "resume").mkdir(parents=True)
    (folder / "config.yaml").write_text((whole.run_dir / "config.yaml").read_text())
    with pytest.raises(RunFolderError, match="dropout"):
        run("RPORec", "toy", overrides={**SETTINGS, "data_path": str(toy), "run_dir": str(folder), "dropout": 0.3})


def test_a_folder_in_use_is_left_alone(whole, toy):
    from rporec_recbole.run_folder import held

    with held(whole.run_dir), pytest.raises(RunFolderError, match="Another process"):
        run("RPORec", "toy", overrides={**SETTINGS, "data_path": str(toy), "run_dir": str(whole.run_dir)})
