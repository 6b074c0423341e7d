"""The budget of a sweep as a queue: each place is run once, whatever happens to workers."""

import contextlib
import sqlite3
import sys
from dataclasses import replace

import pandas as pd
import pytest

from rporec_recbole.errors import ConfigError, RunFolderError, SweepError
from rporec_recbole.evaluation.plots import plot_history, plot_shares
from rporec_recbole.runs.folder import held, write_config, write_results
from rporec_recbole.sweep import search as worker
from rporec_recbole.sweep.plan import enter_folder, make_plan
from rporec_recbole.sweep.report import BEST, ranking, table_of
from rporec_recbole.sweep.study import Pruned, Record, Study, TakenOver

pytest.importorskip("optuna", reason='a sweep needs optuna: pip install "rporec_recbole[sweep]"')

SPACE = "space: {learning_rate: {log: [0.001, 0.1]}, embedding_size: {choice: [8, 16]}}\n"


@pytest.fixture
def made(toy, tmp_path):
    """Makes plans from a sweep's text and the options of the command line."""

    def make(text=SPACE, **values):
        path = tmp_path / "sweep.yaml"
        path.write_text(text, encoding="utf-8")
        return make_plan("BPR", "toy", path, (), {"data_path": str(toy), "run_dir": str(tmp_path / "sweep"), **values})

    return make


@pytest.fixture(scope="module")
def base(toy, tmp_path_factory):
    path = tmp_path_factory.mktemp("plan") / "sweep.yaml"
    path.write_text(SPACE, encoding="utf-8")
    return make_plan("BPR", "toy", path, (), {"data_path": str(toy)})


@pytest.fixture
def planned(base, tmp_path):
    """The same plan with other numbers."""
    return lambda **fields: replace(base, **{"run_dir": str(tmp_path / "sweep"), **fields})


def opened(plan):
    return Study(plan, enter_folder(plan))


def let_die(plan, claimed):
    """What a killed worker leaves: a running trial, and a sign of life of long ago."""
    with contextlib.closing(sqlite3.connect(plan.folder / "study.db")) as database:
        database.execute(
            "UPDATE trial_heartbeats SET heartbeat = '2020-01-01' WHERE trial_id = ?", [claimed.trial._trial_id]
        )
        database.commit()


def states(study):
    return [one.state for one in study.records()]


def test_every_place_is_run_once_by_whoever_comes(planned):
    plan = planned(trials=3)
    one, two = opened(plan), opened(plan)
    claims = [one.claim(), two.claim(), one.claim()]
    assert [claimed.slot for claimed in claims] == [1, 2, 3]
    assert two.claim() is None
    one.complete(claims[0], 0.1)
    two.prune(claims[1])
    one.fail(claims[2], "no such thing")
    assert one.claim() is None
    assert [(r.state, r.score, r.message) for r in two.records()] == [
        ("complete", 0.1, ""),
        ("pruned", None, ""),
        ("failed", None, "no such thing"),
    ]
    assert len({tuple(claimed.values.items()) for claimed in claims}) == 3


def test_a_place_draws_the_same_values_whoever_runs_it(planned, tmp_path):
    first, second = (
        planned(trials=3, sampler="random"),
        planned(trials=3, sampler="random", run_dir=str(tmp_path / "b")),
    )
    one, two, other = opened(first), opened(first), opened(second)
    assert [s.claim().values for s in (one, two, one)] == [other.claim().values for _ in range(3)]


def test_a_dead_workers_trial_is_run_again_with_its_values(planned):
    plan = planned(trials=1)
    study = opened(plan)
    lost = study.claim()
    assert study.claim() is None
    let_die(plan, lost)
    again = study.claim()
    assert (again.slot, again.values) == (lost.slot, lost.values)
    study.complete(lost, 0.9)  # the dead one was only asleep: what it says now does not count
    assert states(study) == ["running"]
    study.complete(again, 0.5)
    assert [(r.state, r.score) for r in study.records()] == [("complete", 0.5)]


def test_what_kills_its_workers_is_given_up(planned):
    plan = planned(trials=1)
    study = opened(plan)
    for _ in range(3):
        let_die(plan, study.claim())
    assert study.claim() is None
    (record,) = study.records()
    assert record.ended
    assert record.message == "its worker died, 3 times"


def test_an_interrupted_trial_is_free_at_once(planned):
    study = opened(planned(trials=1))
    for _ in range(4):
        study.release(study.claim())
    assert states(study) == ["waiting"]
    assert study.claim().slot == 1


