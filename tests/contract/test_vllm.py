"""The contract with vLLM: called as its documentation says. A stand-in plays vLLM; no GPU, no vLLM here."""

import copy
import importlib.machinery
import sys
import tempfile
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from rporec_recbole.backbone import vllm_engine
from rporec_recbole.backbone.load import check_backbone, make_backbone
from rporec_recbole.backbone.vllm_engine import VLLMEngine
from rporec_recbole.cot.reasoner import Reasoner
from rporec_recbole.cot.store import CoTStore, Decoding
from rporec_recbole.errors import BackboneError, ConfigError
from rporec_recbole.settings.reader import default_settings
from rporec_recbole.text.completions import ANSWER_END, parse_completion
from rporec_recbole.training.stage2.grpo import train_rl

PROMPTS = [f"Film {i} | Drama\n" * (1 + i % 3) for i in range(7)]


@dataclass(kw_only=True)
class SamplingParams:  # the documented fields that we use, with vLLM's defaults
    temperature: float = 1.0
    seed: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    max_tokens: int | None = 16
    include_stop_str_in_output: bool = False


@dataclass
class CompletionOutput:
    index: int
    text: str
    token_ids: list[int]


@dataclass
class RequestOutput:
    request_id: str
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput] = field(default_factory=list)


class LLM:
    """Reads the model from its folder as vLLM would, and writes one token at a time, with the seed of each request."""

    made: ClassVar[list] = []

    def __init__(
        self,
        model,
        *,
        tokenizer=None,
        dtype="auto",
        seed=None,
        gpu_memory_utilization=0.9,
        max_model_len=None,
        enable_lora=False,
        max_loras=1,
        max_lora_rank=16,
    ):
        from transformers import AutoModelForCausalLM, AutoTokenizer

        assert (Path(model) / "config.json").is_file()
        assert not (Path(model) / "adapter_config.json").exists()
        assert dtype in ("auto", "float32", "bfloat16", "float16")
        assert max_lora_rank in (8, 16, 32, 64, 128, 256, 320, 512)
        self.folder, self.lora_rank = model, max_lora_rank if enable_lora else 0
        self.model = self.base = AutoModelForCausalLM.from_pretrained(model).eval()
        self.adapters: dict[int, object] = {}
        self.tokenizer = AutoTokenizer.from_pretrained(model)
        self.options = {"gpu_memory_utilization": gpu_memory_utilization, "max_model_len": max_model_len}
        self.requests: list = []
        LLM.made.append(self)

    @torch.no_grad()
    def generate(self, prompts, /, sampling_params=None, *, use_tqdm=True, lora_request=None):
        assert len(sampling_params) == len(prompts)
        self.model = self.base if lora_request is None else self._with(lora_request)
        self.requests += zip(prompts, sampling_params, strict=True)
        return [
            self._one(str(i), p["prompt_token_ids"], s)
            for i, (p, s) in enumerate(zip(prompts, sampling_params, strict=True))
        ]

    def _with(self, request):
        """An adapter is read once for each number."""
        from peft import PeftModel

        assert request.lora_int_id > 0
        if request.lora_int_id not in self.adapters:
            adapted = PeftModel.from_pretrained(copy.deepcopy(self.base), request.lora_path)
            assert adapted.peft_config["default"].r <= self.lora_rank
            self.adapters[request.lora_int_id] = adapted.eval()
        return self.adapters[request.lora_int_id]

    def _one(self, request, ids, wanted):
        assert len(ids) + wanted.max_tokens <= self.options["max_model_len"]
        draws = torch.Generator().manual_seed(wanted.seed if wanted.seed is not None else 0)
        tokens: list[int] = []
        text = ""
        while len(tokens) < wanted.max_tokens and not any(stop in text for stop in wanted.stop):
            logits = self.model(torch.tensor([[*ids, *tokens]])).logits[0, -1]
            if wanted.temperature == 0:
                tokens.append(int(logits.argmax()))
            else:
                chances = torch.softmax(logits / wanted.temperature, 0)
                tokens.append(int(torch.multinomial(chances, 1, generator=draws)))
            if tokens[-1] in wanted.stop_token_ids:
                break
            text = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return RequestOutput(request, ids, [CompletionOutput(0, text, tokens)])


@dataclass
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str = ""


@pytest.fixture
def vllm(monkeypatch):
    module = types.ModuleType("vllm")
    module.__spec__ = importlib.machinery.ModuleSpec("vllm", None)
    module.LLM, module.SamplingParams = LLM, SamplingParams
    request = types.ModuleType("vllm.lora.request")
    request.LoRARequest = LoRARequest
    for name, one in {"vllm": module, "vllm.lora": types.ModuleType("vllm.lora"), "vllm.lora.request": request}.items():
        monkeypatch.setitem(sys.modules, name, one)
    monkeypatch.setattr(LLM, "made", [])
    return module


