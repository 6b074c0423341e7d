"""Parts of the service on their own: the queue of histories, what a question may be, what a newer run is."""

import json
import sqlite3

import pytest

from rporec_recbole.cot.store import Decoding
from rporec_recbole.errors import StoreError
from rporec_recbole.serve.limits import Limits
from rporec_recbole.serve.pending import PENDING, Pending, count_pending
from rporec_recbole.serve.problem import Problem, shown
from rporec_recbole.serve.question import question_schema, read_question
from rporec_recbole.serve.worker import _write

LIMITS = Limits(top_k=50, history=4)


def test_what_is_queued_stays_until_it_is_removed(tmp_path):
    queue = Pending(tmp_path / PENDING, limit=3)
    assert queue.add({"a": "A", "b": "B"}) == {"a", "b"}
    assert queue.add({"b": "B", "c": "C", "d": "D"}) == {"b", "c"}  # no room for d
    other = Pending(tmp_path / PENDING, limit=3)
    assert other.first(2) == {"a": "A", "b": "B"}
    other.remove(["a"])
    other.fail("b", "no words")
    assert queue.first(9) == {"c": "C"}
    assert count_pending(tmp_path) == len(queue) == 1
    assert queue.add({"b": "B", "e": "E"}) == {"e"}  # what was set aside is not tried again
    other.close()
    queue.close()


def test_a_store_that_fails_sets_no_history_aside(tmp_path):
    class Reasoner:
        def complete(self, prompts, decoding):
            raise self.error

    reasoner, queue = Reasoner(), Pending(tmp_path / PENDING, limit=3)
    queue.add({"a": "A", "b": "B"})
    reasoner.error = StoreError("the store is damaged")
    with pytest.raises(StoreError, match="is damaged"):
        _write(reasoner, queue.first(2), [Decoding()], queue)
    assert queue.first(2) == {"a": "A", "b": "B"}
    reasoner.error = ValueError("no words")
    assert _write(reasoner, queue.first(2), [Decoding()], queue) == 0
    assert queue.first(2) == {}
    queue.close()


def test_a_damaged_queue_is_moved_aside(tmp_path):
    (tmp_path / PENDING).write_bytes(b"not a database at all" * 100)
    queue = Pending(tmp_path / PENDING, limit=3)
    assert queue.add({"a": "A"}) == {"a"}
    queue.close()
    assert (tmp_path / f"{PENDING}.damaged").is_file()


def test_another_process_that_writes_makes_nobody_wait(tmp_path):
    queue = Pending(tmp_path / PENDING, limit=3, patience=0.01)
    other = sqlite3.connect(tmp_path / PENDING, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="cannot be written"):
        queue.add({"a": "A"})
    other.execute("ROLLBACK")
    assert queue.add({"a": "A"}) == {"a"}
    queue.close()
    other.close()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "is no question"),
        (b"nonsense", "is no question"),
        (b"[1, 2]", "is no question"),
        (b"null", "is no question"),
        (b"\xff\xfe", "is no question"),
        (b"[" * 5000, "is no question"),
        (b"{}", "neither given"),
        (b'{"user": "u", "history": ["i"]}', "both given"),
        (b'{"history": []}', "`history`"),
        (b'{"history": "i1"}', "`history` is i1"),
        (b'{"history": ["i1", null]}', "`history.1`"),
        (b'{"history": [""]}', "`history.0`"),
        (b'{"history": [true]}', "`history.0`"),
        (b'{"history": [1.5]}', "`history.0`"),
        (b'{"history": [NaN]}', "`history.0`"),
        (b'{"history": ["\\ud800"]}', "is no question"),
        (b'{"history": [' + b"9" * 6000 + b"]}", "Send JSON such as"),
        (b'{"history": ["1", "2", "3", "4", "5"]}', "has 5 items; at most 4"),
        (b'{"user": "u", "top_k": 0}', "`top_k` is 0"),
        (b'{"user": "u", "top_k": 51}', "at most 50"),
        (b'{"user": "u", "top_k": 1e300}', "`top_k`"),
        (b'{"user": "u", "top_k": ' + b"9" * 6000 + b"}", "top_k"),
        (b'{"user": "u", "top_k": "5"}', "`top_k` is 5"),
        (b'{"user": "u", "hide_seen": "yes"}', "`hide_seen` is yes"),
        (b'{"user": "u", "topk": 5}', "`topk` is no part of a question"),
        (b'{"user": {"a": 1}}', "`user`"),
    ],
)
def test_what_is_no_question(body, message):
    with pytest.raises(Problem) as error:
        read_question(body, LIMITS)
    assert error.value.status == 422
    assert message in str(error.value)
    assert len(error.value.body()) < 1000
    json.loads(error.value.body())


def test_what_is_one():
    asked = read_question(b'{"history": ["a", 5, "\xc3\xa9"], "hide_seen": true}', LIMITS)
    assert (asked.history, asked.user, asked.top_k, asked.hide_seen) == (["a", 5, "é"], None, 10, True)
    schema = question_schema(LIMITS)["properties"]
    assert (schema["top_k"]["maximum"], schema["history"]["anyOf"][0]["maxItems"]) == (50, 4)


def test_messages_quote_what_was_given_shortly():
    assert shown("a" * 500) == "a" * 59 + "…"
    assert shown(10**5000) == "a number of very many digits"
    assert Problem(422, "x", "\ud800 \u202e").body().isascii()
