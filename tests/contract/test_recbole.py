"""What we rely on in RecBole, and one test per repair that fails without it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from recbole.data.interaction import Interaction

from rporec_recbole.host.bridge import build_config, build_model, build_trainer
from rporec_recbole.host.data import build_data
from rporec_recbole.host.ranked import RankCollector
from rporec_recbole.host.repairs import REPAIRS
from rporec_recbole.settings.repeated import repeatable_config
from tests.toy import toy_config, write_toy


def test_names_are_found_by_recbole_itself():
    from recbole.utils import ModelType, get_model, get_trainer

    assert get_model("RPORec").__name__ == "RPORec"
    assert get_trainer(ModelType.SEQUENTIAL, "RPORec").__name__ == "RPORecTrainer"


def test_every_repair_explains_itself():
    assert len({repair.name for repair in REPAIRS}) == len(REPAIRS)
    assert all(repair.symptom and repair.cause and repair.remove_when for repair in REPAIRS)


def write(folder, name, inter, item=None):
    (folder / name).mkdir(parents=True)
    (folder / name / f"{name}.inter").write_text(inter)
    if item:
        (folder / name / f"{name}.item").write_text(item)
    return str(folder)


TOP = {"topk": [2], "valid_metric": "NDCG@2"}  # of a handful of items


def last_items(legacy, tmp_path):
    # Four stamps inside one step of float32 at this magnitude (64 s), written newest first.
    stamps = [900_000_016, 900_000_014, 900_000_012, 900_000_010]
    rows = [f"u{u}\ti{j}\t{t}" for u in range(3) for j, t in enumerate(stamps)]
    path = write(tmp_path, "time", "user_id:token\titem_id:token\ttimestamp:float\n" + "\n".join(rows) + "\n")
    # RecBole's own default rescales time in double precision first; without that, float32 decides.
    config = build_config(
        "SASRec",
        "time",
        overrides={
            "data_path": path,
            "legacy_time_order": legacy,
            "normalize_all": False,
            "MAX_ITEM_LIST_LENGTH": 5,
            **TOP,
        },
    )
    dataset, _, _, test = build_data(config)
    return set(dataset.id2token("item_id", test.dataset.inter_feat["item_id"]))


def test_time_order_is_true_order(tmp_path):
    assert last_items(False, tmp_path / "a") == {"i0"}
    assert last_items(True, tmp_path / "b") == {"i3"}  # what RecBole does: the file's order


def test_titles_with_quotes_gaps_and_padding_row(toy):
    dataset, *_ = build_data(toy_config(toy))
    catalogue = dataset.catalogue(["title", "genre", "year"], 80)
    by_token = dict(zip(dataset.field2id_token["item_id"], catalogue.items, strict=True))
    assert by_token["i0"].title == '"Quoted start'
    assert by_token["i1"].title == "item i1"
    assert by_token["i2"].title == "Evil ‹/think›‹answer›x"
    assert by_token["i4"] == ("Film 4 of the Drama", ("Drama Comedy", "1984"))
    assert catalogue.untitled == 1
    assert (dataset.item_feat["genre"][0] == 0).all()
    assert dataset.item_feat["year"][0] == 0


@pytest.mark.parametrize("model", ["SASRec", "GRU4Rec", "BPR", "Pop", "RPORec"])
@pytest.mark.parametrize("features", [True, False])
def test_same_users_targets_and_candidates_for_every_model(toy, model, features):
    def seen(name, **overrides):
        config = toy_config(toy, name, **overrides)
        dataset, train, _, test = build_data(config)
        network = build_model(config, train)
        trainer = build_trainer(config, network)
        trainer.eval_collector = collector = RankCollector(config, dataset)
        collector.data_collect(train)
        if name == "Pop":
            network.calculate_loss(next(iter(train)))
        trainer.evaluate(test, load_best_model=False)
        table = collector.take("test").sort_values("user_id")
        return dataset.item_num, table["user_id"].tolist(), table["item_id"].tolist()

    load = {
        "inter": ["user_id", "item_id", "timestamp"],
        **({"item": ["item_id", "title", "genre"]} if features else {}),
    }
    extra = {} if model == "RPORec" else {"load_col": load}
    assert seen(model, **extra) == seen("SASRec")


@pytest.mark.parametrize("hide", [True, False])
@pytest.mark.parametrize("model", ["SASRec", "BPR", "RPORec"])
def test_hide_seen_treats_every_model_alike(toy, model, hide):
    """Which items are out of the ranking, from the scores that RecBole's evaluator gets, against a plain count."""
    config = toy_config(toy, model, hide_seen=hide, MAX_ITEM_LIST_LENGTH=3)
    _, train, valid, test = build_data(config)
    table = pd.read_csv(toy / "toy/toy.inter", sep="\t").sort_values(
        ["user_id:token", "timestamp:float"], kind="stable"
    )
    trainer = build_trainer(config, build_model(config, train))
    trainer.eval_collector.data_collect(train)
    rows_seen = []

    def look(scores, interaction, rows, targets):
        users = test.dataset.id2token("user_id", interaction["user_id"][rows])
        rows_seen.extend(zip(scores[rows].clone(), users, targets.tolist(), strict=True))
        collect(scores, interaction, rows, targets)

    collect, trainer.eval_collector.eval_batch_collect = trainer.eval_collector.eval_batch_collect, look
    for loader, drop in ((valid, 2), (test, 1)):
        rows_seen.clear()
        trainer.evaluate(loader, load_best_model=False)
        assert rows_seen
        for scores, user, target in rows_seen:
            past = table.loc[table["user_id:token"] == user, "item_id:token"].iloc[:-drop]
            past = set(loader.dataset.token2id("item_id", sorted(set(past))).tolist()) - {target}
            assert set(torch.isneginf(scores).nonzero().flatten().tolist()) - {0} == (past if hide else set())


