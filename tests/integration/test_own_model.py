"""A model class of a user's own: trained, ranked, compared and brought back; and whose code is run when."""

import re
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from recbole.model.general_recommender import BPR
from recbole.model.sequential_recommender import SASRec

import rporec_recbole
from rporec_recbole.cli import main
from rporec_recbole.errors import ConfigError, RunFolderError
from rporec_recbole.host import models
from rporec_recbole.host.models import keys_of
from rporec_recbole.runs.folder import read_config, read_results

DOCS = (Path(__file__).parents[2] / "docs/own_models.md").read_text(encoding="utf-8")
CODE = f"""{re.findall(r"```python(.*?)```", DOCS, re.DOTALL)[0]}

from recbole.model.sequential_recommender import SASRec
from rporec_recbole.model.rporec import RPORec

open("ran", "a").write("x")


class Same(SASRec):
    pass


class Broken(Last):
    def full_sort_predict(self, interaction):
        return interaction["nothing"]


class Mine(RPORec):
    pass


class GRU4Rec(SASRec):
    pass


number = 1
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The example of the docs as a module in the working folder, with more classes in it; it notes each time that it is run in a file `ran`."""
    (tmp_path / "my_models.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    yield lambda: (tmp_path / "ran").read_text() if (tmp_path / "ran").exists() else ""
    for path in (str(tmp_path), ""):
        if path in sys.path and path:
            sys.path.remove(path)
    sys.modules.pop("my_models", None)
    models._own.clear()


def flags(toy, folder, *more, model="my_models:Last"):
    place = [f"--data_path={toy}", f"--run_dir={folder}", "--epochs=1", "--show_progress=False"]
    return [f"--model={model}", "--dataset=toy", *place, *more]


def forgotten():
    """As in a new process: nobody has named anything."""
    sys.modules.pop("my_models", None)
    models._own.clear()


def test_a_class_of_ones_own_runs_is_compared_and_comes_back(toy, tmp_path, own, capsys):
    assert main(flags(toy, "last", "--width=8")) == 0
    assert "\nLast on toy: 30 users" in capsys.readouterr().out
    assert read_config(Path("last"))["model"] == "my_models:Last"
    metrics, ranks = read_results(Path("last"))
    assert metrics["model"] == "Last"
    assert main(flags(toy, "bpr", model="BPR")) == 0
    assert main(["compare", "last", "bpr"]) == 0
    assert "Last" in capsys.readouterr().out

    assert main(flags(toy, "both", "--width=8", model="my_models:Last,BPR")) == 0
    assert read_results(Path("both/my-models-Last,seed=2020"))[0]["test"] == metrics["test"]
    assert "settings of my_models:Last alone: width" in capsys.readouterr().out

    forgotten()
    assert main(["recommend", "last", "--top_k=3"]) == 2
    assert "name it: load_run(..., model='my_models:Last'), or --model=my_models:Last" in capsys.readouterr().err
    assert main(["recommend", "last", "--top_k=3", "--model=my_models:Last"]) == 0
    assert len(pd.read_parquet("recs.parquet")) == 90
    forgotten()
    assert main(["fit", "last", "--output=all"]) == 2
    assert "name it: load_run" in capsys.readouterr().err
    assert main(["fit", "last", "--output=all", "--model=my_models:Last"]) == 0
    assert main(["recommend", "all", "--top_k=3", "--fallback=popular"]) == 0
    forgotten()
    again, table = rporec_recbole.load_run("last", model="my_models:Last").evaluate("test")
    assert again == metrics["test"]
    pd.testing.assert_frame_equal(table.reset_index(drop=True), ranks[ranks["split"] == "test"].reset_index(drop=True))
    assert main(flags(toy, "again", "--config_files=last/config.yaml")) == 0  # named by --model too
    assert read_results(Path("again"))[0]["test"] == metrics["test"]


def test_code_that_a_folder_names_is_not_run_on_its_word(toy, own, capsys):
    assert main(flags(toy, "last", "--width=8")) == 0
    assert own() == "x"
    rporec_recbole.load_run("last")  # named in this very process
    forgotten()
    with pytest.raises(
        RunFolderError,
        match=r"`my_models:Last`, and .* If you trust it, name it: load_run\(\.\.\., model='my_models:Last'\)",
    ):
        rporec_recbole.load_run("last")
    assert main(["--config_files=last/config.yaml"]) == 2
    assert "If you trust it, name it too: --model=my_models:Last" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="is of the model `my_models:Last`, not of `my_models:Same`"):
        rporec_recbole.load_run("last", model="my_models:Same")
    assert own() == "x"


