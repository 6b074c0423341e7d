"""Semantic ids: they stand for the vectors they are made of, no two are the same, and the tree knows each of them and nothing else."""

import numpy as np
import pytest
import torch

from rporec_recbole.rivals.code_tree import CodeTree
from rporec_recbole.rivals.codes import residual_codes, told_apart


def rebuilt(codes, books):
    return sum(book[codes[:, level]] for level, book in enumerate(books))


def test_each_level_comes_nearer():
    vectors = np.random.default_rng(0).normal(size=(40, 5))
    codes, books = residual_codes(vectors, 3, 8, seed=1)
    errors = [((vectors - rebuilt(codes, books[:levels])) ** 2).sum() for levels in (1, 2, 3)]
    assert errors[0] > errors[1] > errors[2]
    assert codes.shape == (40, 3)
    assert codes.max() == 7
    np.testing.assert_array_equal(codes, residual_codes(vectors, 3, 8, seed=1)[0])


def test_as_many_means_as_vectors_rebuild_them():
    vectors = np.repeat(np.random.default_rng(0).normal(size=(6, 4)), 2, axis=0)
    codes, books = residual_codes(
        vectors, 2, 12, seed=0
    )  # six differ, so there are six means, and nothing is left behind them
    np.testing.assert_allclose(rebuilt(codes, books), vectors, atol=1e-6)
    assert [len(book) for book in books] == [6, 1]


def test_items_that_collide_are_told_apart():
    codes = np.array([[1, 2], [0, 2], [1, 2], [1, 2], [0, 1]])
    np.testing.assert_array_equal(told_apart(codes), [[1, 2, 0], [0, 2, 0], [1, 2, 1], [1, 2, 2], [0, 1, 0]])
    same = told_apart(np.zeros((30, 3), dtype=np.int64))
    assert len(np.unique(same, axis=0)) == 30


@pytest.fixture
def codes():
    own = told_apart(np.random.default_rng(0).integers(0, 3, size=(20, 2)))
    return torch.nn.functional.pad(torch.from_numpy(own), (0, 0, 1, 0))


def test_the_tree_leads_to_every_item_and_to_nothing_else(codes):
    tree = CodeTree(codes)
    for item in range(1, 21):
        node = 0
        for depth, table in enumerate(tree.children):
            assert tree.paths[item, depth] == node
            assert tree.tokens[depth][node].tolist() == codes[item, :depth].tolist()
            node = int(table[node, codes[item, depth]])
        assert node == item
    assert int((tree.children[-1] > 0).sum()) == 20
    assert len(tree) == 1 + len(tree.children[1]) + len(tree.children[2])
    assert bool(tree.allowed(0).any(dim=1).all())


def test_shares_along_the_tree_add_up_to_one(codes):
    tree = CodeTree(codes)
    torch.manual_seed(0)
    by_depth = [
        torch.randn(4, *table.shape).masked_fill(table < 0, -torch.inf).log_softmax(-1) for table in tree.children
    ]
    found = tree.of_items(by_depth, codes)
    torch.testing.assert_close(found[:, 1:].exp().sum(dim=1), torch.ones(4))
