"""What a prompt shows can be found in the catalogue again."""

from rporec_recbole.text.prompts import unrated


def test_a_line_without_its_rating_is_the_catalogues():
    assert unrated("Heat | Crime | 1995 | rated 4.5") == "Heat | Crime | 1995"
    assert unrated("Heat | Crime | 1995") == "Heat | Crime | 1995"
