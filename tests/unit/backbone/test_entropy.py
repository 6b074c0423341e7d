"""Entropies of the policy at the tokens of its reasoning."""

import pytest
import torch

from rporec_recbole.backbone.entropy import cot_entropies, cot_span
from rporec_recbole.backbone.load import make_backbone
from rporec_recbole.settings.reader import default_settings

PROMPTS = ["Heat | Crime | 1995\n", "Up | Animation | 2009\nToy Story | Animation | 1995\nHeat | Crime | 1995\n"]
TEXTS = [
    "<think>slow crime, \u00e9t\u00e9 \u2603</think><answer>Heat | Crime | 1995</answer>",
    "<think>they like animation and nothing else</think><answer>Up</answer>",
]


@pytest.fixture(scope="module")
def backbone():
    settings = default_settings(backbone="tiny-nano").backbone
    torch.manual_seed(0)
    made = make_backbone(settings, PROMPTS, torch.device("cpu"), 0)  # so that a text has several tokens
    with torch.no_grad():
        for weight in made.model.parameters():
            weight.mul_(8)  # new weights are so small that every distribution is flat
    return made


def tokens_of(backbone, texts):
    return backbone.tokenizer(texts, add_special_tokens=False)["input_ids"]


def test_span_holds_the_cot(backbone):
    for text, tokens in zip(TEXTS, tokens_of(backbone, TEXTS), strict=True):
        start, stop = cot_span(backbone, tokens)
        assert backbone.tokenizer.decode(tokens[start:stop]) == text[len("<think>") : text.index("</think>")]


@pytest.mark.parametrize(
    "text", ["", "no tags", "<think>cut off", "</think><think>", "<think></think><answer>a</answer>"]
)
def test_no_cot_no_entropy(backbone, text):
    (tokens,) = tokens_of(backbone, [text])
    assert cot_span(backbone, tokens) == (0, 0)
    assert cot_entropies(backbone, PROMPTS[:1], [tokens])[0].shape == (0,)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_entropy_of_each_token_from_a_pass_of_its_own(backbone, temperature):
    completions = tokens_of(backbone, TEXTS)
    found = cot_entropies(backbone, PROMPTS, completions, temperature)
    for prompt, tokens, entropies in zip(PROMPTS, completions, found, strict=True):
        start, stop = cot_span(backbone, tokens)
        read = backbone.prompts.encode([prompt])[0]
        with torch.no_grad():
            for step in range(start, stop):
                logits = backbone.model(torch.tensor([read + tokens[:step]])).logits[0, -1]
                expected = torch.distributions.Categorical(logits=logits / temperature).entropy()
                torch.testing.assert_close(entropies[step - start], expected, atol=1e-5, rtol=1e-5)
        assert len(entropies) == stop - start
        assert entropies.std() > 0.01


def test_neither_batch_nor_training_mode_matters(backbone, monkeypatch):
    completions = tokens_of(backbone, TEXTS)
    together = cot_entropies(backbone, PROMPTS, completions)
    backbone.model.train()
    monkeypatch.setattr("rporec_recbole.backbone.entropy._LOGITS_AT_ONCE", 1)
    (second, first) = cot_entropies(backbone, PROMPTS[::-1], completions[::-1])
    assert backbone.model.training
    backbone.model.eval()
    torch.testing.assert_close([first, second], together, atol=1e-5, rtol=0)
