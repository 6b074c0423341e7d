import pytest

from rporec_recbole.cot.quality import (
    REASONS,
    QualityLimits,
    Written,
    copied_share,
    first_reason,
    repeated_share,
    sift,
    titles_in,
)
from rporec_recbole.settings.reader import default_settings
from rporec_recbole.settings.types import QUALITY_LIMITS, QUALITY_REASONS
from rporec_recbole.text.completions import parse_completion, render_completion

LIMITS = QualityLimits(**default_settings().backbone.quality_limits)
PROMPT = "Read this.\nAlien | Horror | 1979 | rated 5\nAlien 3 | Horror | 1992 | rated 2\nHeat; Dust | Drama | 1983 | rated 4\n"
GOOD = "evidence: Alien 3; Heat; Dust. preference: Horror 2, Drama 1. intent: Horror."


def written(cot, target=None):
    return Written(parse_completion(render_completion(cot, "Up | Animation")), PROMPT, target)


@pytest.mark.parametrize(
    ("cot", "target", "reason"),
    [
        (GOOD, "Up", None),
        (GOOD, "Alien", None),  # the target is in the history: an item that is chosen again
        ("", None, "format"),
        ("<think>likes horror", None, "format"),
        ("horror", None, "length"),
        ("- - - -", None, "length"),
        ("horror horror horror", None, "length"),
        ("many words " * 100, None, "length"),
        ("likes horror a lot " * 8, None, "repetition"),
        ("alien horror 1979 rated 5, alien 3 horror 1992 rated 2, heat dust drama", None, "copying"),
        ("evidence: Alien 3; Aliens. preference: Horror 2. intent: Horror.", None, "unfounded"),
        ("evidence: Alien 3 and Heat; Dust. preference: Horror 2. intent: Horror.", None, "unfounded"),
        ("evidence: alien. preference: Horror 2. intent: Horror.", None, "unfounded"),
        ("this user will love Blade Runner, no doubt", "Blade Runner", "leak"),
        ("this user will love BLADE RUNNER, no doubt", "Blade Runner", "leak"),
        ("this user will love Blade Runners, no doubt", "Blade Runner", None),
        ("this user will love Blade Runner, no doubt", None, None),
    ],
)
def test_each_reason_has_its_texts(cot, target, reason):
    assert first_reason(written(cot, target), LIMITS) == reason


def test_sift_counts_the_first_reason_of_each_text():
    texts = [written(GOOD), written("horror"), written("words " * 200), written(GOOD, "Up"), written("")]
    kept, counts = sift(texts, LIMITS)
    assert kept == [0, 3]
    assert counts == {"length": 2, "format": 1}


def test_only_the_reasons_asked_for_count():
    texts = [written("evidence: Aliens. preference: Horror 2. intent: Horror."), written("horror"), written("")]
    assert sift(texts, LIMITS, ["format", "leak"]) == ([0, 1], {"format": 1})
    assert sift(texts, LIMITS, ["unfounded", "format"]) == ([1], {"format": 1, "unfounded": 1})


def test_limits_move_the_verdicts():
    strict = QualityLimits(min_words=2, max_words=150, repetition=0, copying=0)
    assert first_reason(written("likes horror, likes horror, likes horror"), strict) == "repetition"
    assert first_reason(written("alien horror 1979 rated five"), strict) == "copying"
    assert first_reason(written("alien horror 1979 and more"), strict) is None


def test_shares_by_hand():
    assert repeated_share("a b c a b c") == pytest.approx(1 - 3 / 4)  # abc bca cab abc
    assert repeated_share("a b") == 0
    assert copied_share("x one two three four y", "Zero one, two; three four five") == pytest.approx(4 / 6)
    assert copied_share("one two three", "one two three") == 0
    assert copied_share("", "one") == 0


def test_titles_of_a_prompt():
    assert titles_in(PROMPT) == {"Read this.", "Alien", "Alien 3", "Heat; Dust"}


def test_names_of_limits_and_reasons():
    assert set(vars(LIMITS)) == set(QUALITY_LIMITS)
    assert tuple(REASONS) == QUALITY_REASONS
