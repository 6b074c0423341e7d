"""Controls of a finished run: the same rows, the same trunk, other things to read."""

import importlib
import json
import shutil

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from rporec_recbole.cli import main
from rporec_recbole.cot.store import Decoding
from rporec_recbole.cot.substitutes import AnotherUsers, BareHistory, Without
from rporec_recbole.errors import ConfigError, RunFolderError
from rporec_recbole.runs.controls import FULL, ORACLE, contrasts_of, run_controls
from rporec_recbole.runs.finished import load_run
from rporec_recbole.runs.oracle import oracle_of
from rporec_recbole.runs.run import run
from rporec_recbole.runs.trunks import ranks_of_two_trunks
from rporec_recbole.text.catalogue import build_catalogue
from rporec_recbole.text.completions import Completion
from rporec_recbole.text.prompts import PromptTemplate
from tests.toy import SHORT, TEXT

NAMES = [
    FULL, "no CoT", "trunk alone", "two trunks", "another user's CoT", "history text", "answer only", ORACLE, "empty text",
    "stage 1 without stage 2", "stage 2 without re-alignment",
]  # fmt: skip
KEYS = ["user_id", "item_id"]


@pytest.fixture(scope="module")
def controlled(toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "controlled"
    settings = {**SHORT, **TEXT, "fusion_learning_rate": 0.05, "fusion_epochs": 6, "controls": True}
    settings["fusion_reads_history"] = True
    return run("RPORec", "toy", overrides={**settings, "data_path": str(toy), "run_dir": str(folder)})


@pytest.fixture(scope="module")
def several(toy, tmp_path_factory):
    """A run with three texts a history, whose fusion reads nothing beside them."""
    folder = tmp_path_factory.mktemp("runs") / "several"
    settings = {**SHORT, **TEXT, "stages": ["1a", "1b", "1c"], "cot_samples": 3, "fusion_strengths": [1]}
    settings |= {"fusion_learning_rate": 0.05, "fusion_epochs": 6, "controls": True, "fusion_reads_history": False}
    return run("RPORec", "toy", overrides={**settings, "data_path": str(toy), "run_dir": str(folder)})


def ranks_of(table, control):
    return table[table["control"] == control].sort_values(KEYS)["rank"].to_numpy()


def test_every_control_ranks_the_rows_of_the_run(controlled):
    table = pd.read_parquet(controlled.run_dir / "controls.parquet")
    assert list(dict.fromkeys(table["control"])) == NAMES == [one.control for one in controlled.controls]
    own = pd.read_parquet(controlled.run_dir / "ranks.parquet").query("split == 'test'").sort_values(KEYS)
    assert (ranks_of(table, FULL) == own["rank"].to_numpy()).all()
    assert table.groupby("control").size().nunique() == 1


def test_no_cot_is_the_head_with_reasoning_off(controlled):
    loaded = load_run(controlled.run_dir)
    loaded.model.reasoning_on = False
    off = loaded.evaluate("test")[1].sort_values(KEYS)
    table = pd.read_parquet(controlled.run_dir / "controls.parquet")
    assert (ranks_of(table, "no CoT") == off["rank"].to_numpy()).all()


def test_a_trunk_of_another_seed_beside_the_runs_own(controlled):
    table = pd.read_parquet(controlled.run_dir / "controls.parquet")
    loaded = load_run(controlled.run_dir)
    second, own = (
        load_file(controlled.run_dir / "controls" / one / "head.safetensors") for one in ("second-trunk", "trunk-alone")
    )
    assert not torch.equal(second["head.item_id.weight"], own["head.item_id.weight"])
    again = ranks_of_two_trunks(loaded).sort_values(KEYS)
    assert (ranks_of(table, "two trunks") == again["rank"].to_numpy()).all()
    assert "full_sort_predict" not in vars(loaded.model)  # the run's own scores are back
    own = loaded.evaluate("test")[1].sort_values(KEYS)
    assert (ranks_of(table, FULL) == own["rank"].to_numpy()).all()


def test_the_oracle_tells_the_truth_to_an_exact_share(controlled):
    loaded = load_run(controlled.run_dir)
    model, rows = loaded.model, loaded.loaders["test"].dataset.inter_feat
    histories, ratings = rows[model.ITEM_SEQ].tolist(), model.ratings_of(rows)
    lines, targets = model.catalogue.lines, rows[model.ITEM_ID].tolist()
    for true, wrong, share in (("title", "writer", 0.3), ("attributes", "popular", 0.5), ("title", "history", 1.0)):
        oracle = oracle_of(loaded, share, true, wrong)
        written = oracle.reason(histories, ratings, model.evaluation_decoding)
        wanted = [
            lines[item] if true == "title" else " | ".join(model.catalogue.items[item].attributes) for item in targets
        ]
        right = sum(one.answer == answer for one, answer in zip(written, wanted, strict=True))
        assert right >= round(share * len(targets))
        if true == "attributes":
            assert right == round(share * len(targets))  # no line is made of attributes alone
        # A told text is as sure as it was and has the further guesses that it had: what it names is all that tells it apart.
        for one, before in zip(
            written, loaded.model.reasoner.reason(histories, ratings, model.evaluation_decoding), strict=True
        ):
            assert [guess.logprob for guess in one.guesses[:1]] == [guess.logprob for guess in before.guesses[:1]]
            assert not before.guesses or one.guesses[0].answer == one.answer
            assert one.guesses[1:] == tuple(guess for guess in before.guesses[1:] if guess.answer != one.answer)
    marked = oracle_of(loaded, 1.0, marked=True).reason(histories, ratings, model.evaluation_decoding)
    assert [one.answer for one in marked] == [lines[item] for item in targets]
    assert not any(one.guesses for one in marked)


def test_some_of_them(controlled, tmp_path, capsys):
    before = pd.read_parquet(controlled.run_dir / "controls.parquet")
    copy = shutil.copytree(controlled.run_dir, tmp_path / "run")
    (copy / "controls.parquet").unlink()
    for only in ("answer only", "no CoT,answer only"):
        assert main(["controls", str(copy), f"--only={only}"]) == 0
    table = pd.read_parquet(copy / "controls.parquet")
    assert list(dict.fromkeys(table["control"])) == [FULL, "no CoT", "answer only"]
    for name in (FULL, "no CoT", "answer only"):
        assert (ranks_of(table, name) == ranks_of(before, name)).all()
    capsys.readouterr()
    assert main(["controls", str(copy), "--only=no cot"]) == 2
    assert "Did you mean `no CoT`?" in capsys.readouterr().err


def test_some_of_them_leave_the_others_where_they_are(controlled, tmp_path, capsys):
    before = pd.read_parquet(controlled.run_dir / "controls.parquet")
    copy = shutil.copytree(controlled.run_dir, tmp_path / "run")
    assert main(["controls", str(copy), "--only=no CoT"]) == 0
    pd.testing.assert_frame_equal(pd.read_parquet(copy / "controls.parquet"), before)
    assert (copy / "controls.json").read_bytes() == (controlled.run_dir / "controls.json").read_bytes()
    (copy / "controls.parquet").write_bytes(b"nothing")
    capsys.readouterr()
    assert main(["controls", str(copy), "--only=no CoT"]) == 2
    assert "Delete it" in capsys.readouterr().err


def test_a_run_killed_in_its_controls_goes_on_with_them(toy, tmp_path, monkeypatch, capsys):
    settings = {**SHORT, **TEXT, "stages": ["1a", "1b", "1c"], "data_path": str(toy), "controls": True}
    settings["run_dir"] = str(tmp_path / "RPORec,seed=2020")

    module = importlib.import_module("rporec_recbole.runs.run")  # the package gives its function this name

    def killed(folder):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "run_controls", killed)
        with pytest.raises(KeyboardInterrupt):
            run("RPORec", "toy", overrides=settings)
    with pytest.raises(RunFolderError, match="other settings"):
        run("RPORec", "toy", overrides={**settings, "epochs": 2})
    by_hand = shutil.copytree(tmp_path / "RPORec,seed=2020", tmp_path / "by hand")
    assert main(["controls", str(by_hand)]) == 0
    assert not (by_hand / "resume").exists()
    before = (tmp_path / "RPORec,seed=2020" / "metrics.json").read_bytes()
    monkeypatch.setattr(module, "_run", lambda *_: pytest.fail("it was trained again"))
    words = [f"--{key}={value}" for key, value in {**settings, "run_dir": tmp_path, "seeds": 1}.items()]
    assert main(["--model=RPORec", "--dataset=toy", *words]) == 0
    assert "0 of 1 runs are finished" in capsys.readouterr().out
    folder = tmp_path / "RPORec,seed=2020"
    assert set(pd.read_parquet(folder / "controls.parquet")["control"]) >= {FULL, "no CoT", "history text"}
    assert (folder / "metrics.json").read_bytes() == before
    assert not (folder / "resume").exists()
    with pytest.raises(RunFolderError, match="not empty"):
        run("RPORec", "toy", overrides=settings)


