import pytest

from rporec_recbole.text.catalogue import Catalogue, ItemText
from rporec_recbole.text.mentions import Mentions, names, without

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


FILMS = [
    "",
    "Godfather, The",
    "Star Trek: First Contact",
    "Heat",
    "Crime",
    "It",
    "From Dusk Till Dawn",
    "東京物語",
    "!!!",
]
NAMED = Mentions(
    Catalogue(
        [ItemText(title, ("Crime Drama", "1995")) for title in [*FILMS, "A Crime Drama"]], ("title", "genre", "year")
    )
)


@pytest.mark.parametrize(
    ("text", "items", "named"),
    [
        ("They saw The Godfather.", [1], True),
        ("They saw The Godfather.", [2, 3], False),
        ("Star Trek, again", [3, 2], True),
        ("the first contact", [2], True),
        ("a trek to a star", [2], False),
        ("heat", [3], True),
        ("heating, preheat", [3], False),
        ("crime drama", [4, 9], False),  # the genre
        ("it is from the", [5, 6], False),
        ("dusk till dawn", [6], True),
        ("彼は東京物語を見た", [7], True),
        ("!!!", [8], False),
        ("", [1, 2, 3, 4, 5, 6, 7, 8], False),
        ("Heat", [], False),
    ],
)
def test_names_any(text, items, named):
    assert NAMED.names_any(text, items) is named


def test_titles_are_taken_out_as_whole_words_and_longer_ones_first():
    titles = {"Alien", "Alien 3", "Up"}
    assert without("Alien 3, Alien; Upside", titles) == ";, ;; Upside"
    assert without("alien", titles) == "alien"
    assert names("I saw ALIEN.", "Alien")
    assert not names("Aliens", "Alien")
    assert not names("", "")
