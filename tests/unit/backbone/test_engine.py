"""The engine writes what `model.generate` writes, whatever the architecture, the batch, the cache and the guesses."""

import random

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from rporec_recbole.backbone import drafts, kv_cache, rows
from rporec_recbole.backbone.drafts import Drafts, worth_checking
from rporec_recbole.backbone.engine import generate_tokens
from rporec_recbole.backbone.kv_cache import InPlaceLayer, Place, attention_of_engine, layer_windows
from rporec_recbole.backbone.load import Backbone
from rporec_recbole.backbone.tiny import build_tiny, train_tokenizer
from rporec_recbole.cot.store import Decoding
from tests.backbones import HYBRIDS

VOCABULARY, ENDS, MOST, ROWS = 60, [1, 5], 20, 16
SHAPE = {
    "vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "head_dim": 16,
    "num_attention_heads": 4, "max_position_embeddings": 128, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0,
}  # fmt: skip
SLIDING = ["sliding_attention", "full_attention", "sliding_attention"]
MODELS = {
    "qwen3, shared heads": lambda: Qwen3ForCausalLM(Qwen3Config(num_key_value_heads=2, **SHAPE)),
    "llama, own heads": lambda: LlamaForCausalLM(LlamaConfig(num_key_value_heads=4, **SHAPE)),
    "gemma3, two kinds of layers": lambda: Gemma3ForCausalLM(
        Gemma3TextConfig(num_key_value_heads=1, sliding_window=12, layer_types=SLIDING, **SHAPE)
    ),
    "mistral, windows alone": lambda: MistralForCausalLM(
        MistralConfig(num_key_value_heads=2, sliding_window=10, **SHAPE)
    ),
    "llama, eager": lambda: LlamaForCausalLM(
        LlamaConfig(num_key_value_heads=2, attn_implementation="eager", **SHAPE)
    ),
    "gpt2, learned positions": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=2, n_positions=80, bos_token_id=None, eos_token_id=1)
    ),
    "qwen3 with an adapter": lambda: get_peft_model(
        Qwen3ForCausalLM(Qwen3Config(num_key_value_heads=2, **SHAPE)),
        LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False),
    ),
    **{name: lambda config=config: AutoModelForCausalLM.from_config(config()) for name, config in HYBRIDS.items()},
}  # fmt: skip


