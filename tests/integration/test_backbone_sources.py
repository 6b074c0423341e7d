"""`--backbone=` through the entry, as README writes it: a GGUF file, a folder, an adapter folder, hybrids; and what is refused."""

import json

import pytest

from rporec_recbole.cli import main
from rporec_recbole.cot.store import CoTStore
from rporec_recbole.text.completions import TAGS, parse_completion
from tests import started
from tests.backbones import FORGETFUL, HYBRIDS, adapter_on, folder_of, qwen, word_tokenizer
from tests.gguf_file import write_gguf
from tests.started import ROOT
from tests.toy import SHORT, TEXT
from tests.unit.backbone.test_fingerprint import DATED, day  # noqa: F401 - a fixture

SMALL = {
    **SHORT, **TEXT, "warmup_examples": 16, "rl_steps": 1, "fusion_epochs": 1, "prompt_style": "compact", "max_prompt_tokens": 200,
    "lora_rank": 2,
}  # fmt: skip


def arguments(toy, run, backbone, **more):
    settings = {**SMALL, "data_path": toy, "run_dir": run, "backbone": backbone, **more}
    return ["--model=RPORec", "--dataset=toy", *(f"--{name}={value}" for name, value in settings.items())]


def gguf(path):
    write_gguf(path / "small.gguf")
    return path / "small.gguf"


def adapter(path):
    return adapter_on(folder_of(qwen(0), path / "base", word_tokenizer()), path / "adapter", None)


def special(path):
    tokenizer = word_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": list(TAGS)})
    return folder_of(qwen(0), path / "special", tokenizer)


def hybrid(kind):
    return lambda path: folder_of(HYBRIDS[kind](), path / "hybrid", word_tokenizer())


SOURCES = {
    "gguf": (gguf, "[1a,1b,1c,2,2b]"),
    "adapter": (adapter, "[1a,1b,1c]"),
    "lfm2": (hybrid("lfm2"), "[1a,1b,1c,2,2b]"),
    "qwen3_next": (hybrid("qwen3_next"), "[1a,1b,1c]"),
}


def test_a_gguf_file_as_a_user_starts_it(toy, tmp_path):
    words = arguments(toy, tmp_path / "run", gguf(tmp_path), stages="[1a,1b]")
    done = started.run([ROOT / "run_recbole.py", *words], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "small.gguf (qwen2)" in (tmp_path / "run" / "log.txt").read_text()
    assert (tmp_path / "run" / "backbone" / "adapter_config.json").is_file()


@pytest.mark.parametrize("kind", SOURCES)
def test_stages_and_back(kind, toy, tmp_path):
    made, stages = SOURCES[kind]
    assert main(arguments(toy, tmp_path / "run", made(tmp_path), stages=stages)) == 0
    from rporec_recbole.runs.finished import load_run

    loaded = load_run(tmp_path / "run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    model = loaded.model
    assert loaded.evaluate("test")[0] == metrics["test"]
    assert model.reasoner.written == 0
    model.reasoner.store.close()


def test_tags_that_are_special_tokens_give_well_formed_texts(toy, tmp_path):
    more = {
        "lora": False, "warmup_learning_rate": 0.01, "warmup_examples": 2000, "warmup_batch_size": 8, "warmup_passes": 12,
        "max_new_tokens": 180, "stages": "[1a,1b,1c]",
    }  # fmt: skip
    assert main(arguments(toy, tmp_path / "run", special(tmp_path), **more)) == 0
    store = CoTStore(tmp_path / "run" / "reasoning.sqlite")
    texts = [parse_completion(row.text) for row in store]
    store.close()
    assert sum(one.well_formed for one in texts) > 0.1 * len(texts) > 0


@pytest.mark.parametrize("kind", ["mamba2", "recurrent_gemma"])
def test_what_forgets_is_refused_before_the_first_stage(kind, toy, tmp_path, capsys):
    source = folder_of(FORGETFUL[kind](), tmp_path / "model", word_tokenizer())
    assert main(arguments(toy, tmp_path / "run", source)) == 2
    said = capsys.readouterr()
    assert f"({kind}) does not do" in said.err
    assert "Traceback" not in said.err
    assert "stage 1a" not in (tmp_path / "run" / "log.txt").read_text()


def test_a_run_of_yesterday_writes_nothing_anew(toy, tmp_path, day):  # noqa: F811
    tokenizer = word_tokenizer()
    tokenizer.chat_template = DATED
    source = folder_of(qwen(0), tmp_path / "dated", tokenizer)
    day(1)
    given = arguments(
        toy, tmp_path / "run", source, prompt_style="instruct", stages="[1a,1b,1c]", fusion_strengths="[1]"
    )
    assert main(given) == 0
    day(2)
    from rporec_recbole.runs.finished import load_run

    loaded = load_run(tmp_path / "run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert loaded.evaluate("test")[0] == metrics["test"]
    assert loaded.model.reasoner.written == 0
    assert loaded.model.backbone.fingerprint in {row.generator for row in loaded.model.reasoner.store}
    loaded.model.reasoner.store.close()


def test_a_run_that_was_killed_in_its_warm_up_goes_on_with_the_prompts_of_that_day(toy, tmp_path, day, monkeypatch):  # noqa: F811
    from rporec_recbole.backbone.model import Backbone
    from rporec_recbole.training.stage1 import backbone_stages

    tokenizer = word_tokenizer()
    tokenizer.chat_template = DATED
    given = arguments(
        toy,
        tmp_path / "run",
        folder_of(qwen(0), tmp_path / "dated", tokenizer),
        prompt_style="instruct",
        stages="[1a,1b]",
    )
    shown = []
    encode = Backbone.encode_examples

    def noted(self, prompts, completions):
        shown.append(self.prompts.around[0])
        return encode(self, prompts, completions)

    monkeypatch.setattr(Backbone, "encode_examples", noted)
    day(1)
    with monkeypatch.context() as patched:
        patched.setattr(backbone_stages, "warm_up", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        assert main(given) == 130
    day(2)
    assert main(given) == 0
    assert len(set(shown)) == 1
    assert len(shown) == 2
    assert "Today is 01 May" in shown[0]
