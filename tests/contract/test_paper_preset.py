"""The eighteen points in which the paper's release does something of its own: `--preset=paper` follows each, and each can be had apart."""

import math

import pytest
import torch

from rporec_recbole.backbone.choice import nucleus
from rporec_recbole.backbone.load import make_backbone
from rporec_recbole.cot.store import CoTStore
from rporec_recbole.host.bridge import build_config
from rporec_recbole.model.losses import negatives_loss
from rporec_recbole.model.rechead import Reasoning
from rporec_recbole.model.textform import TextForm
from rporec_recbole.model.textfusion import TextFusion
from rporec_recbole.settings.properties import preset_file, read_yaml
from rporec_recbole.settings.reader import default_settings, settings_from
from rporec_recbole.settings.types import OF_TEXT_HEAD
from rporec_recbole.text.completions import PARSERS, parse_completion
from rporec_recbole.training.stage1.fusion import fusion_loss, train_fusion
from rporec_recbole.training.stage1.rows import fusion_texts
from rporec_recbole.training.stage1.trunk import learning_rate_factor
from rporec_recbole.training.stage2 import grpo
from rporec_recbole.training.stage2.head_reward import kept_candidates
from rporec_recbole.training.stage2.refinement import Refinement
from tests.backbones import static_encoder, word_tokenizer
from tests.toy import toy_model

WIDTH, B = 16, 3
READ = torch.tensor([True, False, False])  # the last of the three has no cot either


@pytest.fixture(scope="module")
def preset():
    return settings_from(build_config("RPORec", "ml-100k", [preset_file("paper")]))


@pytest.fixture(scope="module")
def world(toy, tmp_path_factory):
    """(model, training data) of the preset on the toy data set, with a small encoder and a `tiny-nano` that has learned nothing."""
    pytest.importorskip("sentence_transformers")
    encoder = static_encoder(tmp_path_factory.mktemp("models") / "encoder", word_tokenizer(), WIDTH)
    values = {
        **read_yaml(preset_file("paper")), "backbone": "tiny-nano", "text_encoder": str(encoder), "hidden_size": WIDTH, "inner_size": 24,
        "sampled_negatives": 6, "max_new_tokens": 6, "max_prompt_tokens": 400, "fusion_positions": 1,
    }  # fmt: skip
    _, model, train, _, _ = toy_model(toy, **values)
    backbone = make_backbone(model.settings.backbone, list(model.catalogue.lines), torch.device("cpu"), 0)
    model.connect(backbone, CoTStore())
    return model, train


def vectors():
    torch.manual_seed(1)
    found = torch.randn(B, 2 * WIDTH)
    found[2] = 0
    return torch.randn(B, WIDTH), Reasoning(found, READ)


def fusion(**form):
    torch.manual_seed(0)
    return TextFusion(WIDTH, WIDTH, 2, 2, 24, TextForm(**form), projects=False).eval()


def test_defaults_are_ours():
    assert vars(TextForm()) == {name: OF_TEXT_HEAD[name] for name in vars(TextForm())}
    ours = default_settings()
    assert (ours.head.rechead, ours.fusion.fusion_loss, ours.rl.reward_candidates) == (
        "fused",
        "catalogue",
        "catalogue",
    )
    assert (ours.rl.rl_loss, ours.rl.rl_entropy_quantile) == ("dapo", 1.0)  # TRL's own


def test_point_1_the_score_begins_with_the_answer_where_it_is_well_formed(preset):
    assert preset.head.text_base == "answer"
    state, reasoning = vectors()
    base, _ = fusion(text_base="answer")._found(state, reasoning)
    answer = reasoning.vectors[:, WIDTH:]
    assert torch.equal(base, torch.stack([answer[0], state[1], state[2]]))
    assert torch.equal(fusion()._found(state, reasoning)[0], state)


def test_point_2_the_gate_is_at_most_a_tenth_and_no_map_starts_at_zero(preset):
    assert (preset.head.gate_limit, preset.head.reasoning_map, preset.head.gate_layers) == (0.1, "none", 3)
    state, reasoning = vectors()
    one = fusion(gate_limit=0.1, reasoning_map="none", gate_layers=3)
    with torch.no_grad():
        one.gate[-1].bias.fill_(50.0)  # wide open
    moved = one(state, reasoning)
    _, found = one._found(state, reasoning)
    torch.testing.assert_close(moved[0], state[0] + 0.1 * found[0])
    torch.testing.assert_close(one.gate_value(state, reasoning), torch.full((B,), 0.1))
    assert [type(part).__name__ for part in one.gate] == ["Linear", "LeakyReLU", "Linear", "LeakyReLU", "Linear"]


