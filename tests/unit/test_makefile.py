"""The Makefile looks at the version of Python first, and keeps no environment of another one."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")

PYTHON = """\
#!/bin/sh
case "$*" in
    *version_info*) echo {version} ;;
    *"-m venv --clear"*) rm -rf "$4"; mkdir -p "$4/bin"; cp "$0" "$4/bin/python"; echo "{version} made $4" >> {log} ;;
    *) echo "{version} did $*" >> {log} ;;
esac
"""


@pytest.fixture
def python(tmp_path):
    """Makes a Python that only says its version, makes environments, and notes down what it is asked to do."""

    def make(version):
        path = tmp_path / f"python{version}"
        path.write_text(PYTHON.format(version=version, log=tmp_path / "log"))
        path.chmod(0o755)
        return path

    return make


def made(tmp_path, target, *settings):
    (tmp_path / "log").unlink(missing_ok=True)
    command = ["make", "--no-print-directory", target, f"VENV={tmp_path / 'env'}", *settings]
    environment = {"PATH": os.environ["PATH"]}  # without what a `make` around the tests hands down
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    log = (tmp_path / "log").read_text().splitlines() if (tmp_path / "log").exists() else []
    return done, log


def test_another_version_is_refused_before_anything_is_made(tmp_path, python):
    done, log = made(tmp_path, "test", f"PYTHON={python('3.10')}")
    assert done.returncode == 2
    assert (
        f"needs Python 3.11, 3.12 or 3.13; {tmp_path}/python3.10 is Python 3.10. Name one that you have: make test PYTHON="
        in done.stderr
    )
    done, _ = made(tmp_path, "run", "PYTHON=no-such-python")
    assert "no-such-python does not run. Name one that you have: make run PYTHON=" in done.stderr
    done, _ = made(tmp_path, "run", "TRIED=no-such-python")
    assert "none was found" in done.stderr
    assert log == []
    assert not (tmp_path / "env").exists()


def test_an_environment_of_another_version_is_made_anew(tmp_path, python):
    old, new = f"PYTHON={python('3.11')}", f"PYTHON={python('3.13')}"
    done, log = made(tmp_path, "install", old)
    assert done.returncode == 0, done.stderr
    assert log == [f"3.11 made {tmp_path}/env", "3.11 did -m pip install --quiet --requirement requirements.txt"]
    assert made(tmp_path, "install", old)[1] == []
    _, log = made(tmp_path, "install", new)
    assert log == [f"3.13 made {tmp_path}/env", "3.13 did -m pip install --quiet --requirement requirements.txt"]
    assert made(tmp_path, "install")[1] == []  # without a name, the one that is there
    _, log = made(tmp_path, "install", old)
    assert log[0] == f"3.11 made {tmp_path}/env"
