import pytest

from rporec_recbole.text.catalogue import Catalogue, ItemText
from rporec_recbole.text.mentions import Mentions

TITLES = ["", "Star Wars", "Star Wars: Return of the Jedi", "Up", "Air", "Heat", "Toy Story", "Crime", "!!!"]
ITEMS = Mentions(Catalogue([ItemText(title, ("Crime Drama", "1995")) for title in TITLES], ("title", "genre", "year")))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("nothing here", []),
        ("star wars, and heat!", ["star wars", "heat"]),
        ("Star Wars - Return of the Jedi", ["star wars return of the jedi"]),
        ("Star Wars: Return of", ["star wars"]),
        ("Upper heating", []),
        ("Heat Heat", ["heat", "heat"]),
    ],
)
def test_titles(text, found):
    assert [" ".join(title) for title in ITEMS.titles(text)] == found


@pytest.mark.parametrize(
    ("answer", "is_list"),
    [
        ("Heat | Crime Drama | 1995", False),
        ("Crime | Crime Drama | 1995", False),
        ("Star Wars: Return of the Jedi | Action | 1983", False),
        ("Up in the Air | Drama | 2009", False),  # no item of the catalogue, but no list either
        ("An invented film | Drama", False),
        ("", False),
        ("Star Wars, Toy Story | Drama", True),
        ("Something | Star Wars | Toy Story", True),
        ("Up Air Heat | Drama", True),
        ("Heat, Up", True),
        ("Heat | " + "Drama " * 9, True),
        ("Heat | Up Air", True),
        ("Heat | Crime Up Drama", True),  # genres do not hide it
        ("Heat | Crime | Up", True),
        ("Heat | Crime Crime Drama | 1995", False),  # `Crime` is a title, but here it is a genre
        ("Heat | cold in the air", False),  # a word of a sentence
        ("An invented film | Up", False),  # one item
    ],
)
def test_lists_items(answer, is_list):
    assert ITEMS.lists_items(answer) is is_list
