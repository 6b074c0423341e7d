"""Services that a run is watched with get settings, curves, results and texts; a service that fails ends no run."""

import importlib.util
import json

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rporec_recbole.cli import main
from rporec_recbole.runs import trackers
from tests.toy import SHORT, TEXT


@pytest.fixture(scope="module")
def tracked(tmp_path_factory, toy):
    """Two runs, of RPORec and of a model of RecBole's, that both services and TensorBoard watched, without a network."""
    place = tmp_path_factory.mktemp("tracked")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)  # MLflow keeps texts where it is started
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place / 'mlflow.db'}")
        for model, own in (("RPORec", {**SHORT, **TEXT, "stages": "[1a,1b,1c]"}), ("BPR", {"epochs": 2})):
            values = {**own, "data_path": toy, "run_dir": place / model, "trackers": "[wandb,mlflow]"}
            given = [f"--{key}={value}" for key, value in values.items() if value is not None]
            assert main([f"--model={model}", "--dataset=toy", *given]) == 0
    return place


@pytest.mark.parametrize(("model", "curve", "last"), [("RPORec", "1a_trunk/loss", 4), ("BPR", "train/loss", 2)])
def test_mlflow_has_it_all(tracked, model, curve, last, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tracked / 'mlflow.db'}")
    known = json.loads((tracked / model / trackers.KEPT).read_text(encoding="utf-8"))
    run = client.get_run(known["mlflow"])
    results = json.loads((tracked / model / "metrics.json").read_text(encoding="utf-8"))
    assert run.info.status == "FINISHED"
    assert run.data.params["model"] == model
    assert run.data.metrics["test/ndcg_10"] == results["test"]["ndcg@10"]
    history = client.get_metric_history(known["mlflow"], curve)
    assert history
    assert history[-1].step <= last
    texts = [file.path for file in client.list_artifacts(known["mlflow"])]
    assert texts == (["texts.txt"] if model == "RPORec" else [])


@pytest.mark.parametrize("model", ["RPORec", "BPR"])
def test_wandb_keeps_a_run_for_later(tracked, model):
    pytest.importorskip("wandb")
    (kept,) = (tracked / model / "wandb").glob("offline-run-*")
    data = next(kept.glob("*.wandb")).read_bytes()
    assert b"test/ndcg@10" in data
    assert (b"1a trunk/loss" if model == "RPORec" else b"train/loss") in data


def test_tensorboard_has_settings_and_texts(tracked):
    events = EventAccumulator(str(tracked / "RPORec" / "tensorboard"))
    events.Reload()
    assert "test/ndcg_10" in events.Tags()["scalars"]
    assert "texts/text_summary" in events.Tags()["tensors"]
    assert "_hparams_/experiment" in events.Tags()["tensors"] or "_hparams_/session_start_info" in str(
        events.summary_metadata
    )


def test_a_service_that_fails_ends_no_run(toy, tmp_path, monkeypatch, caplog):
    class Gone:
        def __init__(self, *arguments):
            self.said = 0

        def add(self, name, step, value):
            raise ConnectionError("no route to host")

        def end(self, results, texts, failed):
            raise AssertionError("it was left out")

    monkeypatch.setitem(trackers._SERVICES, "wandb", Gone)
    monkeypatch.setitem(trackers._SERVICES, "mlflow", lambda *arguments: 1 / 0)
    given = ["--model=BPR", "--dataset=toy", f"--data_path={toy}", "--epochs=2", f"--run_dir={tmp_path / 'run'}"]
    assert main([*given, "--trackers=[wandb,mlflow]"]) == 0
    log = (tmp_path / "run" / "log.txt").read_text(encoding="utf-8")
    assert log.count("wandb is left out from here on: ConnectionError: no route to host. The run goes on.") == 1
    assert log.count("mlflow is left out") == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("wandb", "expected list"),
        ("[wanbd]", "Did you mean `wandb`"),
        ("[mlflow]", 'pip install "rporec_recbole[mlflow]"'),
    ],
)
def test_what_is_refused_before_the_first_stage(toy, tmp_path, capsys, monkeypatch, given, message):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "mlflow" else found(name, *more)
    )
    words = [
        "--model=BPR",
        "--dataset=toy",
        f"--data_path={toy}",
        f"--run_dir={tmp_path / 'run'}",
        f"--trackers={given}",
    ]
    assert main(words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
