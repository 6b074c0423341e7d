from rporec_recbole.cot.draws import Draws, Wanted, decodings_of, looking_in
from rporec_recbole.cot.store import Decoding, completion_key

THREE = Decoding(instead=Decoding(0.7, sample=0, instead=Decoding(0.7, sample=1)))


def test_malformed_texts_are_followed_by_the_next_draw_until_there_is_none():
    draws = Draws("w", [THREE])
    assert (draws.next, [one.temperature for one in draws.all]) == ([1, 2, None], [0.0, 0.7, 0.7])
    there = {}
    for number in range(3):
        assert draws.missing(["p", "p"], looking_in(there)) == [
            Wanted(completion_key("p", "w", draws.all[number]), "p", number)
        ]
        there[draws.key("p", number)] = False
    assert draws.missing(["p"], looking_in(there)) == []
    there[draws.key("q", 0)] = True
    assert [one.prompt for one in draws.missing(["p", "q", "r"], looking_in(there))] == ["r"]


def test_several_texts_a_history():
    draws = Draws("w", decodings_of(Decoding(0.7), 2))
    there = {draws.key("p", 1): False}
    assert [(one.prompt, one.draw) for one in draws.missing(["p", "q"], looking_in(there))] == [
        ("p", 0),
        ("q", 0),
        ("q", 1),
    ]


def test_a_key_says_which_draw_it_is_of():
    draws = Draws("w", [THREE])
    assert [draws.of_key(draws.key("p", number), "p") for number in range(3)] == [0, 1, 2]
    assert draws.of_key(draws.key("p", 0), "p ") is None
    assert Draws("another", [THREE]).of_key(draws.key("p", 0), "p") is None
