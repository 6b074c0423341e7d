"""The memory of an evaluation is a budget of scores, not rows times the catalogue; ranks and metrics stay what they were."""

import pandas as pd
import pytest
import torch

from rporec_recbole.data import score_budget
from rporec_recbole.evaluation.answers import AnswerMeasure
from rporec_recbole.host.bridge import build_model, build_trainer
from rporec_recbole.host.data import build_data
from rporec_recbole.host.ranked import RankCollector, evaluated
from rporec_recbole.text.completions import Completion, Guess
from tests.toy import toy_config

SAMPLED = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "uni5"}
# DIN scores pairs alone: RecBole writes each row out once for every item.
MODELS = ["SASRec", "GRU4Rec", "BPR", "FM", "DIN", "RPORec"]


def ranked(toy, model, monkeypatch, **settings):
    """Metrics and ranks of an untrained model, and the most scores that a batch of its evaluation had."""
    columns = {} if model == "RPORec" else {"load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]}}
    full = {**SAMPLED, "mode": "full"}
    own = {"eval_args": full, "metrics": ["NDCG", "Recall", "GAUC"], "topk": [10], "valid_metric": "NDCG@10"}
    config = toy_config(
        toy,
        model,
        **{**columns, **own, "stages": ["1a"], **settings} if model == "RPORec" else {**columns, **own, **settings},
    )
    dataset, train, _, test = build_data(config)
    trainer = build_trainer(config, build_model(config, train))
    trainer.eval_collector = collector = RankCollector(config, dataset)
    collector.data_collect(train)
    sizes, collect = [], collector.eval_batch_collect

    def look(scores, *rest):
        sizes.append(scores.numel())
        collect(scores, *rest)

    monkeypatch.setattr(collector, "eval_batch_collect", look)
    metrics, table = evaluated(trainer, test, "test", best=False)
    return metrics, table, max(sizes)


@pytest.mark.parametrize("mode", ["full", "uni5"])
@pytest.mark.parametrize("model", MODELS)
def test_a_small_budget_changes_no_rank(toy, model, mode, monkeypatch):
    settings = {"eval_args": {**SAMPLED, "mode": mode}}
    metrics, table, _ = ranked(toy, model, monkeypatch, **settings)
    monkeypatch.setattr(score_budget, "SCORES_AT_ONCE", 80)  # three rows of 26 items
    again, same, most = ranked(toy, model, monkeypatch, **settings)
    assert most <= 80
    assert again == pytest.approx(metrics, abs=1e-12)
    pd.testing.assert_frame_equal(same, table)


@pytest.mark.parametrize(("model", "rows"), [("SASRec", 16), ("DIN", 1)])
def test_rows_at_once(toy, model, rows, monkeypatch):
    columns = {"load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]}}
    args = {"eval_args": {**SAMPLED, "mode": "full"}, **columns}
    assert build_data(toy_config(toy, model, **args))[3].step == 4096
    monkeypatch.setattr(score_budget, "SCORES_AT_ONCE", 26 * 16)
    assert build_data(toy_config(toy, model, **args))[3].step == rows


def test_answers_are_measured_within_it(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    lines, counts = [f"line {item}" for item in range(40)], torch.randint(0, 9, (40,), generator=generator)
    texts = [Completion("", "c", line, True, (Guess(line, 0.0),)) for line in lines]
    targets = torch.randint(1, 40, (40,), generator=generator)
    hidden = torch.arange(40), (targets % 39) + 1
    measure = AnswerMeasure(lines, counts)
    whole = measure(texts, targets, hidden)
    monkeypatch.setattr(score_budget, "SCORES_AT_ONCE", 100)
    assert measure(texts, targets, hidden) == whole
