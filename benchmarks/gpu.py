"""Does everything run on a GPU, how fast, and is the outcome that of the CPU? A smoke test of all stages, for who has a GPU.

    python benchmarks/gpu.py [--device=cuda | --device=cpu] [--dataset=ml-100k] [--data_path=DIR] [--backbone=tiny]
                             [--users=256] [--tokens=64] [--settings=FILE.yaml] [--out=saved/gpu]

It makes a short run of both stages and takes seconds and peak memory of each stage, lets each engine that is installed write for
the same users (ours, `model.generate`, vLLM), and asks whether the run gives the same on the CPU: the share of equal greedy texts
and of equal ranks. It is meant to take under ten minutes with the defaults; no GPU has run it yet. Peak memory is what torch
allocated on the GPU, in MB; with --device=cpu, which is there to try the script out, the most that the process has held so far.
vLLM holds its memory in a process of its own, so it has none here, and its tokens are counted in its texts. --settings is a YAML
file of settings of the run, on top of the short ones. Writes gpu.json: send it back, with the name of the GPU.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from harness import add_data, machine, metrics_of, new_parser, table_head, table_row, write_json

if TYPE_CHECKING:
    from rporec_recbole.backbone.load import Backbone

TIME = "meant for under ten minutes on a GPU"
RESULTS = {
    "benchmarks/results/gpu-*.json": "python benchmarks/gpu.py; copied from --out, one file for each kind of GPU"
}
SHORT: dict[str, Any] = {
    "epochs": 3,
    "refresh_epochs": 2,
    "stream_passes": 1,
    "warmup_examples": 2000,
    "fusion_positions": 1,
    "fusion_epochs": 5,
    "max_new_tokens": 64,
    "cot_retries": 0,
    "rl_steps": 4,
    "rl_prompts": 8,
    "group_size": 8,
    "show_progress": False,
}
"""What makes the run short: every stage is there, and none learns much."""
_VLLM_MEMORY = 0.3  # share of the GPU's memory
_TOGETHER = 64  # prompts of a batch of `model.generate`


class Gauge:
    """Seconds and peak memory of what is done between `start` and `stop`."""

    def __init__(self, device: str) -> None:
        self._on_gpu = device == "cuda"

    def start(self) -> None:
        import torch

        if self._on_gpu:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        self._began = perf_counter()

    def stop(self) -> dict[str, float]:
        import resource

        import torch

        if self._on_gpu:
            torch.cuda.synchronize()
        seconds = perf_counter() - self._began
        if self._on_gpu:
            return {"seconds": seconds, "peak_mb": torch.cuda.max_memory_allocated() / 2**20}
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes, but bytes on a Mac
        return {"seconds": seconds, "peak_mb": held / (2**20 if sys.platform == "darwin" else 2**10)}


def check(device: str) -> None:
    """Raises:
    SystemExit: there is no such device.
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit(
            f"--device=cuda: torch {torch.__version__} finds no GPU here, so there is nothing to measure; take a machine with one, or try "
            "the script out with --device=cpu."
        )


def facts(device: str) -> dict[str, Any]:
    """What the figures depend on."""
    import torch

    from rporec_recbole.backbone.running import trains_in_bfloat16

    found: dict[str, Any] = {
        "device": device,
        "cuda": torch.version.cuda,
        "driver": driver(),
        "bfloat16": trains_in_bfloat16(torch.device(device)),
    }
    if device == "cuda":
        own = torch.cuda.get_device_properties(0)
        found |= {"gpu": own.name, "memory_mb": own.total_memory / 2**20, "capability": f"{own.major}.{own.minor}"}
    return {**found, **machine()}


