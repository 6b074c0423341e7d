"""The planted world is what it says: its rule, its best ranking, and texts whose order alone carries the rule."""

import importlib
import itertools
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from rporec_recbole import run

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmarks/planted_world.py as a module."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("planted_world")


def terms(title: str) -> Counter[tuple[str, ...]]:
    """Words and pairs of neighbours, as `lsa` counts them."""
    words = title.replace(";", "").split()
    return Counter([(word,) for word in words] + list(itertools.pairwise(words)))


def test_two_equal_worlds_write_the_same_files(planted, tmp_path):
    for name in ("one", "other"):
        planted.World(users=20, colours=3).write(tmp_path / name)
    for kind in ("inter", "item"):
        one, other = ((tmp_path / name / planted.NAME / f"planted.{kind}").read_text() for name in ("one", "other"))
        assert one == other


def test_the_best_ranking_earns_what_is_computed(planted):
    world = planted.World(users=20_000, colours=4, cloths=3, noise=0.3, seed=1)
    chosen = world.sequences()
    right, target = world.follows(chosen[:, -3], chosen[:, -2]), chosen[:, -1]
    ahead = (right < target[:, None]).sum(axis=1)  # of equally likely flags the one with the lower number comes first
    rank = np.where((right == target[:, None]).any(axis=1), ahead, world.cloths + target - ahead)
    gain = np.where(rank < 10, 1 / np.log2(rank + 2), 0)
    error = gain.std() / np.sqrt(len(gain))
    assert abs(gain.mean() - world.best_ndcg()) < 3 * error
    assert 0.001 < error < 0.01


def test_without_noise_and_with_one_cloth_the_best_ranking_is_perfect(planted):
    assert planted.World(cloths=1, noise=0).best_ndcg() == pytest.approx(1)


def test_the_rule_reads_the_order_of_both_flags(planted):
    world = planted.World()
    titles = world.titles()
    before, newest = (
        np.array(titles.index(title))
        for title in ("in amber; in coral; in ivory; in wool", "in mauve; in ebony; in olive; in silk")
    )
    named = [titles[item] for item in world.follows(before, newest)]
    # Amber comes after ebony, the last of twelve: the colours are a circle.
    assert named == ["in olive; in amber; in amber; in wool", "in olive; in amber; in amber; in silk"]


def test_no_bag_of_words_or_pairs_tells_where_a_colour_stands(planted):
    titles = planted.World(colours=4).titles()
    assert len(set(titles)) == len(titles) == 4**3 * 2
    bags = Counter(frozenset(terms(title).items()) for title in titles)
    # Three colours in six orders, two in three, for each cloth; only a plain flag has a bag of its own.
    assert Counter(bags.values()) == {6: 4 * 2, 3: 4 * 3 * 2, 1: 4 * 2}


def test_a_turned_circle_shows_in_early_steps_alone(planted):
    world = planted.World(users=4000, turned=0.6)
    chosen = world.sequences()
    for step in range(2, world.length):
        share = {
            turn: (world.follows(*chosen[:, step - 2 : step].T, turn) == chosen[:, [step]]).any(axis=1).mean()
            for turn in (1, -1)
        }
        early = step < world.early
        assert share[1] == pytest.approx(0.8 * (0.4 if early else 1), abs=0.03)
        assert share[-1] == pytest.approx(0.8 * 0.6 if early else 0, abs=0.03)


def test_ids_alone_stay_below_half(planted, tmp_path):
    world = planted.World(users=300, colours=7)
    settings = {"data_path": str(world.write(tmp_path)), "ids_only": True, "epochs": 20, "ladder": False}
    result = run(
        "RPORec",
        planted.NAME,
        overrides={**planted.SETTINGS, **settings, "show_progress": False, "run_dir": str(tmp_path / "run")},
    )
    assert result.metrics["test"]["ndcg@10"] < world.best_ndcg() / 2