def backbone_of(**more):
    settings = default_settings(
        backbone="tiny-nano", max_prompt_tokens=100, max_new_tokens=12, generation_engine="vllm", **more
    ).backbone
    return make_backbone(settings, PROMPTS, torch.device("cpu"), 0)


def engine_of(backbone):
    return VLLMEngine(backbone, max_new_tokens=12, memory=0.3)


def test_greedy_texts_are_those_of_our_own_engine(vllm):
    backbone = backbone_of()
    engine = engine_of(backbone)
    decoding = Decoding(max_new_tokens=12)
    assert engine.generate(PROMPTS, decoding) == backbone.generate(PROMPTS, decoding)
    (llm,) = LLM.made
    assert llm.options == {"gpu_memory_utilization": 0.3, "max_model_len": 112}
    prompts, parameters = zip(*llm.requests, strict=True)
    assert [p["prompt_token_ids"] for p in prompts] == backbone.prompts.encode(PROMPTS)
    for one in parameters:
        assert (one.temperature, one.max_tokens, one.seed) == (0, 12, None)
        assert one.stop == [ANSWER_END]
        assert one.include_stop_str_in_output
        assert one.stop_token_ids == backbone.end_tokens


def test_a_text_ends_with_its_answer(vllm, monkeypatch):
    backbone = backbone_of()
    written = backbone.tokenizer("<think>a</think><answer>b</answer>more", add_special_tokens=False)["input_ids"]
    monkeypatch.setattr(LLM, "_one", lambda self, r, ids, p: RequestOutput(r, ids, [CompletionOutput(0, "", written)]))
    assert engine_of(backbone).generate(["Film"], Decoding()) == ["<think>a</think><answer>b</answer>"]


def test_sampled_texts_depend_on_prompt_and_seed_not_on_neighbours(vllm, monkeypatch):
    engine = engine_of(backbone_of())
    decoding = Decoding(1.0, 12, seed=3)
    together = engine.generate(PROMPTS, decoding)
    monkeypatch.setattr(vllm_engine, "_AT_ONCE", 2)
    parts = []
    assert engine.generate(PROMPTS[::-1], decoding, lambda rows, texts: parts.append((rows, texts)))[::-1] == together
    assert [rows for rows, _ in parts] == [[0, 1], [2, 3], [4, 5], [6]]
    assert [text for _, texts in parts for text in texts] == together[::-1]
    others = [Decoding(1.0, 12, seed=4), Decoding(1.0, 12, seed=3, sample=1)]
    assert all(engine.generate(PROMPTS, other) != together for other in others)
    seeds = [parameters.seed for _, parameters in LLM.made[0].requests]
    assert len(set(seeds)) == 3 * len(set(PROMPTS))


@pytest.mark.parametrize("lora", [False, True])
def test_weights_are_served_anew_after_training(vllm, lora):
    backbone = backbone_of(lora=lora, lora_rank=2)
    engine, decoding = engine_of(backbone), Decoding(max_new_tokens=12)
    before, writer = engine.generate(PROMPTS, decoding), engine.fingerprint
    engine.generate(PROMPTS[:1], decoding)
    assert len(LLM.made) == 1
    for weight in backbone.trainable():
        torch.nn.init.normal_(weight, std=0.2)
    backbone.weights_changed()
    after = engine.generate(PROMPTS, decoding)
    assert len(LLM.made) == (1 if lora else 2)  # an adapter is handed over, whole weights are loaded
    assert after == backbone.generate(PROMPTS, decoding) != before
    assert engine.fingerprint != writer
    assert backbone.is_adapter is lora


@pytest.mark.parametrize(("rank", "room"), [(2, 8), (16, 16), (24, 32)])
def test_room_for_an_adapter(vllm, rank, room):
    engine = engine_of(backbone_of(lora=True, lora_rank=rank))
    engine.generate(PROMPTS[:1], Decoding(max_new_tokens=2))
    assert LLM.made[0].lora_rank == room


def test_an_adapter_that_is_too_large(vllm):
    with pytest.raises(BackboneError, match="lora_rank=300"):
        engine_of(backbone_of(lora=True, lora_rank=300))


