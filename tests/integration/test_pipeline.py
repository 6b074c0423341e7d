"""Both stages end to end on the toy data set, and what the run folder promises."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from rporec_recbole.cot.store import CoTStore, Decoding
from rporec_recbole.evaluation.ranks import metric_values
from rporec_recbole.host.bridge import build_model, build_trainer
from rporec_recbole.host.data import build_data
from rporec_recbole.runs.finished import load_run
from rporec_recbole.runs.run import run
from rporec_recbole.training.stage2 import rounds
from tests import started
from tests.toy import SHORT, TEXT, toy_config, toy_model


@pytest.fixture(scope="module")
def finished(toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "first"
    return run("RPORec", "toy", overrides={**SHORT, **TEXT, "data_path": str(toy), "run_dir": str(folder)})


def test_run_folder_is_complete(finished):
    names = {path.name for path in finished.run_dir.iterdir()}
    assert names == {
        "config.yaml", "metrics.json", "ranks.parquet", "lists.parquet", "log.txt", "tensorboard", "curves.png",
        "backbone", "encoder", "head.safetensors", "rporec.json", "reasoning.sqlite", "positions.parquet",
    }  # fmt: skip
    assert list((finished.run_dir / "tensorboard").iterdir())
    assert not list(finished.run_dir.rglob("*.pth"))


def test_all_stages_ran(finished):
    metrics = json.loads((finished.run_dir / "metrics.json").read_text())
    assert list(metrics["stages"]) == ["data", "1a", "1b", "1c", "2", "2b", "refresh", "strength", "evaluation"]
    assert metrics["stages"]["2"]["steps"] == 2
    assert {"model", "dataset", "seed", "valid", "test", "versions"} <= set(metrics)


@pytest.mark.parametrize(
    ("own", "draws"), [({}, 3), ({"cot_retries": 1}, 1), ({"cot_temperature": 0.0}, 0), ({"cot_samples": 2}, 0)]
)
def test_what_a_malformed_text_is_drawn_by(toy, own, draws):
    _, model, _, _, _ = toy_model(toy, **{"cot_retries": 3, **own})
    for decoding, first in ((model.evaluation_decoding, 0), (model.fusion_decoding, 1)):
        found = []
        while decoding.instead is not None:
            decoding = decoding.instead
            found.append((decoding.temperature, decoding.seed, decoding.sample))
        assert found == [(0.7, model.seed, number) for number in range(first, first + draws)]


def test_with_strength_0_nothing_is_written_for_the_test_split(toy, tmp_path):
    written = {}
    for strength in (0, 1):
        own = {"stages": ["1a", "1b", "1c"], "fusion_strengths": [strength], "run_dir": str(tmp_path / str(strength))}
        done = run("RPORec", "toy", overrides={**SHORT, **TEXT, **own, "data_path": str(toy)})
        store = CoTStore(done.run_dir / "reasoning.sqlite")
        written[strength] = {(one.decoding, one.prompt) for one in store}
        store.close()
        loaded = load_run(done.run_dir)
        assert loaded.model.reads_reasoning is bool(strength)
        loaded.model.reasoner.store.close()
    assert written[0] < written[1]


def test_what_the_writer_knows_is_measured_wherever_it_writes(finished):
    metrics = finished.metrics
    splits = {"valid", "test"} if load_run(finished.run_dir).model.reads_reasoning else {"valid"}
    assert set(metrics["answers"]) == splits
    for found in [
        metrics["answers"]["valid"],
        *(metrics["stages"][stage]["answers"] for stage in ("1c", "2b", "refresh")),
    ]:
        assert {"hit@10", "ndcg@10", "pop hit@10", "pop ndcg@10", "named", "distinct"} == set(found)
        assert 0 <= found["hit@10"] <= 1
    assert "answers alone" in (finished.run_dir / "log.txt").read_text()


def test_reasoning_counts_as_much_as_positions_say_that_taught_nothing(finished):
    strength = finished.metrics["stages"]["strength"]
    tried = {(one["strength"], one["answers"]): one["score"] for one in strength["tried"]}
    each = [0, 0.25, 0.5, 0.75, 1]
    refreshed = "note" not in finished.metrics["stages"]["refresh"]  # then the fusion says nothing to the new trunk
    assert sorted(tried) == [(fusion, answers) for fusion in ([0] if refreshed else each) for answers in each]
    assert tried[strength["chosen"], strength["answers"]] == max(tried.values())
    assert strength["metric"] == "ndcg@10"
    positions = pd.read_parquet(finished.run_dir / "positions.parquet")
    assert 0 < strength["rows"] <= len(positions)
    head = load_run(finished.run_dir).model.head
    assert (float(head.strength), float(head.expert.strength)) == (strength["chosen"], strength["answers"])


def test_backbone_is_an_ordinary_folder(finished):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert AutoModelForCausalLM.from_pretrained(finished.run_dir / "backbone").config.model_type == "qwen3"
    tokenizer = AutoTokenizer.from_pretrained(finished.run_dir / "backbone")
    text = "<think>ab</think><answer>Ünï</answer>"
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def assert_metrics_follow_from_ranks(done):
    table = pd.read_parquet(done.run_dir / "ranks.parquet")
    for split in ("valid", "test"):
        ranks = table[table["split"] == split]["rank"]
        for metric in (f"{name}@{k}" for name in ("ndcg", "hit", "mrr") for k in (5, 10, 20)):
            assert metric_values(ranks, metric).mean() == pytest.approx(done.metrics[split][metric], abs=1e-6)


def test_metrics_follow_from_ranks(finished):
    assert_metrics_follow_from_ranks(finished)


def test_load_run_in_a_new_process_gives_the_same_ranks(finished, tmp_path):
    code = "import sys, rporec_recbole as r; _, ranks = r.load_run(sys.argv[1]).evaluate('test'); ranks.to_parquet(sys.argv[2])"
    out = tmp_path / "again.parquet"
    assert (again := started.run(["-c", code, finished.run_dir, out])).returncode == 0, again.stderr
    before = pd.read_parquet(finished.run_dir / "ranks.parquet").query("split == 'test'").reset_index(drop=True)
    pd.testing.assert_frame_equal(before, pd.read_parquet(out))


def test_loaded_run_finds_its_texts_in_the_store(finished):
    loaded = load_run(finished.run_dir)

    def must_not_write(*arguments, **options):
        raise AssertionError("the store lacks a text that the run has written")

    loaded.model.backbone.generate = must_not_write
    metrics, _ = loaded.evaluate("test")
    assert metrics == finished.metrics["test"]


def test_same_seed_same_ranks_and_config_repeats_the_run(finished, tmp_path):
    again = run("RPORec", "toy", [str(finished.run_dir / "config.yaml")], {"run_dir": str(tmp_path / "again")})
    first, second = (pd.read_parquet(r.run_dir / "ranks.parquet") for r in (finished, again))
    pd.testing.assert_frame_equal(first, second)


def test_recboles_own_api_gives_the_same_metrics(finished, toy, tmp_path, monkeypatch):
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    from rporec_recbole.host.bridge import hidden_arguments

    monkeypatch.chdir(tmp_path)  # RecBole writes saved/ where it is started
    with hidden_arguments():
        config = Config(model="RPORec", dataset="toy", config_dict={**SHORT, **TEXT, "data_path": str(toy)})
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    train, valid, test = data_preparation(config, dataset)
    init_seed(config["seed"], config["reproducibility"])
    model = get_model("RPORec")(config, train.dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    trainer.fit(train, valid)
    assert dict(trainer.evaluate(test)) == finished.metrics["test"]


def test_scores_ignore_the_targets_in_the_batch(finished):
    loaded = load_run(finished.run_dir)
    batch = loaded.loaders["test"].dataset.inter_feat
    before = loaded.model.full_sort_predict(batch)
    rolled = batch["item_id"].roll(1)
    batch.update(type(batch)({"item_id": rolled, "rating": torch.zeros(len(batch))}))
    assert torch.equal(loaded.model.full_sort_predict(batch), before)
    alone = loaded.model.full_sort_predict(batch[2:3])
    torch.testing.assert_close(alone[0], before[2], atol=1e-5, rtol=1e-5)


def test_prompts_never_show_the_target(finished):
    loaded = load_run(finished.run_dir)
    model = loaded.model
    asked = []
    model.reasoner.complete = lambda prompts, decoding, desc="": asked.extend(prompts) or []
    for split in ("valid", "test"):
        rows = loaded.loaders[split].dataset.inter_feat
        asked.clear()
        model.completions(rows, Decoding())
        for prompt, target, history in zip(asked, rows["item_id"].tolist(), rows["item_id_list"].tolist(), strict=True):
            if target not in history:
                assert model.catalogue.lines[target] not in prompt.splitlines()


def test_cot_weight_zero_gives_exactly_the_recommendation_loss(toy, tmp_path):
    from rporec_recbole.backbone.load import make_backbone
    from rporec_recbole.cot.store import CoTStore

    for weight in (0.0, 1.0):
        _, model, train, *_ = toy_model(toy, cot_weight=weight, dropout=0.0, lora=True)
        backbone = make_backbone(model.settings.backbone, model.catalogue.lines, torch.device("cpu"), 0)
        model.connect(backbone, CoTStore())
        batch = backbone.collate(backbone.encode_examples(["Film\n"], ["<think>a</think><answer>b</answer>"]))
        windows = next(iter(train))
        rec, cot = model.calculate_loss(windows, batch)
        if weight == 0:
            assert rec + cot == model.calculate_loss(windows)
        else:
            (rec + cot).backward()
            assert model.head.item_id.weight.grad.abs().sum() > 0
            assert any(
                p.grad is not None and p.grad.abs().sum() > 0
                for n, p in backbone.model.named_parameters()
                if "lora_" in n
            )


@pytest.mark.parametrize("stages", [["1a"], ["1a", "1b", "1c"], ["1b", "1c", "2", "2b"]])
def test_stages_can_be_switched_off(toy, stages):
    config = toy_config(toy, stages=stages)
    _, train, valid, test = build_data(config)
    trainer = build_trainer(config, build_model(config, train))
    trainer.fit(train, valid, saved=False)
    assert list(trainer.stages) == [*stages, *(["strength"] if "1c" in stages else [])]
    assert 0 <= trainer.evaluate(test, load_best_model=False)["ndcg@10"] <= 1


def test_lora_adapter_through_all_stages_and_back(toy, tmp_path):
    done = run(
        "RPORec",
        "toy",
        overrides={**SHORT, **TEXT, "lora": True, "data_path": str(toy), "run_dir": str(tmp_path / "lora")},
    )
    assert (done.run_dir / "backbone").is_dir()
    metrics, _ = load_run(done.run_dir).evaluate("test")
    assert metrics == done.metrics["test"]


def test_hub_style_folder_as_backbone(finished, toy, tmp_path):
    done = run(
        "RPORec", "toy",
        overrides={**SHORT, **TEXT, "backbone": str(finished.run_dir / "backbone"), "prompt_style": "compact", "max_prompt_tokens": 384, "stages": ["1a", "1c"], "data_path": str(toy), "run_dir": str(tmp_path / "hub")},
    )  # fmt: skip
    assert done.metrics["stages"]["1c"]["texts"] > 0


def test_rl_changes_the_backbone_only(toy, monkeypatch):
    config = toy_config(toy, stages=["1a", "1b", "1c", "2"], fusion_strengths=[1])
    _, train, valid, _ = build_data(config)
    trainer = build_trainer(config, build_model(config, train))
    seen = {}

    def watched(*of_stage):
        seen["head"] = {k: v.clone() for k, v in trainer.model.state_dict().items()}
        return rounds.refine(*of_stage)

    monkeypatch.setattr("rporec_recbole.training.trainer.refine", watched)
    trainer.fit(train, valid, saved=False)
    assert all(torch.equal(v, seen["head"][k]) for k, v in trainer.model.state_dict().items())
    assert "2 reinforcement learning/reward" in trainer.recorder.curves


FEATURES = {
    "selected_features": ["genre"],
    "load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "genre"]},
}


@pytest.mark.parametrize("model", ["SASRec", "SASRecF", "Pop", "ItemKNN", "BPR"])
def test_baselines_are_restored_without_pickle(model, toy, tmp_path):
    done = run(
        model,
        "toy",
        overrides={
            "epochs": 1,
            "show_progress": False,
            "data_path": str(toy),
            "run_dir": str(tmp_path / model),
            **(FEATURES if model == "SASRecF" else {}),
        },
    )
    assert not list(done.run_dir.rglob("*.pth"))
    metrics, ranks = load_run(done.run_dir).evaluate("test")
    before = pd.read_parquet(done.run_dir / "ranks.parquet").query("split == 'test'")
    np.testing.assert_array_equal(ranks["rank"], before["rank"])
    assert metrics == done.metrics["test"]


def test_the_refresh_never_ends_below_what_was_there(finished):
    after = finished.metrics["valid_after_stage"]
    assert after["refresh"]["ndcg@10"] >= after["2b"]["ndcg@10"]


def test_a_refresh_that_is_worse_changes_nothing(toy, monkeypatch):
    config, model, train, valid, _ = toy_model(toy, stages=["1a", "1b", "1c", "refresh"], fusion_strengths=[1])
    trainer = build_trainer(config, model)
    before = {}

    def spoiled():
        before.update({name: tensor.clone() for name, tensor in model.state_dict().items()})
        before["reasoning"] = model.reasoning_on
        for tensor in model.head.parameters():
            torch.nn.init.zeros_(tensor)
        model.reasoning_on = False

    train_head = trainer.head_stages._train

    def train_worse(name, *more):
        if name == "1a trunk":
            return train_head(name, *more)
        monkeypatch.setattr(trainer, "validation_score", lambda _: -1.0)
        return {"epochs": 0}

    monkeypatch.setattr(trainer.head_stages, "_train", train_worse)
    monkeypatch.setattr(model, "restart_head", spoiled)
    trainer.fit(train, valid, saved=False)
    assert before.pop("reasoning") is model.reasoning_on is True
    assert "stays as it was" in trainer.stages["refresh"]["note"]
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in before.items())
