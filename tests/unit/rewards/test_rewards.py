import dataclasses
import json
import math
import re
import sys
from types import SimpleNamespace

import pytest
import torch

from rporec_recbole.cot.quality import QualityLimits
from rporec_recbole.errors import ConfigError, RewardError
from rporec_recbole.rewards.gates import GATES
from rporec_recbole.rewards.parts import PARTS, check_parts, find_part
from rporec_recbole.rewards.rechead_reward import FAILURE, RecheadReward, trial_record
from rporec_recbole.rewards.record import Positions, TextVectors
from rporec_recbole.settings.properties import preset_file, read_yaml
from rporec_recbole.settings.reader import default_settings
from rporec_recbole.settings.types import REWARD_GATES, REWARD_PARTS
from rporec_recbole.text.catalogue import Catalogue, ItemText
from rporec_recbole.text.completions import parse_completion, render_completion

GOOD = "<think>Toy Story, so animation of the 1990s.</think><answer>Heat | Crime | 1995</answer>"
CATALOGUE = Catalogue(
    [ItemText(""), *(ItemText(t, (g, y)) for t, g, y in [("Heat", "Crime", "1995"), ("Toy Story", "Animation", "1995"), ("Up", "Animation", "2009")])],
    ("title", "genre", "year"),
)  # fmt: skip
PROMPT = "Toy Story | Animation | 1995 | rated 4\nUp | Animation | 2009 | rated 5\n"
LIMITS = QualityLimits(min_words=3, max_words=23, repetition=0.3, copying=0.7)
DEFAULT = default_settings().rl


def unasked(*_):
    raise AssertionError("nobody pays for this")


def record(*texts, scores=None, targets=None, **changes):
    """A record on the small catalogue; the target is item 1 unless told."""
    trial = trial_record(CATALOGUE, unasked, changes.pop("k", 1000), LIMITS)
    count = len(texts)
    return dataclasses.replace(
        trial,
        prompts=[PROMPT] * count,
        completions=[parse_completion(text) for text in texts],
        histories=[[1, 2, 3]] * count,
        shown=[[2, 3]] * count,
        targets=torch.ones(count, dtype=torch.int64) if targets is None else torch.tensor(targets),
        scores=torch.zeros(count, 4) if scores is None else torch.tensor(scores),
        **{"make_vectors": unasked, "make_entropies": unasked, "make_summaries": unasked, **changes},
    )


def text(cot, answer="Heat | Crime | 1995"):
    return render_completion(cot, answer)


def reward(folder, scores, targets, **changes):
    """A reward whose head gives fixed scores, one row a position."""
    arguments = {
        "encode": unasked,
        "entropies": unasked,
        "catalogue": CATALOGUE,
        "weights": DEFAULT.reward_weights,
        "gates": DEFAULT.reward_gates,
        "k": DEFAULT.reward_k,
        "limits": LIMITS,
        "folder": folder,
    }
    positions = Positions([PROMPT] * len(targets), [[1, 2, 3]] * len(targets), [[2, 3]] * len(targets), targets)
    return RecheadReward(positions, lambda rows, _: scores[torch.tensor(list(rows))], **{**arguments, **changes})


# --- the whole --------------------------------------------------------------------------------------------------------


def test_by_hand(tmp_path):
    # Three items, the target second: NDCG = 1 / log2(3); probability by softmax.
    scores = torch.tensor([[-torch.inf, 1.0, 2.0, 0.0]])
    probability = torch.softmax(scores[0], 0)[1].item()
    (value,) = reward(tmp_path, scores, torch.tensor([1]))([GOOD], [0])
    assert value == pytest.approx(0.1 + 0.85 * 0.6309297 + 0.05 * probability, abs=1e-6)