def test_stage_2_is_written_with_the_adapter_of_each_step(vllm):
    settings = default_settings(
        backbone="tiny-nano", lora=True, lora_rank=4, generation_engine="vllm", rollout_engine="vllm", max_prompt_tokens=100,
        max_new_tokens=12, rl_steps=3, rl_prompts=2, group_size=4, rl_learning_rate=0.05, kl_weight=0.1,
    )  # fmt: skip
    backbone = make_backbone(settings.backbone, PROMPTS, torch.device("cpu"), 0)
    engine, weights, texts = engine_of(backbone), [], []

    def reward(completions, rows, tokens):
        weights.append(backbone.weights())
        texts.append((list(rows), list(completions)))
        return [float(len(set(text))) for text in completions]

    with tempfile.TemporaryDirectory() as reference:
        backbone.save(Path(reference))
        train_rl(backbone, PROMPTS, reward, settings.rl, max_new_tokens=12, reference=reference, seed=0, writer=engine)
    (llm,) = LLM.made
    assert len(llm.adapters) == 3
    assert len(llm.requests) == 3 * 8
    assert len({parameters.seed for _, parameters in llm.requests}) == 3 * 8  # equal prompts, other draws
    for number, (own, (rows, written)) in enumerate(zip(weights, texts, strict=True), start=1):
        adapted = dict(llm.adapters[number].named_parameters())
        assert all(torch.equal(adapted[name], weight) for name, weight in own.items())
        asked = llm.requests[8 * (number - 1) : 8 * number]
        assert [p["prompt_token_ids"] for p, _ in asked] == backbone.prompts.encode([PROMPTS[row] for row in rows])
        assert len(set(written)) > 1
    assert not all(torch.equal(weights[0][name], weights[2][name]) for name in weights[0])
    # afterwards texts are those of the policy that is kept
    greedy = Decoding(max_new_tokens=12)
    assert engine.generate(PROMPTS, greedy) == backbone.generate(PROMPTS, greedy)


def test_what_stage_2_cannot_be_written_with():
    for own in ({"generation_engine": "vllm"}, {"lora": True}):
        with pytest.raises(ConfigError, match="rollout_engine=vllm"):
            default_settings(rollout_engine="vllm", **own)


def test_the_store_keeps_the_engines_apart(vllm):
    backbone, store = backbone_of(), CoTStore()
    engine, decoding = engine_of(backbone), Decoding(max_new_tokens=12)
    assert engine.fingerprint != backbone.fingerprint
    for writer in (backbone, engine, engine_of(backbone)):
        Reasoner(writer, None, store).complete(PROMPTS, decoding)
    assert len(store) == 2 * len(set(PROMPTS))
    assert sum(len(llm.requests) for llm in LLM.made) == len(set(PROMPTS))


def test_a_run_writes_with_it(vllm, toy):
    from rporec_recbole.host.bridge import build_trainer
    from tests.toy import toy_model

    config, model, train, valid, test = toy_model(toy, stages=["1a", "1b", "1c"], generation_engine="vllm")
    trainer = build_trainer(config, model)
    trainer.fit(train, valid, saved=False)
    trainer.evaluate(test, load_best_model=False)
    (llm,) = LLM.made
    assert len(llm.requests) == len(model.reasoner.store) > 0
    assert {row.generator for row in model.reasoner.store} == {model.reasoner.generator.fingerprint}


def test_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    settings = default_settings(generation_engine="vllm").backbone
    with pytest.raises(BackboneError, match=r"rporec_recbole\[vllm\]"):
        check_backbone(settings)
    with pytest.raises(BackboneError, match=r"rporec_recbole\[vllm\]"):
        VLLMEngine(None, max_new_tokens=1, memory=0.1)


@pytest.mark.parametrize("drawn", [False, True])
def test_of_a_grounded_text_vllm_writes_what_stands_before_the_answer(vllm, monkeypatch, drawn):
    backbone = backbone_of()
    lines = ["", "Film 1 | Drama", "Film 2 | Crime"]
    digest = backbone.ground(lines)
    written = backbone.tokenizer("a</think><answer>", add_special_tokens=False)["input_ids"]
    monkeypatch.setattr(LLM, "_one", lambda self, r, ids, p: RequestOutput(r, ids, [CompletionOutput(0, "", written)]))
    decoding = Decoding(float(drawn), 12, seed=1, guesses=2, lines=digest)
    engine = engine_of(backbone)
    if drawn:
        (text,) = backbone.decode(engine.generate_tokens(["Film"], decoding, identities=["1"]))
    else:
        (text,) = engine.generate(["Film"], decoding)
    one = parse_completion(text)
    assert one.cot == "a"
    assert one.answer in lines
    assert len(one.guesses) == (1 if drawn else 2)
    ((prompt, parameters),) = LLM.made[0].requests
    assert prompt["prompt_token_ids"] == [
        *backbone.prompts.encode(["Film"])[0],
        *backbone.tokenizer("<think>")["input_ids"],
    ]
    assert parameters.stop == ["<answer>", ANSWER_END]
    assert parameters.max_tokens < 12
