import contextlib
import os
import stat
import threading
from pathlib import Path

import pytest
import torch

from rporec_recbole.data.files import (
    read_tensors,
    replacing,
    replacing_folder,
    unwritable,
    write_json,
    write_tensors,
    write_text,
)
from rporec_recbole.errors import ConfigError, RunFolderError, translating


@pytest.mark.parametrize("alone", [True, False])
def test_a_file_is_whole_or_as_it_was(tmp_path, alone):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with contextlib.suppress(ZeroDivisionError), replacing(path, alone=alone) as growing:
        growing.write_text("half")
        assert path.read_text() == "old"
        raise ZeroDivisionError
    assert [one.name for one in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"


def test_what_a_killed_writer_left_is_written_over(tmp_path):
    (tmp_path / "a.txt.writing").write_text("half a file, longer than the new one")
    with replacing(tmp_path / "a.txt", alone=True) as growing:
        growing.write_text("new")
    assert {one.name: one.read_text() for one in tmp_path.iterdir()} == {"a.txt": "new"}


def test_of_a_link_what_it_points_to_is_replaced(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "near.json").symlink_to(tmp_path / "far" / "real.json")
    write_json(tmp_path / "near.json", {"a": 1})
    assert (tmp_path / "near.json").is_symlink()
    assert (tmp_path / "far" / "real.json").read_text() == '{\n  "a": 1\n}\n'


def test_a_pipe_is_written_to_as_it_is(tmp_path):
    reader, writer = os.pipe()
    write_text(Path(f"/dev/fd/{writer}"), "through")
    os.close(writer)
    assert os.read(reader, 100) == b"through"
    os.close(reader)


def test_a_folder_is_whole_or_as_it_was(tmp_path):
    folder = tmp_path / "out"
    (tmp_path / f"out.{os.getpid()}.writing").mkdir()  # a killed process had the same number
    with replacing_folder(folder) as growing:
        (growing / "a").write_text("1")
    with contextlib.suppress(ZeroDivisionError), replacing_folder(folder) as growing:
        (growing / "b").write_text("2")
        raise ZeroDivisionError
    assert [one.name for one in tmp_path.iterdir()] == ["out"]
    assert [one.name for one in folder.iterdir()] == ["a"]


def test_tensors_and_facts_come_back_and_may_be_read_by_whoever_may_read_the_rest(tmp_path):
    path = tmp_path / "t.safetensors"
    write_tensors(path, {"a": torch.arange(6).reshape(2, 3).T}, {"n": [1, "x"]})
    write_tensors(tmp_path / "plain.safetensors", {"b": torch.ones(1)})
    write_text(tmp_path / "t.txt", "")
    tensors, facts = read_tensors(path, "Go.")
    assert torch.equal(tensors["a"], torch.arange(6).reshape(2, 3).T)
    assert facts == {"n": [1, "x"]}
    assert read_tensors(tmp_path / "plain.safetensors", "Go.")[1] == {}
    assert len({stat.S_IMODE(one.stat().st_mode) for one in tmp_path.iterdir()}) == 1


def test_tensors_that_cannot_be_read_say_what_to_do(tmp_path):
    (tmp_path / "t.safetensors").write_bytes(b"no tensors")
    with pytest.raises(RunFolderError, match=r"t\.safetensors is damaged: .*\. Train again\."):
        read_tensors(tmp_path / "t.safetensors", "Train again.")
    with pytest.raises(RunFolderError, match=r"gone cannot be read: .*\. Train again\."):
        read_tensors(tmp_path / "gone", "Train again.")


def test_one_message_for_what_cannot_be_written(tmp_path):
    with pytest.raises(RunFolderError, match=r"It cannot be written: .*gone.*choose another --output\."):
        with unwritable("It cannot be written", "--output"):
            write_text(tmp_path / "gone" / "a.txt", "")
    with pytest.raises(KeyError), unwritable("It cannot be written"):
        raise KeyError("a bug keeps its traceback")


def test_errors_of_our_own_are_not_translated():
    with pytest.raises(ConfigError, match="ours"), translating(lambda error: RunFolderError("theirs")):
        raise ConfigError("ours")
    with pytest.raises(RunFolderError, match="theirs") as caught, translating(lambda error: RunFolderError("theirs")):
        raise ValueError("cause")
    assert str(caught.value.__cause__) == "cause"
    with pytest.raises(ValueError, match="passes"), translating(lambda error: None):
        raise ValueError("passes")


def test_what_is_read_is_of_one_file_while_another_process_replaces_it(tmp_path):
    path = tmp_path / "head.safetensors"
    sizes = {number: 50_000 + 20_000 * number for number in (0, 1)}
    write = lambda number: write_tensors(path, {"a": torch.full((sizes[number],), float(number))}, {"number": number})  # noqa: E731
    write(0)
    stop = threading.Event()

    def replace():
        number = 0
        while not stop.is_set():
            number = 1 - number
            write(number)

    writer = threading.Thread(target=replace)
    writer.start()
    try:
        for _ in range(200):
            tensors, facts = read_tensors(path, "")
            assert len(tensors["a"]) == sizes[facts["number"]]
            assert (tensors["a"] == facts["number"]).all()
    finally:
        stop.set()
        writer.join()


@pytest.mark.parametrize("content", [b"", b"ab", b"\xff" * 7, b"\x02" + b"\x00" * 7 + b"[]", b"\xff" * 40])
def test_what_is_no_tensor_file_is_damaged(tmp_path, content):
    path = tmp_path / "head.safetensors"
    path.write_bytes(content)
    with pytest.raises(RunFolderError, match="is damaged"):
        read_tensors(path, "")
    path.unlink()
    with pytest.raises(RunFolderError, match="cannot be read"):
        read_tensors(path, "")
