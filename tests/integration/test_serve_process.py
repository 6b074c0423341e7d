"""`rporec serve` as processes: signals, kills, newer runs under load, and the example of the documentation."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rporec_recbole.cot.store import CoTStore
from rporec_recbole.runs.run import run
from rporec_recbole.serve.pending import PENDING, Pending, count_pending
from rporec_recbole.serve.reload import stamp_of
from tests.integration.reasoned import with_texts
from tests.serving import Client, served
from tests.started import ROOT, Started
from tests.toy import SHORT, TEXT

PAGE = ROOT / "docs/serving.md"


@pytest.fixture(scope="module")
def finished(toy, tmp_path_factory):
    """A run that uses reasoning."""
    folder = tmp_path_factory.mktemp("runs")
    settings = {
        **SHORT,
        **TEXT,
        "data_path": str(toy),
        "stages": ["1a", "1b", "1c"],
        "run_dir": str(folder / "trained"),
    }
    return with_texts(run("RPORec", "toy", overrides=settings).run_dir, folder / "reasoned")


@pytest.fixture
def folder(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "runs" / "reasoned")


def question(number):
    return {"history": [f"i{number % 25}", f"i{number * 7 % 25}", f"i{number // 25 % 25}"], "top_k": 3}


class Load:
    """Clients that keep their connections and note every answer, and every request that got none."""

    def __init__(self, port, count=8):
        self.port, self.found, self.unanswered, self.over = port, [], [], threading.Event()
        self.threads = [threading.Thread(target=self._ask, args=(100 * n,), daemon=True) for n in range(count)]
        for thread in self.threads:
            thread.start()

    def _ask(self, number):
        client = Client(self.port)
        while not self.over.is_set():
            number += 1
            try:
                self.found.append((question(number), *client.ask("/recommend", question(number))))
            except ConnectionRefusedError:  # nobody accepts any more
                return
            except OSError as error:
                self.unanswered.append(error)
                return
            except Exception as error:  # half an answer
                self.unanswered.append(error)
                return

    def end(self):
        self.over.set()
        for thread in self.threads:
            thread.join(60)
        return self.found


def wait_for(what, seconds=60):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def prompts_with_texts(folder):
    store = CoTStore(folder / "reasoning.sqlite")
    count = len({one.prompt for one in store})  # a malformed text is drawn again
    store.close()
    return count


def children_of(process):
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process)], capture_output=True, text=True, check=False)
    return [int(number) for number in found.stdout.split()]


def has_ended(process):
    """It is gone, or nobody has asked how it ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except FileNotFoundError:
        return True


def test_sigterm_under_load_fails_no_accepted_request(folder):
    with served(folder, "--worker=False") as service:
        load = Load(service.port)
        wait_for(lambda: len(load.found) > 100)
        assert service.end() == 0
        found = load.end()
        end = re.fullmatch(r"Ended: (\d+) requests accepted, (\d+) answered", service.process.stdout.splitlines()[-1])
    # A connection that the system held, and the service never took, is reset: its client got nothing, and nothing was accepted.
    assert all(isinstance(one, (BrokenPipeError, ConnectionResetError)) for one in load.unanswered)
    assert int(end[1]) == int(end[2]) == len(found)
    assert {status for _, status, _ in found} == {200}
    with pytest.raises(ConnectionRefusedError):
        Client(service.port).ask("/health")


def test_a_kill_of_service_and_worker_loses_no_history(folder):
    """A killed worker is started again, and ends with its service; what was queued is written by the next one."""
    before, queued = prompts_with_texts(folder), set()
    with served(folder, "--worker=True") as service:
        load = Load(service.port, 4)
        wait_for(lambda: len(load.found) > 60)
        wait_for(lambda: children_of(service.process.pid))
        (worker,) = children_of(service.process.pid)
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: worker not in children_of(service.process.pid) and children_of(service.process.pid))
        (worker,) = children_of(service.process.pid)
        service.process.kill()
        service.process.wait()
        for asked, status, answer in load.end():
            assert status == 200
            if answer["reasoning"] == "queued":
                queued.add(tuple(asked["history"]))
    assert len(queued) > 20
    wait_for(lambda: has_ended(worker), 120)
    with served(folder, "--worker=False") as service:
        next_one = Started([ROOT / "run_recbole.py", "serve", folder, "--worker_only=True"])
        wait_for(lambda: count_pending(folder) == 0, 120)
        next_one.terminate()
        assert next_one.wait(30) == 0
        client = Client(service.port)
        said = {client.ask("/recommend", {"history": list(history)})[1]["reasoning"] for history in queued}
        assert said <= {"used", "malformed"}
        assert service.end() == 0
    assert prompts_with_texts(folder) >= before + len(queued)
    assert not list(folder.glob("*.damaged*"))


def test_a_worker_in_another_process_writes_what_a_service_queued(folder):
    queue = Pending(folder / PENDING, 100)
    queue.add({f"key {number}": f"Film {number} of the Crime\n" for number in range(40)})
    before = prompts_with_texts(folder)
    workers = [Started([ROOT / "run_recbole.py", "serve", folder, "--worker_only=True"]) for _ in range(2)]
    wait_for(lambda: len(queue) == 0)
    queue.close()
    for worker in workers:
        worker.terminate()
        assert worker.wait(30) == 0
    assert prompts_with_texts(folder) == before + 40


def test_a_newer_run_under_load(folder):
    with served(folder, "--watch=True") as service:
        load = Load(service.port, 4)
        wait_for(lambda: len(load.found) > 50)
        broken = shutil.copytree(folder, folder.parent / "broken")
        (broken / "head.safetensors").write_bytes(b"nothing")
        os.utime(broken / "rporec.json", (time.time() + 10,) * 2)
        wait_for(lambda: 'outcome="refused"} 1.0' in service.ask("/metrics")[1])
        new = shutil.copytree(folder, folder.parent / "copying")
        os.utime(new / "rporec.json", (time.time() + 20,) * 2)
        new = new.rename(folder.parent / "new")
        assert stamp_of(new) is not None
        wait_for(lambda: service.ask("/ready")[1]["model_version"].startswith("new@"))
        found = load.end()
        assert service.end() == 0
    assert load.unanswered == []
    assert {status for _, status, _ in found} == {200}


def test_the_example_of_the_page(folder):
    text = PAGE.read_text(encoding="utf-8")
    example = re.search(r"rporec serve saved/RUN\n.*?```python\n(.*?)```", text, re.DOTALL)[1]
    assert len([line for line in example.splitlines() if line]) == 4
    with served(folder, "--worker=False") as service:
        for given, here in (("8000", str(service.port)), ('["50", "181", "174"]', '["i5", "i18", "i17"]')):
            assert given in example
            example = example.replace(given, here)
        done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, check=True)
        assert re.fullmatch(r"\[('[^']+', ){4}'[^']+'\] False\n", done.stdout.replace('"', "'"))