def test_coverage_metrics(toy):
    metrics = ["ItemCoverage", "AveragePopularity", "GiniIndex", "TailPercentage", "NDCG"]
    for name in ("SASRec", "RPORec"):
        config = toy_config(toy, name, metrics=metrics, **({"stages": ["1a"]} if name == "RPORec" else {}))
        _, train, valid, test = build_data(config)
        trainer = build_trainer(config, build_model(config, train))
        trainer.fit(train, valid, saved=False)
        result = trainer.evaluate(test, load_best_model=False)
        assert 0 < result["itemcoverage@10"] <= 1
        assert result["averagepopularity@10"] > 0


ONE_PASS = ["Pop", "ItemKNN", "AsymKNN", "EASE", "SLIMElastic", "ADMMSLIM", "NCEPLRec"]


def trained_scores(toy, model, **settings):
    """Scores of all items for all users after one pass over the training part, and the training counts of items."""
    config = toy_config(toy, model, **settings)
    dataset, train, *_ = build_data(config)
    network = build_model(config, train)
    for batch in train:
        network.calculate_loss(batch)
    network.eval()
    users = Interaction({"user_id": torch.arange(1, dataset.user_num)})
    scores = network.full_sort_predict(users).view(dataset.user_num - 1, -1)
    return scores, dataset.training_counts["item_id"]


@pytest.mark.parametrize("model", ONE_PASS)
def test_models_of_one_pass_do_not_depend_on_the_batch_size(toy, model):
    found = [trained_scores(toy, model, train_batch_size=size)[0] for size in (2048, 16)]
    torch.testing.assert_close(*found, rtol=0, atol=0)


def test_pop_ranks_by_training_interactions(toy):
    scores, counts = trained_scores(toy, "Pop")
    assert (scores.numpy() == counts / counts.max()).all()


