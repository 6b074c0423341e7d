"""The frozen model that writes summaries for the paper's reward."""

import pytest
import torch

from rporec_recbole.backbone import summaries
from rporec_recbole.backbone.load import make_backbone
from rporec_recbole.backbone.summaries import Summarizer, request, summary_in
from rporec_recbole.settings.reader import default_settings


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        (" likes dramas </answer>", "likes dramas"),
        ("so <answer>likes dramas</answer> and on</answer>", "likes dramas"),  # opened once more
        ("likes dramas", ""),  # never closed
        ("</answer>", ""),
    ],
)
def test_summary_in(text, summary):
    assert summary_in(text) == summary


def test_the_request_ends_with_an_open_answer():
    assert request("The user likes dramas.").endswith("The user likes dramas.\n\nSummary: <answer>")


@pytest.mark.parametrize("lora", [False, True])
def test_the_copy_stays_as_it_was(monkeypatch, lora):
    settings = default_settings(backbone="tiny-nano", lora=lora, max_prompt_tokens=512).backbone
    backbone = make_backbone(settings, ["Drama Comedy Action Crime </answer>"] * 20, torch.device("cpu"), 0)
    asked = []
    monkeypatch.setattr(summaries, "summary_in", lambda text: asked.append(text) or text)
    summarize = Summarizer(backbone)
    before = summarize(["They like dramas.", "", "They like dramas.", "Crime"])
    assert (before[1], before[0] == before[2], len(asked)) == ("", True, 2)
    with torch.no_grad():
        for weight in backbone.trainable():
            weight.add_(torch.randn_like(weight))
    backbone.weights_changed()
    assert summarize(["They like dramas.", "", "They like dramas.", "Crime"]) == before
    assert all(weight.requires_grad is False for weight in summarize._frozen.model.parameters())
    assert backbone.trainable(), "the backbone itself can be trained as before"
