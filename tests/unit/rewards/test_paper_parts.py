"""The parts that the paper's release pays for, by hand: r_clean, r_comp, r_sim, the entropy gap, 50 candidates."""

import pytest
import torch

from rporec_recbole.errors import RewardError
from rporec_recbole.rewards.parts import PARTS, SUMMARIZED
from rporec_recbole.rewards.record import Summaries, TextVectors
from rporec_recbole.text.completions import characters_outside, parse_completion, parse_leniently
from tests.unit.rewards.test_rewards import GOOD, record, reward


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("before", "between", "after", "clean"),
    [
        ("", "", "", 1.0),  # 1 - 0 / 100
        ("x" * 30, "", "", 0.7),  # 1 - 30 / 100
        ("x" * 30, "y" * 500, "z" * 20, 0.5),  # 1 - (30 + 20) / 100; what stands between the sections is free
        ("x" * 100, "", "", 0.0),
        ("x" * 150, "", "z", 0.0),  # 1 - 151 / 100, at least 0
    ],
)
def test_cleanliness(before, between, after, clean):
    text = f"{before}<think>a cot</think>{between}<answer>an answer</answer>{after}"
    torch.testing.assert_close(PARTS["cleanliness"](record(text, "malformed")), numbers(clean, 0.0))


def summarized(*pairs, vectors=None):
    """A record of completions with these cots and summaries."""
    texts = [f"<think>{cot}</think><answer>x</answer>" if cot else "malformed" for cot, _ in pairs]
    given = torch.zeros(len(pairs), 2) if vectors is None else torch.tensor(vectors)
    return record(
        *texts,
        make_vectors=lambda: TextVectors(torch.tensor([[1.0, 0.0]] * len(pairs)), given),
        make_summaries=lambda: Summaries([summary for _, summary in pairs], given),
    )


def test_summary_compression():
    pairs = [("c" * 40, "s" * 10), ("c" * 40, ""), ("c" * 40, "s" * 90), ("c" * 40, " ss "), ("", "")]
    # 10 / 40; no summary; 90 / 40, at most 1; white space does not count: 2 / 40; malformed.
    expected = numbers(10 / 40, 0.0, 1.0, 2 / 40, 0.0)
    torch.testing.assert_close(PARTS["summary_compression"](summarized(*pairs)), expected)


def test_summary_consistency():
    # Cosines with (1, 0): 0.6; 0.28, which is not above 0.5; -1; none for a zero vector; 0.8 whatever the length.
    vectors = [[0.6, 0.8], [0.28, 0.96], [-1.0, 0.0], [0.0, 0.0], [4.0, 3.0]]
    found = PARTS["summary_consistency"](summarized(*[("cot", "s")] * 5, vectors=vectors))
    torch.testing.assert_close(found, numbers(1.0, 0.0, 0.0, 0.0, 1.0))


def test_entropy_gap_uncapped():
    entropies = [torch.tensor([9.0, *[0.0] * 9]), torch.tensor([0.1, 0.9, 0.2, 0.3, 0.5, 0.4]), torch.zeros(0)]
    value = PARTS["entropy_gap_uncapped"](record(*[GOOD] * 3, make_entropies=lambda: entropies))
    # Ten tokens: the two most uncertain are 4.5 on average, over a mean of 0.9. Six tokens: (0.9 + 0.5) / 2 - 2.4 / 6.
    torch.testing.assert_close(value, numbers(4.5 - 0.9, 0.7 - 0.4, 0.0), atol=1e-6, rtol=0)


def test_the_target_is_ranked_among_its_candidates(tmp_path):
    # Over the catalogue item 1 is third; among itself and item 3 it is first. A candidate that ties stands above it.
    scores = torch.tensor([[-torch.inf, 1.0, 2.0, 0.0, 3.0], [-torch.inf, 1.0, 2.0, 1.0, 3.0]])
    targets, more = torch.tensor([1, 1]), {"weights": {"ndcg": 1.0}, "gates": ["format"]}
    everywhere = reward(tmp_path, scores, targets, **more)
    among = reward(tmp_path, scores, targets, candidates=torch.tensor([[1, 3], [1, 3]]), **more)
    third, second = 1 / 2, 0.6309297  # 1 / log2(4), 1 / log2(3)
    assert everywhere([GOOD, GOOD], [0, 1]) == [pytest.approx(third), pytest.approx(0.4306766, abs=1e-6)]
    assert among([GOOD, GOOD], [0, 1]) == [1.0, pytest.approx(second, abs=1e-6)]


def test_summaries_are_asked_for_once_and_only_if_they_are_paid_for(tmp_path):
    asked = []

    def summarize(cots):
        asked.append(list(cots))
        return ["short"] * len(cots)

    more = {
        "encode": lambda texts: TextVectors(torch.ones(len(texts), 2), torch.ones(len(texts), 2)),
        "gates": ["format"],
    }
    scores, targets = torch.zeros(1, 4), torch.tensor([1])
    paid = reward(tmp_path, scores, targets, weights=dict.fromkeys(SUMMARIZED, 0.5), summarize=summarize, **more)
    assert paid([GOOD, "malformed"], [0, 0])[1] == 0.0
    assert asked == [["Toy Story, so animation of the 1990s.", ""]]
    reward(tmp_path, scores, targets, weights={"format": 1.0}, summarize=summarize, **more)([GOOD], [0])
    assert len(asked) == 1
    with pytest.raises(RewardError, match="and none was given"):
        reward(tmp_path, scores, targets, weights=dict.fromkeys(SUMMARIZED, 0.5), **more)([GOOD], [0])


@pytest.mark.parametrize(
    ("text", "cot", "answer", "outside"),
    [
        ("<think>a</think><answer>b</answer>", "a", "b", 0),
        ("so <think> a </think> and <answer> b </answer>!!", "a", "b", 5),
        (
            "<think>x</think><think>a</think><answer>b</answer>",
            "a",
            "b",
            16,
        ),  # the last <think> that fits: 16 in front of it
        ("<think>a</think><answer>x<answer>b</answer>", "a", "b", 0),
        ("<think></think><answer></answer>", "", "", 0),
        ("<think>a</think><answer>b</answer></answer>", "a", "b</answer>", 0),
    ],
)
def test_lenient_tags(text, cot, answer, outside):
    one = parse_leniently(text)
    assert (one.well_formed, one.cot, one.answer) == (True, cot, answer)
    assert characters_outside(text) == outside


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "<think>a</think>",
        "<answer>b</answer><think>a</think>",
        "<think>a<answer>b</answer>",
        "</answer><answer>",
    ],
)
def test_what_no_reading_finds(text):
    assert not parse_leniently(text).well_formed
    assert parse_leniently(text) == parse_completion(text)
    assert characters_outside(text) == len(text)
