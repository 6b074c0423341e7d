"""Runs that older versions left load and rank as they did: `tests/fixtures` keeps one, both stages, ranked with its reasoning."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

import rporec_recbole
from rporec_recbole.runs.folder import read_results

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("split", ["valid", "test"])
def test_a_run_of_version_0_1_0_ranks_the_same(split: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)  # its data_path is relative
    folder = shutil.copytree("tests/fixtures/run-0.1.0", tmp_path / "run")  # opening a store writes to it
    metrics, ranks = read_results(folder)
    run = rporec_recbole.load_run(folder)
    assert run.model.reads_reasoning
    found, again = run.evaluate(split)
    assert run.model.reasoner.written == 0  # every text is found in the store
    run.model.reasoner.store.close()
    assert found == pytest.approx(metrics[split], abs=1e-12)
    pd.testing.assert_frame_equal(ranks[ranks["split"] == split].reset_index(drop=True), again.reset_index(drop=True))
