"""RecBole's kinds of model through the entry: each runs, with ranks, and comes back the same, or is refused in one sentence."""

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from rporec_recbole import load_run
from rporec_recbole.cli import main
from rporec_recbole.data.ids import check_ids
from rporec_recbole.errors import DatasetError
from rporec_recbole.host.bridge import build_config, build_model, build_trainer
from rporec_recbole.host.data import build_data
from rporec_recbole.runs.folder import read_results
from rporec_recbole.settings.known import model_names

ROOT = Path(__file__).parents[2]
LABELS = ["--threshold={rating: 3}"]
NUMBERS = ["--selected_features=[price,genre]", "--numerical_features=[price]"]
PRICES = ["--load_col={inter: [user_id,item_id,rating,timestamp], item: [item_id,genre,price]}"]
BUCKETS = "--discretization={price: {method: ED, bucket: 3}}"
CLUSTERS = ["--num_clusters=5"]
LABELED = "--eval_args={split: {LS: valid_and_test}, order: TO, mode: labeled}"


def benchmark():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        spec = importlib.util.spec_from_file_location("models_of_recbole", ROOT / "benchmarks/recbole_models.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return benchmark().write_made(tmp_path_factory.mktemp("kinds"))


def settings(made, model, folder, *more):
    needs = [f"--{key}={value}" for key, value in benchmark().NEEDS.get(model, {}).items()]
    place = [f"--data_path={made}", f"--run_dir={folder}", "--epochs=1", "--show_progress=False"]
    return [f"--model={model}", "--dataset=made", *place, *(needs if not more else ()), *more]


def refused(capsys, arguments):
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


def test_ripplenet_has_nothing_to_start_from_for_users_behind_a_cut_in_time(made, tmp_path, capsys):
    by_time = "--eval_args={split: {TS: [0.6, 0.2, 0.2]}}"
    needs = [f"--{key}={value}" for key, value in benchmark().NEEDS.get("RippleNet", {}).items()]
    said = refused(capsys, settings(made, "RippleNet", tmp_path / "run", *needs, by_time))
    assert "users of validation and test chose nothing before the first cut" in said


@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("FM", []),
        ("CFKG", []),
        ("RippleNet", []),
        ("KSR", []),
        ("SASRecF", NUMBERS),
        ("S3Rec", ["--item_attribute=words", "--pretrain_epochs=1", "--MAX_ITEM_LIST_LENGTH=5"]),
        ("RaCT", []),
        ("NCL", CLUSTERS),
        ("GRU4RecCPR", []),
        ("DGCF", []),
    ],
)
def test_a_kind_runs_and_comes_back(made, tmp_path, model, more):
    assert main(settings(made, model, tmp_path / "run", *more)) == 0
    metrics, ranks = read_results(tmp_path / "run")
    again, table = load_run(tmp_path / "run").evaluate("test")
    assert again == metrics["test"]
    pd.testing.assert_frame_equal(table.reset_index(drop=True), ranks[ranks["split"] == "test"].reset_index(drop=True))
    assert len(table) == 40


def test_kinds_are_compared_and_recommend(made, tmp_path):
    for model in ("FM", "MKR", "BPR"):
        assert main(settings(made, model, tmp_path / model)) == 0
    assert main(["compare", *(str(tmp_path / one) for one in ("FM", "MKR", "BPR")), f"--output={tmp_path / 'c'}"]) == 0
    for model in ("FM", "MKR"):
        assert main(["recommend", str(tmp_path / model), "--top_k=3", f"--output={tmp_path / model}.csv"]) == 0
        assert len(pd.read_csv(f"{tmp_path / model}.csv")) == 40 * 3


@pytest.mark.parametrize(("model", "more"), [("FM", LABELS), ("BPR", [LABELED, *LABELS, "--metrics=[AUC]", "--valid_metric=AUC"])])  # fmt: skip
def test_labels_are_measured_where_they_are_asked_for(made, tmp_path, capsys, model, more):
    assert main(settings(made, model, tmp_path / "run", *more)) == 0
    assert "labels of single rows" in capsys.readouterr().out
    metrics, ranks = read_results(tmp_path / "run")
    assert 0 < metrics["test"]["auc"] < 1
    assert len(ranks) == 0
    assert load_run(tmp_path / "run").evaluate("test")[0] == metrics["test"]


def test_sampled_labels_have_no_ranks(made, tmp_path):
    sampled = LABELED.replace("labeled", "uni5")
    assert main(settings(made, "BPR", tmp_path / "run", sampled, "--metrics=[AUC]", "--valid_metric=AUC")) == 0
    assert 0 < read_results(tmp_path / "run")[0]["test"]["auc"] < 1


