"""The benchmarks say what they are: each is listed, answers --help without torch, and owns the files that it made."""

import ast
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "benchmarks"

# One process for all, since starting one is most of what `--help` costs.
HELP = """
import contextlib, io, json, runpy, sys
texts = {}
for script in sys.argv[1:]:
    sys.argv = [script, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as end:
            assert not end.code, script
    texts[script] = shown.getvalue()
print(json.dumps({"texts": texts, "heavy": sorted({"torch", "rporec_recbole", "transformers"} & set(sys.modules))}))
"""


@pytest.fixture
def listing(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmarks/list.py as a module."""
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("benchmark_list", FOLDER / "list.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def scripts() -> list[Path]:
    """Files that can be started."""
    return [file for file in sorted(FOLDER.glob("*.py")) if '__name__ == "__main__"' in file.read_text("utf-8")]


def test_every_script_is_listed(listing):
    assert [one.name for one in listing.benchmarks()] == [file.stem for file in scripts() if file.stem != "list"]
    for one in listing.benchmarks():
        assert one.measures.endswith((".", "?")), one.name
        assert one.time, one.name


def test_every_file_has_a_docstring():
    assert [
        file.name for file in FOLDER.glob("*.py") if not ast.get_docstring(ast.parse(file.read_text("utf-8")))
    ] == []


def test_help_answers_without_heavy_imports():
    files = [str(file) for file in scripts()]
    environment = {**os.environ, "PYTHONPATH": str(FOLDER), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", HELP, *files], capture_output=True, text=True, env=environment, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["heavy"] == []
    for file in scripts():
        assert f"python benchmarks/{file.name}" in found["texts"][str(file)]


def test_every_result_has_one_maker(listing):
    owners = {}
    for one in listing.benchmarks():
        for pattern in one.results:
            for file in ROOT.glob(pattern):  # none yet where a benchmark is new
                assert owners.setdefault(file, one.name) == one.name, file
    assert [file for file in (FOLDER / "results").rglob("*") if file.is_file() and file not in owners] == []


def test_the_readme_has_the_table(listing):
    assert listing.files_table() in (FOLDER / "README.md").read_text(encoding="utf-8")
