"""What stage 2 is paid for is what the evaluation ranks."""

import pytest
import torch

from rporec_recbole.backbone.load import make_backbone
from rporec_recbole.cot.store import CoTStore
from rporec_recbole.data import ladder
from rporec_recbole.text.completions import Completion, parse_completion
from rporec_recbole.training.rows import frozen_scorer
from tests.toy import toy_model


@pytest.mark.parametrize("hide_seen", [False, True])
def test_scores_of_the_frozen_head(toy, hide_seen):
    _, model, train, _, _ = toy_model(toy, MAX_ITEM_LIST_LENGTH=4, hide_seen=hide_seen)
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
    expected = model.head.scores(rows[model.ITEM_SEQ][: len(written)], model.encode_completions(written))
    users, items = dataset.timeline["user_id"].numpy(), dataset.timeline["item_id"].numpy()
    for row, end in enumerate(ends[: len(written)]):
        past = set(items[:end][users[:end] == users[end]].tolist()) - {int(items[end])}
        for item in range(1, found.shape[1]):
            if hide_seen and item in past:
                assert found[row, item] == -torch.inf
            else:
                torch.testing.assert_close(found[row, item], expected[row, item])
        assert torch.isfinite(found[row, items[end]])