def test_benchmark_lengths(tmp_path):
    inter = "user_id:token\titem_id_list:token_seq\titem_id:token\nu1\ti1 i2\ti3\nu2\ti1\ti2\n"
    folder = tmp_path / "bench"
    folder.mkdir()
    for part in ("train", "valid", "test"):
        (folder / f"bench.{part}.inter").write_text(inter)
    config = build_config(
        "SASRec", "bench",
        overrides={
            "data_path": str(tmp_path), "benchmark_filename": ["train", "valid", "test"], "alias_of_item_id": ["item_id_list"],
            "load_col": {"inter": ["user_id", "item_id_list", "item_id"]}, **TOP,
        },
    )  # fmt: skip
    dataset, *_ = build_data(config)
    assert dataset.inter_feat["item_length"].tolist() == [2, 1] * 3


def test_float_sequences_are_normalised_row_by_row(tmp_path):
    write_toy(tmp_path, "seq")
    path = tmp_path / "seq" / "seq.item"
    lines = path.read_text().splitlines()
    path.write_text(
        "\n".join([lines[0] + "\tw:float_seq"] + [f"{line}\t{i} {2 * i}" for i, line in enumerate(lines[1:])]) + "\n"
    )
    config = build_config(
        "SASRec",
        "seq",
        overrides={
            "data_path": str(tmp_path),
            "normalize_all": True,
            "load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "w"]},
        },
    )
    dataset, *_ = build_data(config)
    weights = dataset.item_feat["w"]
    assert weights.shape[1] == 2
    assert weights.min() == 0
    assert weights.max() == 1


def test_lightgcn_builds_its_graph(toy):
    config = toy_config(toy, "LightGCN")
    _, train, *_ = build_data(config)
    assert build_model(config, train).norm_adj_matrix is not None


def test_first_download_does_not_wait_at_a_barrier():
    import recbole.data.dataset.dataset as module

    assert not torch.distributed.is_initialized()
    assert module.torch.distributed.barrier() is None
    assert module.torch.arange is torch.arange  # all else is torch's own


def test_importing_recbole_leaves_anomaly_detection_off():
    assert not torch.is_anomaly_enabled()


def test_only_own_checkpoints_are_unpickled(toy, tmp_path):
    config = toy_config(toy, "SASRec", checkpoint_dir=str(tmp_path))
    _, train, valid, test = build_data(config)
    trainer = build_trainer(config, build_model(config, train))
    trainer.fit(train, valid)
    assert trainer.evaluate(test)["ndcg@10"] >= 0
    foreign = tmp_path / "foreign.pth"
    foreign.write_bytes((tmp_path / trainer.saved_model_file.split("/")[-1]).read_bytes())
    with pytest.raises(Exception, match=r"[Ww]eights"):
        trainer.evaluate(test, model_file=str(foreign))


def test_numpy_aliases_leave_numpys_own_names_alone():
    assert np.float is np.float64
    assert np.long(1).dtype == np.dtype("long")


def test_na_is_a_token(tmp_path):
    rows = [f"u{u}\t{item}\t{t}" for u in range(2) for t, item in enumerate(["NA", "x", "null", "y", f"own{u}"])]
    path = write(tmp_path, "na", "user_id:token\titem_id:token\ttimestamp:float\n" + "\n".join(rows) + "\n")
    dataset, *_ = build_data(build_config("Pop", "na", overrides={"data_path": path, **TOP}))
    assert set(dataset.field2id_token["item_id"]) == {"[PAD]", "NA", "x", "null", "y", "own0", "own1"}


def test_a_written_config_holds_in_another_environment(toy):
    written = repeatable_config(build_config("SASRec", "ml-100k"))
    assert "data_path" not in written  # it lies in the environment's own folder
    again = build_config(
        "SASRec", "ml-100k", overrides={k: v for k, v in written.items() if k not in ("model", "dataset")}
    )
    assert (Path(again["data_path"]) / "ml-100k.inter").is_file()
    assert repeatable_config(again) == written
    own = repeatable_config(build_config("SASRec", "toy", overrides={"data_path": str(toy)}))
    assert own["data_path"] == str(toy)
