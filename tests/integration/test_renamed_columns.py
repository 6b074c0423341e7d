"""A data set whose four columns have other names is the same data set: for every model and every command."""

import json

import pandas as pd
import pytest

from rporec_recbole.cli import main
from rporec_recbole.runs.finished import load_run
from tests.toy import SHORT, TEXT, write_toy

NAMES = {"user_id": "session", "item_id": "product", "rating": "stars", "timestamp": "when"}
FIELDS = dict(zip(("USER_ID_FIELD", "ITEM_ID_FIELD", "RATING_FIELD", "TIME_FIELD"), NAMES.values(), strict=True))
MODELS = {
    "RPORec": {**SHORT, **TEXT},
    "SASRec": {"epochs": 1, "show_progress": False},
    "BPR": {"epochs": 1, "show_progress": False},
}


def options(settings):
    return [f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in settings.items()]


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    """`toy` under its own names, and `renamed`, the same under others."""
    folder = write_toy(tmp_path_factory.mktemp("data"))
    (folder / "renamed").mkdir()
    for kind in ("inter", "item"):
        header, _, rows = (folder / f"toy/toy.{kind}").read_text(encoding="utf-8").partition("\n")
        for old, new in NAMES.items():
            header = header.replace(f"{old}:", f"{new}:")
        (folder / f"renamed/renamed.{kind}").write_text(f"{header}\n{rows}", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def runs(parent, tmp_path_factory):
    """(model, data set) -> the run's folder."""
    made, folder = {}, tmp_path_factory.mktemp("runs")
    for model, settings in MODELS.items():
        for dataset, names in (("toy", {}), ("renamed", FIELDS)):
            made[model, dataset] = folder / f"{model}-{dataset}"
            given = {**settings, **names, "data_path": str(parent), "run_dir": str(made[model, dataset])}
            assert main([f"--model={model}", f"--dataset={dataset}", *options(given)]) == 0
    return made


@pytest.mark.parametrize("model", MODELS)
def test_the_same_ranks(runs, model):
    own, renamed = (pd.read_parquet(runs[model, dataset] / "ranks.parquet") for dataset in ("toy", "renamed"))
    pd.testing.assert_frame_equal(own, renamed)


def test_the_same_prompts_with_titles_and_ratings(runs):
    prompts = []
    for dataset in ("toy", "renamed"):
        run = load_run(runs["RPORec", dataset])
        rows = run.loaders["test"].dataset.inter_feat
        histories, ratings = rows[run.model.ITEM_SEQ].tolist(), run.model.ratings_of(rows)
        prompts.append([run.model.reasoner.template.prompt(*row) for row in zip(histories, ratings, strict=True)])
    assert prompts[0] == prompts[1]
    assert "Film" in prompts[0][0]
    assert "rated" in prompts[0][0]


@pytest.mark.parametrize(
    "command",
    [
        "recommend {RPORec} --output={tmp}/x.csv",
        "recommend {SASRec} --output={tmp}/x.csv",
        "recommend {BPR} --output={tmp}/x.csv",
        "recommend {RPORec} --split=all --output={tmp}/x.csv",
        "recommend {BPR} --split=all --output={tmp}/x.csv",
        "recommend {RPORec} --histories={tmp}/h.tsv --output={tmp}/x.csv",
        "compare {RPORec} {SASRec} {BPR} --output={tmp}/c",
        "explain {RPORec}",
        "export {RPORec} --output={tmp}/e",
        "index {RPORec} --output={tmp}/i",
        "cots stats {RPORec}",
        "controls {RPORec} --only=no CoT",
    ],
)
def test_every_command(runs, tmp_path, command, capsys):
    (tmp_path / "h.tsv").write_text("new\ti3 i4 i5\n", encoding="utf-8")
    outcomes = []
    for dataset in ("toy", "renamed"):
        folder = tmp_path / dataset
        names = {model: str(runs[model, dataset]) for model in MODELS}
        words = [word.format(tmp=tmp_path, **names) for word in command.split(" ")]
        if words[-1] == "CoT":
            words[-2:] = [" ".join(words[-2:])]
        assert main(words) == 0, capsys.readouterr().err
        outcomes.append((tmp_path / "x.csv").read_text(encoding="utf-8") if "x.csv" in command else folder.name)
    if "x.csv" in command:
        assert outcomes[0] == outcomes[1]


def test_the_service_answers_the_same(runs):
    pytest.importorskip("fastapi")
    from rporec_recbole.serve.limits import Limits
    from rporec_recbole.serve.question import Question
    from rporec_recbole.serve.recommender import Recommender

    answers = []
    for dataset in ("toy", "renamed"):
        recommender = Recommender(runs["RPORec", dataset], Limits())
        recommender.open()
        answers.append(recommender.answer([Question(user="u3"), Question(history=["i3", "i4"], hide_seen=True)]))
        recommender.close()
    assert answers[0] == answers[1]


def test_a_comparison_and_a_sweep_come_out_the_same(parent, tmp_path):
    pytest.importorskip("optuna")
    (tmp_path / "space.yaml").write_text("space:\n  embedding_size: {choice: [8, 16]}\ntrials: 2\n", encoding="utf-8")
    found = []
    for dataset, names in (("toy", {}), ("renamed", FIELDS)):
        given = options({**names, "epochs": 1, "show_progress": False, "data_path": str(parent)})
        sweep, many = tmp_path / f"sweep-{dataset}", tmp_path / f"compare-{dataset}"
        words = [f"--dataset={dataset}", *given]
        assert main(["--model=BPR", f"--sweep={tmp_path / 'space.yaml'}", f"--run_dir={sweep}", *words]) == 0
        assert main(["--model=BPR,Pop", f"--run_dir={many}", *words]) == 0
        trials = pd.read_csv(sweep / "trials.csv")
        compared = pd.read_csv(many / "comparison.csv").drop(columns="training_seconds")
        found.append((trials.filter(like="ndcg"), compared))
    pd.testing.assert_frame_equal(found[0][0], found[1][0])
    pd.testing.assert_frame_equal(found[0][1], found[1][1])


@pytest.mark.parametrize("source", ["list", "file"])
def test_columns_as_recboles_own_files_name_them_keep_the_texts(parent, tmp_path, source):
    columns = {"inter": list(NAMES.values())}  # as the YAML file of any data set has it: nothing of texts
    given = {**SHORT, **TEXT, **FIELDS, "stages": ["1a", "1b", "1c"], "data_path": str(parent)}
    given["run_dir"] = str(tmp_path / "run")
    if source == "list":
        extra = [f"--load_col={json.dumps(columns)}"]
    else:
        (tmp_path / "own.yaml").write_text(json.dumps({"load_col": columns}), encoding="utf-8")
        extra = [f"--config_files={tmp_path / 'own.yaml'}"]
    assert main(["--model=RPORec", "--dataset=renamed", *options(given), *extra]) == 0
    titles = [item.title for item in load_run(tmp_path / "run").model.catalogue.items]
    assert "Film 3 of the Crime" in titles


def test_a_rating_column_that_is_not_there_is_named(parent, tmp_path, capsys):
    given = {**SHORT, **TEXT, **FIELDS, "RATING_FIELD": "grade", "data_path": str(parent)}
    assert main(["--model=RPORec", "--dataset=renamed", *options({**given, "run_dir": str(tmp_path / "run")})]) == 2
    message = capsys.readouterr().err
    assert "'grade'" in message
    assert "--RATING_FIELD" in message
    assert not (tmp_path / "run").exists()
