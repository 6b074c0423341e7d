"""The policy of stage 2 is validated on the texts that an evaluation would write: malformed ones are drawn again."""

from rporec_recbole.backbone.model import Backbone
from rporec_recbole.host.bridge import build_model, build_trainer
from rporec_recbole.host.data import build_data
from rporec_recbole.text.completions import Completion, render_completion
from rporec_recbole.training.stage2 import refinement
from tests.toy import toy_config

DRAWN = render_completion("The user likes dramas.", "Film 3 | Drama | 1995")


def generate(self, prompts, decoding, on_batch=None, desc=""):
    """Greedy texts are malformed, drawn ones are not."""
    texts = [DRAWN if decoding.temperature > 0 else "no tags" for _ in prompts]
    if on_batch is not None:
        on_batch(list(range(len(texts))), texts)
    return texts


def test_malformed_texts_are_drawn_again_for_validation_too(toy, monkeypatch):
    config = toy_config(toy, stages=["1a", "1b", "1c", "2"], rl_validate_every=1, fusion_strengths=[1], cot_retries=3)
    _, train, valid, _ = build_data(config)
    trainer = build_trainer(config, build_model(config, train))
    seen = []
    row_scorer = refinement.row_scorer

    def watched(*arguments):
        score = row_scorer(*arguments)
        return lambda rows, completions: (seen.append(completions), score(rows, completions))[1]

    monkeypatch.setattr(Backbone, "generate", generate)
    monkeypatch.setattr(refinement, "row_scorer", watched)
    trainer.fit(train, valid, saved=False)
    assert len(seen) == 3, "before the first of two steps, and after each"
    for completions in seen:
        assert all(isinstance(one, Completion) and one.well_formed for one in completions)
