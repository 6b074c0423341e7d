"""Best-of-N: heads score users that they never saw, the best text without a fault is learned, and nothing else changes."""

import numpy as np
import pytest
import torch

from rporec_recbole.backbone.load import make_backbone
from rporec_recbole.cot.store import CoTStore
from rporec_recbole.data import ladder
from rporec_recbole.data.dataset import RUNGS, TARGETS, window_positions
from rporec_recbole.errors import ConfigError
from rporec_recbole.host.bridge import build_trainer
from rporec_recbole.text.completions import Completion, parse_completion, render_completion
from rporec_recbole.training.stage1 import best_of
from rporec_recbole.training.stage1.best_of import best_of_lessons, best_of_positions
from rporec_recbole.training.stage1.crossfit import cross_fitted_gains
from rporec_recbole.training.stage1.rows import early_order
from rporec_recbole.training.state.positions import PositionLog
from tests.toy import toy_model


@pytest.fixture
def ready(toy):
    """(trainer, model, data set, positions) before stage 1b, with a fusion that learns quickly."""
    config, model, train, *_ = toy_model(
        toy, best_of=2, fusion_epochs=30, fusion_learning_rate=0.03, ladder_early=0.9, epochs=3, cot_dropout=0.0
    )
    ends = best_of_positions(early_order(train.dataset, 0), 0, 1000)
    return build_trainer(config, model), model, train.dataset, ends


def says(line):
    return parse_completion(render_completion(f"I think of {line}", line))


def test_positions_come_last_that_taught_already_and_half_are_left():
    order = np.array([5, 3, 9, 1, 7, 2])
    assert best_of_positions(order, 2, 2).tolist() == [1, 9]
    assert best_of_positions(order, 5, 2).tolist() == [2, 5]
    assert best_of_positions(order, 0, 99).tolist() == [3, 5, 9]


def test_gains_tell_good_texts_from_bad_ones_and_from_none(ready):
    trainer, model, dataset, ends = ready
    targets = dataset.histories(ends)["item_id"].tolist()
    lines, rng = model.catalogue.lines, np.random.default_rng(0)
    samples = [
        [says(lines[target]) for target in targets],
        [says(lines[rng.integers(1, len(lines))]) for _ in targets],
        [Completion("no tags")] * len(targets),
    ]
    gains = cross_fitted_gains(
        model, dataset, ends, samples, trainer.head_stages.fit_scorer, PositionLog(len(dataset.timeline)), 0
    )
    assert gains.shape == (len(ends), 3)
    assert gains[:, 0].mean() > gains[:, 1].mean() + 0.1
    assert (gains[:, 2] == 0).all()
    again = cross_fitted_gains(
        model, dataset, ends, samples, trainer.head_stages.fit_scorer, PositionLog(len(dataset.timeline)), 0
    )
    np.testing.assert_array_equal(gains, again)


def test_a_head_learns_from_other_users_and_other_positions(ready):
    trainer, model, dataset, ends = ready
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    rng, log, seen = torch.get_rng_state(), PositionLog(len(dataset.timeline)), []

    def fit(name, windows):
        learned = (windows[TARGETS] > 0) & (windows[RUNGS] <= model.max_rung)
        seen.append(window_positions(windows)[learned].numpy())
        trainer.head_stages.fit_scorer(name, windows)

    samples = [[says("Drama")] * len(ends), [says("Crime")] * len(ends)]
    cross_fitted_gains(model, dataset, ends, samples, fit, log, 0)
    users = dataset.timeline["user_id"].numpy()
    early = dataset.positions(ladder.EARLY)
    assert set(users[seen[0]]).isdisjoint(users[seen[1]])
    assert sorted(np.concatenate(seen)) == sorted(np.setdiff1d(early, ends))
    for number, trunk in enumerate(seen, 1):
        taught = log[f"1b scorer {number}"]  # by what really was learned from
        assert set(np.setdiff1d(taught, trunk)) == set(taught) & set(ends)
        assert set(trunk) <= set(taught) <= set(early)
    assert set(users[log["1b scorer 1"]]).isdisjoint(users[log["1b scorer 2"]])
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in before.items())
    assert torch.equal(rng, torch.get_rng_state())
    assert (model.reasoning_on, model.max_rung, model.on_learned) == (False, 3, None)


def test_too_few_users_are_said_plainly(ready):
    trainer, model, dataset, ends = ready
    with pytest.raises(ConfigError, match="best_of_positions"):
        cross_fitted_gains(
            model,
            dataset,
            ends[:2],
            [[says("x")] * 2],
            trainer.head_stages.fit_scorer,
            PositionLog(len(dataset.timeline)),
            0,
        )


def test_the_best_text_without_a_fault_is_learned(ready, monkeypatch):
    trainer, model, dataset, ends = ready
    backbone = make_backbone(model.settings.backbone, model.catalogue.lines, torch.device("cpu"), 0)
    model.connect(backbone, CoTStore())
    texts = {
        0: "<think>likes one two three</think><answer>a</answer>",
        1: "<think>likes four five</think><answer>b</answer>",
    }

    def generate(prompts, decoding, on_batch=None, desc=""):
        written = [texts[decoding.sample]] * len(prompts)
        if decoding.sample == 1:
            written[0] = "cut off"
        on_batch(list(range(len(prompts))), written)
        return written

    backbone.generate = generate
    gains = np.tile([0.1, 0.7], (len(ends), 1))
    gains[1] = [0.2, -0.3]
    gains[2] = 0  # nobody can say
    monkeypatch.setattr(best_of, "cross_fitted_gains", lambda *_: gains)
    lessons, facts = best_of_lessons(model, dataset, ends, trainer.head_stages.fit_scorer, PositionLog(1), 0)
    prompts = [model.reasoner.template.prompt(h, r) for h, r in zip(*histories(model, dataset, ends), strict=True)]
    assert lessons.prompts == prompts[:2] + prompts[3:]
    # The malformed text is that of one prompt, the longest; equal prompts share their texts.
    malformed = [index for index, prompt in enumerate(prompts) if prompt == max(prompts, key=len)]
    expected = [texts[0] if index in (1, *malformed) else texts[1] for index in range(len(ends))]
    assert lessons.completions == expected[:2] + expected[3:]
    assert (facts["learned"], facts["undecided"]) == (len(ends) - 1, 1)
    assert (facts["sampled"], facts["dropped"]) == (2 * len(ends), {"format": len(malformed)})
    assert facts["best_gain"] > facts["gain"]


def histories(model, dataset, ends):
    rows = dataset.histories(ends)
    return rows[model.ITEM_SEQ].tolist(), model.ratings_of(rows)
