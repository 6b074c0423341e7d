"""Guesses are what the model itself holds likely among the allowed sequences, whatever the architecture, batch and cache."""

import functools
import math
import random

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from rporec_recbole.backbone.guesses import drawn_leaves, likely_leaves
from rporec_recbole.backbone.prefix_tree import PrefixTree
from tests.unit.backbone.test_engine import MODELS, completed, made, prompts, read_by

PAD = 0
draw = random.Random(3)
CONTEXTS = [[draw.randrange(6, 60) for _ in range(draw.randrange(3, 20))] for _ in range(9)]
# Few tokens, so that many sequences begin alike; the end token makes none the beginning of another.
SEQUENCES = [[draw.randrange(6, 12) for _ in range(draw.randrange(1, 6))] + [5] for _ in range(60)]
TREE = PrefixTree(SEQUENCES, range(1, 61))


LOOKED_AT = range(0, len(CONTEXTS), 2)
"""Contexts whose sequences are added up one by one, which takes longer than everything else here."""


@functools.cache
def exact(name, number):
    """Log-probability of every leaf after a context, without a cache and without a batch."""
    model, context = made(name), CONTEXTS[number]
    found, open_nodes = {}, [(TREE.root, [*context, *TREE.tokens(TREE.root)], 0.0)]
    while open_nodes:
        node, tokens, logprob = open_nodes.pop()
        if node.is_leaf:
            found[node] = logprob
            continue
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1].double()
        allowed, below = TREE.children(node)
        logp = torch.log_softmax(logits[torch.from_numpy(allowed)], dim=0).tolist()
        for value, child in zip(logp, below, strict=True):
            open_nodes.append((child, tokens + TREE.between(node, child), logprob + value))
    return found


@pytest.mark.parametrize("name", MODELS)
def test_wide_beams_find_the_exact_order(name):
    found = likely_leaves(made(name), CONTEXTS, TREE, 99, pad=PAD, budget=4000)
    for number in LOOKED_AT:
        ways, expected = found[number], exact(name, number)
        assert math.fsum(map(math.exp, expected.values())) == pytest.approx(1)
        assert {way.node for way in ways} == set(expected)
        assert [way.logprob for way in ways] == pytest.approx(sorted(expected.values(), reverse=True), abs=1e-3)
        assert all(way.logprob == pytest.approx(expected[way.node], abs=1e-3) for way in ways)


@pytest.mark.parametrize("name", MODELS)
def test_narrow_beams_give_so_many_whatever_the_batch(name):
    model = made(name)
    found = likely_leaves(model, CONTEXTS, TREE, 4, pad=PAD, budget=1)
    together = likely_leaves(model, CONTEXTS, TREE, 4, pad=PAD, budget=10**6)
    for ways, same in zip(found, together, strict=True):
        assert len(ways) == 4
        assert [way.logprob for way in ways] == sorted((way.logprob for way in ways), reverse=True)
        assert [way.node for way in ways] == [way.node for way in same]
    for number in LOOKED_AT:
        expected = exact(name, number)
        assert all(way.logprob == pytest.approx(expected[way.node], abs=1e-3) for way in found[number])


@pytest.mark.parametrize(
    ("name", "cut", "others"),
    [
        ("qwen3, shared heads", 0, [7, 7]),
        ("gemma3, two kinds of layers", 3, [7, 7, 7]),
        ("llama, own heads", 2, []),
        ("lfm2", 0, []),
    ],
)
def test_what_was_written_is_read_on_from(name, cut, others):
    """Answers behind texts that the engine has just written; with `cut` the last tokens of each text are others, or none; more may follow."""
    model, texts, kept = made(name), prompts(), []
    sizes = read_by(model)

    def answers(numbers, written, read):
        contexts = [
            [*texts[i], *one.tokens[: len(one.tokens) - cut], *others] for i, one in zip(numbers, written, strict=True)
        ]
        some = {"closed": [TREE.rows_of([1 + n % 60]) for n in numbers], "pad": PAD, "budget": 900}
        draws = np.random.default_rng(0).random((len(contexts), 8))
        sizes.clear()
        likely = likely_leaves(model, contexts, TREE, 5, read=read, **some)
        drawn = drawn_leaves(model, contexts, TREE, draws, 1.0, read=read, **some)
        most = max(8, 1 + cut + TREE.depth)  # 8 to try the output layer out
        assert (max(length for _, length in sizes) <= most) == (read is not None)
        kept.append((contexts, draws, some, likely, drawn))
        assert (read is None) == (name == "lfm2"), "a recurrent state cannot be gone back in"

    completed(model, texts, budget=300, on_batch=answers, keep_read=True)
    assert sum(len(contexts) for contexts, *_ in kept) == len(texts)
    for contexts, draws, some, likely, drawn in kept:
        again = likely_leaves(model, contexts, TREE, 5, **some)
        assert [[one.node for one in ways] for ways in likely] == [[one.node for one in ways] for ways in again]
        for one, other in zip(likely, again, strict=True):
            assert [way.logprob for way in one] == pytest.approx([way.logprob for way in other], abs=1e-3)
        redrawn = drawn_leaves(model, contexts, TREE, draws, 1.0, **some)
        assert [way.node for way in drawn] == [way.node for way in redrawn]


