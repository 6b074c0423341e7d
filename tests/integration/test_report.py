"""`report.html`: what a run shows, in one page that needs no network; and what it says of itself on the way."""

import base64
import contextlib
import hashlib
import json
import re

import pandas as pd
import pytest

from rporec_recbole.cli import main
from rporec_recbole.evaluation.plots import plot_curves, plot_key_curves
from rporec_recbole.explain import run_page, story
from rporec_recbole.runs.finished import load_run
from tests.integration.test_explain import Reader
from tests.toy import SHORT, TEXT, write_toy

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    parent = write_toy(tmp_path_factory.mktemp("evil"))
    path = parent / "toy" / "toy.item"
    path.write_text(path.read_text(encoding="utf-8").replace("Film 3 of", f"{EVIL} of"), encoding="utf-8")
    return parent


def trained(data, folder, model, **settings):
    shared = {**SHORT, **TEXT} if model == "RPORec" else {"epochs": 2, "eval_step": 1}
    given = {**shared, **settings, "data_path": data, "run_dir": folder}
    words = [f"--{key}={str(value).replace(' ', '')}" for key, value in given.items() if key != "show_progress"]
    return [f"--model={model}", "--dataset=toy", *words]


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    """One with all stages, which draws all of its curves and whose standard error is no terminal; others that draw little."""
    folder = tmp_path_factory.mktemp("runs")
    with (
        pytest.MonkeyPatch.context() as patch,
        open(folder / "said.txt", "w", encoding="utf-8") as said,
        contextlib.redirect_stderr(said),
    ):
        patch.setenv("NO_COLOR", "1")
        patch.setattr("rporec_recbole.runs.run.plot_curves", plot_curves)
        patch.setattr("rporec_recbole.explain.run_page.plot_key_curves", plot_key_curves)
        assert main(trained(data, folder / "RPORec", "RPORec")) == 0
    for model in ("SASRec", "BPR"):
        assert main(trained(data, folder / model, model)) == 0
    return folder


def read(folder):
    return (folder / "report.html").read_text(encoding="utf-8"), json.loads((folder / "metrics.json").read_text())


def test_the_page_says_what_stage_2_brought_and_what_to_ask_next(runs):
    text, metrics = read(runs / "RPORec")
    before, after = metrics["rounds"]
    assert (before["round"], after["round"]) == (0, 1)
    assert f"{before['score']:.4f} on validation before, {after['score']:.4f} after it" in text
    assert ("It was kept." in text) == after["kept"]
    assert "rporec controls RPORec" in text
    assert "rporec controls" not in read(runs / "SASRec")[0]


def test_what_stage_2_brought_in_words():
    rounds = [{"round": 0, "score": 0.2, "kept": True}, {"round": 1, "score": 0.1, "kept": False}]
    assert "put back to what it was" in story.what_stage_2_brought({"rounds": rounds})
    rounds = [*({**one, "kept": False} for one in rounds), {"round": 2, "score": 0.3, "kept": True}]
    assert "0.2000 on validation before, 0.3000 after it. Round 2 of 2" in story.what_stage_2_brought(
        {"rounds": rounds}
    )
    assert story.what_stage_2_brought({}) is None


def test_a_pipe_gets_no_bars_and_no_colours(runs):
    """And it is the run of the tests that draws all of its curves."""
    said = (runs / "said.txt").read_text(encoding="utf-8")
    assert "stage refresh" in said
    assert (runs / "RPORec" / "curves.png").stat().st_size > 100_000
    assert not [line for line in said.splitlines() if "it/s]" in line or "█" in line or re.search(r"\d%\|", line)]
    assert "\r" not in said
    assert "\x1b[" not in said


@pytest.mark.parametrize("model", ["RPORec", "SASRec", "BPR"])
def test_the_page_has_the_figures_of_the_run_and_what_they_stand_beside(runs, model):
    text, metrics = read(runs / model)
    reader = Reader(text)
    shown = [[cell for cell in row if cell] for row in reader.rows]
    for who, results in story.results_of(metrics).items():
        for split in ("test", "valid"):
            assert [who, *(f"{results[split][name]:.4f}" for name in ("hit@10", "ndcg@10", "mrr@10"))] in shown
    assert "Pop" in metrics["beside"]
    assert f"{metrics['users']:,} users and {metrics['candidates']:,} items" in text
    for name in ("metrics.json", "ranks.parquet", "curves.png", "config.yaml", "log.txt"):
        assert f'<a href="{name}">' in text
    assert reader.tags.count("article") == (0 if model == "BPR" else 3)
    assert reader.tags.count("img") == 1  # the curves


