import atexit
import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.started import draws_little

_HUB = tempfile.mkdtemp(prefix="rporec-tests-")
os.environ["HF_HOME"] = _HUB  # what tests keep of models is not among those of whoever runs them


@atexit.register
def _forget(process: int = os.getpid()) -> None:
    if os.getpid() == process:  # a fork that ends leaves it to the others
        shutil.rmtree(_HUB, ignore_errors=True)


LONGEST = (
    "test_planted", "test_written_commands", "test_types", "test_processes", "test_resume", "test_serve_process", "test_sweep",
    "test_backbone_sources", "test_pipeline", "test_serve", "test_wheel", "test_report", "test_generation", "test_controls", "test_renamed_columns", "test_recommend",
    "test_kinds_of_model", "test_guesses", "test_moved", "test_explain",
)  # fmt: skip
"""Files of tests that take longest: they come first, so that no process is left alone with one of them in the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts files by how long they take; with `--no-loadscope-reorder` this is the order in which processes take them."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))


def pytest_collection_finish() -> None:
    """What has been imported stays: the collector of garbage need not look through all of it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def little_is_drawn() -> Iterator[None]:
    """Runs leave their figures empty."""
    with draws_little():
        yield


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.toy import write_toy  # imports torch, which the process that hands out the tests need not

    return write_toy(tmp_path_factory.mktemp("data"))