def test_point_3_sizes_and_form_of_the_transformer(preset):
    head = preset.head
    assert (head.n_layers, head.n_heads, head.hidden_size, head.mixing, head.mixing_reads) == (
        4,
        8,
        1024,
        "postnorm",
        "last",
    )
    one, ours = fusion(mixing="postnorm", mixing_reads="last"), fusion()
    layer = one.mix.layers[0]
    assert (layer.norm_first, layer.dropout.p, one.mix.norm, one.kind) == (False, 0.1, None, None)
    assert (ours.mix.layers[0].norm_first, ours.mix.layers[0].dropout.p) == (True, 0.0)
    state, reasoning = vectors()
    cot, answer = reasoning.vectors.chunk(2, dim=1)
    whole = one.mix(torch.stack([state, cot, answer], dim=1))
    assert torch.equal(one._found(state, reasoning)[1], whole[:, 2])


def test_point_4_three_copies_of_the_encoder_learn_and_items_are_raw(preset, world):
    text, head = preset.text, preset.head
    assert text.text_encoder.endswith("/static-retrieval-mrl-en-v1")
    assert (head.head_encoder, head.item_vectors, text.text_vector_length) == ("trained", "raw", "own")
    model, _ = world
    towers = model.head.towers
    copies = [towers.history_encoder, towers.cot_encoder, towers.answer_encoder]
    assert len({id(weight) for one in copies for weight in one.parameters()}) == 3
    assert all(weight.requires_grad for one in copies for weight in one.parameters())
    found = towers.reasoning(["Film 3", ""], ["Drama", " "])
    assert torch.equal(found[1], torch.zeros(2 * WIDTH))
    torch.testing.assert_close(
        found[0, WIDTH:], torch.from_numpy(model.encoder.encode(["Drama"])[0])
    )  # no map behind it
    assert model.head.item_vectors() is model.head.item_text
    assert not model.head.item_text.requires_grad


def test_point_5_a_malformed_completion_is_read_whole(preset, world):
    assert preset.head.malformed_texts == "read"
    state, reasoning = vectors()
    read, ours = (fusion(malformed_texts=how, reasoning_map="none")(state, reasoning) for how in ("read", "ignored"))
    moved = lambda found: (found != state).any(dim=1).tolist()  # noqa: E731
    assert (moved(read), moved(ours)) == ([True, True, False], [True, False, False])
    malformed = parse_completion("<think>only a thought")
    assert world[0].read_sections([malformed]) == (["<think>only a thought"], [""])


def test_point_6_the_head_reads_the_prompt_and_attributes_have_names(preset, world):
    text = preset.text
    assert (text.history_text, text.item_text_style, text.prompt_ratings, text.title_characters) == (
        "prompt",
        "named",
        False,
        2000,
    )
    model, _ = world
    template = model.reasoner.template
    assert model.catalogue.lines[3].count(" | genre: ") == model.catalogue.lines[3].count(" | year: ") == 1
    (shown,) = model.head.history_text.newest_texts(torch.tensor([[0, 3, 4]]))
    assert shown == template.prompt([3, 4]) == template.prompt([3, 4], [1.0, 5.0])
    assert shown.endswith(f"{model.catalogue.lines[3]}\n{model.catalogue.lines[4]}\n")


def test_point_7_the_prompt_asks_for_attributes_in_the_answer(preset, world):
    assert preset.backbone.prompt_style == "attributes"
    prompt = world[0].reasoner.template.prompt([3])
    assert "attributes" in prompt
    assert "<answer> and </answer>" in prompt
    assert "evidence" not in prompt


