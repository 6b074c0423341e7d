import gc
import weakref

import pytest

from rporec_recbole.backbone.memory import settle


class Part:
    other: "Part"


def pair():
    one, two = Part(), Part()
    one.other, two.other = two, one
    return one


@pytest.fixture(autouse=True)
def thawed():
    yield
    gc.unfreeze()


def test_what_has_settled_is_left_alone_until_the_next_time():
    kept = pair()
    gone = weakref.ref(kept)
    settle()
    assert gc.get_freeze_count() > 0
    del kept
    gc.collect()
    assert gone() is not None  # no collection visits it
    settle()
    assert gone() is None
