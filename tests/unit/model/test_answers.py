"""The expert that hears answers: what an answer names, how much that counts, and that silence is exact."""

import numpy as np
import pytest
import torch

from rporec_recbole.model.answer_match import MOST, OF_A_LINE, AnswerMatcher
from rporec_recbole.model.answers import AnswerExpert, join_guesses, read_guesses, stack_guesses
from rporec_recbole.model.fusedhead import FusedHead
from rporec_recbole.model.rechead import Reasoning, distinct, mean_reasoning
from rporec_recbole.serve.index import ItemIndex
from rporec_recbole.serve.retriever import Heard, Retriever
from rporec_recbole.text.catalogue import Catalogue, ItemText
from rporec_recbole.text.completions import Completion, Guess

ITEMS = [
    ItemText(""),
    ItemText("Heat", ("Crime", "1995")),
    ItemText("Casino", ("Crime", "1995")),
    ItemText("Toy Story", ("Comedy", "1995")),
    ItemText("Twin", ("Drama", "1990")),
    ItemText("Twin", ("Drama", "1990")),
    *(ItemText(f"Film {number}", ("Drama", "1996")) for number in range(300)),
    ItemText("1996 and all that", ("Comedy", "1960")),
]
CATALOGUE = Catalogue(ITEMS, ("title", "genre", "year"))
N = len(ITEMS)


def answer(text: str) -> Completion:
    return Completion(text, "a thought", text, True)


def guessed(*guesses: tuple[str, float]) -> Completion:
    return Completion("", "a thought", guesses[0][0], True, tuple(Guess(*one) for one in guesses))


@pytest.fixture(scope="module")
def matcher() -> AnswerMatcher:
    return AnswerMatcher(CATALOGUE)


@pytest.fixture
def head() -> FusedHead:
    torch.manual_seed(0)
    head = FusedHead(
        N, torch.randn(N, 4), hidden_size=8, layers=1, heads=2, inner_size=16, dropout=0.0,
        initializer_range=0.3, history_bias=True, hears_answers=True,
    )  # fmt: skip
    return head.eval()


def trusting(head: FusedHead) -> FusedHead:
    """The same with an expert that has learned something."""
    torch.manual_seed(1)
    torch.nn.init.normal_(head.expert.trust.weight)
    torch.nn.init.constant_(head.expert.trust.bias, 3.0)
    return head


def reasoning_of(completions: list[Completion], matcher: AnswerMatcher) -> Reasoning:
    return Reasoning(
        torch.zeros(len(completions), 8),
        torch.tensor([one.well_formed for one in completions]),
        guesses=read_guesses(completions, matcher, N),
    )


HISTORIES = torch.tensor([[1, 2, 0], [3, 0, 0], [7, 9, 9], [5, 1, 3]])


class TestMatch:
    def test_a_line_means_its_item_and_nothing_else(self, matcher):
        (found,) = matcher([CATALOGUE.lines[1]])
        assert found.items.tolist() == [1]
        assert found.likeness.tolist() == [[1, 1, 1]]

    def test_items_of_one_line_are_all_meant(self, matcher):
        (found,) = matcher([CATALOGUE.lines[4]])
        assert found.items.tolist() == [4, 5]
        many = AnswerMatcher(Catalogue([ItemText(""), *[ItemText("Same")] * 20], ("title",)))
        assert many(["Same"])[0].items.tolist() == list(range(1, OF_A_LINE + 1))

    def test_attributes_mean_the_items_that_have_them_all(self, matcher):
        (found,) = matcher(["Drama | 1996"])
        assert len(found.items) == MOST
        assert set(found.items) <= set(range(6, 306))  # all are dramas of 1996
        covered, line, attributes = found.likeness.T
        assert (covered == 1).all()
        assert (attributes == 1).all()
        assert (line < 1).all()

    def test_part_of_the_attributes_is_less(self, matcher):
        found = matcher(["Crime 1960"])[0]
        of = dict(zip(found.items.tolist(), found.likeness.tolist(), strict=True))
        assert of[1][0] < 1
        assert of[1] == of[2]
        assert of[306][0] < 1

    @pytest.mark.parametrize("text", ["zzz qqq", "!?", "", "\N{SNOWMAN}"])
    def test_words_of_no_line_mean_nothing(self, matcher, text):
        assert matcher([text])[0].items.tolist() == []

    def test_a_foreign_word_makes_the_rest_less_sure(self, matcher):
        known, foreign = matcher(["Toy", "Toy zzzz"])
        assert known.items.tolist() == foreign.items.tolist() == [3]
        assert foreign.likeness[0, 0] < known.likeness[0, 0] == 1


