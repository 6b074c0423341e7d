"""What a later stage cannot do is refused before the first one."""

import pytest

from rporec_recbole.errors import ConfigError
from rporec_recbole.host.bridge import build_model, build_trainer
from rporec_recbole.host.data import build_data
from rporec_recbole.training.checks import check_work
from tests.toy import toy_config, toy_model


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ladder_early": 1.0}, "No training position is left for the fusion"),
        ({"ladder_early": 0.9, "ladder_rl": 0.0}, "Only 0 training positions are left for stage 2"),
        ({"rl_prompts": 100_000}, "whose steps take `rl_prompts=100000`"),
    ],
)
def test_refused_before_training(toy, settings, message):
    config = toy_config(toy, **settings)
    _, train, valid, _ = build_data(config)
    trainer = build_trainer(config, build_model(config, train))
    with pytest.raises(ConfigError, match=message):
        trainer.fit(train, valid, saved=False)
    assert trainer.stages == {}


def test_what_processes_cannot_share(toy):
    _, model, train, _, _ = toy_model(toy, rl_prompts=2, group_size=3)
    dataset = train.dataset
    for count in (1, 2, 3, 6):
        check_work(model, dataset, ["2"], count)
    with pytest.raises(ConfigError, match=r"rl_prompts \* group_size = 6 completions, which 4 processes"):
        check_work(model, dataset, ["2"], 4)
    check_work(model, dataset, ["1a", "1b", "1c"], 4)
    model.settings.rl.__dict__["rollout_engine"] = "vllm"
    check_work(model, dataset, ["2"], 1)
    with pytest.raises(ConfigError, match="writes for one process, and there are 2"):
        check_work(model, dataset, ["2"], 2)
