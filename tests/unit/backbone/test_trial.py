"""A small copy of an architecture is tried before the first stage: it writes with a cache what it writes without, or is refused."""

import pytest
import torch
from transformers import GPT2Config, LlamaConfig, Qwen3NextConfig

from rporec_recbole.backbone.trial import _copies, _texts, trial_problem
from tests.backbones import FORGETFUL, HYBRIDS

CPU = torch.device("cpu")


@pytest.mark.parametrize("kind", HYBRIDS)
def test_hybrids_pass(kind):
    assert trial_problem(HYBRIDS[kind](), CPU, adapter=True) == []
    assert next(_copies(HYBRIDS[kind](), CPU, _texts(60))), "it was tried"


@pytest.mark.parametrize("kind", FORGETFUL)
@pytest.mark.parametrize("adapter", [False, True])
def test_what_forgets_is_refused(kind, adapter):
    (problem,) = trial_problem(FORGETFUL[kind](), CPU, adapter)
    assert f"({kind}) does not do" in problem
    assert ("lora=False" in problem) == adapter


@pytest.mark.parametrize(
    ("config", "sorts"),
    [
        (Qwen3NextConfig(), {"linear_attention", "full_attention"}),  # 80 billion weights
        (LlamaConfig(hidden_size=4096, intermediate_size=14336, num_key_value_heads=8, vocab_size=128256), None),
        (GPT2Config(), None),
    ],
    ids=["qwen3-next", "llama", "gpt2"],
)
def test_a_copy_of_a_published_size_is_small_and_has_all_sorts_of_layers(config, sorts):
    before = config.to_dict()
    model, plain = next(_copies(config, CPU, _texts(200)))
    assert sum(weight.numel() for weight in model.parameters()) < 20e6
    assert plain.std() > 0.1, "its texts differ"
    if sorts:
        assert set(model.config.layer_types) == sorts
    assert config.to_dict() == before


def test_random_numbers_stay_as_they_were():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    trial_problem(GPT2Config(), CPU, adapter=True)
    torch.testing.assert_close(torch.rand(3), expected)


def test_what_cannot_be_copied_is_not_refused(monkeypatch):
    monkeypatch.setattr("rporec_recbole.backbone.trial._MOST", 10)
    assert trial_problem(FORGETFUL["mamba2"](), CPU, adapter=False) == []
