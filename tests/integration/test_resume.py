"""A run killed at any moment and started again with the same command ends as if nothing had happened."""

import contextlib
import json
import signal
import sqlite3
import time

import pandas as pd
import pytest
import torch
from safetensors import SafetensorError

from rporec_recbole.cli import main
from rporec_recbole.errors import RunFolderError
from rporec_recbole.explain.run_page import write_report
from rporec_recbole.host.bridge import build_trainer
from rporec_recbole.runs.folder import held
from rporec_recbole.runs.run import run
from rporec_recbole.training.state import stage_state
from rporec_recbole.training.state.snapshots import Progress
from tests.started import ROOT, Started
from tests.toy import FLUENT, SHORT, TEXT, toy_model, write_toy

SETTINGS = {
    **SHORT,
    **TEXT,
    **FLUENT,
    "epochs": 6,
    "refresh_epochs": 30,
    "lr_schedule": "cosine",
    "lr_warmup_steps": 3,
    "best_of": 2,
    "rl_steps": 6,
    "rl_validate_every": 3,
    "rl_keep_every": 2,
    "rl_learning_rate": 0.0005,  # more does harm here, and the policy of before is kept
    "rounds": 2,
}


def command(toy, folder):
    flags = [f"--{key}={value}" for key, value in {**SETTINGS, "data_path": toy, "run_dir": folder}.items()]
    return [ROOT / "run_recbole.py", "--model=RPORec", "--dataset=toy", *flags]


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("data"), users=60)