class TestSilence:
    def test_a_new_expert_says_nothing(self, head, matcher):
        said = reasoning_of([answer("Heat")] * 4, matcher)
        assert torch.equal(head.scores(HISTORIES, said), head.scores(HISTORIES))

    def test_a_malformed_row_is_the_trunk_bit_for_bit(self, head, matcher):
        said = reasoning_of([answer("Casino"), Completion("x"), answer("Toy Story"), Completion("")], matcher)
        trunk, heard = head.scores(HISTORIES), trusting(head).scores(HISTORIES, said)
        assert torch.equal(heard[[1, 3]], trunk[[1, 3]])
        assert not torch.equal(heard[[0, 2]], trunk[[0, 2]])

    def test_hidden_reasoning_is_silent_too(self, head, matcher):
        said = reasoning_of([answer("Casino")] * 4, matcher)
        hidden = said._replace(well_formed=torch.zeros(4, dtype=torch.bool))
        assert torch.equal(trusting(head).scores(HISTORIES, hidden), head.scores(HISTORIES))

    def test_strength_scales_what_is_heard(self, head, matcher):
        said, trunk = reasoning_of([answer("Casino")] * 4, matcher), head.scores(HISTORIES)
        full = trusting(head).scores(HISTORIES, said)
        head.expert.strength.fill_(0.5)
        half = head.scores(HISTORIES, said)
        torch.testing.assert_close(half[:, 1:] - trunk[:, 1:], (full[:, 1:] - trunk[:, 1:]) / 2)

    def test_padding_never_scores(self, head, matcher):
        said = reasoning_of([answer("zzz"), answer("Heat"), answer("Drama | 1996"), answer("Twin")], matcher)
        assert (trusting(head).scores(HISTORIES, said)[:, 0] == -torch.inf).all()


class TestGuesses:
    def test_company_changes_nothing(self, head, matcher):
        texts = [
            answer("Drama | 1996"),
            guessed((CATALOGUE.lines[1], -0.5), (CATALOGUE.lines[2], -1.5)),
            answer("zzz"),
            guessed((CATALOGUE.lines[4], -0.1)),
        ]
        together = trusting(head).scores(HISTORIES, reasoning_of(texts, matcher))
        for row, text in enumerate(texts):
            alone = head.scores(HISTORIES[row : row + 1], reasoning_of([text], matcher))
            torch.testing.assert_close(alone, together[row : row + 1], rtol=1e-6, atol=1e-6)

    def test_what_is_known_of_a_guess(self, matcher):
        found = read_guesses(
            [guessed((CATALOGUE.lines[1], np.log(0.5)), (CATALOGUE.lines[2], np.log(0.25)))], matcher, N
        )
        known, logprob, lead, votes, answered = found.facts[0].T
        assert known.tolist() == votes.tolist() == [1, 1]
        assert answered.tolist() == [1, 0]
        torch.testing.assert_close(logprob.exp(), torch.tensor([0.5, 0.25]))
        unguessed = 0.25 / (N - 1 - 2)  # the rest is shared by all other items
        torch.testing.assert_close(lead.exp(), torch.tensor([0.5, 0.25]) / unguessed, rtol=1e-5, atol=0)

    def test_what_several_texts_say_is_heard_once_with_all_their_votes(self, matcher):
        texts = [[answer(CATALOGUE.lines[1])], [answer(CATALOGUE.lines[1])], [answer(CATALOGUE.lines[2])]]
        found = join_guesses([read_guesses(one, matcher, N) for one in texts])
        named = {int(items[0]): float(facts[3]) for items, facts in zip(found.items[0], found.facts[0], strict=True)}
        named.pop(0, None)
        assert named == pytest.approx({1: 2 / 3, 2: 1 / 3})
        assert (found.items == 1).sum() == 1

    def test_what_one_text_answers_is_an_answer_though_another_only_might_have(self, matcher):
        first, second = CATALOGUE.lines[1], CATALOGUE.lines[2]
        texts = [[guessed((first, -0.5), (second, -1.5))], [guessed((second, -0.4), (first, -1.6))]]
        found = join_guesses([read_guesses(one, matcher, N) for one in texts])
        named = {int(items[0]): float(facts[4]) for items, facts in zip(found.items[0], found.facts[0], strict=True)}
        named.pop(0, None)
        assert named == {1: 1.0, 2: 1.0}

    def test_a_malformed_text_has_no_vote(self, head, matcher):
        samples = [[answer(CATALOGUE.lines[1])], [Completion("malformed")]]
        joined = mean_reasoning([reasoning_of(one, matcher) for one in samples])
        assert joined.well_formed.tolist() == [True]
        assert joined.guesses.facts[0, :, 3].max() == 1

    def test_rows_of_several_batches_stand_in_one(self, matcher):
        texts = [answer("Drama | 1996"), guessed((CATALOGUE.lines[1], -0.5), (CATALOGUE.lines[2], -1.5))]
        one_by_one = stack_guesses([read_guesses([text], matcher, N) for text in texts])
        for part, whole in zip(one_by_one, read_guesses(texts, matcher, N), strict=True):
            assert torch.equal(part, whole)


