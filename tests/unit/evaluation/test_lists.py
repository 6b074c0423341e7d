"""Lists that are kept in a run: which items, in which order, and their way to a file and back."""

import numpy as np
import pandas as pd
import pytest
import torch

from rporec_recbole.errors import RunFolderError
from rporec_recbole.evaluation.beyond import DEPTH
from rporec_recbole.evaluation.lists import TopLists, as_matrix, best_lists, lists_table, read_lists
from rporec_recbole.evaluation.ranking import top_of

USERS, ITEMS = ["[PAD]", "u", "v", "w"], ["[PAD]", *(f"i{number}" for number in range(1, 40))]


def test_the_best_of_a_batch_whatever_its_size_and_its_ties():
    generator = torch.Generator().manual_seed(0)
    for rows in (1, 7, 8, 9, 30):
        scores = torch.randint(0, 9, (rows, 40), generator=generator).float()
        scores[:, 0] = -torch.inf
        found = best_lists(torch.arange(rows), scores)
        assert found.ids.tolist() == top_of(scores, DEPTH)[1].tolist()
        assert (found.ids.dtype, found.scores.dtype) == (np.int32, np.float32)
        assert found.owners.tolist() == list(range(rows))


def test_what_is_hidden_stands_in_no_list():
    scores = torch.full((1, 40), -torch.inf)
    scores[0, [3, 9]] = torch.tensor([1.0, 2.0])
    found = best_lists(torch.tensor([2]), scores)
    assert found.ids.tolist() == [[9, 3, *[0] * (DEPTH - 2)]]
    table = lists_table(found, USERS, ITEMS)
    assert table.values.tolist() == [["v", 1, "i9", 2.0], ["v", 2, "i3", 1.0]]
    few = best_lists(torch.tensor([1]), torch.tensor([[-torch.inf, 5.0, 7.0]]))  # fewer candidates than places
    assert few.ids.tolist() == [[2, 1]]


def test_several_lists_of_a_user_are_numbered_and_come_back():
    ids = np.array([[1, 2, 0], [3, 0, 0], [2, 1, 5]], dtype=np.int32)
    lists = TopLists(np.array([1, 3, 1]), ids, np.ones((3, 3), dtype=np.float32))
    table = lists_table(lists, USERS, ITEMS)
    assert list(table.columns) == ["user_id", "list", "rank", "item_id", "score"]
    assert table["list"].tolist() == [1, 1, 1, 2, 2, 2]
    owners, again = as_matrix(table, pd.Index(USERS), pd.Index(ITEMS))
    assert owners.tolist() == [1, 3, 1]
    assert again.tolist() == ids.tolist()
    one = lists_table(TopLists(np.array([1, 3]), ids[:2], np.ones((2, 3))), USERS, ITEMS)
    assert list(one.columns) == ["user_id", "rank", "item_id", "score"]
    owners, again = as_matrix(one, pd.Index(["[PAD]", "w"]), pd.Index(ITEMS[:3]))  # the others are unknown here
    assert owners.tolist() == [0, 1]
    assert again.tolist() == [[1, 2], [0, 0]]


def test_a_damaged_file_is_said_and_none_is_a_gap(tmp_path):
    assert read_lists(tmp_path) is None
    (tmp_path / "lists.parquet").write_bytes(b"nothing")
    with pytest.raises(RunFolderError, match="can be compared without"):
        read_lists(tmp_path)
    pd.DataFrame({"user_id": ["u"]}).to_parquet(tmp_path / "lists.parquet")
    with pytest.raises(RunFolderError, match=r"it lacks the columns \['rank', 'item_id', 'score'\]"):
        read_lists(tmp_path)
