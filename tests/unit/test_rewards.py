import pytest
import torch

from rporec_recbole.errors import RewardError
from rporec_recbole.training.rewards import RecheadReward

GOOD = "<think>a</think><answer>b</answer>"
WEIGHTS = {"format": 0.1, "ndcg": 0.85, "probability": 0.05}


def reward(scores, targets, **kw):
    return RecheadReward(
        lambda rows, completions: scores[torch.tensor(list(rows))], targets, kw.get("weights", WEIGHTS), 1000
    )


def test_by_hand():
    # Three items, the target second: NDCG = 1 / log2(3); probability by softmax.
    scores = torch.tensor([[-torch.inf, 1.0, 2.0, 0.0]])
    probability = torch.softmax(scores[0], 0)[1].item()
    (value,) = reward(scores, torch.tensor([1]))([GOOD], [0])
    assert value == pytest.approx(0.1 + 0.85 * 0.6309297 + 0.05 * probability, abs=1e-6)


@pytest.mark.parametrize(
    "text", ["", "<think></think><answer></answer>", GOOD + GOOD, "<think>a</think><answer>b", "popular, popular"]
)
def test_malformed_earns_nothing(text):
    assert reward(torch.tensor([[-torch.inf, 5.0]]), torch.tensor([1]))([text], [0]) == [0.0]


def test_nan_stops_the_run():
    with pytest.raises(RewardError, match="completion was"):
        reward(torch.tensor([[float("nan"), float("nan")]]), torch.tensor([1]))([GOOD], [0])


def test_order_does_not_matter():
    torch.manual_seed(0)
    pay = reward(torch.randn(6, 9), torch.tensor([1, 2, 3, 4, 5, 6]))
    rows = [3, 0, 5, 1]
    assert pay([GOOD] * 4, rows) == [pay([GOOD], [row])[0] for row in rows]