@pytest.mark.parametrize("hidden", [None, torch.tensor([[2, 0], [8, 3], [0, 0], [1, 1]])])
def test_an_index_finds_what_all_scores_find(head, matcher, hidden):
    """Named items are scored beside those of the index: the service ranks as the evaluation does."""
    texts = [
        answer("Drama | 1996"),
        guessed((CATALOGUE.lines[306], -0.2), (CATALOGUE.lines[3], -2.0)),
        answer("zzz"),
        answer("Twin"),
    ]
    said = reasoning_of(texts, matcher)
    trusting(head)
    with torch.no_grad():
        items, seen = head.item_vectors(), distinct(HISTORIES)
        state = head.last_state(HISTORIES, items)
        expected = head.scores_of(state, items, seen, said)
        if hidden is not None:
            expected = expected.scatter(1, hidden, -torch.inf)
        heard = Heard(said.guesses.items.flatten(1), lambda scores, best: head.heard(said, scores, best, seen))
        users, offset = head.user_vectors(state, said), head.history_offset(state)
        for index in (None, ItemIndex.build(items.numpy(), "exact", {})):
            values, ids = Retriever(items, index).top(users, seen, offset, hidden, 10, heard)
            torch.testing.assert_close(values, expected.gather(1, ids))
            torch.testing.assert_close(values, expected.topk(10, dim=1).values)


def test_it_learns_whom_to_trust():
    """Answers are right for one row in four, and popular items otherwise: by the gate alone the right ones come first."""
    torch.manual_seed(0)
    rows, n = 2000, 100
    matcher = AnswerMatcher(Catalogue([ItemText(""), *(ItemText(f"item{i}") for i in range(1, n))], ("title",)))
    targets = torch.randint(1, n, (rows,))
    right = torch.rand(rows) < 0.25
    named = torch.where(right, targets, torch.randint(1, 6, (rows,)))
    scores = torch.randn(rows, n)
    scores[:, 0] = -torch.inf
    texts = [answer(f"item{i}") for i in named.tolist()]
    said = read_guesses(texts, matcher, n)
    expert = AnswerExpert(n)
    optimizer = torch.optim.Adam(expert.parameters(), lr=0.05)
    nobody = torch.zeros(said.items.shape, dtype=torch.bool)

    def heard():
        places = said.items.flatten(1)
        best = scores.topk(32, dim=1).values
        added = expert(said, scores.gather(1, places).view(said.items.shape), best, nobody)
        return scores.scatter_add(1, places, added.flatten(1))

    for _ in range(150):
        loss = torch.nn.functional.cross_entropy(heard()[:, 1:], targets - 1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    first = heard().argmax(dim=1) == targets
    assert first[right & (named > 5)].float().mean() > 0.95
    assert first.float().mean() > 0.22
