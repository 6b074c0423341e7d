"""`benchmarks/gpu.py`, tried out on the processor: what it measures, and what it says where there is no GPU."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
import yaml

from tests.toy import SHORT, TEXT, write_toy

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    """The script as a module; its arguments are what the test appends to `sys.argv`."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    spec = importlib.util.spec_from_file_location("benchmark_gpu", FOLDER / "gpu.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


STAGES = ["1a", "1b", "1c", "2"]


def test_it_measures_all_stages_and_engines(script, tmp_path):
    parent = write_toy(tmp_path / "data", users=14)
    settings = tmp_path / "settings.yaml"
    settings.write_text(
        yaml.safe_dump({**SHORT, **TEXT, "warmup_examples": 8, "warmup_batch_size": 8, "stages": STAGES})
    )
    out = tmp_path / "out"
    sys.argv += ["--device=cpu", "--dataset=toy", f"--data_path={parent}", f"--settings={settings}"]
    sys.argv += ["--users=3", "--tokens=4", f"--out={out}"]
    script.main()
    report = json.loads((out / "gpu.json").read_text())
    assert [path.name for path in out.iterdir()] == ["gpu.json"], "the run is taken away"
    assert list(report["stages"]) == ["data", *STAGES, "strength", "evaluation"]
    assert all(one["seconds"] >= 0 for one in report["stages"].values())
    assert all(report["stages"][stage]["peak_mb"] > 0 for stage in STAGES)
    assert [line["name"] for line in report["engines"]] == ["ours", "transformers"]
    assert all(line["rate"] > 0 for line in report["engines"])
    same = report["agreement"]
    assert (same["texts"], same["equal_texts"], same["equal_ranks"]) == (3, 1, 1)
    assert {"device", "cuda", "driver", "bfloat16", "versions", "processor"} <= set(report)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_sentence(script):
    with pytest.raises(SystemExit, match=r"^--device=cuda: torch .* finds no GPU here, .* with --device=cpu\.$"):
        script.main()


def test_an_engine_that_fails_does_not_take_the_others_along(script):
    class Broken:
        prompts = None

        def generate_tokens(self, texts, decoding):
            raise RuntimeError("out of memory")

    assert script.engines("cpu", Broken(), ["a"], 2)[0]["failed"] == "RuntimeError: out of memory"