@pytest.mark.parametrize("bad", ["", "<think></think><answer></answer>", GOOD + GOOD, GOOD[:-1], "popular, popular"])
def test_malformed_earns_nothing(bad, tmp_path):
    assert reward(tmp_path, torch.tensor([[-torch.inf, 5.0, 0, 0]]), torch.tensor([1]))([bad], [0]) == [0.0]


def test_weights_add_up_and_are_observed(tmp_path):
    seen = []
    pay = reward(
        tmp_path, torch.zeros(1, 4), torch.tensor([1]), weights={"format": 2, "length": -0.5}, observe=seen.append
    )
    assert pay([GOOD, GOOD[:-1]], [0, 0]) == [1.5, 0.0]
    assert seen[0]["format"] == seen[0]["well_formed"] == seen[0]["format gate"] == 0.5
    assert seen[0]["reward"] == 0.75


def test_names_in_the_settings_are_the_names_that_exist():
    assert list(PARTS) == list(REWARD_PARTS)
    assert list(GATES) == list(REWARD_GATES)


def test_paper_mixture():
    paper = default_settings(reward="paper").rl
    assert paper.reward_weights == {
        "format": 0.1, "ndcg": 0.5, "cleanliness": 0.1, "summary_compression": 0.1, "summary_consistency": 0.1,
        "entropy_gap_uncapped": 0.1,
    }  # fmt: skip
    assert (paper.reward_gates, paper.reward_candidates) == (["format"], "negatives")
    assert read_yaml(preset_file("paper"))["reward"] == "paper"
    assert default_settings(reward="paper", reward_gates=["format", "length"]).rl.reward_gates == ["format", "length"]


def test_paper_mixture_by_hand(tmp_path):
    # Four items; among the target and the one negative that is better than it, the target is second: NDCG = 1 / log2(3).
    scores = torch.tensor([[-torch.inf, 1.0, 2.0, 9.0]])
    paper = default_settings(reward="paper").rl
    cot, summary, outside = "Toy Story, so animation of the 1990s.", "animation", 20
    vectors = {cot: [1.0, 0.0], summary: [0.6, 0.8]}
    pay = reward(
        tmp_path,
        scores,
        torch.tensor([1]),
        weights=paper.reward_weights,
        gates=paper.reward_gates,
        encode=lambda texts: TextVectors(torch.tensor([vectors[one.cot] for one in texts]), torch.zeros(1, 2)),
        entropies=lambda prompts, tokens: [torch.tensor([0.0, 0.0, 0.0, 9.0, 0.0])],
        summarize=lambda cots: [summary],
        candidates=torch.tensor([[1, 2]]),
    )
    # 9 of 37 characters; cosine 0.6, above 0.5; gap 9 - 9 / 5.
    expected = 0.1 + 0.5 * 0.6309297 + 0.1 * (1 - outside / 100) + 0.1 * 9 / 37 + 0.1 * 1 + 0.1 * 7.2
    assert pay(["w" * outside + GOOD], [0], [[1, 2, 3, 4, 5]]) == [pytest.approx(expected, abs=1e-6)]


def test_entropies_need_tokens(tmp_path):
    with pytest.raises(RewardError, match="as tokens"):
        reward(tmp_path, torch.zeros(1, 4), torch.tensor([1]), weights={"entropy_gap": 1.0})([GOOD], [0])


def test_equal_rewards_have_exactly_their_mean(tmp_path):
    (value,) = reward(tmp_path, torch.tensor([[-torch.inf, 1.0, 2.0, 0.0]]), torch.tensor([1]))([GOOD], [0])
    for group in range(2, 17):
        rewards = torch.full((group,), value, dtype=torch.float32)
        assert rewards.mean() == rewards[0]


# --- failures ---------------------------------------------------------------------------------------------------------


def saved(folder):
    return json.loads((folder / FAILURE).read_text(encoding="utf-8"))