@pytest.mark.parametrize(
    ("model", "more", "message"),
    [
        ("FM", ["--metrics=[AUC]", "--valid_metric=AUC"], "made.inter has no column `label` that is loaded"),
        ("SASRec", [LABELED], "ranks no items, so metrics="),
        ("BPR", LABELS, "nothing reads labels with these settings"),
        ("SASRecF", ["--seed=1"], "`selected_features=['class']` names what is not there"),
        ("FDSA", ["--selected_features=[price]"], 'Add --numerical_features="[price]"'),
        ("S3Rec", ["--item_attribute=price"], "`item_attribute='price'` is a column of numbers"),
        ("S3Rec", ["--item_attribute=words", "--train_stage=finetune"], "run one after another in one run"),
        ("RaCT", ["--pre_model_path=x.pth"], "run one after another in one run"),
        ("RaCT", ["--metrics_k=100"], "`metrics_k=100` must be from 1 to 31"),
        ("NCL", ["--num_clusters=32"], "`num_clusters=32` must be from 1 to 31"),
        ("SASRecCPR", ["--reranker_CAN_NUM=100"], "`reranker_CAN_NUM=100` must be from 1 to 31"),
        ("KGAT", ["--seed=1"], "needs the package `dgl`"),
        ("XGBoost", ["--seed=1"], "ranks no items, so it is not run here"),
        ("BPR", ["--val_interval={genre: '[1,2]'}"], "is filtered by a list of names"),
        ("BPR", ["--val_interval={price: [1,2]}"], "is filtered by an interval"),
        ("BPR", ["--val_interval={words: [w1]}"], "cannot filter by `words:token_seq`"),
        ("FM", ["--numerical_features=[nope]"], "`numerical_features=['nope']`: no column `nope` is loaded"),
        ("FM", [*PRICES, "--numerical_features=[genre]"], "`genre:token` holds names"),
        ("BPR", ["--normalize_all=False", "--normalize_field=[nope]"], "no column `nope` is loaded"),
        ("FM", ["--discretization={rating: {method: ED, bucket: 3}}"], 'Add --numerical_features="[rating]"'),
        ("FM", [*PRICES, "--numerical_features=[price]", BUCKETS.replace("price", "rating")], '"[price,rating]"'),
        ("FM", [BUCKETS], "no column `price` is loaded"),
        (
            "FM",
            [*PRICES, "--numerical_features=[genre]", BUCKETS.replace("price", "genre")],
            "`genre:token` holds names",
        ),
        ("FM", [BUCKETS.replace("ED", "XX")], "such as {price: {method: ED, bucket: 5}}"),
        ("FM", [BUCKETS.replace("3", "0")], "such as {price: {method: ED, bucket: 5}}"),
        (
            "BPR",
            ["--numerical_features=[timestamp]", BUCKETS.replace("price", "timestamp")],
            "puts interactions in order",
        ),
        ("FM", ["--threshold={nope: 3}"], "`threshold={'nope': 3}`: no column `nope` is loaded"),
        ("FM", ["--threshold={item_id: 3}"], "`item_id:token` holds names"),
        ("FM", [*PRICES, "--threshold={price: 3}"], "`price` stands in another file than made.inter"),
        ("FM", ["--threshold={rating: 3, timestamp: 3}"], "a mapping of one column to a number"),
        ("FM", ["--threshold={rating: high}"], "a mapping of one column to a number"),
        ("FM", ["--threshold=3"], "a mapping of one column to a number"),
        (
            "CFKG",
            ["--entity_kg_num_interval=[1000,inf)"],
            "No triple of made.kg is left after filtering by entity_kg_num",
        ),
        ("KSR", ["--relation_kg_num_interval=[1000,inf)"], "relation_kg_num_interval='[1000,inf)'. Widen one"),
        ("SASRec", ["--alias_of_item_id=[nope]"], "Look at `alias_of_item_id=['nope']`"),
        ("BPR", ["--train_neg_sample_args=None"], "Look at `train_neg_sample_args="),
        ("BPR", ["--train_neg_sample_args={dist: uniform}"], "must be a mapping of distribution, sample_num"),
        ("FM", ["--discretization={price: {bucket: 3}}"], "such as {price: {method: ED, bucket: 5}}"),
        ("SASRec", ["--loss_type=XX"], "`loss_type='XX'` must be CE or BPR"),
        ("BPR", ["--save_dataset=True"], "`save_dataset=True` is a pickle"),
        ("BPR", ["--dataloaders_save_path=x.pth"], "`dataloaders_save_path='x.pth'` is a pickle"),
        ("BPR", ["--world_size=2"], "`world_size=2` comes from a launcher"),
        ("BPR", ["--checkpoint_dir=here"], "--run_dir=DIR"),
        ("BPR", ["--valid_metric_bigger=False"], "more is better"),
        ("BPR", ["--log_wandb=True"], "needs the package `wandb`"),
        ("RPORec", ["--ids_only=True", "--stages=[1a]", "--learner=sgd"], "has no effect on RPORec"),
    ],
)
def test_refused_in_one_sentence(made, tmp_path, capsys, monkeypatch, model, more, message):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *of: None if name == "wandb" else find(name, *of))
    assert message in refused(capsys, settings(made, model, tmp_path / "run", *more))
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_no_knowledge_no_features(toy, tmp_path, capsys):
    for model, message in (("CFKG", "toy.kg does not exist"), ("SASRecF", "--selected_features="), ("KSR", "toy.kg")):
        given = [f"--model={model}", "--dataset=toy", f"--data_path={toy}", f"--run_dir={tmp_path / model}"]
        assert message in refused(capsys, given)
        assert not (tmp_path / model).exists()