def test_a_worker_that_dies_while_it_takes_a_trial_leaves_no_hole(planned, monkeypatch):
    plan = planned(trials=1)
    study = opened(plan)

    def killed(trial_id):
        raise KeyboardInterrupt

    monkeypatch.setattr(study._storage, "record_heartbeat", killed)
    with pytest.raises(KeyboardInterrupt):
        study.claim()
    assert opened(plan).claim().slot == 1


def test_the_grid_is_every_combination_once(made):
    text = "space: {embedding_size: {choice: [8, 16]}, train_batch_size: {quniform: [32, 96, 32]}}\nsampler: grid\n"
    study = opened(made(text))
    found = []
    while (claimed := study.claim()) is not None:
        found.append((claimed.values["embedding_size"], claimed.values["train_batch_size"]))
    assert sorted(found) == [(e, b) for e in (8, 16) for b in (32, 64, 96)]
    with pytest.raises(ConfigError, match=r"\['learning_rate'\] take any number"):
        made(SPACE + "sampler: grid\n")


def test_the_pruner_stops_what_is_below_the_median(planned):
    study = opened(planned(trials=6))
    for k in range(5):
        claimed = study.claim()
        claimed.report(1, 0.1 * k)
        study.complete(claimed, 0.1 * k)
    last = study.claim()
    with pytest.raises(Pruned):
        last.report(1, 0.15)
    study.prune(last)
    record = study.records()[-1]
    assert (record.state, record.score, record.validations) == ("pruned", 0.15, 1)
    assert ranking(planned(trials=6), study.records())[0].slot == 5


def test_without_a_pruner_nothing_is_stopped(planned):
    study = opened(planned(trials=6, pruner="none"))
    for k in range(6):
        claimed = study.claim()
        claimed.report(1, 1.0 - 0.1 * k)
        study.complete(claimed, 1.0 - 0.1 * k)
    assert states(study) == ["complete"] * 6


def test_a_score_that_is_no_number_is_a_failure(planned):
    study = opened(planned(trials=1))
    study.complete(study.claim(), float("nan"))
    assert [(r.state, r.message) for r in study.records()] == [("failed", "its score was nan")]


def test_settings_drawn_twice_are_trained_once(made, monkeypatch):
    plan = made("space: {embedding_size: {choice: [8]}}\ntrials: 2\n")
    study, runs = opened(plan), []

    def run(*arguments, **options):
        runs.append(options)
        return type("Result", (), {"metrics": {"valid": {plan.metric: 0.25}}})

    monkeypatch.setattr(worker, "run", run)
    for _ in range(2):
        worker._work(plan, study, study.claim())
    assert [(r.score, r.same_as) for r in study.records()] == [(0.25, None), (0.25, 1)]
    assert [one["test"] for one in runs] == [False]


@pytest.mark.parametrize(("raised", "left"), [(RunFolderError("disk full"), "waiting"), (ValueError("bad"), "failed")])
def test_what_is_not_the_settings_fault_does_not_use_up_the_budget(planned, monkeypatch, raised, left):
    plan = planned(trials=1)
    study = opened(plan)

    def run(*arguments, **options):
        raise raised

    monkeypatch.setattr(worker, "run", run)
    with pytest.raises(RunFolderError) if left == "waiting" else contextlib.nullcontext():
        worker._work(plan, study, study.claim())
    assert states(study) == [left]


def test_what_a_worker_finished_before_it_died_is_not_trained_again(planned, monkeypatch):
    """Killed after `metrics.json` and before it could tell the study."""
    plan = planned(trials=1)
    study = opened(plan)
    lost = study.claim()
    folder = plan.trial_folder(1)
    folder.mkdir()
    write_config(folder, {"model": plan.model, "dataset": plan.dataset, **plan.settings, **lost.values})
    write_results(folder, {"valid": {plan.metric: 0.75}}, pd.DataFrame({"rank": [1]}))
    let_die(plan, lost)
    monkeypatch.setattr(worker, "run", None)
    worker._work(plan, study, study.claim())
    assert [(r.state, r.score) for r in study.records()] == [("complete", 0.75)]


def test_an_error_that_nobody_expected_fails_its_trial_and_leaves_its_traceback(planned, monkeypatch):
    plan = planned(trials=1)
    study = opened(plan)
    claimed = study.claim()

    def run(model, dataset, files, values, **_):
        plan.trial_folder(1).mkdir()
        return {}["nothing"]

    monkeypatch.setattr(worker, "run", run)
    worker._work(plan, study, claimed)
    assert [(r.state, r.message) for r in study.records()] == [("failed", "KeyError: 'nothing'")]
    assert "Traceback" in (plan.trial_folder(1) / "error.txt").read_text()