def test_point_8_texts_are_drawn_at_1_from_the_likeliest_tokens(preset, world):
    limits = preset.backbone
    assert (limits.cot_temperature, limits.cot_top_p, limits.evaluation_texts, limits.cot_retries) == (
        1.0,
        0.95,
        "drawn",
        0,
    )
    assert (limits.max_new_tokens, limits.max_prompt_tokens, preset.rl.rl_max_new_tokens) == (768, 2048, 1024)
    model, _ = world
    assert model.evaluation_decoding == model.fusion_decoding
    assert model.fusion_decoding.identity["top_p"] == 0.95
    assert "top_p" not in model.decoding(0.0).identity  # greedy texts of other runs keep their keys
    kept = nucleus(torch.tensor([0.1, 0.5, 0.05, 0.35], dtype=torch.float64), 0.8)
    assert kept.tolist() == [0.0, 0.5, 0.0, 0.35]  # 0.5 alone is less than 0.8, 0.5 + 0.35 is enough
    assert nucleus(torch.tensor([0.4, 0.6]), 0.1).tolist() == pytest.approx([0.0, 0.6])


def test_point_9_negatives_are_drawn_once_and_kept(preset, world):
    head, of_fusion = preset.head, preset.fusion
    assert (head.sampled_negatives, head.kept_negatives, head.head_loss, of_fusion.fusion_loss) == (
        49,
        True,
        "negatives",
        "negatives",
    )
    model, train = world
    ends = train.dataset.positions(2, 1)[:4]
    rows, _ = fusion_texts(model, train.dataset, ends, "")
    assert torch.equal(rows.negatives, model.negatives.of(torch.from_numpy(ends), rows.targets))
    index, items = torch.arange(len(rows)), model.head.item_vectors()
    states, reasoning = rows.read(model.head, items)
    scores = model.head.scores_of(states, items, rows.seen, reasoning)
    for row in range(len(rows)):  # -log(exp s_target / sum of exp over target and negatives)
        among = torch.cat([scores[row, rows.targets[row]][None], scores[row, rows.negatives[row]]])
        expected = among.exp().sum().log() - among[0]
        one = fusion_loss(model.head, items, rows, index[row : row + 1])
        torch.testing.assert_close(one, expected)


def test_point_9_the_loss_of_kept_negatives_by_hand():
    users = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    items = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 1.0], [0.0, 3.0]])
    targets, others = torch.tensor([1, 2]), torch.tensor([[2, 3], [1, 3]])
    nothing = torch.zeros(2, 1, dtype=torch.int64), torch.arange(2), torch.zeros(2), None
    # Scores of user 0: 1 for the target, 2 and 0 for the others; of user 1: 2 for the target, 0 and 6 for the others.
    first = -math.log(math.e / (math.e + math.e**2 + 1))
    second = -math.log(math.e**2 / (math.e**2 + 1 + math.e**6))
    found = negatives_loss(users, items, targets, *nothing, 9, others=others)
    torch.testing.assert_close(found, torch.tensor((first + second) / 2))


def test_point_10_a_target_is_ranked_among_fifty(preset, world):
    assert (preset.rl.reward_candidates, preset.rl.reward_k) == ("negatives", 1000)
    model, train = world
    ends = torch.from_numpy(train.dataset.positions(3)[:5])
    targets = train.dataset.timeline["item_id"][ends]
    found = kept_candidates(model, ends, targets)
    assert found.shape == (5, 7)  # the target and the six negatives of this small run; 1 + 49 in the preset
    assert torch.equal(found[:, 0], targets)
    assert torch.equal(found[:, 1:], model.negatives.of(ends, targets))  # those that the head has learned with


@pytest.mark.parametrize(
    ("point", "part"),
    [(11, "cleanliness"), (12, "summary_compression"), (13, "summary_consistency"), (14, "entropy_gap_uncapped")],
)
def test_points_11_to_14_the_parts_of_the_reward(preset, point, part):
    """Their values by hand: tests/unit/rewards/test_paper_parts.py."""
    assert preset.rl.reward_weights[part] == 0.1
    assert preset.rl.reward_weights["ndcg"] == 0.5
    assert math.isclose(sum(preset.rl.reward_weights.values()), 1.0)
    assert preset.rl.reward_gates == ["format"]


