"""Lists teach what they shall teach: early interactions, each once a pass, titles always, and answers learn what lists expect."""

from pathlib import Path

import numpy as np
import pytest
import torch

from rporec_recbole.backbone.examples import span_examples
from rporec_recbole.backbone.losses import IGNORE
from rporec_recbole.backbone.model import Backbone
from rporec_recbole.backbone.tiny import build_tiny, train_tokenizer
from rporec_recbole.backbone.warmup import token_batches
from rporec_recbole.cot.streams import learned_spans
from rporec_recbole.data import ladder
from rporec_recbole.host.bridge import build_trainer
from rporec_recbole.text.completions import render_completion
from rporec_recbole.training.stage1.rows import Lessons
from rporec_recbole.training.stage1.streams import ListLoss, lesson_examples
from tests.toy import toy_config, toy_model, write_toy

LINES = [f"Film {n} | {'Drama' if n % 2 else 'Crime'} | {1980 + n} | rated {1 + n % 5}\n" for n in range(9)]


@pytest.fixture
def tiny():
    tokenizer = train_tokenizer(
        [*LINES * 9, render_completion("evidence: Film 1. preference: Drama 2. intent: Crime", "Film 2")], 420
    )
    return Backbone(build_tiny(tokenizer, 64, 1, 256, 0), tokenizer, "tiny", batch_tokens=900, max_prompt_tokens=128)


def test_titles_are_learned_of_every_line_and_all_of_some():
    text = "".join(LINES)
    spans = learned_spans(text, 2, np.random.default_rng(0))
    pieces = [text[start:stop] for start, stop in spans]
    assert len(pieces) == len(LINES) - 2
    for piece, line in zip(pieces, LINES[2:], strict=True):
        assert piece in (line, line.split(" | ")[0])
    assert 0 < sum(piece.endswith("\n") for one in range(20) for piece in _pieces(text, one)) < 20 * 7


def _pieces(text, seed):
    return [text[start:stop] for start, stop in learned_spans(text, 2, np.random.default_rng(seed))]


def test_labels_are_the_tokens_of_the_spans(tiny):
    text = "".join(LINES)
    ((tokens, labels),) = span_examples(tiny.tokenizer, [text], [[(0, 6), (len(LINES[0]), len(LINES[0]) + 6)]])
    assert tiny.tokenizer.decode(tokens) == text
    assert tiny.tokenizer.decode([label for label in labels if label != IGNORE]) == "Film 0Film 1"
    ((tokens, labels),) = span_examples(tiny.tokenizer, [LINES[0]], [[]], ["<think>a</think>"])
    assert labels[-1] == tokens[-1] == tiny.tokenizer.eos_token_id
    assert tiny.tokenizer.decode([label for label in labels if label != IGNORE][:-1]) == "<think>a</think>"


def test_batches_hold_every_example_once():
    examples = [([0] * length, [0] * length) for length in (1, 9, 3, 7, 20, 2)]
    batches = list(token_batches(examples, 10, np.random.default_rng(0)))
    assert sorted(len(tokens) for batch in batches for tokens, _ in batch) == [1, 2, 3, 7, 9, 20]
    assert all(len(batch) * max(len(tokens) for tokens, _ in batch) <= 10 for batch in batches if len(batch) > 1)


def test_an_answer_learns_what_the_list_expects(tiny):
    lessons = Lessons(np.arange(4), ["".join(LINES[:3])] * 4, [render_completion("a", f"Film {n}") for n in range(4)])
    examples = lesson_examples(tiny, lessons, np.random.default_rng(0))
    batch = tiny.collate(examples)
    loss = ListLoss(tiny)(batch)
    assert torch.isfinite(loss)
    loss.backward()
    assert all(torch.isfinite(weight.grad).all() for weight in tiny.trainable() if weight.grad is not None)
    # Trained for long, the answer's first token is as likely as it is in the list.
    optimizer, list_loss = torch.optim.AdamW(tiny.trainable(), lr=0.01), ListLoss(tiny)
    for _ in range(60):
        optimizer.zero_grad()
        list_loss(batch).backward()
        optimizer.step()
    assert list_loss(batch) < loss


def test_what_is_not_learned_has_no_part_in_the_loss(tiny):
    first = span_examples(tiny.tokenizer, [LINES[0] + LINES[1]], [[(len(LINES[0]), len(LINES[0]) + 6)]])
    alone = ListLoss(tiny)(tiny.collate(first))
    with_longer = span_examples(tiny.tokenizer, ["".join(LINES)], [[]])
    assert ListLoss(tiny)(tiny.collate(first + with_longer)).item() == pytest.approx(alone.item(), abs=1e-5)


def test_lists_are_early_and_recorded(tmp_path: Path):
    write_toy(tmp_path)
    config, model, train, _, _ = toy_model(tmp_path, stream_passes=2, stream_window=60)
    trainer = build_trainer(config, model)
    trainer.wanted = ["1a", "1b"]
    trainer.positions = type(trainer.positions)(len(train.dataset.timeline))
    read = []
    plain = train.dataset.positions(ladder.EARLY)
    stages = trainer.backbone_stages
    batches_of_lists = stages._batches_of_lists
    stages._batches_of_lists = lambda *given: read.append(batches_of_lists(*given)) or read[-1]
    done = stages.warm_up(train)
    assert done["tokens"] == sum(len(tokens) for batch in read[0] for tokens, _ in batch)
    assert set(trainer.positions["1b"]) == set(plain)
    later = set(range(len(train.dataset.timeline))) - set(plain)
    users, items = (train.dataset.timeline[name].numpy() for name in (train.dataset.uid_field, train.dataset.iid_field))
    # No list shows a user's later items behind the early ones: the longest lists end with an early item.
    ends = {int(end) for end in plain}
    assert later
    texts = model.backbone.tokenizer.batch_decode([tokens for batch in read[0] for tokens, _ in batch])
    lines = {model.catalogue.lines[items[end]] for end in ends} | {model.catalogue.lines[items[0]]}
    for text in texts:
        if "<think>" not in text:
            last = text.strip("\n").split("\n")[-1].rpartition(" | rated ")[0]
            assert last in lines
    assert len(users) > len(plain)


def test_lists_need_compact_prompts(tmp_path: Path):
    from rporec_recbole.errors import ConfigError

    write_toy(tmp_path)
    with pytest.raises(ConfigError, match="prompt_style=compact"):
        toy_model(tmp_path, stream_passes=1, prompt_style="instruct")
    assert toy_config(tmp_path)["stream_passes"] == 0