def test_the_most_popular_items_are_ranked_as_the_model_Pop_ranks_them(runs, data, tmp_path):
    assert main(trained(data, tmp_path / "Pop", "Pop")) == 0
    pop = json.loads((tmp_path / "Pop" / "metrics.json").read_text())
    for model in ("RPORec", "SASRec", "BPR"):
        beside = read(runs / model)[1]["beside"]["Pop"]
        for split in ("valid", "test"):
            assert beside[split] == pytest.approx(pop[split], abs=1e-12)


def test_three_users_are_shown_with_their_ranks_and_what_was_written(runs):
    text, metrics = read(runs / "RPORec")
    users = re.findall(r"<h2>User <bdi>(.*?)</bdi></h2>", text)
    ranks = pd.read_parquet(runs / "RPORec" / "ranks.parquet").query("split == 'test'").set_index("user_id")["rank"]
    places = re.findall(r'<dl class="places"><div><dt>rank of \d+</dt><dd>(\d+)</dd>', text)
    assert [int(one) for one in places] == ranks[users].tolist()
    assert text.count('<section class="thought">') == 3
    assert ("The texts count 0" in text) == (
        metrics["stages"]["strength"]["chosen"] == 0 == metrics["stages"]["strength"]["answers"]
    )
    assert f"{metrics['answers']['valid']['hit@10']:.1%}" in text


def test_the_page_loads_nothing_and_runs_nothing(runs, data):
    text, _ = read(runs / "RPORec")
    reader = Reader(text)
    assert not {"script", "link", "iframe", "object"} & set(reader.tags)
    assert not [name for name in reader.attributes if name.startswith("on") or name == "style"]
    assert "http" not in text.replace("http-equiv", "")
    style = re.search("<style>(.*?)</style>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = re.search('Content-Security-Policy" content="(.*?)"', text)[1]
    assert (
        policy == f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    facts = {
        "model": EVIL,
        "dataset": EVIL,
        "users": 1,
        "candidates": 1,
        "hide_seen": False,
        "parameters": 1,
        "seed": 1,
        "stages": {"x": {"name": EVIL, "seconds": 1.0}},
    }
    assert EVIL not in run_page.report(runs / "RPORec", facts, {}, {f"1a trunk/{EVIL}": [(1, 1.0)]}, None)
    loaded = load_run(runs / "RPORec")
    run_page.write_report(loaded, {"1a trunk/loss": [(1, 1.0), (2, 0.5)]})  # with the store that is there
    loaded.model.reasoner.store.close()


def test_a_page_that_cannot_be_made_is_one_warning(data, tmp_path, monkeypatch, caplog, capsys):
    monkeypatch.setattr(run_page, "report", lambda *_: 1 / 0)
    assert main(trained(data, tmp_path / "run", "Pop")) == 0
    assert "what the run shows could not be made (division by zero)" in (tmp_path / "run" / "log.txt").read_text()
    assert (tmp_path / "run" / "metrics.json").is_file()
    assert not list((tmp_path / "run").glob("report.html*"))
    assert "report.html" not in capsys.readouterr().out


def test_curves_stand_by_stage_and_those_that_never_move_are_named():
    moving, still = [(step, float(step % 7)) for step in range(30)], [(step, 0.5) for step in range(30)]
    names = ["1a trunk/loss", "1b x/loss", *(f"2 rl/{name}" for name in "abcd"), "2b y/loss", "1a trunk/ndcg@10"]
    figure = plot_curves({**dict.fromkeys(names, moving), "2 rl/flat": still}, "a run")
    words = [one.get_text() for one in figure.texts]
    assert [one for one in words if one in ("1a trunk", "1b x", "2 rl", "2b y")] == ["1a trunk", "1b x", "2 rl", "2b y"]
    assert any("2 rl/flat = 0.5" in one for one in words)
    panels = [axes.get_title() for axes in figure.axes]
    assert panels == ["loss", "ndcg@10", "loss", *"abcd", "loss"]
    check_places(figure)


def test_key_curves_stand_beside_each_other():
    curves = {f"curve {number}": [(step, float(step % 7)) for step in range(30)] for number in range(5)}
    for count in (1, 2, 5):
        figure = plot_key_curves(dict(list(curves.items())[:count]))
        assert [axes.get_title() for axes in figure.axes] == list(curves)[:count]
        check_places(figure)


def check_places(figure):
    """Every panel lies inside of the figure, and none on another."""
    boxes = [axes.get_position() for axes in figure.axes]
    assert all(0 < box.x0 < box.x1 < 1 and 0 < box.y0 < box.y1 < 1 for box in boxes)
    assert not [1 for i, one in enumerate(boxes) for other in boxes[:i] if one.overlaps(other)]
