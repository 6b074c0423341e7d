"""A sentence-transformers folder, made here, as the text encoder of a whole run."""

import json
import sys

import numpy as np
import pytest

from rporec_recbole.backbone.tiny import train_tokenizer
from rporec_recbole.cli import main
from rporec_recbole.errors import ConfigError, RunFolderError
from rporec_recbole.model.sentences import SentenceEncoder
from rporec_recbole.runs.finished import load_run
from rporec_recbole.runs.run import run
from tests import backbones
from tests.toy import SHORT, TEXT


@pytest.fixture(scope="module")
def sentence_model(tmp_path_factory):
    tokenizer = train_tokenizer(["Film 3 of the Drama", "Comedy Crime 1984", "evidence preference intent"], 300)
    return str(backbones.sentence_model(tmp_path_factory.mktemp("encoder"), tokenizer))


def test_vectors_have_length_one_and_do_not_depend_on_company(sentence_model):
    encoder = SentenceEncoder(sentence_model, "cpu")
    texts = ["Film 3", "a much longer text about a film of the Drama and Comedy kind", "", "Film 3"]
    together = encoder.encode(texts)
    assert encoder.size == 24
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), [1, 1, 0, 1], atol=1e-5)  # "" is blank
    assert np.array_equal(together[0], together[3])
    for text, vector in zip(texts, together, strict=True):
        np.testing.assert_allclose(SentenceEncoder(sentence_model, "cpu").encode([text])[0], vector, atol=1e-5)
    assert encoder.encode([]).shape == (0, 24)


@pytest.mark.parametrize("answers", [True, False])
def test_a_hub_that_does_not_answer_is_not_asked_for_each_file(monkeypatch, answers):
    import huggingface_hub
    import sentence_transformers

    class Session:
        def head(self, *_, **__):
            if not answers:
                raise ConnectionError("Name or service not known")

    asked = []

    def load(source, **options):
        asked.append(options["local_files_only"])
        raise OSError("no such model.")

    monkeypatch.setattr(huggingface_hub, "get_session", Session)
    monkeypatch.setattr(sentence_transformers, "SentenceTransformer", load)
    with pytest.raises(ConfigError, match=r"`text_encoder=some/encoder` cannot be loaded: no such model\. Give `lsa`"):
        SentenceEncoder("some/encoder", "cpu")
    assert asked == [not answers]


def test_a_run_with_it_comes_back_with_the_same_ranks(sentence_model, toy, tmp_path):
    settings = {
        **SHORT,
        **TEXT,
        "text_encoder": sentence_model,
        "data_path": str(toy),
        "run_dir": str(tmp_path / "run"),
    }
    done = run("RPORec", "toy", overrides={**settings, "stages": ["1a", "1b", "1c"]})
    loaded = load_run(done.run_dir)
    assert loaded.model.head.item_text.shape[1] == 24
    metrics, _ = loaded.evaluate("test")
    assert metrics == pytest.approx(done.metrics["test"])
    path = done.run_dir / "encoder" / "encoder.json"
    kept = json.loads(path.read_text())
    path.write_text(json.dumps({**kept, "probe": [-value for value in kept["probe"]]}))
    with pytest.raises(RunFolderError, match="makes other vectors"):
        load_run(done.run_dir)
    path.write_text("{")
    with pytest.raises(RunFolderError, match="cannot be read"):
        load_run(done.run_dir)


def test_an_encoder_that_does_not_exist(toy, capsys, tmp_path):
    arguments = ["--model=RPORec", "--dataset=toy", f"--data_path={toy}", "--item_text_fields=[title]"]
    assert main([*arguments, f"--text_encoder={tmp_path / 'nothing'}", f"--run_dir={tmp_path / 'run'}"]) == 2
    assert "text_encoder=" in capsys.readouterr().err


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ConfigError, match=r"rporec_recbole\[encoders\]"):
        SentenceEncoder("any", "cpu")