def test_nan_stops_the_run_with_the_texts_saved(tmp_path):
    scores = torch.tensor([[-torch.inf, 1.0, 2.0, 0.0], [-torch.inf, math.nan, math.nan, math.nan]])
    pay = reward(tmp_path, scores, torch.tensor([1, 1]))
    with pytest.raises(RewardError, match=re.escape(str(tmp_path / FAILURE))):
        pay([GOOD, GOOD + " "], [0, 1])
    assert saved(tmp_path)["rows"] == [{"position": 1, "prompt": PROMPT, "completion": GOOD + " "}]
    assert "`probability` is nan" in saved(tmp_path)["error"]


def test_exception_in_a_part_stops_the_run_with_the_texts_saved(tmp_path, module):
    module.broken = lambda record: 1 / 0
    pay = reward(tmp_path, torch.zeros(2, 4), torch.tensor([1, 1]), weights={"their_rewards:broken": 1.0})
    with pytest.raises(RewardError, match=r"`their_rewards:broken` \(ZeroDivisionError: division by zero\)") as failed:
        pay([GOOD, "what"], [0, 1])
    assert str(tmp_path / FAILURE) in str(failed.value)
    assert [row["completion"] for row in saved(tmp_path)["rows"]] == [GOOD, "what"]


def test_exception_in_the_head_stops_the_run_with_the_texts_saved(tmp_path):
    with pytest.raises(RewardError, match="IndexError"):
        reward(tmp_path, torch.zeros(1, 4), torch.tensor([1, 1]))([GOOD], [1])
    assert saved(tmp_path)["rows"][0]["completion"] == GOOD


def test_a_failure_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RewardError, match=r"cannot be written.*Toy Story, so"):
        reward(tmp_path / "file", torch.full((1, 4), math.nan), torch.tensor([1]))([GOOD], [0])


# --- parts of others --------------------------------------------------------------------------------------------------


@pytest.fixture
def module(monkeypatch):
    """A module `their_rewards` that can be imported."""
    theirs = SimpleNamespace(number=3)
    monkeypatch.setitem(sys.modules, "their_rewards", theirs)
    return theirs


def test_a_part_of_yours(tmp_path, module):
    module.short = lambda record: torch.tensor([1 / len(one.text) for one in record.completions])
    name = "their_rewards:short"
    check_parts([name], trial_record(CATALOGUE, unasked, 10, LIMITS))
    (value,) = reward(tmp_path, torch.zeros(1, 4), torch.tensor([1]), weights={name: 1.0})([GOOD], [0])
    assert value == pytest.approx(1 / len(GOOD), abs=1e-6)
    assert default_settings(reward_weights={name: 1.0, "ndcg": 1}).rl.reward_weights[name] == 1.0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fame", "allowed are format, ndcg"),
        ("no_such_package.rewards:fame", "No module named 'no_such_package'.*PYTHONPATH"),
        ("their_rewards:fame", "has no attribute 'fame'"),
        ("their_rewards:number", "of type int; name a function"),
    ],
)
def test_a_part_that_is_not_there(name, message, module):
    with pytest.raises(ConfigError, match=message):
        find_part(name)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (lambda record: torch.ones(3), r"of shape \(3,\) for 2 completions; it must return a tensor of shape \(2,\)"),
        (lambda record: torch.ones(2, 1), r"of shape \(2, 1\)"),
        (lambda record: [1.0, 1.0], "of type list"),
        (lambda record: 1.0, "of type float"),
        (lambda record: torch.tensor([1.0, math.nan]), "each number must be finite"),
        (lambda record: record.taste, "AttributeError.*Repair it"),
    ],
)
def test_a_part_that_does_not_do_what_it_must(part, message, module):
    module.part = part
    with pytest.raises(RewardError, match=message):
        check_parts(["their_rewards:part"], trial_record(CATALOGUE, unasked, 10, LIMITS))


@pytest.mark.parametrize(
    "weights", [{"fame": 1}, {"a.b": 1}, {":f": 1}, {"a:": 1}, {"ndcg": "1"}, {"ndcg": math.inf}, {}]
)
def test_settings_refuse_weights(weights):
    with pytest.raises(ConfigError, match=r"package.module:function"):
        default_settings(reward_weights=weights)


