"""`--preset=paper` from the command line to the end, on a small data set with a small backbone and a small encoder, all of them local."""

import json

import pandas as pd
import pytest

from rporec_recbole.cli import main
from rporec_recbole.model.texthead import TextHead
from rporec_recbole.runs.finished import load_run
from rporec_recbole.settings.properties import preset_file, read_yaml
from tests.backbones import folder_of, qwen, static_encoder, word_tokenizer
from tests.toy import TEXT

WIDTH = 32
SMALL = {
    **TEXT, "hidden_size": WIDTH, "inner_size": 48, "max_prompt_tokens": 256, "max_new_tokens": 8, "rl_max_new_tokens": 10, "fusion_epochs": 2,
    "rl_epochs": 1, "rl_prompts": 16, "fusion_positions": 2, "show_progress": False,
}  # fmt: skip
"""What a small run changes of the preset: sizes and lengths, no form."""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A backbone of two layers and an encoder of static embeddings, as folders."""
    pytest.importorskip("sentence_transformers")
    folder = tmp_path_factory.mktemp("models")
    backbone = folder_of(qwen(500), folder / "backbone", word_tokenizer())
    return {"backbone": str(backbone), "text_encoder": str(static_encoder(folder / "encoder", word_tokenizer(), WIDTH))}


@pytest.fixture(scope="module")
def finished(toy, models, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "run"
    given = {**SMALL, **models, "data_path": toy, "run_dir": run_dir}
    assert main(["--model=RPORec", "--dataset=toy", "--preset=paper", *(f"--{k}={v}" for k, v in given.items())]) == 0
    return run_dir


def test_it_runs_to_the_end_with_the_settings_of_the_preset(finished):
    metrics = json.loads((finished / "metrics.json").read_text())
    assert list(metrics["stages"]) == ["data", "1c", "2", "strength", "evaluation"]
    written, preset = read_yaml(finished / "config.yaml"), read_yaml(preset_file("paper"))
    kept = preset.keys() - SMALL.keys() - {"backbone", "text_encoder"}
    assert {key: written[key] for key in kept} == {key: preset[key] for key in kept}
    assert len(kept) > 50
    # One pass over the positions, sixteen prompts a step.
    assert metrics["stages"]["2"]["steps"] == metrics["stages"]["2"]["prompts"] // 16 > 1
    assert 0 <= metrics["test"]["ndcg@10"] <= 1


def test_it_comes_back_as_it_was(finished):
    loaded = load_run(finished)
    head = loaded.model.head
    assert isinstance(head, TextHead)
    assert head.towers is not None
    assert head.text_to_item is None
    _, ranks = loaded.evaluate("test")
    before = pd.read_parquet(finished / "ranks.parquet").query("split == 'test'")
    assert ranks["rank"].tolist() == before["rank"].tolist()


def test_the_copies_of_the_encoder_have_learned_and_the_items_have_not(finished, models):
    loaded = load_run(finished)
    head, encoder = loaded.model.head, loaded.model.encoder
    before = encoder.trainable().state_dict()
    for copy in (head.towers.history_encoder, head.towers.cot_encoder):
        assert any((weight != before[name]).any() for name, weight in copy.state_dict().items())
    own = encoder.encode(loaded.model.catalogue.lines[1:])
    assert (head.item_vectors()[1:].numpy() == own).all()
    assert (abs((own**2).sum(axis=1) - 1) > 1e-3).any()  # of their own length


def test_bad_choices_are_one_message(toy, models, tmp_path, capsys):
    given = {
        "rechead": "fused", "text_encoder": "lsa", "rl_loss": "ppo", "rl_entropy_quantile": 0, "gate_limit": 2, "tag_reading": "loose",
    }  # fmt: skip
    arguments = {**SMALL, **models, **given, "data_path": toy, "run_dir": tmp_path / "run"}
    assert (
        main(["--model=RPORec", "--dataset=toy", "--preset=paper", *(f"--{k}={v}" for k, v in arguments.items())]) == 2
    )
    said = capsys.readouterr().err
    for one in ("`rl_loss=ppo`", "`rl_entropy_quantile", "`gate_limit", "`tag_reading"):
        assert one.replace("=ppo`", "='ppo'`") in said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"rechead": "fused"},
            ["`text_base=answer` is for `rechead=text` (here fused)", "`fusion_learns=head` is for"],
        ),
        (
            {"text_encoder": "lsa"},
            ["`head_encoder=trained` needs a sentence encoder", "`text_vector_length=own` needs"],
        ),
        ({"hidden_size": 64}, ["`hidden_size=64` must be 32, the size of the text encoder's vectors"]),
        ({"rl_max_new_tokens": 1000}, ["`max_new_tokens=1000` (or `rl_max_new_tokens`) make 1256 tokens"]),
        ({"cot_samples": 2}, ["`fusion_learns=head` reads each text anew at every step"]),
        ({"cot_temperature": 0}, ["`evaluation_texts=drawn` needs a `cot_temperature` above 0"]),
    ],
)
def test_what_does_not_go_together_is_refused_before_the_first_stage(toy, models, given, said, tmp_path, capsys):
    arguments = {**SMALL, **models, **given, "data_path": toy, "run_dir": tmp_path / "run"}
    assert (
        main(["--model=RPORec", "--dataset=toy", "--preset=paper", *(f"--{k}={v}" for k, v in arguments.items())]) == 2
    )
    message = capsys.readouterr().err
    for one in said:
        assert one in message