def test_a_worker_that_only_slept_keeps_its_trial_while_it_holds_the_folder(planned):
    plan = planned(trials=1)
    study = opened(plan)
    asleep = study.claim()
    plan.trial_folder(1).mkdir()
    with held(plan.trial_folder(1)):
        let_die(plan, asleep)
        assert study.claim() is None
        with pytest.raises(TakenOver):
            asleep.report(1, 0.5)
    assert study.claim().slot == 1


def test_a_study_is_not_joined_from_another_folder(planned, tmp_path):
    storage = f"sqlite:///{tmp_path / 'shared.db'}"
    opened(planned(storage=storage))
    with pytest.raises(SweepError, match="belongs to a sweep in another folder"):
        opened(planned(storage=storage, run_dir=str(tmp_path / "elsewhere")))


def test_a_folder_is_not_shared_by_two_sweeps(planned, tmp_path):
    opened(planned(trials=3))
    with pytest.raises(RunFolderError, match=r"\+ trials: 4"):
        opened(planned(trials=4))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    with pytest.raises(RunFolderError, match="holds no sweep"):
        opened(planned(run_dir=str(tmp_path / "full")))


def test_passwords_stay_out_of_the_folder(planned):
    plan = planned(storage="postgresql://me:s3cret@nowhere.invalid:1/x")
    enter_folder(plan)
    assert "s3cret" not in (plan.folder / "sweep.yaml").read_text()
    assert "me:***@nowhere" in (plan.folder / "sweep.yaml").read_text()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sampler": "tpee"}, "must be one of tpe, random, grid. Did you mean `tpe`?"),
        ({"pruner": "hyperband"}, "must be one of median, none"),
        ({"trials": 0}, "whole number of at least 1"),
        ({"storage": "file.db"}, "SQLAlchemy URL"),
        ({"metric": "NDCG@7"}, "valid_metric=NDCG@7"),
        ({"epoch": 3}, "Did you mean `epochs`"),
        ({"learning_rate": 0.1}, "`learning_rate` is searched, but also set to 0.1"),
    ],
)
def test_wrong_settings_of_a_sweep(made, values, message):
    with pytest.raises(ConfigError) as caught:
        made(**values)
    assert message in str(caught.value)
    with pytest.raises(ConfigError, match=r"no setting `trails`. Did you mean `trials`"):
        made(SPACE + "trails: 3\n")


def test_a_database_that_is_not_there(planned, tmp_path):
    with pytest.raises(SweepError, match="Its driver is missing"):
        opened(planned(storage="nosuchdatabase://host/x"))
    with pytest.raises(SweepError, match=r"sqlite database: .*unable to open"):
        opened(planned(storage="sqlite:////nowhere/at/all.db", run_dir=str(tmp_path / "b")))


def test_without_optuna_the_message_says_what_to_install(planned, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(SweepError, match=r'pip install "rporec_recbole\[sweep\]"'):
        opened(planned())


def test_a_metric_that_shall_be_small(made):
    plan = made(trials=2, metric="AveragePopularity@5", metrics=["NDCG", "AveragePopularity"])
    assert not plan.bigger
    records = [Record(1, "complete", 3.0), Record(2, "complete", 2.0), Record(3, "pruned", 1.0)]
    assert [one.slot for one in ranking(plan, records)] == [2, 1, 3]


def test_the_table_has_every_trial_best_first(planned):
    records = [
        Record(1, "complete", 0.1, {"learning_rate": 0.01, "embedding_size": 8}, 2.0),
        Record(2, "failed", message="ConfigError: no"),
        Record(3, "complete", 0.2, {"learning_rate": 0.02, "embedding_size": 8}, 2.0),
        Record(4, "complete", 0.2, {"learning_rate": 0.02, "embedding_size": 8}, 0.0, same_as=3),
    ]
    lines = table_of(planned(), records).splitlines()
    assert [line.split()[0] for line in lines] == ["trial", "3", "4", "1", "2", "trial"]
    assert "as 3" in lines[2]
    assert lines[-1] == "trial 2 failed: ConfigError: no"
    assert BEST == "best.yaml"


def test_figures_of_few_trials_can_be_drawn(tmp_path):
    plot_history({1: (None, False)}, True, "none").savefig(tmp_path / "none.png")
    plot_shares({}, "none").savefig(tmp_path / "shares.png")
    figure = plot_history({1: (0.3, True), 2: (0.5, False), 3: (0.2, True), 4: (0.4, True)}, True, "some")
    (best,) = figure.axes[0].lines
    assert list(best.get_ydata()) == [0.3, 0.3, 0.4]