# --- parts by hand ----------------------------------------------------------------------------------------------------

RANKED = [[-math.inf, 1.0, 2.0, 0.0], [-math.inf, 9.0, 2.0, 0.0], [-math.inf, 1.0, 1.0, -math.inf]]


@pytest.mark.parametrize(
    ("name", "k", "expected"),
    [
        ("ndcg", 1000, [1 / math.log2(3), 1.0, 1 / math.log2(3)]),
        ("ndcg", 1, [0.0, 1.0, 0.0]),
        ("reciprocal_rank", 1000, [0.5, 1.0, 0.5]),
        ("reciprocal_rank", 1, [0.0, 1.0, 0.0]),
        ("probability", 1, [math.e / (math.e + math.e**2 + 1), 1 / (1 + math.exp(-7) + math.exp(-9)), 0.5]),
    ],
)
def test_ranking_parts(name, k, expected):
    value = PARTS[name](record(GOOD, GOOD, GOOD, scores=RANKED, k=k))
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(
    ("words", "length", "conciseness", "compression"),
    [
        (1, 1.0, 0.0, 0.0),
        (3, 1.0, 1.0, 1 - 3 / 11),
        (13, 1.0, 0.5, 0.0),
        (23, 1.0, 0.0, 0.0),
        (24, 0.0, 0.0, 0.0),
    ],
)
def test_parts_of_the_length(words, length, conciseness, compression):
    one = record(text(" ".join(f"word{i}" for i in range(words))), "malformed")
    for name, expected in {"length": length, "conciseness": conciseness, "compression": compression}.items():
        torch.testing.assert_close(PARTS[name](one), torch.tensor([expected, 0.0], dtype=torch.float64))


def test_semantic_consistency():
    vectors = TextVectors(torch.tensor([[1.0, 0], [1, 0], [0, 0]]), torch.tensor([[0.6, 0.8], [-1, 0], [1, 0]]))
    value = PARTS["semantic_consistency"](record(GOOD, GOOD, GOOD, make_vectors=lambda: vectors))
    torch.testing.assert_close(value, torch.tensor([0.6, 0.0, 0.0], dtype=torch.float64))


def test_entropy_gap():
    entropies = [
        torch.tensor([0.1, 0.9, 0.2, 0.3, 0.5, 0.4]),
        torch.zeros(0),
        torch.tensor([0.7]),
        torch.tensor([9.0, *[0.0] * 9]),
    ]
    value = PARTS["entropy_gap"](record(*[GOOD] * 4, make_entropies=lambda: entropies))
    # Six tokens: the two most uncertain, 0.7 on average, over a mean of 0.4. The last gap, 4.5 - 0.9, counts as 1.
    torch.testing.assert_close(value, torch.tensor([0.3, 0.0, 0.0, 1.0], dtype=torch.float64), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("gate", "closed"),
    [
        ("format", "<think>a"),
        ("length", text(".")),
        ("length", text("- - - -")),
        ("length", text("well well well")),
        ("empty", text("so be it then")),
        ("empty", text("They like slow films.")),
        ("empty", text("They like slow animation of 1995.")),  # attributes alone
        ("empty", text("They saw Heat.")),  # older than what the prompt shows
        ("length", text("word " * 24)),
        ("repetition", text("slow crime films " * 5)),
        ("copying", text("Toy Story | Animation | 1995 | rated 4 Up | Animation | 2009")),
        ("unfounded", text("evidence: Alien. preference: Crime 2. intent: Crime.")),
        ("stuffing", text("They like animation.", "Heat, Up, Toy Story")),
    ],
)
def test_gates(gate, closed):
    assert GATES[gate](record(GOOD, closed)).tolist() == [1.0, 0.0]
