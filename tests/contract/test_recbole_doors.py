"""RecBole's own functions, as its documentation calls them: they train, evaluate and load RPORec, on every machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rporec_recbole import load_run, run
from rporec_recbole.errors import ConfigError, RunFolderError
from tests.toy import SHORT, TEXT


@pytest.fixture
def settings(toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # RecBole writes log/, log_tensorboard/ and saved/ where it is started
    monkeypatch.setattr(sys, "argv", sys.argv[:1])  # RecBole reads these
    return {**SHORT, **TEXT, "data_path": str(toy)}


def rounded(metrics):
    return {name: pytest.approx(value, abs=1e-12) for name, value in metrics.items()}


def test_run_recbole_trains_and_ranks_like_a_run_of_ours(settings, tmp_path, caplog):
    from recbole.quick_start import load_data_and_model, run_recbole
    from recbole.utils.case_study import full_sort_scores

    settings["stages"] = ["1a", "1b", "1c"]  # `test_pipeline.py` takes RecBole's steps one by one through all of them
    ours = run("RPORec", "toy", overrides={**settings, "run_dir": str(tmp_path / "ours")})
    result = run_recbole(model="RPORec", dataset="toy", config_dict=dict(settings))
    assert dict(result["test_result"]) == rounded(ours.metrics["test"])
    assert dict(result["best_valid_result"]) == rounded(ours.metrics["valid"])
    assert "cannot be counted" not in caplog.text  # RecBole's log has the FLOPs of the head

    (folder,) = (tmp_path / "saved").iterdir()
    assert not list(tmp_path.rglob("*.pth"))
    again, ranks = load_run(folder).evaluate("test")
    assert again == ours.metrics["test"]
    assert len(ranks) == 30
    config, model, dataset, *loaders = load_data_and_model(str(folder))
    assert (config["model"], dataset.item_num, len(loaders)) == ("RPORec", model.n_items, 3)
    assert not model.training
    rows = loaders[2].dataset.inter_feat
    scores = full_sort_scores(rows["user_id"].numpy(), model, loaders[2])
    found = (scores >= scores.gather(1, rows["item_id"][:, None])).sum(dim=1)
    assert dict(zip(dataset.id2token("user_id", rows["user_id"]), found.tolist(), strict=True)) == dict(
        zip(ranks["user_id"], ranks["rank"], strict=True)
    )


def test_run_recbole_trains_a_model_of_recboles_and_loads_its_own_file(settings, tmp_path):
    from recbole.quick_start import load_data_and_model, run

    own = {"data_path": settings["data_path"], "epochs": 1, "show_progress": False}
    result = run("SASRec", "toy", config_dict=dict(own))
    assert result["test_result"]["ndcg@10"] > 0
    (file,) = (tmp_path / "saved").glob("SASRec-*.pth")
    _, model, _, _, _, test = load_data_and_model(str(file))
    assert model.full_sort_predict(next(iter(test))[0]).isfinite().all()
    foreign = file.rename(tmp_path / "foreign.pth")
    with pytest.raises(RunFolderError, match=r"foreign.pth is a checkpoint of RecBole's, a pickle"):
        load_data_and_model(str(foreign))
    with pytest.raises(RunFolderError, match=r"gone.pth does not exist"):
        load_data_and_model("gone.pth")


def test_objective_function_reports_to_nobody(settings):
    from recbole.quick_start import objective_function

    trunk = {**settings, "model": "RPORec", "dataset": "toy", "stages": ["1a"]}
    found = objective_function(config_dict=trunk, saved=False)
    assert found["model"] == "RPORec"
    assert found["valid_score_bigger"]
    assert found["test_result"].keys() == found["best_valid_result"].keys()
    assert "ray" not in sys.modules


def test_a_model_whose_flops_cannot_be_counted_is_trained(settings, monkeypatch, caplog):
    from recbole.model.general_recommender import BPR
    from recbole.quick_start import run_recbole

    def refuse(self, interaction):
        raise NotImplementedError("no single scores")

    monkeypatch.setattr(BPR, "predict", refuse)
    own = {"data_path": settings["data_path"], "epochs": 1, "show_progress": False}
    assert run_recbole("BPR", "toy", config_dict=own, saved=False)["test_result"]["ndcg@10"] >= 0
    assert "FLOPs of BPR cannot be counted: NotImplementedError: no single scores" in caplog.text


def test_rows_of_data_that_are_not_split_have_their_histories(settings):
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation

    dataset = create_dataset(Config("RPORec", "toy", config_dict=dict(settings)))
    data_preparation(dataset.config, dataset)
    rows = dataset[torch.tensor([0, 1])]
    assert rows["item_length"].tolist() == [1, 2]
    assert (rows["item_id_list"][:, :2] > 0).tolist() == [[True, False], [True, True]]
    assert rows["item_id_list"][1, 1] == rows["item_id"][0]


def test_processes_of_recboles_own_are_refused_for_rporec(settings):
    from recbole.quick_start import run_recboles

    several = {"world_size": 2, "ip": "localhost", "port": "5678", "nproc": 2, "offset": 0}
    with pytest.raises(ConfigError, match="shares its work among the processes of torchrun"):
        run_recboles(0, "RPORec", "toy", None, {"config_dict": {**settings, **several}})


def test_two_trainings_in_one_second_keep_two_folders(settings, tmp_path, monkeypatch):
    from recbole.quick_start import run_recbole

    import rporec_recbole.training.state.alone as module

    monkeypatch.setattr(module, "get_local_time", lambda: "now")
    for _ in range(2):
        run_recbole("RPORec", "toy", config_dict={**settings, "stages": ["1a"]})
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == ["RPORec-now", "RPORec-now-2"]


def test_the_doors_open_where_recbole_was_there_first(settings, tmp_path):
    code = f"""
import recbole, recbole.config, recbole.trainer
import rporec_recbole
from recbole.quick_start import run_recbole
print(run_recbole("RPORec", "toy", config_dict={ {**settings, "stages": ["1a"]} }))
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "'test_result': " in done.stdout
