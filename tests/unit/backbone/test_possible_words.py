"""Logits of the words that may follow are those that the model would give, or the model is left to give them."""

import pytest
import torch
from transformers import CohereConfig, CohereForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig

from rporec_recbole.backbone.possible_words import possible_words
from tests.unit.backbone.test_engine import MODELS, SHAPE, VOCABULARY, made

WORDS = torch.tensor([3, 17, 59])
CAPPED = Gemma3TextConfig(num_key_value_heads=1, final_logit_softcapping=3.0, **SHAPE)
SCALED = CohereConfig(num_key_value_heads=2, logit_scale=0.3, **{k: v for k, v in SHAPE.items() if k != "head_dim"})
OTHERS = {"capped": lambda: Gemma3ForCausalLM(CAPPED), "scaled": lambda: CohereForCausalLM(SCALED)}


@pytest.mark.parametrize("name", ["qwen3 with an adapter", "gpt2, learned positions", "falcon_h1", *OTHERS])
def test_as_the_model_itself(name, monkeypatch):
    monkeypatch.setitem(MODELS, "capped", OTHERS["capped"])
    monkeypatch.setitem(MODELS, "scaled", OTHERS["scaled"])
    model, tokens = made(name), torch.tensor([[7, 9, 11]])
    own = model.get_output_embeddings()
    with torch.inference_mode():
        wanted = model(input_ids=tokens).logits[0, -1:]
        with possible_words(model) as output:
            given = model(input_ids=tokens).logits[0, -1:]
            found = output.logits(given, WORDS)
    assert (given.shape[-1] == VOCABULARY) == (name == "capped"), (
        "what is capped behind the layer cannot be made good for"
    )
    torch.testing.assert_close(found, wanted[:, WORDS], rtol=1e-4, atol=1e-4)
    assert model.get_output_embeddings() is own