def test_one_line_needs_no_choice():
    tree = PrefixTree([[7, 8, 5]], [3])
    (ways,) = likely_leaves(made("qwen3, shared heads"), [[9]], tree, 5, pad=PAD, budget=100)
    assert [(tree.items(way.node), way.logprob) for way in ways] == [([3], 0.0)]
    (way,) = drawn_leaves(made("qwen3, shared heads"), [[9]], tree, [[0.5]], 1.0, pad=PAD, budget=100)
    assert way == ways[0]


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_draws_come_as_often_as_they_are_likely(temperature):
    model, context, rng, many = made("qwen3, shared heads"), CONTEXTS[0], np.random.default_rng(0), 1500
    ways = drawn_leaves(model, [context] * many, TREE, rng.random((many, 8)), temperature, pad=PAD, budget=10**5)
    expected = exact("qwen3, shared heads", 0)
    assert all(way.logprob == pytest.approx(expected[way.node], abs=1e-3) for way in ways)
    if temperature == 1.0:
        for leaf, logprob in expected.items():
            often = sum(way.node == leaf for way in ways) / many
            assert often == pytest.approx(math.exp(logprob), abs=0.05)
    else:
        assert np.mean([way.logprob for way in ways]) > sum(math.exp(v) * v for v in expected.values())


def test_a_draw_depends_on_its_own_numbers_alone():
    model, draws = made("llama, own heads"), np.random.default_rng(1).random((9, 8))
    together = drawn_leaves(model, CONTEXTS, TREE, draws, 1.0, pad=PAD, budget=10**5)
    alone = [
        drawn_leaves(model, [context], TREE, [own], 1.0, pad=PAD, budget=10**5)[0]
        for context, own in zip(CONTEXTS, draws, strict=True)
    ]
    assert [way.node for way in together] == [way.node for way in alone]
    greedy = drawn_leaves(model, CONTEXTS, TREE, draws, 0.0, pad=PAD, budget=10**5)
    assert [way.node for way in greedy] == [
        way.node for way in drawn_leaves(model, CONTEXTS, TREE, 1 - draws, 0.0, pad=PAD, budget=10**5)
    ]


def test_forced_tokens_are_not_read_in_vain(monkeypatch):
    """Two lines that differ in their first token: the context is read, and nothing else."""
    passes = []
    plain = LlamaForCausalLM.forward
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=30,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
        )
    ).eval()
    monkeypatch.setattr(LlamaForCausalLM, "forward", lambda self, *a, **k: passes.append(1) or plain(self, *a, **k))
    tree = PrefixTree([[7, 8, 8, 8, 5], [9, 8, 8, 5]], [1, 2])
    for asked in range(2):
        passes.clear()
        assert len(likely_leaves(model, [[3, 4]], tree, 2, pad=PAD, budget=100)[0]) == 2
        assert len(passes) == (1 if asked else 3), "what the output layer is was found out the first time"


@pytest.mark.parametrize("name", list(MODELS)[:2])
def test_closed_rows_are_never_reached_and_the_others_share_their_probability(name):
    model, rng = made(name), np.random.default_rng(0)
    closed = [TREE.rows_of(rng.choice(np.arange(1, 61), size, replace=False)) for size in range(0, 45, 5)]
    found = likely_leaves(model, CONTEXTS, TREE, 99, pad=PAD, budget=4000, closed=closed)
    for ways, rows in zip(found, closed, strict=True):
        assert {way.node.low for way in ways} == set(range(len(TREE))) - set(rows.tolist())
        assert math.fsum(math.exp(way.logprob) for way in ways) == pytest.approx(1)
    narrow = likely_leaves(model, CONTEXTS, TREE, 3, pad=PAD, budget=4000, closed=closed)
    assert [len(ways) for ways in narrow] == [3] * len(CONTEXTS)
    drawn = drawn_leaves(model, CONTEXTS, TREE, [[n / 9] for n in range(9)], 1.0, pad=PAD, budget=4000, closed=closed)
    for ways, way in zip(found, drawn, strict=True):
        same = next(one for one in ways if one.node.low == way.node.low)
        assert way.logprob == pytest.approx(same.logprob, abs=1e-3)


def test_somewhere_is_always_open():
    assert len(TREE.rows_of(range(1, 61))) == 0
    assert len(TREE.rows_of([])) == 0
    assert TREE.rows_of([1, 1]).tolist() == TREE.rows_of([1]).tolist()