@pytest.fixture(scope="module")
def whole(toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    overrides = {**SETTINGS, "data_path": str(toy), "run_dir": str(folder)}
    return run("RPORec", "toy", overrides=overrides, tell=write_report)  # as the command line does, which shows texts


def texts(folder):
    """How many texts the store holds, 0 while there is none."""
    with contextlib.suppress(sqlite3.Error):
        with contextlib.closing(sqlite3.connect(f"file:{folder}/reasoning.sqlite?mode=ro", uri=True)) as store:
            return store.execute("SELECT COUNT(*) FROM completions").fetchone()[0]
    return 0


def writers(folder):
    """The fingerprints of all policies that wrote a text, so their weights bit for bit; those of every round are among them."""
    with contextlib.closing(sqlite3.connect(f"file:{folder}/reasoning.sqlite?mode=ro", uri=True)) as store:
        found = store.execute("SELECT generator, COUNT(*) FROM completions GROUP BY generator").fetchall()
    assert len(found) >= 3
    return sorted(found)


def kept(folder, name):
    """The facts of a snapshot, None if there is none."""
    path = folder / "resume" / f"{name}.safetensors"
    if not path.exists():
        return None
    with path.open("rb") as file:  # once: `safe_open` opens it twice, and the run may replace it between the two
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return json.loads(header["__metadata__"]["facts"])


def without_seconds(entry):
    """What must be equal, as JSON has it."""
    return json.loads(json.dumps({key: value for key, value in entry.items() if not key.startswith("seconds")}))


MOMENTS = {
    "in the trunk": lambda folder: (kept(folder, "epoch") or {}).get("name") == "1a trunk",
    "in best-of-N": lambda folder: (kept(folder, "stage") or {}).get("done") == ["1a"] and texts(folder) > 0,
    "in the fusion": lambda folder: (kept(folder, "stage") or {}).get("done") == ["1a", "1b"],
    "in GRPO": lambda folder: (kept(folder, "stage") or {}).get("done") == ["1a", "1b", "1c"],
    "in the middle of GRPO": lambda folder: (kept(folder, "policy") or {}).get("step") in (2, 4),
    "in GRPO of round 2": lambda folder: (kept(folder, "policy") or {}).get("round") == 2,
    "in the refresh": lambda folder: (kept(folder, "epoch") or {}).get("name") == "refresh trunk",
}


def killed(toy, folder, moment):
    """Starts the run, or goes on with it, and kills it at this moment; what its snapshots say then."""
    process = Started(command(toy, folder))
    while process.poll() is None and not MOMENTS[moment](folder):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, f"the run was over before it could be killed {moment}"
    assert not (folder / "metrics.json").exists()
    return tuple(kept(folder, name) for name in ("epoch", "stage", "policy"))


def test_killed_at_every_moment_and_started_again(whole, toy, tmp_path):
    """One run, killed seven times: each start goes on where the one before was killed, and the end is that of a run in one piece."""
    folder, promised = tmp_path / "run", []
    for moment in MOMENTS:
        epoch, stage, policy = killed(toy, folder, moment)
        if stage:
            promised.append(f"going on after stage {stage['done'][-1]} ")
        if "trunk" in moment or "refresh" in moment:
            promised.append(f"{epoch['name']}: going on after epoch {epoch['epoch']} ")
        if "GRPO" in moment and policy:
            promised.append(f"2: going on after step {policy['step']} of 6")

    assert main(command(toy, folder)[1:]) == 0
    log = (folder / "log.txt").read_text(encoding="utf-8")
    for sentence in promised:
        assert sentence in log
    assert log.count("stage 1a (trunk) starts") == 2  # before and after the first kill
    assert not (folder / "resume").exists()
    pd.testing.assert_frame_equal(
        pd.read_parquet(folder / "ranks.parquet"), pd.read_parquet(whole.run_dir / "ranks.parquet")
    )
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["valid_after_stage"] == whole.metrics["valid_after_stage"]
    assert writers(folder) == writers(whole.run_dir)
    assert metrics["rounds"] == whole.metrics["rounds"]
    for stage in ("2", "2, round 2"):
        assert without_seconds(metrics["stages"][stage]) == without_seconds(whole.metrics["stages"][stage])
    assert metrics["stages"]["1b"]["best_of"] == whole.metrics["stages"]["1b"]["best_of"]
    pd.testing.assert_frame_equal(
        pd.read_parquet(folder / "positions.parquet"), pd.read_parquet(whole.run_dir / "positions.parquet")
    )


def test_an_interrupted_run_is_not_continued_with_other_settings(whole, toy, tmp_path):
    folder = tmp_path / "run"
    (folder / "resume").mkdir(parents=True)
    (folder / "resume" / "stage.safetensors").touch()
    (folder / "config.yaml").write_text((whole.run_dir / "config.yaml").read_text())
    with pytest.raises(RunFolderError, match="dropout"):
        run("RPORec", "toy", overrides={**SETTINGS, "data_path": str(toy), "run_dir": str(folder), "dropout": 0.3})


def test_a_folder_in_use_is_left_alone(toy, tmp_path):
    with held(tmp_path), pytest.raises(RunFolderError, match="Another process is writing"):
        run("RPORec", "toy", overrides={**SETTINGS, "data_path": str(toy), "run_dir": str(tmp_path)})


def test_a_damaged_snapshot_is_said_plainly(whole, toy, tmp_path):
    folder = tmp_path / "run"
    (folder / "resume").mkdir(parents=True)
    (folder / "config.yaml").write_text((whole.run_dir / "config.yaml").read_text())
    (folder / "resume" / "stage.safetensors").write_bytes(b"half of a snapshot")
    with pytest.raises(RunFolderError, match="is damaged"):
        run("RPORec", "toy", overrides={**SETTINGS, "data_path": str(toy), "run_dir": str(folder)})


def test_a_snapshot_of_other_data_is_refused(tmp_path):
    Progress(tmp_path, "one").save("stage", {"x": torch.zeros(1)}, {})
    assert Progress(tmp_path, "one").load("stage").facts == {"identity": "one"}
    with pytest.raises(RunFolderError, match="other data"):
        Progress(tmp_path, "two").load("stage")


def test_a_full_disk_keeps_the_older_snapshot(tmp_path, monkeypatch):
    progress = Progress(tmp_path)
    assert progress.save("stage", {"x": torch.zeros(1)}, {})

    def full(*arguments, **options):
        raise SafetensorError("No space left on device")

    monkeypatch.setattr("rporec_recbole.data.files.save_file", full)
    assert not progress.save("stage", {"x": torch.ones(1)}, {})
    assert torch.equal(progress.load("stage").tensors["x"], torch.zeros(1))


def test_an_edited_rating_makes_it_another_run(tmp_path):
    def identity(parent):
        config, model, train, *_ = toy_model(parent)
        return stage_state.identity(build_trainer(config, model), train)

    parent = write_toy(tmp_path)
    before, path = identity(parent), parent / "toy" / "toy.inter"
    assert identity(parent) == before
    head, first, *others = path.read_text().splitlines()
    user, item, rating, time = first.split("\t")
    path.write_text("\n".join([head, f"{user}\t{item}\t{int(rating) % 5 + 1}\t{time}", *others]) + "\n")
    assert identity(parent) != before
