"""A sweep by two workers, with one killed, and on PostgreSQL: each trial once, the best repeated, the test split once."""

import contextlib
import json
import re
import signal
import threading
import time

import pandas as pd
import pytest

from rporec_recbole.cli import main
from rporec_recbole.runs.finished import add_test
from rporec_recbole.runs.folder import in_use
from rporec_recbole.runs.run import run
from rporec_recbole.settings.properties import read_yaml
from rporec_recbole.sweep.plan import enter_folder, make_plan
from rporec_recbole.sweep.study import Study
from tests.integration.postgres import database, why_not
from tests.started import ROOT, Started
from tests.toy import SHORT, TEXT

optuna = pytest.importorskip("optuna", reason='a sweep needs optuna: pip install "rporec_recbole[sweep]"')

SPACE = """\
space:
  learning_rate: {log: [0.001, 0.1]}
  embedding_size: {choice: [8, 16]}
trials: 6
heartbeat: 1
"""


def arguments(toy, tmp_path, model="BPR", text=SPACE, name="sweep.yaml", **extra):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    values = {"epochs": 1, "show_progress": False, "data_path": toy, "run_dir": tmp_path / "sweep", **extra}
    return [f"--model={model}", "--dataset=toy", f"--sweep={path}", *[f"--{k}={v}" for k, v in values.items()]]


@contextlib.contextmanager
def another_worker(given):
    """The very same command in a process of its own."""
    process = Started([ROOT / "run_recbole.py", *given])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def started(text):
    return [int(slot) for slot in re.findall(r"^trial (\d+) of \d+ starts", text, re.M)]


def folders_with_test(folder):
    found = []
    for path in sorted(folder.glob("trial-*")):
        in_metrics = "test" in json.loads((path / "metrics.json").read_text())
        assert in_metrics == ("test" in set(pd.read_parquet(path / "ranks.parquet")["split"]))
        if in_metrics:
            found.append(path.name)
    return found


def check_result(folder, trials):
    """What holds after any sweep of BPR: the table, the best, one use of the test split. Returns the table."""
    table = pd.read_csv(folder / "trials.csv")
    assert sorted(table["trial"]) == list(range(1, trials + 1))
    assert set(table["state"]) == {"complete"}
    assert list(table["ndcg@10"]) == sorted(table["ndcg@10"], reverse=True)
    for row in table.to_dict("records"):
        metrics = json.loads((folder / row["run_dir"] / "metrics.json").read_text())
        assert metrics["valid"]["ndcg@10"] == pytest.approx(row["ndcg@10"], abs=1e-12)
    best = table.iloc[0]
    assert folders_with_test(folder) == [best["run_dir"]]
    values = read_yaml(folder / "best.yaml")
    assert (values["model"], values["dataset"]) == ("BPR", "toy")
    assert (values["learning_rate"], values["embedding_size"]) == (best["learning_rate"], best["embedding_size"])
    for picture in ("history.png", "importance.png"):
        assert (folder / picture).stat().st_size > 5000
    return table


def both_at_work(given, folder, capsys):
    """Runs a sweep here and in another process: what each of them printed."""
    with another_worker(given) as other:
        # It is at work before this process begins, so both take part unless it does all trials in the blink of an eye.
        while not (folder / "trial-01").exists() and other.poll() is None:
            time.sleep(0.01)
        assert main(given) == 0
        theirs, errors = other.communicate()
    assert other.returncode == 0, errors[-2000:]
    return capsys.readouterr().out, theirs


def test_two_workers_share_the_trials(toy, tmp_path, capsys):
    given, folder = arguments(toy, tmp_path), tmp_path / "sweep"
    ours, theirs = both_at_work(given, folder, capsys)
    assert sorted(started(ours) + started(theirs)) == [1, 2, 3, 4, 5, 6]
    assert started(ours)
    assert started(theirs)
    table = check_result(folder, 6)
    assert table["worker"].nunique() == 2
    assert len(list(folder.glob("trial-*"))) == 6

    # Both end with the same words.
    summary = ours[ours.index("BPR on toy: 6 trials (6 complete)") :]
    assert theirs.endswith(summary)
    assert str(folder / "best.yaml") in summary

    # The file repeats the run, test split included.
    again = run("BPR", "toy", [str(folder / "best.yaml")], {"run_dir": str(tmp_path / "again")})
    best = json.loads((folder / table.iloc[0]["run_dir"] / "metrics.json").read_text())
    assert (again.metrics["valid"], again.metrics["test"]) == (best["valid"], best["test"])

    # The same command on a finished sweep trains nothing and says the same.
    assert main(given) == 0
    assert capsys.readouterr().out.lstrip() == summary