def test_table_and_plot(controlled):
    facts = json.loads((controlled.run_dir / "controls.json").read_text())
    assert list(facts) == NAMES
    assert facts[FULL]["mean"]["ndcg@10"] == pytest.approx(controlled.metrics["test"]["ndcg@10"])
    for name in NAMES[1:]:
        gap = facts[name][f"{FULL} minus it"]["ndcg@10"]
        assert gap["value"] == pytest.approx(facts[FULL]["mean"]["ndcg@10"] - facts[name]["mean"]["ndcg@10"])
        assert gap["low"] <= gap["value"] <= gap["high"]
    assert (controlled.run_dir / "controls.png").stat().st_size > 5000


def test_again_from_the_command_line_gives_the_same(controlled, capsys):
    before = pd.read_parquet(controlled.run_dir / "controls.parquet")
    assert main(["controls", str(controlled.run_dir)]) == 0
    pd.testing.assert_frame_equal(before, pd.read_parquet(controlled.run_dir / "controls.parquet"))
    assert "stage 2 without re-alignment" in capsys.readouterr().out


def test_the_history_alone_is_a_control_where_the_fusion_reads_it(several):
    assert "empty text" not in set(pd.read_parquet(several.run_dir / "controls.parquet")["control"])


def test_a_run_without_reasoning_has_no_controls(toy, tmp_path):
    settings = {**SHORT, **TEXT, "data_path": str(toy), "run_dir": str(tmp_path / "trunk"), "stages": ["1a"]}
    with pytest.raises(ConfigError, match="stage 1c"):
        run("RPORec", "toy", overrides={**settings, "controls": True})
    assert not (tmp_path / "trunk").exists()
    with pytest.raises(ConfigError, match="stage 1c"):
        run_controls(run("RPORec", "toy", overrides=settings).run_dir)