def test_a_subclass_stands_on_the_settings_of_what_it_extends(toy, own):
    for model in ("my_models:Same", "SASRec"):
        assert main(flags(toy, model.rpartition(":")[2], "--n_layers=1", "--hidden_size=16", model=model)) == 0
    same, theirs = (read_results(Path(name))[0] for name in ("Same", "SASRec"))
    assert same["test"] == theirs["test"]
    assert same["model"] == "Same"


class Other(BPR):
    pass


def test_what_a_sweep_says_repeats_its_best_trial(toy, own, capsys):
    Path("space.yaml").write_text("space: {width: {choice: [4, 8]}}\nsampler: grid\n")
    assert main(flags(toy, "sweep", "--sweep=space.yaml")) == 0
    (again,) = re.findall(r"To repeat it: rporec (.*)", capsys.readouterr().out)
    forgotten()
    assert main([*again.split(), "--run_dir=again"]) == 0
    trials = [
        read_results(path)[0]["test"] for path in Path("sweep").glob("trial-*") if "test" in read_results(path)[0]
    ]
    assert trials == [read_results(Path("again"))[0]["test"]]


def test_classes_can_be_handed_over(toy, tmp_path):
    settings = {"data_path": str(toy), "epochs": 1, "show_progress": False}
    result = rporec_recbole.run(Other, "toy", overrides={**settings, "run_dir": str(tmp_path / "other")})
    assert result.metrics["model"] == "Other"
    metrics, _ = rporec_recbole.load_run(tmp_path / "other", model=Other).evaluate("test")
    assert metrics == result.metrics["test"]
    result = rporec_recbole.run(SASRec, "toy", overrides={**settings, "run_dir": str(tmp_path / "theirs")})
    assert read_config(result.run_dir)["model"] == "SASRec"

    class Inner(BPR):
        pass

    with pytest.raises(ConfigError, match="`Inner` is defined inside a function"):
        rporec_recbole.run(Inner, "toy", overrides=settings)


def test_errors_of_own_code_are_its_own(toy, own):
    with pytest.raises(KeyError, match="nothing"):
        main(flags(toy, "broken", "--width=8", model="my_models:Broken"))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("my_models:Nothing", "cannot be imported (AttributeError: module 'my_models' has no attribute 'Nothing')"),
        ("no_such_module:Last", "`--model` names `no_such_module:Last`, which cannot be imported (ModuleNotFoundError"),
        ("my_models:number", "`my_models:number` is no model: name a class that extends SequentialRecommender"),
        ("my_models:Mine", "`my_models:Mine` extends RPORec"),
        ("my_models:GRU4Rec", "has the name of a model of RecBole's, GRU4Rec"),
    ],
)
def test_what_is_no_model_of_ones_own_is_refused(toy, own, capsys, model, said):
    assert main(flags(toy, "run", model=model)) == 2
    assert said in capsys.readouterr().err
    assert not Path("run").exists()


def test_a_misspelt_setting_of_ones_own_is_refused(toy, own, capsys):
    assert main(flags(toy, "run", "--widht=8")) == 2
    assert re.search(r"`widht` is not a setting of Last on toy. Did you mean `width`", capsys.readouterr().err)


def test_a_class_that_was_typed_into_a_shell_has_settings_too():
    shell: dict[str, Any] = {"__name__": "a_shell", "Base": BPR}
    exec("class Typed(Base):\n    def __init__(self, config, dataset):\n        self.width = config['width']", shell)
    assert {"width", "embedding_size", "epochs"} <= set(keys_of(shell["Typed"], "ml-100k"))
    assert "widht" not in keys_of(shell["Typed"], "ml-100k")