def made(name):
    """A model whose texts differ: small random weights would all write the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MODELS[name]().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(3.0)
    return model


def prompts():
    rng = random.Random(0)
    made = [[rng.randrange(6, VOCABULARY) for _ in range(rng.randrange(1, 40))] for _ in range(ROWS)]
    made[7] = made[3]  # a prompt that two rows share
    return made


def completed(model, texts, temperature=0.0, budget=600, **options):
    identities = [str(i) for i in range(len(texts))]
    decoding = Decoding(temperature, MOST, 3)
    return generate_tokens(model, texts, decoding, ends=ENDS, pad=0, budget=budget, identities=identities, **options)


def generated(model, texts):
    width = max(map(len, texts))
    out = model.generate(
        input_ids=torch.tensor([[0] * (width - len(one)) + one for one in texts]),
        attention_mask=torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in texts]),
        do_sample=False, max_new_tokens=MOST, eos_token_id=ENDS, pad_token_id=0,
    )  # fmt: skip
    rows = out[:, width:].tolist()
    return [one[: next((n + 1 for n, token in enumerate(one) if token in ENDS), MOST)] for one in rows]


@pytest.mark.parametrize("name", MODELS)
def test_greedy_text_is_that_of_generate(name):
    model, texts = made(name), prompts()
    wanted = generated(model, texts)
    assert len({tuple(one) for one in wanted}) > ROWS // 2
    before = model.config._attn_implementation
    assert [one.tokens for one in completed(model, texts, budget=300)] == wanted
    assert model.config._attn_implementation == before


def read_by(model):
    """Tokens that each pass of a model reads, padding included: filled while it runs."""
    sizes = []
    model.register_forward_pre_hook(lambda _, args, given: sizes.append(given["input_ids"].shape), with_kwargs=True)
    return sizes


@pytest.mark.parametrize(
    ("name", "temperature"),
    [("llama, own heads", 0.0), ("qwen3 with an adapter", 0.8), ("gemma3, two kinds of layers", 0.0), ("lfm2", 0.8)],
)
def test_what_all_prompts_begin_with_is_read_once(name, temperature, monkeypatch):
    beginning = random.Random(1).choices(range(6, VOCABULARY), k=30)
    model, texts = made(name), [beginning + one for one in prompts()]
    sizes = read_by(model)
    shared = completed(model, texts, temperature, logprobs=True)
    within = all(window is None for window in layer_windows(model) or [0])
    assert (sizes[0] == (1, 30)) == within, "a window would count the padding behind the beginning"
    assert all(length <= 40 for _, length in sizes) == within
    monkeypatch.setattr(rows, "WORTH_SHARING", 10**6)
    for one, other in zip(shared, completed(model, texts, temperature, logprobs=True), strict=True):
        assert one.tokens == other.tokens
        torch.testing.assert_close(one.logprobs, other.logprobs, rtol=1e-3, atol=1e-3)


def test_a_prompt_that_is_the_beginning_of_the_others_keeps_a_token():
    model = made("llama, own heads")
    texts = [[*range(6, 40)], [*range(6, 40), 41], [*range(6, 40)], [*range(6, 40), 7, 8]]
    assert [one.tokens for one in completed(model, texts)] == generated(model, texts)


@pytest.mark.parametrize("name", sorted(MODELS.keys() - HYBRIDS.keys() | {"lfm2"}))
def test_draws_do_not_depend_on_the_batch(name):
    model, texts = made(name), prompts()
    together = completed(model, texts, 0.8, budget=10**6, logprobs=True)
    alone = completed(model, texts, 0.8, budget=1, logprobs=True)
    assert [one.tokens for one in together] == [one.tokens for one in alone]
    assert together[3].tokens != together[7].tokens, "rows that share a prompt have their own draws"
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one.logprobs, other.logprobs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_logprobs_are_those_of_a_plain_pass(temperature):
    model, texts = made("gemma3, two kinds of layers"), prompts()
    assert completed(model, texts[:2], temperature)[0].logprobs == []
    for prompt, one in zip(texts, completed(model, texts, temperature, logprobs=True), strict=True):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + one.tokens])).logits[0, len(prompt) - 1 : -1]
        logp = torch.log_softmax(logits / (temperature or 1.0), dim=-1)
        expected = logp[torch.arange(len(one.tokens)), one.tokens].tolist()
        torch.testing.assert_close(one.logprobs, expected, rtol=1e-3, atol=1e-3)


def test_finished_rows_leave():
    model, texts = made("qwen3, shared heads"), prompts()
    sizes = []
    model.register_forward_pre_hook(
        lambda module, arguments, given: sizes.append(given["input_ids"].shape), with_kwargs=True
    )
    written = completed(model, texts, 0.8, budget=10**6)
    passes = [rows for rows, _ in sizes[1:]]
    assert passes == sorted(passes, reverse=True)
    assert passes[0] > passes[-1] >= 1
    # No row is passed through the model more often than it writes tokens; the prompt's pass writes the first.
    assert sum(passes) <= sum(len(one.tokens) - 1 for one in written)


def test_guesses_save_passes_and_change_nothing(monkeypatch):
    model = made("llama, own heads")
    texts = prompts() * 2
    passes = []
    model.register_forward_pre_hook(lambda *_: passes.append(1))
    with_guesses = [one.tokens for one in completed(model, texts, budget=400)]
    with_them = len(passes)
    monkeypatch.setattr(drafts, "WORTH", 2.0)  # never
    passes.clear()
    assert [one.tokens for one in completed(model, texts, budget=400)] == with_guesses
    assert with_them < len(passes)
    monkeypatch.setattr(drafts, "WORTH", 0.0)  # always
    assert [one.tokens for one in completed(model, texts, budget=400)] == with_guesses


def test_room_is_added_when_guesses_use_it_up(monkeypatch):
    monkeypatch.setattr(drafts, "WORTH", 0.0)
    grown = []
    grow = InPlaceLayer._grow
    monkeypatch.setattr(InPlaceLayer, "_grow", lambda self, columns: (grown.append(columns), grow(self, columns)))
    model, texts = made("gemma3, two kinds of layers"), prompts()
    assert [one.tokens for one in completed(model, texts)] == generated(model, texts)
    assert grown


def test_a_row_stops_where_it_is_told():
    model, texts = made("qwen3, shared heads"), prompts()
    free = completed(model, texts)
    stopped = completed(model, texts, has_ended=lambda tokens: len(tokens) >= 4 and tokens[-1] % 2 == 0)
    for one, other in zip(stopped, free, strict=True):
        assert one.tokens == other.tokens[: len(one.tokens)]
        if len(one.tokens) < len(other.tokens):
            assert len(one.tokens) >= 4
            assert one.tokens[-1] % 2 == 0
    assert any(len(one.tokens) < len(other.tokens) for one, other in zip(stopped, free, strict=True))


def test_the_attention_comes_back_after_an_error():
    model = made("qwen3, shared heads")
    with attention_of_engine(model) as windows:
        assert windows == [None] * 3
        assert model.config._attn_implementation == kv_cache.ATTENTION
    with pytest.raises(IndexError):
        completed(model, [[VOCABULARY]])  # no such token
    assert model.config._attn_implementation == "sdpa"


def test_rows_of_a_layer_move():
    place = Place(slice(0, 3), 0, 0, columns=2, capacity=3)
    layer = InPlaceLayer(place)
    keys, values = torch.randn(3, 2, 4, 5), torch.randn(3, 2, 4, 7)
    layer.update(keys, values)
    place.end = 4
    layer.batch_select_indices(torch.tensor([2, 1]))
    place.rows = slice(0, 2)
    more = torch.randn(2, 2, 1, 5), torch.randn(2, 2, 1, 7)
    found_keys, found_values = layer.update(*more)
    torch.testing.assert_close(found_keys, torch.cat([keys[[2, 1]], more[0]], dim=2))
    torch.testing.assert_close(found_values, torch.cat([values[[2, 1]], more[1]], dim=2))
    assert layer.get_mask_sizes(3) == (7, 0)


def test_guesses_come_from_other_texts_and_from_the_prompt():
    known = Drafts()
    quotes = known.quotes([10, 11, 12, 13])
    tokens, chances = known.guess((0, 10, 11), quotes)
    assert tokens == [12, 13]
    assert chances[0] > chances[1] > 0
    for _ in range(3):
        known.learn((1, 2, 3), 4, {})
        known.learn((2, 3, 4), 5, {})
    assert known.guess((1, 2, 3), {})[0] == [4, 5]
    assert known.guess((9, 2, 3), {})[0] == [4, 5], "two tokens do where three are new"
    for _ in range(8):
        known.learn((1, 2, 3), 6, {})
    assert known.guess((1, 2, 3), {})[0][0] == 6, "what is wrong too often is replaced"
    assert known.guess((7, 8, 9), {}) == ([], [])


def test_tokens_are_checked_where_they_pay():
    assert worth_checking([[0.9, 0.8, 0.1], [0.9, 0.7]]) == 2
    assert worth_checking([[0.9, 0.8, 0.7, 0.6], []]) == 2
    assert worth_checking([[], [], []]) == 0


def test_a_text_ends_with_its_answer():
    tokenizer = train_tokenizer(["Film 3 of the Drama"], 400)
    tiny = Backbone(build_tiny(tokenizer, 64, 1, 64, 0), tokenizer, "tiny", batch_tokens=100, max_prompt_tokens=32)
    assert set(tokenizer("</answer>")["input_ids"]) < set(tiny.end_tokens)
    parts = tokenizer("a b < / ans wer >")["input_ids"]
    assert not tiny.has_answered(parts)
    assert tiny.has_answered([*parts, *tokenizer("</answer>")["input_ids"]])
    assert not tiny.has_answered([*tokenizer("</answer>")["input_ids"], *tokenizer(" a")["input_ids"]])