def test_several_texts_a_history(several):
    loaded = load_run(several.run_dir)
    users = loaded.loaders["test"].dataset.inter_feat
    reasoning, written = loaded.model.reasoning(users, loaded.model.evaluation_decoding)
    assert loaded.model.reasoner.written == 0  # all of them were written by the run
    assert all(len(texts) == 3 for texts in written)
    assert any(len({one.text for one in texts}) > 1 for texts in written)
    assert reasoning.well_formed.tolist() == [any(one.well_formed for one in texts) for texts in written]
    own = pd.read_parquet(several.run_dir / "ranks.parquet").query("split == 'test'").sort_values(KEYS)
    assert (loaded.evaluate("test")[1].sort_values(KEYS)["rank"].to_numpy() == own["rank"].to_numpy()).all()
    table = pd.read_parquet(several.run_dir / "controls.parquet")
    assert (ranks_of(table, FULL) == own["rank"].to_numpy()).all()


class Writer:
    """Says who asked."""

    def reason(self, histories, ratings, decoding, desc=""):
        return [Completion(f"{history}", f"cot {history}", f"answer {history}", True) for history in histories]


def test_another_users_reasoning_is_never_ones_own():
    histories = [[user, user + 1, 0] for user in range(1, 40)]
    others = AnotherUsers(Writer(), histories, None, seed=0)
    given = [one.cot for one in others.reason(histories, None, Decoding())]
    own = [one.cot for one in Writer().reason(histories, None, Decoding())]
    assert sorted(given) == sorted(own)
    assert all(a != b for a, b in zip(given, own, strict=True))
    assert [one.cot for one in others.reason(histories[5:7], None, Decoding())] == given[5:7]


def test_of_a_user_with_several_histories_another_ones_is_somebody_elses():
    owners = [user for user in range(6) for _ in range(2 * user + 1)]
    histories = [[row + 1, owner + 100] for row, owner in enumerate(owners)]
    written = AnotherUsers(Writer(), histories, None, seed=0, owners=owners).reason(histories, None, Decoding())
    assert all(str(owner + 100) not in one.cot for owner, one in zip(owners, written, strict=True))
    assert len({one.cot for one in written}) == len(owners)
    every = range(39)  # one history each: as ever
    histories = [[user, user + 1, 0] for user in range(1, 40)]
    plain, owned = (AnotherUsers(Writer(), histories, None, 0, of) for of in (None, list(every)))
    assert plain._neighbour == owned._neighbour


def test_substitutes_of_the_text():
    catalogue = build_catalogue([["", "Heat", "Alien"], ["", "Crime", "Horror"]], ["", "a", "b"], ["title", "genre"])
    template = PromptTemplate(catalogue, max_items=2)
    (one,) = BareHistory(template).reason([[2, 1, 2, 0]], None, Decoding())
    assert (one.cot, one.answer, one.well_formed) == ("Heat | Crime\nAlien | Horror", "Alien | Horror", True)
    assert not BareHistory(template).reason([[0, 0]], None, Decoding())[0].well_formed
    (one,) = Without(Writer(), "cot").reason([[1]], None, Decoding())
    assert (one.cot, one.answer, one.well_formed) == ("", "answer [1]", True)
    (one,) = Without(Writer(), "cot", "answer").reason([[1]], None, Decoding())
    assert (one.cot, one.answer, one.well_formed) == ("", "", True)


def test_a_control_that_lacks_a_seed_is_no_pair():
    rows = [("RPORec", seed, user) for seed in range(3) for user in range(4)]
    rows += [("no CoT", seed, user) for seed in range(2) for user in range(4)]
    table = pd.DataFrame(
        [(control, user, user, 1 + (seed == 2) * 50) for control, seed, user in rows],
        columns=["control", "user_id", "item_id", "rank"],
    )
    with pytest.raises(ConfigError, match="`no CoT` has 8 ranks and `RPORec` 12"):
        contrasts_of(table)
    both = contrasts_of(table[table["rank"] == 1])
    assert both[1].differences["ndcg@10"].value == 0
