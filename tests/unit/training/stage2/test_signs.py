"""Signs of reward hacking, and the numbers that they are read from."""

import numpy as np
import pytest

from rporec_recbole.text.catalogue import Catalogue, ItemText
from rporec_recbole.training.stage2.rollout import Batch
from rporec_recbole.training.stage2.signs import signs_of_hacking
from rporec_recbole.training.stage2.watch import PopularItems, watched


def curve(first, last, steps=40, noise=0.0):
    draw = np.random.default_rng(0)
    values = np.linspace(first, last, steps) + noise * draw.standard_normal(steps)
    return list(enumerate(values.tolist(), start=1))


@pytest.mark.parametrize(
    ("name", "first", "last"), [("popularity", 0.1, 0.6), ("copying", 0.2, 0.7), ("distinct answers", 30, 5)]
)
def test_a_sign_shows_when_its_curve_moves_the_wrong_way(name, first, last):
    assert list(signs_of_hacking({name: curve(first, last, noise=0.01)})) == [name]
    assert signs_of_hacking({name: curve(last, first, noise=0.01)}) == {}
    assert signs_of_hacking({name: curve(first, first, noise=0.01)}) == {}


def test_noise_and_short_curves_are_no_sign():
    assert signs_of_hacking({"popularity": curve(0.3, 0.5, noise=0.5)}) == {}
    assert signs_of_hacking({"popularity": curve(0.1, 0.9, steps=9)}) == {}
    assert signs_of_hacking({}) == {}


def test_reward_up_while_validation_falls():
    reward, falls = curve(0.2, 0.5, noise=0.01), [(0, 0.13), (20, 0.12), (40, 0.11)]
    (sentence,) = signs_of_hacking({"reward": reward, "validation": falls}).values()
    assert "0.1300 to 0.1100" in sentence
    assert signs_of_hacking({"reward": reward, "validation": [(0, 0.13), (20, 0.14), (40, 0.11)]}) == {}
    assert signs_of_hacking({"reward": curve(0.5, 0.2), "validation": falls}) == {}


def said(cot, answer):
    return f"<think>{cot}</think><answer>{answer}</answer>"


def test_numbers_of_a_step_by_hand():
    items = [ItemText("")] + [ItemText(f"Film {letter}", ("Drama",)) for letter in "abcdefghijklmnopqrst"]
    counts = np.arange(21)  # the most popular tenth are Film s and Film t
    popular = PopularItems(Catalogue(items, ("title", "genre")), counts)
    batch = Batch(
        prompts=[0, 0, 1, 1],
        texts=[
            said("one two three four", "Film t | Drama"),
            said("something else", "film T | drama"),
            said("x", "Film a, not film s"),
            "malformed",
        ],
        lengths=[1, 2, 3, 6],
        rewards=[1.0, 1.0, 0.5, 0.0],
        flat=[True, True, False, False],
    )
    numbers = watched(batch, ["one two three four", "nothing"], popular)
    copied = 4 / 7  # of the words of `one two three four film t drama`
    assert numbers == pytest.approx(
        {
            "reward": 0.625,
            "well_formed": 0.75,
            "length": 3.0,
            "popularity": 0.75,
            "distinct answers": 2.0,
            "copying": copied / 3,
            "flat groups": 0.5,
        }
    )


def test_a_title_that_holds_a_popular_one_is_not_popular():
    items = [ItemText(""), *(ItemText(title) for title in ("Heat", "White Heat", *"abcdefgh"))]
    popular = PopularItems(Catalogue(items, ("title",)), np.array([0, 9, 1, *[0] * 8]))
    assert popular.named_in("Heat | Crime")
    assert not popular.named_in("White Heat | Crime")
    assert popular.named_in("perhaps heat")
    assert not popular.named_in("cheat")
