"""Our data set against RecBole's: the same evaluation rows, every training position once, nothing else."""

import numpy as np
import pandas as pd
import torch

from rporec_recbole.data.dataset import RUNGS, TARGETS
from rporec_recbole.evaluation.ranking import hit_at, target_rank
from rporec_recbole.host.data import build_data
from rporec_recbole.text.completions import Completion
from rporec_recbole.training.stage1.answers import answer_measure
from tests.toy import toy_config, toy_model, write_toy


def test_evaluation_rows_are_recboles(toy):
    ours = build_data(toy_config(toy, MAX_ITEM_LIST_LENGTH=6))
    theirs = build_data(toy_config(toy, "SASRec", MAX_ITEM_LIST_LENGTH=6))
    for a, b in zip(ours[2:], theirs[2:], strict=True):
        for field in ("user_id", "item_id", "item_id_list", "item_length", "timestamp_list"):
            left, right = a.dataset.inter_feat[field], b.dataset.inter_feat[field]
            if field == "timestamp_list":  # RecBole rescales time for its own models
                continue
            assert torch.equal(left, right), field


def test_windows_hold_every_training_position_once(toy):
    _, ours, *_ = build_data(toy_config(toy, MAX_ITEM_LIST_LENGTH=4))
    _, theirs, *_ = build_data(toy_config(toy, "SASRec", MAX_ITEM_LIST_LENGTH=4))
    windows, prefixes = ours.dataset.inter_feat, theirs.dataset.inter_feat
    pairs = []
    for user, inputs, targets in zip(windows["user_id"], windows["item_id_list"], windows[TARGETS], strict=True):
        for step in (targets > 0).nonzero().flatten().tolist():
            pairs.append((user.item(), inputs[step].item(), targets[step].item()))
    newest = prefixes["item_id_list"].gather(1, prefixes["item_length"][:, None] - 1).flatten()
    expected = list(zip(prefixes["user_id"].tolist(), newest.tolist(), prefixes["item_id"].tolist(), strict=True))
    assert sorted(pairs) == sorted(expected)
    assert ours.dataset.n_prefix_rows == len(prefixes)
    assert ours.dataset.item_counter == theirs.dataset.item_counter


def test_popularity_counts_first_interactions_too(toy):
    whole, train, *_ = build_data(toy_config(toy))
    model = toy_model(toy)[1]
    counts = train.dataset.interaction_counts()
    assert counts.tolist() == whole.training_counts["item_id"].tolist()
    assert counts.sum() == len(train.dataset.train_ends) + whole.user_num - 1
    scores, every = counts.float(), torch.arange(1, whole.item_num)
    scores[0] = -torch.inf
    expected = hit_at(target_rank(scores.repeat(len(every), 1), every), 10).mean().item()
    found = answer_measure(model, train.dataset)([Completion("")] * len(every), every)
    assert found["pop hit@10"] == expected


def test_rungs_follow_time_and_histories_end_before_the_target(toy):
    _, train, *_ = build_data(toy_config(toy))
    dataset = train.dataset
    users = dataset.timeline["user_id"].numpy()
    by_rung = [dataset.positions(rung) for rung in (1, 2, 3)]
    assert sorted(np.concatenate(by_rung)) == dataset.train_ends.tolist()
    for user in np.unique(users):
        early, later = by_rung[0][users[by_rung[0]] == user], np.concatenate(by_rung[1:])
        later = later[users[later] == user]
        assert not len(later) or early.max() < later.min()
    assert set(dataset.inter_feat[RUNGS].unique().tolist()) == {0, 1, 2, 3}
    rows = dataset.histories(by_rung[1])
    for end, history, length in zip(by_rung[1], rows["item_id_list"], rows["item_length"], strict=True):
        assert history[:length].tolist() == dataset.timeline["item_id"][end - length : end].tolist()


def test_without_the_ladder_every_position_teaches_everything(toy):
    _, train, *_ = build_data(toy_config(toy, ladder=False))
    dataset = train.dataset
    for rung in (1, 2, 3):
        assert dataset.positions(rung).tolist() == dataset.train_ends.tolist()
    assert set(dataset.inter_feat[RUNGS].unique().tolist()) == {0, 1}
    newest = dataset.positions(2, per_user=1)
    users = dataset.timeline["user_id"].numpy()
    assert all(end == dataset.train_ends[users[dataset.train_ends] == users[end]].max() for end in newest)


def test_repeats_are_those_of_the_training_part(tmp_path):
    write_toy(tmp_path)
    rows = tmp_path / "toy" / "toy.inter"
    plain = pd.read_csv(rows, sep="\t")
    seen = plain.duplicated(["user_id:token", "item_id:token"])
    _, train, *_ = build_data(toy_config(tmp_path))
    assert train.dataset.has_repeats() == bool(seen[seen].size)
    unique = plain[~seen]
    unique.to_csv(rows, sep="\t", index=False)
    _, train, *_ = build_data(toy_config(tmp_path))
    assert not train.dataset.has_repeats()
    first = unique.sort_values(["user_id:token", "timestamp:float"]).groupby("user_id:token").head(1)
    for place, expected in ((0, True), (-1, False)):  # the first item again, early on; and as the test target
        again = first.copy()
        again["timestamp:float"] += 0.5 if place == 0 else 1e9
        pd.concat([unique, again]).to_csv(rows, sep="\t", index=False)
        _, train, *_ = build_data(toy_config(tmp_path))
        assert train.dataset.has_repeats() == expected
