"""Whole runs with the text head, the names in the paper's preset, and items that no training interaction names."""

import numpy as np
import pandas as pd
import pytest
import torch

from rporec_recbole.cli import main
from rporec_recbole.data import ladder
from rporec_recbole.errors import ConfigError
from rporec_recbole.host.bridge import build_config, build_trainer
from rporec_recbole.model.texthead import TextHead
from rporec_recbole.runs.finished import load_run
from rporec_recbole.runs.run import run
from rporec_recbole.settings.known import known_keys
from rporec_recbole.settings.properties import preset_file, properties_dir, read_yaml
from rporec_recbole.settings.reader import settings_from
from tests.toy import SHORT, TEXT, toy_config, toy_model


def test_all_stages_and_back(toy, tmp_path):
    settings = {**SHORT, **TEXT, "rechead": "text", "data_path": str(toy), "run_dir": str(tmp_path / "run")}
    done = run("RPORec", "toy", overrides=settings)
    ran = [stage for stage in done.metrics["stages"] if stage not in ("data", "evaluation")]
    assert ran == ["1a", "1b", "1c", "2", "2b", "refresh", "strength"]
    loaded = load_run(done.run_dir)
    assert isinstance(loaded.model.head, TextHead)
    assert loaded.model.head.history_text._encoder is loaded.model.encoder  # the one that was saved
    metrics, ranks = loaded.evaluate("test")
    assert metrics == pytest.approx(done.metrics["test"])
    before = pd.read_parquet(done.run_dir / "ranks.parquet").query("split == 'test'")
    np.testing.assert_array_equal(ranks["rank"], before["rank"])


@pytest.mark.parametrize("loss", ["catalogue", "negatives"])
def test_recboles_contract(toy, loss):
    config, model, train, valid, test = toy_model(toy, rechead="text", stages=["1a"], head_loss=loss)
    trainer = build_trainer(config, model)
    before = model.head.text_to_item.weight.clone()
    score, result = trainer.fit(train, valid, saved=False)
    assert not torch.equal(model.head.text_to_item.weight, before)
    assert score == result["ndcg@10"]
    batch = test.dataset.inter_feat
    scores = model.full_sort_predict(batch)
    assert scores.shape == (len(batch), model.n_items)
    assert torch.equal(model.predict(batch), scores.gather(1, batch["item_id"][:, None]).squeeze(1))
    assert 0 <= trainer.evaluate(test, load_best_model=False)["ndcg@10"] <= 1


def test_text_head_without_text(toy):
    with pytest.raises(ConfigError, match="drop one of them"):
        settings_from(toy_config(toy, rechead="text", ids_only=True))


def test_paper_preset():
    path = preset_file("paper")
    assert path == properties_dir() / "presets/paper.yaml"
    values = read_yaml(path)
    assert set(values) <= set(known_keys("RPORec", "ml-100k"))
    config = build_config("RPORec", "ml-100k", [path])
    settings = settings_from(config)
    assert (settings.head.rechead, settings.head.sampled_negatives, settings.rl.group_size) == ("text", 49, 4)
    assert all(config[key] == value for key, value in values.items() if key != "stages")


def test_unknown_preset(capsys):
    assert main(["--model=RPORec", "--dataset=toy", "--preset=papers"]) == 2
    assert "Did you mean `paper`" in capsys.readouterr().err


@pytest.mark.parametrize("rechead", ["fused", "text"])
def test_items_without_training_interactions_are_cold(toy, rechead):
    config, model, train, valid, test = toy_model(
        toy, rechead=rechead, stages=["1a"], item_inter_num_interval="[0,inf)"
    )
    dataset = train.dataset
    never = dataset.token2id("item_id", "never")
    timeline, ends = dataset.timeline["item_id"], dataset.train_ends
    trained = set(timeline[ends].tolist()) | set(timeline[ends - 1].tolist())
    assert never not in trained
    assert set(model.head.learned.nonzero().flatten().tolist()) == trained
    before = {name: weight.clone() for name, weight in model.head.named_parameters()}
    build_trainer(config, model).fit(train, valid, saved=False)
    if rechead == "fused":
        assert torch.equal(model.head.item_id.weight[never], before["item_id.weight"][never])
        text = model.head.text_to_item(model.head.item_text[never])
        torch.testing.assert_close(model.head.item_vectors()[never], text)
    assert torch.isfinite(model.full_sort_predict(test.dataset.inter_feat)[:, never]).all()
    model.learn_from(ladder.EARLY)
    early = dataset.positions(ladder.EARLY)
    assert set(model.head.learned.nonzero().flatten().tolist()) == set(timeline[early].tolist()) | set(
        timeline[early - 1].tolist()
    )
    model.restart_head()
    assert model.head.learned.sum() < len(trained) + 1


@pytest.mark.parametrize(
    "alone",
    [
        {"text_base": "answer"},
        {"text_base": "answer", "item_vectors": "raw"},
        {"gate_limit": 0.1, "gate_layers": 3},
        {"reasoning_map": "none"},
        {"mixing": "postnorm"},
        {"mixing_reads": "last"},
        {"malformed_texts": "read", "cot_dropout": 0.5},
        {"history_text": "prompt", "item_text_style": "named"},
        {"fusion_learns": "head"},
        {"head_loss": "negatives", "kept_negatives": True, "lr_schedule": "linear"},
        {"fusion_loss": "negatives", "fusion_schedule": "linear", "fusion_keeps": "last"},
        {"evaluation_texts": "drawn", "cot_top_p": 0.9, "tag_reading": "lenient", "prompt_ratings": False},
    ],
    ids=lambda alone: ", ".join(alone),
)
@pytest.mark.filterwarnings("ignore:.*nested tensor")
def test_each_form_can_be_had_apart(toy, alone):
    """A short training with one choice of the paper's release, everything else being ours: it learns and ranks."""
    fused = alone.keys() & {"head_loss", "fusion_loss", "evaluation_texts"}
    overrides = {"rechead": "fused" if fused else "text", "text_size": 16, "stages": ["1a", "1c"], **alone}
    config, model, train, valid, test = toy_model(toy, **overrides)
    trainer = build_trainer(config, model)
    before = {name: weight.clone() for name, weight in model.head.named_parameters()}
    trainer.fit(train, valid, saved=False)
    changed = {name for name, weight in model.head.named_parameters() if not torch.equal(weight, before[name])}
    assert changed
    assert 0 <= trainer.evaluate(test, load_best_model=False)["ndcg@10"] <= 1
