"""Every command that the README's tables and `--help` show runs as it is written, in a directory prepared with small stand-ins."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rporec_recbole.cli import COMMANDS
from tests.workplace import IMPORTED, TRAINED, execute, prepare
from tests.written import commands_of, forms_of, help_examples, readme_rows

ROWS = readme_rows()
IN_README = {command.replace("saved/RUN", "RUN") for row in ROWS.values() for command in commands_of(row)}
EXAMPLES = {
    code: name
    for name, codes in help_examples().items()
    for code in codes
    if code not in {*IN_README, *TRAINED, IMPORTED}
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("work") / "place")


@pytest.fixture
def place(prepared, tmp_path):
    return shutil.copytree(prepared, tmp_path / "place", symlinks=True)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_row_of_the_readme(row, place):
    commands = commands_of(row)
    assert commands, "no command was found in this row"
    for command in commands:
        if command not in {*TRAINED, IMPORTED}:  # these have been run, or nothing would be there
            assert execute(command, place) == 0


@pytest.mark.parametrize("command", EXAMPLES)
def test_an_example_of_help(command, place, services_end_at_once):
    assert execute(command, place) == 0


@pytest.fixture
def services_end_at_once(monkeypatch):
    """`rporec serve` loads everything and takes a free port; then it ends as if told to. `test_serve_process.py` asks it."""
    import uvicorn

    from rporec_recbole.serve import server, worker_process

    listening, run_worker = server._listening, worker_process.run_worker
    monkeypatch.setattr(server, "_listening", lambda host, port: listening(host, 0))
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: setattr(self, "started", True))
    monkeypatch.setattr(worker_process.WorkerProcess, "start", lambda self: None)
    monkeypatch.setattr(worker_process.WorkerProcess, "stop", lambda self: None)
    monkeypatch.setattr(worker_process, "run_worker", lambda folder, stop, **places: run_worker(folder, lambda: True))


def test_a_launcher_finds_the_installed_command():
    launcher = [Path(sys.executable).with_name("torchrun"), "--nproc-per-node=1", "--no-python", "rporec", "--version"]
    paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(launcher, env={**os.environ, "PATH": paths}, capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()[0]) == (0, "rporec_recbole"), done.stderr


def test_every_command_shows_how_it_is_used():
    examples = help_examples()
    assert examples.keys() == {"", *COMMANDS}
    assert [name for name, codes in examples.items() if not codes] == []
    assert len(ROWS) >= 29


def test_what_is_read_off_a_page():
    page = (
        "| You want | Command |\n|---|---|\n| a | `rporec x RUN`, or `--b=1` (`docs/y.md`) |\n| c | add `--d` |\n\n| e | f |\n\n"
        "    rporec g --h=1   # why\n    make i\n"
    )
    rows = readme_rows([page])
    assert [commands_of(row) for row in rows.values()] == [
        ["rporec x RUN", "rporec x RUN --b=1"],
        ["rporec --model=RPORec --dataset=ml-100k --d"],
        ["rporec g --h=1"],
    ]
    assert forms_of('rporec x RUN RUN [...] [--kind=a|b] [--to="[1,2]"] [--key=value ...]') == [
        "rporec x RUN saved/OTHER_RUN",
        'rporec x RUN saved/OTHER_RUN --kind=a --to="[1,2]"',
        'rporec x RUN saved/OTHER_RUN --kind=b --to="[1,2]"',
    ]
