"""What the benchmarks share: options, grids, runs that are made once, processes of their own, facts, tables and results.

Nothing heavy is imported before it is needed, here and in the benchmarks: `--help` answers at once. And a process starts with
the peak memory of the one that made it, so what the parent has imported would count in every part that measures its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rporec_recbole import LoadedRun

RESULTS_DIR = Path(__file__).with_name("results")
CLOCKS: dict[str, Callable[[], float]] = {"wall": perf_counter, "processor": process_time}

# --- options ----------------------------------------------------------------------------------------------------------


def names(text: str) -> list[str]:
    """What stands between commas."""
    return [name for name in text.split(",") if name]


def numbers(text: str) -> list[int]:
    """Whole numbers between commas."""
    return [int(number) for number in names(text)]


def new_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser that shows a module's docstring as it is written."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_data(parser: argparse.ArgumentParser, dataset: str | None = None) -> None:
    """--dataset, which must be given if it has no default, and --data_path."""
    parser.add_argument("--dataset", default=dataset, required=dataset is None)
    parser.add_argument("--data_path", help="parent folder of the data set; ml-100k needs none")


def add_seeds(parser: argparse.ArgumentParser, seeds: str = "2020,2021,2022") -> None:
    """--seeds, a list of numbers."""
    parser.add_argument("--seeds", type=numbers, default=seeds)


def add_clock(parser: argparse.ArgumentParser) -> None:
    """--clock, a name of `CLOCKS`: processor seconds count what other jobs leave alone."""
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")


# --- grids and runs ---------------------------------------------------------------------------------------------------


def read_grid(file: str | Path, only: Sequence[str] | None = None) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The settings that all entries of a grid share (its entry `all`), and each entry's own, those of `only` if given.

    Raises:
        SystemExit: the grid lacks a name of `only`.
    """
    from rporec_recbole.settings.properties import read_yaml

    grid = read_yaml(file)
    shared = grid.pop("all", None) or {}
    if missing := [name for name in only or () if name not in grid]:
        raise SystemExit(f"{file} has no {missing}; it has {list(grid)}.")
    return shared, {name: dict(grid[name] or {}) for name in only or grid}


def run_once(folder: Path, model: str, dataset: str, settings: Mapping[str, Any], data_path: str | None = None) -> Path:
    """A run in this folder, without progress bars, unless a finished one is there already."""
    if not (folder / "metrics.json").is_file():
        from rporec_recbole import run

        place = {"data_path": data_path} if data_path else {}
        run(model, dataset, overrides={"show_progress": False, **place, **settings, "run_dir": str(folder)})
    return folder


def metrics_of(folder: Path) -> dict[str, Any]:
    """What a finished run wrote down of itself."""
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


def warmed_tiny(folder: Path) -> LoadedRun:
    """A run on ml-100k with `tiny` after its warm-up; made once."""
    from rporec_recbole import load_run

    return load_run(run_once(folder, "RPORec", "ml-100k", {"stages": ["1a", "1b"], "epochs": 1}))


# --- processes and facts ----------------------------------------------------------------------------------------------


def one_thread() -> dict[str, str]:
    """This environment, for a process that is to use one thread."""
    return {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")}


def own_process(script: str, *arguments: str, env: Mapping[str, str] | None = None) -> Any:
    """The JSON that a script prints when it runs as a process of its own; its errors are shown."""
    done = subprocess.run([sys.executable, script, *arguments], check=True, stdout=subprocess.PIPE, text=True, env=env)
    return json.loads(done.stdout)


def processor() -> str:
    return platform.processor() or platform.machine()


def machine() -> dict[str, Any]:
    """What seconds depend on: processor, its vector instructions, threads of this process, versions.

    Imports torch, so ask after the processes whose memory counts.
    """
    import torch

    from rporec_recbole.version import versions

    return {
        "processor": processor(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }


# --- tables and results -----------------------------------------------------------------------------------------------


def table_row(*cells: Any) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


def table_head(*columns: str) -> str:
    """The two first lines of a Markdown table."""
    return f"{table_row(*columns)}\n{'|---' * len(columns)}|"


def interval(value: float, low: float, high: float, form: str = "+.4f") -> str:
    """An estimate and its interval; the fields are those of `significance.Interval`."""
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def read_json(file: str | Path, otherwise: Any) -> Any:
    """What an interrupted benchmark left, or `otherwise` if this is the first time."""
    return json.loads(Path(file).read_text(encoding="utf-8")) if Path(file).is_file() else otherwise


def write_json(file: str | Path, content: Any, indent: int | None = 2) -> None:
    """Writes results; folders are made."""
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    Path(file).write_text(json.dumps(content, indent=indent) + "\n", encoding="utf-8")
