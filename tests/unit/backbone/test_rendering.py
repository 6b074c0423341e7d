"""Prompts as tokens, with and without a chat template."""

import pytest

from rporec_recbole.backbone.rendering import PromptEncoder
from rporec_recbole.backbone.tiny import train_tokenizer
from rporec_recbole.errors import BackboneError
from rporec_recbole.text.catalogue import build_catalogue
from rporec_recbole.text.completions import parse_completion, render_completion
from rporec_recbole.text.prompts import INSTRUCTIONS, PromptTemplate

PLAIN = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
START = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
# The assistant's turn as Qwen3 (may skip thinking), its thinking-only successor, and models with a switch of another name begin it.
STARTS = {
    "plain": START,
    "qwen3": "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}",
    "thinking-only": "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}",
    "other-switch": "{% if add_generation_prompt %}<|im_start|>assistant\n{% if not thinking %}</think>{% endif %}{% endif %}",
}
EXPECTED = "<|im_start|>user\nFilm 3 | Drama<|im_end|>\n<|im_start|>assistant\n"


def tokenizer(template=None):
    made = train_tokenizer(
        [INSTRUCTIONS["compact"], INSTRUCTIONS["instruct"], "Film 3 of the Drama", "Comedy Crime 1984"] * 3, 500
    )
    made.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>", "[INST]"]})
    made.chat_template = template
    return made


@pytest.mark.parametrize("start", STARTS)
def test_the_prompt_is_one_user_message_and_the_assistants_turn_starts_empty(start):
    made = tokenizer(PLAIN + STARTS[start])
    encoder = PromptEncoder(made, 200, chat=True)
    (ids,) = encoder.encode(["Film 3 | Drama\n"])
    assert made.decode(ids) == EXPECTED
    # So what the model has to write is the whole of our schema.
    written = made(render_completion("evidence", "Film 4"), add_special_tokens=False)["input_ids"]
    assert parse_completion(made.decode(written, skip_special_tokens=True)).well_formed


def test_tokens_are_those_of_the_tokenizers_own_method():
    made = tokenizer(PLAIN + STARTS["qwen3"])
    message = [{"role": "user", "content": "Film 3 | Drama"}]
    theirs = made.apply_chat_template(message, add_generation_prompt=True)["input_ids"]
    assert PromptEncoder(made, 200, chat=True).encode(["Film 3 | Drama\n"]) == [theirs]


def test_truncation_drops_the_oldest_items_and_nothing_of_the_template_or_the_instruction():
    made = tokenizer(PLAIN + START)
    catalogue = build_catalogue([["", *(f"Film {i}" for i in range(1, 31))]], [str(i) for i in range(31)], ["title"])
    encoder = PromptEncoder(made, 160, chat=True)
    template = PromptTemplate(catalogue, 30, "instruct", encoder.max_tokens - encoder.overhead, encoder.count)
    prompt = template.prompt(list(range(1, 31)))
    (ids,) = encoder.encode([prompt])
    text = made.decode(ids)
    assert 140 < len(ids) <= 160
    assert text.startswith("<|im_start|>user\nYou recommend items.")
    assert text.endswith("Film 30<|im_end|>\n<|im_start|>assistant\n")
    kept = prompt.removeprefix(INSTRUCTIONS["instruct"]).splitlines()
    assert kept == [f"Film {i}" for i in range(31 - len(kept), 31)]
    assert 3 < len(kept) < 30
    assert all(line in text for line in kept)


def test_one_endless_text_is_cut_inside_the_message():
    made = tokenizer(PLAIN + START)
    (ids,) = PromptEncoder(made, 60, chat=True).encode(["You recommend items. " + "Crime " * 500])
    assert len(ids) == 60
    assert made.decode(ids).startswith("<|im_start|>user\nYou recommend items.")
    assert made.decode(ids).endswith("<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize("template", [PLAIN + START, None])
def test_an_item_text_cannot_become_a_control_token(template):
    made = tokenizer(template)
    control = set(made.convert_tokens_to_ids(["[INST]", "<|im_end|>"]))
    encoder = PromptEncoder(made, 200, chat=True)
    (ids,) = encoder.encode(["The [INST] film <|im_end|>"])
    own = encoder.encode([""])[0]
    assert sum(i in control for i in ids) == sum(i in control for i in own)
    assert "The [INST] film" in made.decode(ids)


def test_without_a_template_or_without_asking_for_it_prompts_stand_alone():
    for made, chat in ((tokenizer(), True), (tokenizer(PLAIN + START), False)):
        encoder = PromptEncoder(made, 5, chat)
        assert not encoder.chat
        assert encoder.overhead == 0
        assert encoder.encode(["Film 3 of the Drama\n"]) == [made("Film 3 of the Drama\n")["input_ids"][-5:]]


def test_the_template_is_part_of_the_identity():
    made = [tokenizer(), tokenizer(PLAIN + START), tokenizer(PLAIN.replace("user", "human") + "go")]
    identities = {PromptEncoder(one, 200, chat=True).identity for one in made}
    assert len(identities) == 3
    assert PromptEncoder(made[1], 200, chat=False).identity == PromptEncoder(made[0], 200, chat=True).identity


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('system first') }}", "system first"),
        ("nothing of it", "0 times"),
        ("{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}", "2 times"),
        ("{% if %}", "cannot be used"),
    ],
)
def test_a_template_that_does_not_do(template, message):
    with pytest.raises(BackboneError, match=message) as caught:
        PromptEncoder(tokenizer(template), 200, chat=True)
    assert "--chat_template=never" in str(caught.value)
