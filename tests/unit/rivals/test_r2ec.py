"""R2ec's parts: what is read and learned, where the state is taken, and that no target stands in what is read."""

import numpy as np
import pytest
import torch

from rporec_recbole.backbone.losses import IGNORE
from rporec_recbole.cot.store import Decoding
from rporec_recbole.host.bridge import build_model, build_trainer
from rporec_recbole.host.data import build_data
from rporec_recbole.rivals.r2ec import training_order
from rporec_recbole.rivals.r2ec_lessons import composed_text, list_lessons, own_lessons, text_lessons
from rporec_recbole.rivals.r2ec_reader import Reasoned
from rporec_recbole.text.completions import ANSWER
from tests.toy import toy_config

SMALL = {
    "backbone": "tiny-nano", "prompt_items": 4, "MAX_ITEM_LIST_LENGTH": 10, "max_new_tokens": 16, "warmup_examples": 40,
    "item_text_fields": ["title", "genre", "year"], "live_items": 5, "head_positions": 8, "stream_passes": 1, "epoch_steps": 1,
    "train_batch_size": 2, "group_size": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def parts(toy):
    config = toy_config(toy, "R2ec", **SMALL)
    _, train, valid, _ = build_data(config)
    model = build_model(config, train)
    model.read_items()
    return config, train.dataset, valid, model


def test_a_list_finds_at_each_line_the_item_of_the_next(parts):
    _, _, _, model = parts
    row = ([3, 5, 7, 9], [1.0, None, 4.0, 2.0])
    found = list_lessons(model.reader, model.template, [row], 256, np.random.default_rng(0))
    assert [item for one in found for item in one.items] == [5, 7, 9]
    for one in found:
        shown = [model.reader.backbone.tokenizer.decode(one.tokens[: place + 1]) for place in one.places]
        for text, item in zip(shown, one.items, strict=True):
            assert text.endswith("\n")
            before = row[0][: row[0].index(item)]
            lines = [model.template.line(own, rating) for own, rating in zip(*row, strict=True)]
            assert text in "".join(lines[: len(before)])
            assert lines[len(before)] not in text
        assert set(one.labels) == {IGNORE}


def test_no_target_is_read(parts):
    """Neither prompts nor composed texts name it, where the history does not."""
    _, dataset, _, model = parts
    rows, targets = model.rows_at(dataset, training_order(dataset, 0)[:60])
    for row, target in zip(rows, targets, strict=True):
        if target not in row[0]:
            title = model.template.catalogue.items[target].title
            text = model.template.prompt(*row) + composed_text(model.template, row, target)
            assert title not in text
            assert text.endswith(ANSWER)


def test_lessons_learn_the_text_and_read_at_its_ends(parts):
    _, _, _, model = parts
    (one,) = text_lessons(model.reader, ["Film 3\n"], ["<think>x</think><answer>"], [4])
    begin = one.places[0] + 1
    assert one.labels == [IGNORE] * begin + one.tokens[begin:]
    assert one.items == [4]
    (own,) = own_lessons([Reasoned([1, 2], [3, 4, 5], 2)], [7])  # the last token was added
    assert own.labels == [IGNORE, IGNORE, 3, 4, IGNORE]
    assert (own.places, own.items) == ([1, 4], [7, 7])
    (bare,) = own_lessons([Reasoned([1, 2], [], 0)], [7])
    assert (bare.places, bare.items) == ([1], [7])


def test_a_reasoning_ends_with_the_tag(parts):
    _, _, _, model = parts
    for one in model.reason(["Film 3 of the Crime\n", "Film 4 of the Drama\n"]):
        assert one.tokens[-len(model.reader.answer) :] == model.reader.answer
        assert one.written <= 16
    drawn = [model.reason(["Film 3\n"] * 2, 1.0, names) for names in (["a", "b"], ["a", "c"])]
    assert drawn[0][0] == drawn[1][0]


def test_states_are_those_of_the_last_token(parts):
    """In whatever company a text is read; and the state in front of the output layer."""
    _, _, _, model = parts
    texts = [[5, 6, 7, 8], [9, 10], [11, 12, 13]]
    with torch.no_grad():
        states = model.reader.last_states(texts)
        for text, state in zip(texts, states, strict=True):
            torch.testing.assert_close(model.reader.last_states([text])[0], state, atol=1e-5, rtol=1e-4)
        read, logits, _ = model.reader.read([(text, [IGNORE] * len(text)) for text in texts])
        torch.testing.assert_close(read[:, -1], states, atol=1e-5, rtol=1e-4)
        own = model.backbone.model.get_output_embeddings()(read[:, -1])
        torch.testing.assert_close(own, logits[:, -1], atol=1e-5, rtol=1e-4)


def test_scores_use_the_state_behind_the_reasoning(parts, monkeypatch):
    _, _, valid, model = parts
    rows = next(iter(valid))[0][:3]
    scores = model.full_sort_predict(rows)
    prompts = [model.template.prompt(*row) for row in model.history_rows(rows)]
    reasoned = model.reader.reason(prompts, Decoding(0.0, 16), None)
    with torch.no_grad():
        behind = model.scores_of(model.reader.last_states([one.tokens for one in reasoned]))
        torch.testing.assert_close(scores, behind, atol=1e-4, rtol=1e-4)
        bare = model.scores_of(model.reader.last_states([one.prompt for one in reasoned]))
        assert not torch.allclose(bare, behind, atol=1e-3)
        monkeypatch.setattr(model, "reasoning", False)
        torch.testing.assert_close(model.full_sort_predict(rows), bare, atol=1e-4, rtol=1e-4)
    assert bool((scores[:, 0] == -torch.inf).all())


def test_live_items_learn_and_others_stand_still(parts):
    _, _, _, model = parts
    before, live = model.item_states.clone(), torch.tensor([2, 5])
    weight = model.backbone.model.get_input_embeddings().weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.mul_(1.5)
    scores = model.item_logits(torch.randn(3, model.reader.width), live)
    moved = (model.item_states - before).abs().amax(dim=1) > 1e-4
    assert moved.nonzero().flatten().tolist() == [2, 5]
    assert scores.requires_grad
    with torch.no_grad():
        weight.copy_(kept)
    model.backbone.weights_changed()
    model.read_items()


def test_a_step_raises_the_target_behind_what_was_best(parts, monkeypatch):
    """One step of RecPO on one history: the item that was to be found is likelier behind the best text afterwards."""
    config, dataset, _, model = parts
    weights = model.backbone.weights()
    config["learning_rate"] = 0.003
    trainer = build_trainer(config, model)
    end = training_order(dataset, 1)[:1]
    texts = []
    reason = model.reason
    monkeypatch.setattr(model, "reason", lambda *given: texts.extend(reason(*given)) or texts)
    _, (target,) = model.rows_at(dataset, end)
    first = trainer._step(dataset, end, "0/0", np.random.default_rng(0))
    assert 0 < first < 1
    monkeypatch.undo()

    def chance():
        with torch.no_grad():
            scores = model.scores_of(model.reader.last_states([one.tokens for one in texts]))
        return scores.softmax(dim=1)[:, target]

    after = chance()
    model.backbone.set_weights(weights)
    model.read_items()
    before = chance()
    assert len(texts) == 3
    assert (after > before)[before.argmax()]