def test_a_killed_workers_trial_is_run_again(toy, tmp_path, capsys):
    given, folder = arguments(toy, tmp_path, trials=3), tmp_path / "sweep"
    with another_worker(given) as victim:
        while not in_use(folder / "trial-01"):
            assert victim.poll() is None
            time.sleep(0.01)
        victim.send_signal(signal.SIGSTOP)  # it cannot come to the end of the trial any more
        assert in_use(folder / "trial-01"), "the trial was over before the worker could be stopped"
        killer = threading.Timer(1.0, victim.kill)
        killer.start()
        assert main(given) == 0
        assert victim.wait() == -signal.SIGKILL
    output = capsys.readouterr().out
    assert sorted(started(output)) == [1, 2, 3]
    assert started(output)[-1] == 1, "the dead worker's trial comes back once its silence is noticed"
    check_result(folder, 3)

    study = optuna.load_study(study_name=None, storage=f"sqlite:///{folder / 'study.db'}")
    assert [(t.user_attrs["slot"], t.state.name) for t in study.trials] == [
        (1, "FAIL"),
        (2, "COMPLETE"),
        (3, "COMPLETE"),
        (1, "COMPLETE"),
    ]
    assert study.trials[0].params == study.trials[3].params


def test_impossible_settings_fail_alone_unless_nothing_else_is_left(toy, tmp_path, capsys):
    text = "hidden_size choice [15, 16]\n"
    shared = {"sampler": "grid", "n_heads": 2, "n_layers": 1, "inner_size": 16, "MAX_ITEM_LIST_LENGTH": 10}
    assert main(arguments(toy, tmp_path, "SASRec", text, "hyper.test", **shared)) == 0
    table = pd.read_csv(tmp_path / "sweep" / "trials.csv").set_index("hidden_size")
    assert dict(table["state"]) == {15: "failed", 16: "complete"}
    assert "not a multiple of the number of attention heads" in table.loc[15, "message"]
    assert "failed: SASRec cannot be made with these settings" in capsys.readouterr().out

    hopeless = {**shared, "run_dir": tmp_path / "hopeless"}
    assert main(arguments(toy, tmp_path, "SASRec", "hidden_size choice [15, 17]\n", "hyper.test", **hopeless)) == 2
    error = capsys.readouterr().err
    assert "None of the 2 trials came to its end" in error
    assert "not a multiple" in error


def test_the_test_split_comes_out_the_same_when_it_is_ranked_later(toy, tmp_path):
    settings = {**SHORT, **TEXT, "stages": ["1a", "1b", "1c"], "data_path": str(toy)}
    whole = run("RPORec", "toy", overrides={**settings, "run_dir": str(tmp_path / "whole")})
    without = run("RPORec", "toy", overrides={**settings, "run_dir": str(tmp_path / "later")}, test=False)
    assert "test" not in without.metrics
    later = add_test(without.run_dir)
    assert (later["valid"], later["test"]) == (whole.metrics["valid"], whole.metrics["test"])
    ranks = [pd.read_parquet(folder / "ranks.parquet") for folder in (whole.run_dir, without.run_dir)]
    pd.testing.assert_frame_equal(*ranks)
    before = (without.run_dir / "metrics.json").stat().st_mtime_ns
    assert add_test(without.run_dir) == later
    assert (without.run_dir / "metrics.json").stat().st_mtime_ns == before


def test_a_pruned_trial_of_the_trunk(toy, tmp_path, capsys, monkeypatch):
    """The pruner's word reaches the trainer: the run ends at that validation, and its folder is tidy."""
    from rporec_recbole.sweep import study

    def report(claimed, epoch, score):
        claimed.trial.report(score, epoch)
        if claimed.slot == 2 and epoch == 2:
            raise study.Pruned

    monkeypatch.setattr(study.Claimed, "report", report)
    settings = {**SHORT, **TEXT, "stages": ["1a"], "epochs": 4, "eval_step": 1, "trials": 2}
    assert main(arguments(toy, tmp_path, "RPORec", "dropout uniform 0.1,0.5\n", "hyper.test", **settings)) == 0
    table = pd.read_csv(tmp_path / "sweep" / "trials.csv").set_index("trial")
    assert dict(table["state"]) == {1: "complete", 2: "pruned"}
    assert dict(table["validations"]) == {1: 4, 2: 2}
    left = {path.name for path in (tmp_path / "sweep" / "trial-02").iterdir()}
    assert not left & {"resume", "checkpoints", "metrics.json", "ranks.parquet"}


def test_the_controls_of_a_sweep_are_refused(toy, tmp_path, capsys):
    given = arguments(toy, tmp_path, "RPORec", "dropout uniform 0.1,0.5\n", "hyper.test")
    assert main([*given, "--controls", "--item_text_fields=[title]"]) == 2
    assert "ranks the test split" in capsys.readouterr().err
    assert not (tmp_path / "sweep").exists()


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
def test_two_workers_on_postgresql(toy, tmp_path, capsys):
    with database() as url:
        given, folder = arguments(toy, tmp_path, storage=url, trials=4), tmp_path / "sweep"
        ours, theirs = both_at_work(given, folder, capsys)
        assert sorted(started(ours) + started(theirs)) == [1, 2, 3, 4]
        check_result(folder, 4)
        assert not (folder / "study.db").exists()
        plan = make_plan("BPR", "toy", tmp_path / "sweep.yaml", (), _options(given))
        assert [one.state for one in Study(plan, enter_folder(plan)).records()] == ["complete"] * 4


def _options(given):
    from rporec_recbole.commands.arguments import settings_of

    values = settings_of(given)
    return {key: value for key, value in values.items() if key not in ("model", "dataset", "sweep")}
