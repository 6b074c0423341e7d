"""What stage 2 is paid for is what the evaluation ranks."""

import numpy as np
import pytest
import torch

from rporec_recbole.backbone.load import make_backbone
from rporec_recbole.cot.compose import compose_completion
from rporec_recbole.cot.store import CoTStore, completion_key
from rporec_recbole.data import ladder
from rporec_recbole.evaluation.ranks import metric_values
from rporec_recbole.host.bridge import build_model, build_trainer
from rporec_recbole.host.data import build_data
from rporec_recbole.host.ranked import RankCollector
from rporec_recbole.text.completions import Completion, parse_completion
from rporec_recbole.training.stage1.rows import frozen_scorer, history_rows
from rporec_recbole.training.stage2.head_reward import head_reward
from tests.toy import toy_config, toy_model


@pytest.mark.parametrize(("hide_seen", "reads_history"), [(False, False), (True, False), (False, True)])
def test_scores_of_the_frozen_head(toy, hide_seen, reads_history):
    _, model, train, _, _ = toy_model(
        toy, MAX_ITEM_LIST_LENGTH=4, hide_seen=hide_seen, fusion_reads_history=reads_history
    )
    backbone = make_backbone(model.settings.backbone, list(model.catalogue.lines), torch.device("cpu"), 0)
    model.connect(backbone, CoTStore())
    model.eval()
    torch.nn.init.normal_(model.head.fusion.project.weight)
    dataset = train.dataset
    ends = dataset.positions(ladder.RL)[:20]
    rows = dataset.histories(ends)
    written = [parse_completion("<think>Drama</think><answer>Film 3</answer>"), Completion("nothing")] * (
        len(rows) // 2
    )
    score = frozen_scorer(model, dataset, ends, hide_seen)
    found = score(range(len(written)), written)
    histories = rows[model.ITEM_SEQ][: len(written)]
    expected = model.head.scores(histories, model.encode_completions(written, histories))
    users, items = dataset.timeline["user_id"].numpy(), dataset.timeline["item_id"].numpy()
    for row, end in enumerate(ends[: len(written)]):
        past = set(items[:end][users[:end] == users[end]].tolist()) - {int(items[end])}
        for item in range(1, found.shape[1]):
            if hide_seen and item in past:
                assert found[row, item] == -torch.inf
            else:
                torch.testing.assert_close(found[row, item], expected[row, item])
        assert torch.isfinite(found[row, items[end]])


@pytest.mark.parametrize("rechead", ["fused", "text"])
@pytest.mark.parametrize("hide_seen", [False, True])
def test_ndcg_reward_of_greedy_completions_is_the_evaluators(toy, hide_seen, rechead, tmp_path):
    config = toy_config(
        toy, rechead=rechead, hide_seen=hide_seen, MAX_ITEM_LIST_LENGTH=6, dropout=0.5, reward_k=5,
        reward_weights={"ndcg": 1.0}, reward_gates=["format"], eval_batch_size=7 * 26,
    )  # fmt: skip
    data, train, valid, _ = build_data(config)
    model = build_model(config, train)
    trainer = build_trainer(config, model)
    trainer.eval_collector = collector = RankCollector(config, data)
    collector.data_collect(train)
    backbone = make_backbone(model.settings.backbone, list(model.catalogue.lines), torch.device("cpu"), 0)
    model.connect(backbone, CoTStore())
    torch.manual_seed(0)
    for weight in model.head.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    model.reasoning_on = True

    # What the backbone writes for each validation row; every fourth text is malformed.
    rows = valid.dataset.inter_feat
    texts, decoding = {}, model.evaluation_decoding
    for number, row in enumerate(history_rows(model, rows)):
        prompt, shown = model.reasoner.template.prompt(*row), model.reasoner.template.shown(*row)
        text = compose_completion(model.catalogue, shown, 1 + number % (len(model.catalogue) - 1))
        texts[completion_key(prompt, backbone.fingerprint, decoding)] = (
            prompt,
            text[: -1 if number % 4 == 0 else None],
        )
    model.reasoner.store.put(texts, backbone.fingerprint, decoding)
    trainer.evaluate(valid, load_best_model=False)
    table = collector.take("valid")
    by_user = dict(zip(table["user_id"], metric_values(table["rank"].to_numpy(), "ndcg@5"), strict=True))

    dataset = train.dataset
    timeline = dataset.timeline["user_id"].numpy()
    last = np.searchsorted(timeline, rows["user_id"].numpy(), side="right") - 1
    ends = last - 1  # leave-one-out: the item before a user's last
    rewarded = dataset.histories(ends)
    assert rewarded["item_id"].tolist() == rows["item_id"].tolist()
    written = [one.text for one in model.completions(rewarded, decoding)]
    observed = []
    reward = head_reward(
        model, rewarded, frozen_scorer(model, dataset, ends, hide_seen), folder=tmp_path, observe=observed.append
    )
    model.train()  # dropout must not reach the reward
    paid = reward(written, range(len(written)))
    expected = [
        by_user[dataset.id2token("user_id", user)] if parse_completion(text).well_formed else 0.0
        for user, text in zip(rows["user_id"].tolist(), written, strict=True)
    ]
    np.testing.assert_allclose(paid, expected, atol=1e-6, rtol=0)
    # The part itself, malformed texts included: the fall-back is ranked as in the evaluation.
    assert observed[0]["ndcg"] == pytest.approx(np.mean(list(by_user.values())), abs=1e-9)
    assert 0 < observed[0]["well_formed"] < 1
    assert len(set(paid)) > 2
