"""What `tests/started.py` starts is a process like any other, but for what it has imported."""

import os
import signal

from tests import started

SAYS = (
    "import os, sys; print(sys.argv[1:], os.getcwd(), os.environ['WORD']); print('why', file=sys.stderr); sys.exit(3)"
)


def test_words_folder_environment_output_and_status(tmp_path):
    done = started.run(["-c", SAYS, "a", 1], cwd=tmp_path, env={**os.environ, "WORD": "x"})
    assert (done.returncode, done.stdout, done.stderr) == (3, f"['a', '1'] {tmp_path} x\n", "why\n")
    failed = started.run(["-c", "import torch; raise ValueError('no')"])
    assert failed.returncode == 1
    assert "ValueError: no" in failed.stderr


def test_a_script_finds_its_siblings(tmp_path):
    (tmp_path / "sibling.py").write_text("word = 'here'", encoding="utf-8")
    (tmp_path / "script.py").write_text("if __name__ == '__main__':\n    import sibling; print(sibling.word)", "utf-8")
    assert started.run([tmp_path / "script.py"]).stdout == "here\n"


def test_it_is_killed():
    process = started.Started(["-c", "print('begun', flush=True); import time; time.sleep(600)"])
    assert process.first_line() == "begun"
    assert process.poll() is None
    process.kill()
    assert process.wait(60) == -signal.SIGKILL


def test_everything_is_imported_and_nothing_was_computed():
    """Threads that torch has started for a computation would be missing in what is forked, which would wait for them for ever."""
    code = "import os, sys; print('trl' in sys.modules, len(os.listdir(f'/proc/{os.getppid()}/task')))"
    imported, threads = started.run(["-c", code]).stdout.split()
    assert imported == "True"
    assert int(threads) <= 2  # the second is of pyarrow's allocator, which knows how to be forked
