"""A reward belongs to its completion: neither the others in the batch, nor their order, nor padding change it."""

from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rporec_recbole.backbone.load import make_backbone
from rporec_recbole.cot.compose import compose_completion
from rporec_recbole.cot.store import CoTStore
from rporec_recbole.data import ladder
from rporec_recbole.settings.reader import default_settings
from rporec_recbole.settings.types import REWARD_GATES
from rporec_recbole.training.stage1.rows import frozen_scorer, history_rows
from rporec_recbole.training.stage2 import head_reward as head_reward_file
from rporec_recbole.training.stage2.head_reward import head_reward
from tests.toy import toy_model

WEIGHTS = {
    **default_settings(reward="paper").rl.reward_weights,
    **dict.fromkeys(("conciseness", "compression", "semantic_consistency", "entropy_gap"), 0.1),
    "ndcg": 0.85,
    "probability": 0.05,
    "reciprocal_rank": 0.1,
    "length": 0.1,
}
PER_POSITION = 3  # texts: two that differ and one that is malformed


def rewarder(toy, folder, width, hide_seen):
    """Every text of every position as (text, position, tokens), and the reward; histories are padded to a width."""
    overrides = {
        "reward_weights": WEIGHTS,
        "reward_gates": [gate for gate in REWARD_GATES if gate != "copying"],  # toy titles share most of their words
        "MAX_ITEM_LIST_LENGTH": width,
        "hide_seen": hide_seen,
    }
    _, model, train, _, _ = toy_model(toy, **overrides)
    torch.manual_seed(0)
    for weight in model.head.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    dataset = train.dataset
    ends = dataset.positions(ladder.RL)[:8]
    rows = dataset.histories(ends)
    histories = history_rows(model, rows)
    backbone = make_backbone(model.settings.backbone, list(model.catalogue.lines), torch.device("cpu"), 0)
    with torch.no_grad():
        for weight in backbone.model.parameters():
            weight.mul_(4)
    model.connect(backbone, CoTStore())
    model.eval()
    means: dict[str, float] = {}
    score = frozen_scorer(model, dataset, ends, hide_seen)
    with patch.object(
        head_reward_file, "Summarizer", lambda backbone: lambda cots: [cot[: 2 * len(cot) // 3] for cot in cots]
    ):
        reward = head_reward(model, rows, score, folder=folder, observe=means.update)
    cases = []
    for position, row in enumerate(histories):
        shown = model.reasoner.template.shown(*row)
        texts = [compose_completion(model.catalogue, shown[-keep:], 3 + (position + keep) % 20) for keep in (1, 3)]
        for text in [*texts, texts[0][:-1]]:
            cases.append((text, position, backbone.tokenizer(text, add_special_tokens=False)["input_ids"]))
    return SimpleNamespace(cases=cases, means=means, pay=lambda chosen: reward(*zip(*chosen, strict=True)))


@pytest.fixture(scope="module", params=[False, True], ids=["seen items ranked", "seen items hidden"])
def rewarded(request, toy, tmp_path_factory):
    one = rewarder(toy, tmp_path_factory.mktemp("rewards"), 20, request.param)
    one.alone = [one.pay([case])[0] for case in one.cases]
    one.hide_seen = request.param
    return one


@settings(max_examples=25, deadline=None)
@given(chosen=st.lists(st.integers(0, 8 * PER_POSITION - 1), min_size=1, max_size=40))
def test_neither_order_nor_company_matters(rewarded, chosen):
    paid = rewarded.pay([rewarded.cases[i] for i in chosen])
    assert paid == pytest.approx([rewarded.alone[i] for i in chosen], abs=1e-6)


def test_padding_does_not_matter(rewarded, toy, tmp_path):
    wider = rewarder(toy, tmp_path, 45, rewarded.hide_seen)  # no history is longer than 13
    assert wider.cases == rewarded.cases
    assert wider.pay(wider.cases) == pytest.approx(rewarded.alone, abs=1e-6)


def test_there_is_something_to_get_wrong(rewarded):
    """Rewards differ, and every part that is paid for has its say."""
    assert len(set(rewarded.alone)) > 8
    assert rewarded.alone[PER_POSITION - 1 :: PER_POSITION] == [0.0] * 8
    rewarded.pay(rewarded.cases)
    assert [name for name in WEIGHTS if not rewarded.means[name] > 0] == []
