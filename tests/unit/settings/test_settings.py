import pytest

from rporec_recbole.errors import ConfigError
from rporec_recbole.host.bridge import build_config, build_model, build_trainer
from rporec_recbole.host.data import build_data
from rporec_recbole.settings import properties
from rporec_recbole.settings.known import parse_value
from rporec_recbole.settings.reader import default_settings
from tests.toy import toy_config


def test_defaults_load():
    assert default_settings().stage.stages == ["1a", "1b", "1c", "2", "2b", "refresh"]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("dropout", 1.5, "0 up to"),
        ("group_size", 1, "at least 2"),
        ("stages", ["1a", "3"], "a list of stages"),
        ("lora", "yes", "True or False"),
        ("reward_weights", {"fame": 1}, "reward parts"),
        ("hidden_size", 63, "multiple of"),
        ("best_of", 0, "at least 1"),
        ("warmup_examples", -1, "at least 0"),
        ("warmup_passes", 0, "at least 1"),
        ("best_of_filters", ["leak"], "with `format` in it"),
        ("best_of_filters", ["format", "taste"], "a list among"),
        ("quality_limits", {"min_words": 3}, "each of"),
        ("quality_limits", {"min_words": 1, "max_words": 9, "repetition": 0.5, "copying": "no"}, "to a number"),
        ("rl_loss", "ppo", "`bnpo`, `dr_grpo` or `dapo`"),
        ("rl_entropy_quantile", 0, "above 0, up to 1"),
        ("rl_epochs", -1, "at least 0"),
        ("rl_max_new_tokens", 0, "at least 1"),
        ("cot_top_p", 1.1, "above 0, up to 1"),
        ("gate_limit", 0.0, "above 0, up to 1"),
        ("gate_layers", 0, "at least 1"),
        ("lr_schedule", "step", "`constant`, `cosine` or `linear`"),
        ("tag_reading", "loose", "`strict` or `lenient`"),
        ("text_base", "answer", "is for `rechead=text`"),
        ("text_vector_length", "own", "needs a sentence encoder"),
        ("hiden_size", 64, "Did you mean `hidden_size`"),
    ],
)
def test_bad_values_say_what_is_allowed(key, value, message):
    with pytest.raises(ConfigError, match=message):
        default_settings(**{key: value})


@pytest.mark.parametrize("needed", ["cot_weight", "cot_temperature"])
def test_best_of_needs_different_texts_that_are_learned(needed):
    with pytest.raises(ConfigError, match=f"`best_of=4` needs a `{needed}` above 0"):
        default_settings(best_of=4, **{needed: 0})


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"epoch": 3}, "Did you mean `epochs`"),
        ({"epochs": "many"}, "expected int"),
        ({"valid_metric": "NDCG@7"}, "valid_metric"),
        ({"item_text_fields": "title"}, "expected list"),
    ],
)
def test_config_refuses(overrides, message):
    with pytest.raises(ConfigError, match=message):
        build_config("SASRec", "ml-100k", overrides=overrides)


@pytest.mark.parametrize("name", ["SASRek", "sasrec"])
def test_unknown_model_suggests(name):
    with pytest.raises(ConfigError, match="Did you mean `SASRec`"):
        build_config(name, "ml-100k")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("1e-3", 1e-3),
        ("[1a, 2b]", ["1a", "2b"]),
        ("True", True),
        ("None", None),
        ("abc", "abc"),
        ("{'LS': 'x'}", {"LS": "x"}),
    ],
)
def test_command_line_values(text, value):
    assert parse_value(text) == value


def test_text_columns_are_a_list_on_a_data_set_without_defaults_too():
    with pytest.raises(ConfigError, match="must be a list"):
        build_config("RPORec", "other", overrides={"item_text_fields": "title"})


def test_what_was_tuned_for_a_data_set_wins_over_model_and_data_set(tmp_path, monkeypatch):
    for name, text in {
        "overall": "a: 1\nb: 1\nc: 1\nd: 1",
        "model/M": "b: 2\nc: 2\nd: 2",
        "dataset/D": "c: 3\nd: 3",
        "model/M-D": "d: 4",
        "model/N-D": "a: 9",
    }.items():
        path = tmp_path / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(properties, "properties_dir", lambda: tmp_path)
    assert properties.layered_properties("M", "D") == {"a": 1, "b": 2, "c": 3, "d": 4}
    assert properties.layered_properties("M", "E") == {"a": 1, "b": 2, "c": 2, "d": 2}


def test_rounds_need_both_of_their_stages(toy):
    config = toy_config(toy, rounds=2, stages=["1a", "1b", "1c", "2"])
    model = build_model(config, build_data(config)[1])
    with pytest.raises(ConfigError, match="rounds=2"):
        build_trainer(config, model)
