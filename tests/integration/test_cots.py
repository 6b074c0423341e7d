"""`rporec cots`: looking at what was written."""

import json
import subprocess
import sys

import pytest

from rporec_recbole.cli import main
from rporec_recbole.cot.store import CoTStore, Decoding

GOOD = "<think>evidence: A. intent: B.</think><answer>Film 3 | Drama</answer>"


@pytest.fixture
def run_dir(tmp_path):
    store = CoTStore(tmp_path / "reasoning.sqlite")
    store.put(
        {"a": ("Film 1\n", GOOD), "b": ("Film 2\n", GOOD), "c": ("Film \x1b[31m3\n", "noise")}, "w" * 64, Decoding()
    )
    store.put({"d": ("Film 4\n", "<think>x</think>")}, "v" * 64, Decoding(0.7, seed=3))
    store.close()
    return tmp_path


def test_statistics(run_dir, capsys):
    assert main(["cots", "stats", str(run_dir)]) == 0
    _, first, second, _, _, names, *faults = capsys.readouterr().out.splitlines()
    assert first.split() == ["wwwwwwww", "greedy", "3", "66.7%", "4.0", "4.0", "2", "1"]
    assert second.split() == ["vvvvvvvv", "t=0.7", "1", "0.0%", "0.0", "0.0", "1", "0"]
    assert names.split() == [
        "writer",
        "decoding",
        "format",
        "length",
        "repetition",
        "copying",
        "unfounded",
        "no",
        "fault",
    ]
    assert faults[0].split() == ["wwwwwwww", "greedy", "1", "0", "0", "0", "0", "2"]
    assert faults[1].split() == ["vvvvvvvv", "t=0.7", "1", "0", "0", "0", "0", "0"]


def test_statistics_use_the_limits_of_the_run(run_dir, capsys):
    limits = {"min_words": 5, "max_words": 9, "repetition": 1, "copying": 1}
    (run_dir / "config.yaml").write_text(json.dumps({"quality_limits": limits}))
    assert main(["cots", "stats", str(run_dir)]) == 0
    assert capsys.readouterr().out.splitlines()[6].split()[2:] == ["1", "2", "0", "0", "0", "0"]


def test_samples_show_prompt_and_verdict_and_no_control_characters(run_dir, capsys):
    assert main(["cots", "show", str(run_dir), "--count=9"]) == 0
    out = capsys.readouterr().out
    assert out.count("(well-formed)") == 2
    assert out.count("(MALFORMED)") == 2
    assert GOOD in out
    assert "\x1b" not in out
    assert main(["cots", "show", str(run_dir), "--count=1"]) == 0
    assert capsys.readouterr().out.count("--- prompt") == 2


def test_export(run_dir, capsys, tmp_path):
    target = tmp_path / "out.jsonl"
    assert main(["cots", "export", str(run_dir / "reasoning.sqlite"), f"--to={target}"]) == 0
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    assert [row["key"] for row in rows] == ["a", "b", "c", "d"]
    assert (rows[0]["answer"], rows[0]["well_formed"], rows[2]["well_formed"]) == ("Film 3 | Drama", True, False)
    assert rows[3]["decoding"]["temperature"] == 0.7
    assert main(["cots", "export", str(run_dir), f"--to={target}"]) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stats", "nowhere"], "nowhere holds no run"),
        (["stat", "RUN"], "must be stats, show, export, write, prompts or import. Did you mean `stats`"),
        (["show"], "Write `rporec cots stats RUN`"),
        (["show", "RUN", "--cuont=3"], "Did you mean `count`"),
        (["show", "RUN", "--count=many"], "whole number"),
    ],
)
def test_mistakes(run_dir, capsys, arguments, message):
    assert main(["cots", *(str(run_dir) if one == "RUN" else one for one in arguments)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_file_that_is_something_else_stays_as_it_is(tmp_path, capsys):
    path = tmp_path / "notes.json"
    path.write_text('{"mine": 1}')
    assert main(["cots", "stats", str(path)]) == 2
    assert "is no store" in capsys.readouterr().err
    assert [one.name for one in tmp_path.iterdir()] == ["notes.json"]
    assert path.read_text() == '{"mine": 1}'


def test_a_reader_who_has_seen_enough(run_dir):
    """And torch, which takes seconds to import, is not needed for it."""
    script = "import sys; from rporec_recbole.cli import main; sys.exit(main(sys.argv[1:]) or 'torch' in sys.modules)"
    command = [sys.executable, "-c", script, "cots", "show", str(run_dir)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0