def test_all_stages_are_learned(made):
    """What evaluation sees of S3Rec has learned to recommend: its loss is that of the last stage, its weights have moved in both."""
    overrides = {"data_path": str(made), **benchmark().NEEDS["S3Rec"], "epochs": 1, "MAX_ITEM_LIST_LENGTH": 5}
    config = build_config("S3Rec", "made", overrides=overrides)
    _, train, valid, _ = build_data(config)
    model = build_model(config, train)
    trainer = build_trainer(config, model)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    trainer.fit(train, valid, saved=False)
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert isinstance(model.loss_fct, torch.nn.CrossEntropyLoss)
    assert {"mip_norm.weight", "item_embedding.weight"} <= moved  # the first is of the first stage alone
    assert list(trainer.train_loss_dict) == [0]


def test_a_filter_of_names_keeps_these(made):
    values = {"val_interval": {"age": [0, "a1", 7]}, "filter_inter_by_user_or_item": True, "epochs": 1}
    load = {"inter": ["user_id", "item_id", "timestamp"], "user": ["user_id", "age"]}
    dataset, *_ = build_data(
        build_config("BPR", "made", overrides={"data_path": str(made), "load_col": load, **values})
    )
    assert set(dataset.field2id_token["age"]) == {"[PAD]", "a1"}
    assert dataset.user_num - 1 == 10


def test_columns_left_out_by_name(made):
    config = build_config("BPR", "made", overrides={"data_path": str(made), "unload_col": {"inter": ["rating"]}})
    dataset, *_ = build_data(config)
    assert "rating" not in dataset.inter_feat
    assert {"price", "age"} <= set(dataset.field2type)


def test_no_gpu_is_the_cpu():
    assert build_config("BPR", "ml-100k", overrides={"use_gpu": False})["gpu_id"] == ""


def test_float_sequences_are_discretised_row_by_row(made, tmp_path):
    folder = tmp_path / "made"
    folder.mkdir()
    for kind in ("inter", "item"):
        (folder / f"made.{kind}").write_bytes((made / "made" / f"made.{kind}").read_bytes())
    lines = (folder / "made.item").read_text().splitlines()
    rows = [f"{line}\t{index} {2 * index}" for index, line in enumerate(lines[1:])]
    (folder / "made.item").write_text("\n".join([lines[0] + "\tpair:float_seq", *rows]) + "\n")
    given = {"data_path": str(tmp_path), "selected_features": ["pair"], "numerical_features": ["pair"]}
    dataset, *_ = build_data(build_config("FDSA", "made", overrides=given))
    pairs = dataset.item_feat["pair"][1:, :, 0].numpy()
    assert (pairs[:, 1] == 2 * pairs[:, 0]).all()
    assert sorted(pairs[:, 0]) == list(np.arange(30.0))


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["I1", "I2"], r"2 of the 2 `item_id`s of x.inter stand in x.item in another case: 'i1' and 'I1'"),
        (["i1", "I2"], "1 of the 2"),
        (["i1 ", "i2"], "with other blanks"),
        (["film1", "film2"], "None of the 2 `item_id`s of x.inter stands in x.item: 'i1', 'i2' match nothing"),
        (["i1", "film2"], None),
        (["i1", "i2", "I2"], None),
        (["I1", "i2", "i3"], None),  # one of three may be another item
    ],
)
def test_ids_that_match_nothing(tmp_path, ids, message):
    inter, item = tmp_path / "x.inter", tmp_path / "x.item"
    used = ["i1", "i2", "i3"] if "i3" in ids else ["i1", "i2"]
    inter.write_text("\n".join(["user_id:token\titem_id:token", *(f"u\t{one}" for one in used)]) + "\n")
    item.write_text("\n".join(["item_id:token\ttitle:token_seq", *(f"{one}\tx" for one in ids)]) + "\n")
    if message is None:
        check_ids([inter], item, "item_id")
    else:
        with pytest.raises(DatasetError, match=message):
            check_ids([inter], item, "item_id")


def test_every_model_stands_in_the_page():
    page = (ROOT / "docs/recbole_models.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\|(\w+)\|", page.split("## ml-100k")[0], re.MULTILINE)) - {"model"}
    assert listed == set(model_names())