def test_point_15_the_loss_of_grpo_and_its_uncertain_tokens(preset, monkeypatch, tmp_path):
    assert (preset.rl.rl_loss, preset.rl.rl_entropy_quantile) == ("grpo", 0.2)
    given, config = {}, grpo.GRPOConfig
    monkeypatch.setattr(grpo, "GRPOConfig", lambda **values: given.update(values) or config(**values))
    losses = {}
    for quantile in (1.0, 0.2):
        settings = default_settings(
            backbone="tiny-nano", rl_steps=1, rl_prompts=2, group_size=4, rl_loss="grpo", rl_entropy_quantile=quantile, rl_learning_rate=0.01,
        )  # fmt: skip
        backbone = make_backbone(settings.backbone, ["Drama Comedy Action Crime"], torch.device("cpu"), 0)
        backbone.save(tmp_path / str(quantile))
        grpo.train_rl(
            backbone, ["Drama", "Crime"], lambda texts, rows, tokens: [float(len(one)) for one in texts], settings.rl,
            max_new_tokens=6, reference=str(tmp_path / str(quantile)), seed=0,
        )  # fmt: skip
        assert (given["loss_type"], given["top_entropy_quantile"]) == ("grpo", quantile)
        losses[quantile] = backbone.weights()
    assert any(not torch.equal(weight, losses[0.2][name]) for name, weight in losses[1.0].items())


def test_point_16_all_weights_are_trained(preset, world):
    assert (preset.backbone.lora, preset.rl.rl_learning_rate, preset.backbone.backbone) == (
        False,
        1e-6,
        "Qwen/Qwen3-0.6B",
    )
    backbone = world[0].backbone
    assert not backbone.is_adapter
    assert sum(weight.numel() for weight in backbone.trainable()) == backbone.parameters


def test_point_17_epochs_and_linear_decay(preset, world, monkeypatch):
    of_fusion, rl = preset.fusion, preset.rl
    assert (of_fusion.fusion_epochs, of_fusion.fusion_schedule, of_fusion.fusion_keeps) == (100, "linear", "last")
    assert (rl.rl_epochs, rl.rl_schedule, rl.rl_validate_every, preset.trunk.lr_schedule) == (
        202,
        "linear",
        0,
        "linear",
    )
    assert [learning_rate_factor(step, 0, 4, "linear") for step in range(5)] == [1.0, 0.75, 0.5, 0.25, 0.0]
    model, train = world
    refinement = Refinement.__new__(Refinement)
    refinement.dataset = train.dataset
    positions = len(train.dataset.positions(3))
    assert refinement._in_steps(rl).rl_steps == 202 * positions // 8
    rows, _ = fusion_texts(model, train.dataset, train.dataset.positions(2, 1)[:6], "")
    rates, step = [], torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda own: rates.append(own.param_groups[0]["lr"]) or step(own))
    few = default_settings(fusion_schedule="linear", fusion_keeps="last", fusion_epochs=2, fusion_batch_size=3).fusion
    assert train_fusion(model.head, rows, None, few, seed=0, desc="") == 2
    assert rates == pytest.approx([0.001, 0.00075, 0.0005, 0.00025])  # four steps, down to 0 behind the last


def test_point_17_linear_decay_of_the_backbone(monkeypatch, tmp_path):
    rates = []
    settings = default_settings(
        backbone="tiny-nano", rl_steps=4, rl_prompts=2, group_size=2, rl_schedule="linear", rl_learning_rate=0.01
    )
    backbone = make_backbone(settings.backbone, ["Drama Comedy Action Crime"], torch.device("cpu"), 0)
    backbone.save(tmp_path)
    step = torch.optim.AdamW.step
    monkeypatch.setattr(
        torch.optim.AdamW, "step", lambda own, *a: rates.append(own.param_groups[0]["lr"]) or step(own, *a)
    )
    grpo.train_rl(
        backbone, ["Drama", "Crime"], lambda texts, rows, tokens: [float(place) for place, _ in enumerate(texts)], settings.rl,
        max_new_tokens=3, reference=str(tmp_path), seed=0,
    )  # fmt: skip
    assert rates == pytest.approx([0.01, 0.0075, 0.005, 0.0025])


def test_point_18_tags_are_read_leniently(preset, world):
    """More: tests/unit/rewards/test_paper_parts.py."""
    assert preset.text.tag_reading == "lenient"
    twice = "<think>x</think><think>a</think><answer>b</answer>"
    assert (PARSERS["strict"](twice).well_formed, PARSERS["lenient"](twice).cot) == (False, "a")
    assert world[0].reasoner.parse is PARSERS["lenient"]
