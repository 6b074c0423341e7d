"""What a malformed completion is replaced by, in the evaluation and in the service."""

import contextlib

import numpy as np
import pytest
import torch

from rporec_recbole.cot import reasoner as reasoner_module
from rporec_recbole.cot.reasoner import NOTHING, Reasoner
from rporec_recbole.cot.store import CoTStore, Decoding, completion_key
from rporec_recbole.errors import ConfigError
from rporec_recbole.serve.stored import StoredReasoning
from rporec_recbole.settings.reader import default_settings

GOOD = "<think>draw {}</think><answer>Film</answer>"
THREE = Decoding(instead=Decoding(0.7, sample=0, instead=Decoding(0.7, sample=1)))


class Writer:
    """Writes well from the draw on that a prompt names: `0` means greedily, `9` never."""

    fingerprint = "w"

    def __init__(self):
        self.asked = []

    def generate(self, prompts, decoding, on_batch=None, desc=""):
        draw = 0 if decoding.temperature == 0 else 1 + decoding.sample
        self.asked.append((draw, sorted(prompts)))
        texts = [GOOD.format(draw) if draw >= int(prompt[-1]) else f"draw {draw}" for prompt in prompts]
        on_batch(list(range(len(prompts))), texts)
        return texts


PROMPTS = ["a0", "b1", "c2", "d9", "b1"]
EXPECTED = [GOOD.format(0), GOOD.format(1), GOOD.format(2), "draw 0", GOOD.format(1)]


def test_malformed_completions_are_drawn_again_one_after_the_other():
    writer, store = Writer(), CoTStore()
    found = Reasoner(writer, None, store).complete(PROMPTS, THREE)
    assert [one.text for one in found] == EXPECTED
    assert writer.asked == [(0, ["a0", "b1", "c2", "d9"]), (1, ["b1", "c2", "d9"]), (2, ["c2", "d9"])]
    assert len(store) == 9
    again = Writer()
    assert Reasoner(again, None, store).complete(PROMPTS, THREE) == found
    assert not again.asked


def test_the_order_of_draws_is_no_part_of_what_determines_a_text():
    assert completion_key("p", "w", THREE) == completion_key("p", "w", Decoding())
    assert completion_key("p", "w", THREE.instead) == completion_key("p", "w", Decoding(0.7))
    assert completion_key("p", "w", THREE.instead) != completion_key("p", "w", THREE.instead.instead)


@pytest.fixture
def stored(tmp_path):
    def encode(completions):
        return torch.tensor([[float(np.frombuffer(one.text.encode(), np.uint8).sum())] * 2 for one in completions])

    found = StoredReasoning(
        tmp_path, tmp_path / "store.sqlite", writer="w", template=None, decodings=[THREE], encode=encode,
        guesses=lambda completions: None, kept=100, limit=100,
    )  # fmt: skip
    found.open()
    with contextlib.closing(found):
        yield found


def test_the_service_reads_what_the_evaluation_reads(stored, tmp_path):
    prompts = {stored.key(prompt): prompt for prompt in PROMPTS}
    assert not stored.find(prompts)
    with contextlib.closing(CoTStore(tmp_path / "store.sqlite")) as store:
        reasoner = Reasoner(Writer(), None, store)
        reasoner._complete(PROMPTS, THREE, "")  # the worker has written the first texts only
        assert {prompts[key] for key in stored.find(prompts)} == {"a0"}
        expected = dict(zip(PROMPTS, reasoner.complete(PROMPTS, THREE), strict=True))
    found = {prompts[key]: one for key, one in stored.find(prompts).items()}
    assert {prompt: one.completion for prompt, one in found.items()} == expected
    assert {prompt for prompt, one in found.items() if not one.well_formed} == {"d9"}


def test_settings():
    assert default_settings().backbone.cot_retries == 3
    with pytest.raises(ConfigError, match="cot_retries=-1"):
        default_settings(cot_retries=-1)


def test_what_is_not_to_be_written_is_malformed_and_counted():
    store, writer = CoTStore(), Writer()
    Reasoner(writer, None, store).complete(["a0"], THREE)
    reasoner = Reasoner(Writer(), None, store)
    reasoner.writes = False
    found = reasoner.complete(["a0", "b1", "b1"], THREE)
    assert [one.text for one in found] == [GOOD.format(0), "", ""]
    assert (found[1] is NOTHING, reasoner.lacked > 0, reasoner.generator.asked) == (True, True, [])
    reasoner.writes = True
    assert reasoner.complete(["b1"], THREE)[0].text == GOOD.format(1)


def test_no_more_is_remembered_than_there_is_room_for(monkeypatch):
    monkeypatch.setattr(reasoner_module, "_KEPT", 3)
    reasoner = Reasoner(Writer(), None, CoTStore())
    for prompts in (["a0", "b0", "c0", "d0", "e0"], ["a0", "f0"]):
        assert [one.text for one in reasoner.complete(prompts, Decoding())] == [GOOD.format(0)] * len(prompts)
        assert len(reasoner._parsed) <= 3
