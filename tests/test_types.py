"""The types of the whole package fit. It takes a minute where nothing is cached, so it runs beside the other tests."""

import subprocess
import sys
from pathlib import Path


def test_mypy_finds_nothing():
    done = subprocess.run(
        [sys.executable, "-m", "mypy"], cwd=Path(__file__).parent.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
