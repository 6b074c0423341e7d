import pytest

from rporec_recbole.cot.compose import facts_of
from rporec_recbole.cot.counting import counts_traits
from rporec_recbole.text.catalogue import Catalogue, ItemText

ITEMS = [
    ("Heat", "Crime", "1995"),
    ("Alien", "Sci-Fi", "1979"),
    ("Fargo", "Crime Drama", "1996"),
    ("Up", "Animation", ""),
]
CATALOGUE = Catalogue(
    [ItemText(""), *(ItemText(title, attributes) for title, *attributes in ITEMS)], ("title", "genre", "year")
)
SHOWN = [1, 3, 3, 1, 2, 3, 1, 3, 1, 3]  # Crime 9, 1990s 9, Drama 5, Sci-Fi 1


@pytest.mark.parametrize(
    ("cot", "counted"),
    [
        ("preference: Drama 5.", True),
        ("drama: 2", True),
        ("DRAMA (8)", True),
        ("Drama 9", False),  # off by more than a third of ten items
        ("Drama 1", False),
        ("Sci-Fi 1", True),
        ("Sci-Fi 0", False),  # it is there
        ("Fi 1", False),
        ("1990s 9", True),
        ("Animation 1", False),  # not in this history
        ("Drama", False),
        ("Drama 5th", False),
        ("5 Drama", False),
        ("Drama 1, Drama 5", False),  # the first number counts
        ("Drama 1, Crime 9", True),
        (f"Drama {'9' * 5000}", False),
        ("", False),
    ],
)
def test_counts_traits(cot, counted):
    assert counts_traits(cot, CATALOGUE, SHOWN) is counted


def test_few_items_may_be_miscounted_by_one():
    assert counts_traits("Crime 2", CATALOGUE, [1])
    assert not counts_traits("Crime 3", CATALOGUE, [1])
    assert not counts_traits("Crime 1", CATALOGUE, [])


def test_composed_texts_count():
    preference = facts_of(CATALOGUE, SHOWN).partition("preference:")[2]
    assert counts_traits(preference, CATALOGUE, SHOWN)