def driver() -> str | None:
    """The version of NVIDIA's driver; None where its tool is not there or does not answer."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    asked = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=60)
    return done.stdout.split("\n")[0].strip() or None if done.returncode == 0 else None


@contextmanager
def peaks(device: str) -> Iterator[dict[str, float]]:
    """Name of a stage -> its peak memory in MB, for runs that are made meanwhile."""
    from rporec_recbole.training.trainer import RPORecTrainer

    found: dict[str, float] = {}
    gauge, timed = Gauge(device), RPORecTrainer._timed

    @contextmanager
    def gauged(trainer: Any, step: Any) -> Iterator[None]:
        gauge.start()
        with timed(trainer, step):
            yield
        found[step.name] = gauge.stop()["peak_mb"]

    RPORecTrainer._timed = gauged
    try:
        yield found
    finally:
        RPORecTrainer._timed = timed


def stages(options: argparse.Namespace, folder: Path) -> dict[str, dict[str, float | None]]:
    """Makes the run; seconds and peak memory of each of its stages."""
    from rporec_recbole import run
    from rporec_recbole.settings.properties import read_yaml

    own = read_yaml(options.settings) if options.settings else {}
    place = {"data_path": options.data_path} if options.data_path else {}
    device = {"use_gpu": False} if options.device == "cpu" else {}
    overrides = {**SHORT, "backbone": options.backbone, **own, **place, **device, "run_dir": str(folder)}
    with peaks(options.device) as found:
        run("RPORec", options.dataset, overrides=overrides)
    return {
        name: {"seconds": stage["seconds"], "peak_mb": found.get(name)}
        for name, stage in metrics_of(folder)["stages"].items()
    }


def engines(device: str, backbone: Backbone, texts: Sequence[str], tokens: int) -> list[dict[str, Any]]:
    """What each engine that is installed does in the same time; `tokens` are new ones, and an engine that fails says why."""
    from generation import transformers_generate

    from rporec_recbole.backbone.vllm_engine import VLLMEngine
    from rporec_recbole.cot.store import Decoding

    greedy = Decoding(0.0, tokens)

    def ours(some: Sequence[str]) -> int:
        return sum(len(one.tokens) for one in backbone.generate_tokens(some, greedy))

    def theirs(some: Sequence[str]) -> int:
        written = transformers_generate(backbone, backbone.prompts.encode(some), _TOGETHER, tokens, True)
        return sum(map(len, written))

    ways: dict[str, Callable[[Sequence[str]], int]] = {"ours": ours, "transformers": theirs}
    if importlib.util.find_spec("vllm") is not None and device == "cuda":
        vllm = VLLMEngine(backbone, max_new_tokens=tokens, memory=_VLLM_MEMORY)
        ways["vllm"] = lambda some: sum(map(len, backbone.tokenizer(vllm.generate(some, greedy))["input_ids"]))
    gauge, lines = Gauge(device), []
    for name, write in ways.items():
        try:
            write(texts[:2])  # what is done once is done
            gauge.start()
            count = write(texts)
            taken = gauge.stop()
        except Exception as error:  # the others shall be measured all the same
            lines.append({"name": name, "failed": f"{type(error).__name__}: {error}"})
            continue
        peak = None if name == "vllm" else taken["peak_mb"]
        lines.append(
            {
                "name": name,
                "tokens": count,
                "seconds": taken["seconds"],
                "rate": count / taken["seconds"],
                "peak_mb": peak,
            }
        )
    return lines


def agreement(device: str, folder: Path, users: int, tokens: int) -> dict[str, float]:
    """Whether the run gives on the CPU what it gives on the device: shares of equal greedy texts and of equal ranks."""
    from rporec_recbole import load_run
    from rporec_recbole.cot.store import Decoding

    written, ranks = [], []
    for gpu in (None, ""):  # as the run was made, then on no GPU
        loaded = load_run(folder, gpu)
        texts = prompts(loaded, users)
        written.append([one.tokens for one in loaded.model.backbone.generate_tokens(texts, Decoding(0.0, tokens))])
        ranks.append(loaded.evaluate("test")[1]["rank"].to_numpy())
        loaded.model.reasoner.store.close()
    equal = [one == other for one, other in zip(*written, strict=True)]
    return {
        "texts": len(equal),
        "equal_texts": sum(equal) / len(equal),
        "ranks": len(ranks[0]),
        "equal_ranks": float((ranks[0] == ranks[1]).mean()),
        "largest_difference_of_ranks": int(abs(ranks[0] - ranks[1]).max()),
    }


def prompts(loaded: Any, users: int) -> list[str]:
    from generation import prompts_of

    return prompts_of(loaded.model, loaded.loaders["test"], users)


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    add_data(parser, "ml-100k")
    parser.add_argument("--backbone", default="tiny")
    parser.add_argument("--users", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--settings", type=Path)
    parser.add_argument("--out", type=Path, default=Path("saved/gpu"))
    options = parser.parse_args()
    check(options.device)

    from rporec_recbole import load_run

    start, known = perf_counter(), facts(options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.out) as scratch:
        folder = Path(scratch) / "run"
        taken = stages(options, folder)
        print(table_head("stage", "seconds", "peak MB"))
        for name, one in taken.items():
            print(table_row(name, f"{one['seconds']:.1f}", "" if one["peak_mb"] is None else f"{one['peak_mb']:,.0f}"))
        loaded = load_run(folder)
        found = engines(options.device, loaded.model.backbone, prompts(loaded, options.users), options.tokens)
        loaded.model.reasoner.store.close()
        print("\n" + table_head("engine", "tokens/s", "peak MB"))
        for line in found:
            print(
                table_row(
                    line["name"],
                    f"{line['rate']:,.0f}" if "rate" in line else line["failed"],
                    line.get("peak_mb") or "",
                )
            )
        same = agreement(options.device, folder, options.users, options.tokens)
    report = {
        "seconds": perf_counter() - start,
        "dataset": options.dataset,
        "backbone": options.backbone,
        "users": options.users,
        "stages": taken,
        "engines": found,
        "agreement": same,
        **known,
    }
    write_json(options.out / "gpu.json", report)
    print(
        f"\n{report['seconds']:.0f} s; {same['equal_texts']:.1%} of the texts and {same['equal_ranks']:.1%} of the ranks are those of "
        f"the CPU. {options.out / 'gpu.json'} is written."
    )


if __name__ == "__main__":
    main()
