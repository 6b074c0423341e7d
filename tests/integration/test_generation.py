"""Generation that is killed, and generation by several processes: nothing is lost, nothing is written twice."""

import json
import os
import random
import signal
import sqlite3
import time

import pytest

from rporec_recbole.cot.store import CoTStore
from tests.started import Started

COUNT = 300
SEED = "RPOREC_KILL_SEED"  # environment variable: the moments of the kills are drawn from it, else from chance
SCRIPT = """
import json, sys
import torch
from rporec_recbole.backbone.load import make_backbone
from rporec_recbole.cot import reasoner
from rporec_recbole.cot.store import CoTStore, Decoding
from rporec_recbole.settings.reader import default_settings

store, log, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
torch.set_num_threads(1)
reasoner._AT_ONCE = 40
settings = default_settings(
    backbone="tiny-nano", max_new_tokens=24, generation_batch_tokens=600
).backbone
prompts = [f"Film {i} | Drama\\n" * (1 + i % 5) for i in range(count)]
backbone = make_backbone(settings, prompts, torch.device("cpu"), 0)
generate = backbone.generate

def logged(prompts, *arguments):
    with open(log, "a") as file:
        file.writelines(json.dumps(prompt) + "\\n" for prompt in prompts)
    return generate(prompts, *arguments)

backbone.generate = logged
written = reasoner.Reasoner(backbone, None, CoTStore(store)).complete(prompts, Decoding(0.9, 24, 1))
assert len(written) == count
"""


def start(store, log, count=COUNT):
    return Started(["-c", SCRIPT, store, log, count])


def finish(process):
    assert process.wait() == 0, process.stderr[-2000:]


def content(path):
    return {(row.key, row.prompt, row.text, row.generator, row.decoding) for row in CoTStore(path)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    finish(start(folder / "s.sqlite", folder / "log"))
    kept = content(folder / "s.sqlite")
    assert len(kept) == COUNT
    return kept


def test_killed_twice(whole, tmp_path):
    seed = int(os.environ.get(SEED) or random.SystemRandom().randrange(2**32))
    draw = random.Random(seed)
    # Anywhere between the first text and so many before the last one that the process is not over before the kill.
    moments = [(least, draw.uniform(0, 0.1)) for least in sorted(draw.sample(range(1, COUNT - 100), 2))]
    again = f"; killed at (texts, seconds later) {moments}: {SEED}={seed} draws the same"
    print(f"{SEED}={seed}")
    path, log = tmp_path / "s.sqlite", tmp_path / "log"
    before = 0
    for least, later in moments:
        process = start(path, log)
        while process.poll() is None and number_of_texts(path) < least:
            time.sleep(0.01)
        time.sleep(later)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it was over before it could be killed" + again
        kept = content(path)
        assert kept < whole, again
        assert len(kept) >= max(least, before), again
        before = len(kept)
    begun = time.perf_counter()
    finish(start(path, log))
    assert content(path) == whole, again
    assert time.perf_counter() - begun < 120, "the claims of the killed processes were waited for" + again
    asked = [json.loads(line) for line in log.read_text().splitlines()]
    # Only the claimed batch that was under way is asked for again.
    assert len(asked) <= COUNT + 2 * 40, again
    assert not list(tmp_path.glob("*.damaged*")), again


def test_two_processes_share_the_work(whole, tmp_path):
    path = tmp_path / "s.sqlite"
    logs = [tmp_path / "log1", tmp_path / "log2"]
    for process in [start(path, log) for log in logs]:
        finish(process)
    assert content(path) == whole
    asked = [[json.loads(line) for line in log.read_text().splitlines()] for log in logs]
    assert sum(map(len, asked)) == COUNT
    assert len(set(asked[0]) | set(asked[1])) == COUNT
    assert all(asked)


def number_of_texts(path):
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
            return db.execute("SELECT COUNT(*) FROM completions").fetchone()[0]
    except sqlite3.Error:
        return 0
