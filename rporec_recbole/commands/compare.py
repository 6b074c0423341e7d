"""`rporec compare`: finished runs side by side; and what `rporec --model=A,B,...` does with several models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from rporec_recbole.commands.arguments import Command, Literal
from rporec_recbole.errors import ConfigError, RunFolderError

EXAMPLE_FILE = """\
dataset: ml-100k
seeds: 3
reference: SASRec
settings: {hide_seen: True}                # of all models
models:
  SASRec: {settings: {hidden_dropout_prob: 0.2}}
  trunk: {model: RPORec, settings: {stages: [1a]}, config_files: [mine.yaml]}
"""
HELP = f"""\
The first form compares finished runs and trains nothing. Runs of one model with several seeds are averaged; runs of one model
with several settings are told apart by what differs. Runs that ranked other rows or candidates are refused, with the reason.

The second trains every model with every seed (--seeds=3 counts up from --seed; or a list) in one harness, leaves one run folder
each in FOLDER (default saved/compare-DATASET), and compares them. What is finished is not run again: after an interruption, or
with more models or seeds, the same command does only what is missing. A setting goes to all models that know it.

The third reads the models from a file:

\b
  {EXAMPLE_FILE.replace(chr(10), chr(10) + "  ").rstrip()}

Tables: mean with a 95 % interval over users, spread over seeds, paired difference to the reference (the first model, unless
--reference names another) with interval, randomization test adjusted by Holm, Cohen's d, wins/ties/losses; by activity of the
user and popularity of the target; coverage, Gini, novelty, diversity, debiased recall and calibration of the lists
(docs/beyond_accuracy.md); weights and training time. Metrics are ndcg, hit, mrr, recall, precision and map, each @K.
Written as comparison.md, .csv, .tex, .json and .png.

--lists ranks what another system recommends to the users of the test split that `rporec split` wrote: a table (Parquet, CSV, JSON
lines) of user_id, item_id, and score (more is better) or rank (1 is best). Users without a list count as not found, and a target that
is in no list too. What is wrong with it is counted, or refused where it would make a wrong number (docs/beyond_accuracy.md).
"""
_METRICS = ["ndcg@10", "hit@10"]


@click.command(
    "compare",
    cls=Command,
    help=HELP,
    short_help="Set finished runs side by side, with paired tests.",
    usages=(
        'rporec compare RUN RUN [...] [--reference=NAME] [--metrics="[ndcg@10,hit@10]"] [--output=FOLDER]',
        "rporec compare RUN [...] --lists=NAME:FILE.parquet [--lists=OTHER:FILE.csv]",
        "rporec --model=A,B,... --dataset=NAME [--seeds=3] [--reference=NAME] [--run_dir=FOLDER] [--key=value ...]",
        "rporec --compare=FILE.yaml [--key=value ...]",
    ),
)
@click.argument("folders", metavar="RUN...", nargs=-1)
@click.option("--reference", metavar="NAME", help="The model that the others are measured from; default the first.")
@click.option("--metrics", type=Literal(), default=str(_METRICS), metavar="LIST", help='Default "[ndcg@10,hit@10]".')
@click.option(
    "--output", default="saved/comparison", metavar="FOLDER", show_default=True, help="Where tables and plot go."
)
@click.option(
    "--lists",
    multiple=True,
    metavar="NAME:FILE",
    help="Lists of another system, ranked among the runs under this name; may be given several times.",
)
@click.option(
    "--data_path", metavar="DIR", help="Where the data set's folder is now, if it moved since the runs were made."
)
def command(
    folders: Sequence[str],
    reference: str | None,
    metrics: Any,
    output: str,
    lists: Sequence[str],
    data_path: str | None,
) -> None:
    """Compares finished runs, prints the table and writes all forms of it."""
    if not folders:
        raise ConfigError("Write `rporec compare RUN RUN ...` with the folders of finished runs.")

    from rporec_recbole.evaluation.comparable import named_runs, read_run

    others = _named_files(lists)
    runs = named_runs([read_run(folder) for folder in folders])
    _compare(runs, metrics, reference, Path(output), others, data_path)


def _named_files(given: Sequence[str]) -> dict[str, str]:
    """Name -> file, of `NAME:FILE`."""
    found: dict[str, str] = {}
    for one in given:
        name, _, file = one.partition(":")
        if not name.strip() or not file.strip():
            raise ConfigError(f"`--lists={one}` must be a name and a file, such as --lists=RecTools:lists.parquet.")
        if name in found:
            raise ConfigError(
                f"`--lists` has two files of the name {name}: {found[name]} and {file}. Name one otherwise."
            )
        found[name] = file
    return found


def train_and_compare(values: dict[str, Any]) -> None:
    """What `rporec --model=A,B` and `rporec --compare=FILE` do.

    Args:
        values: the options of the command line.
    """
    from rporec_recbole.evaluation.comparable import read_run
    from rporec_recbole.explain.run_page import write_report
    from rporec_recbole.runs.comparison import Contestant, found_folder, read_contestants, run_missing
    from rporec_recbole.settings.properties import preset_file

    contestants: list[Contestant] = []
    if "compare" in values:
        contestants, written = read_contestants(str(values.pop("compare")))
        values = {**written, **values}
    if "model" in values:
        names = [name.strip() for name in str(values.pop("model")).split(",") if name.strip()]
        contestants += [Contestant(name, name, [], {}) for name in names]
    dataset, run_dir = values.pop("dataset", None), values.pop("run_dir", None)
    if not contestants or not dataset:
        raise ConfigError(
            "Name the models and the data set: --model=RPORec,SASRec --dataset=ml-100k, or --compare=FILE.yaml."
        )
    files = str(values.pop("config_files", "")).split()
    if "preset" in values:
        files.insert(0, str(preset_file(values.pop("preset"))))
    seeds = _seeds(values.pop("seeds", 1), values.pop("seed", 2020))
    reference, metrics = values.pop("reference", None), values.pop("compare_metrics", _METRICS)
    if reference is not None and reference not in [one.name for one in contestants]:
        raise ConfigError(f"`--reference={reference}` is none of {[one.name for one in contestants]}.")
    folder = Path(str(run_dir)) if run_dir else found_folder(contestants, str(dataset), files, values)
    found, failures = run_missing(contestants, str(dataset), seeds, folder, files, values, tell=write_report)
    if found:
        runs = {name: [read_run(one) for one in folders] for name, folders in found.items()}
        _compare(runs, metrics, reference if reference in runs else None, folder)
    if failures:
        lines = [f"{one.name}, seed {one.seed}: {one.message}" for one in failures]
        raise RunFolderError("Some runs are missing; the same command tries them again.\n  " + "\n  ".join(lines))


def _seeds(given: Any, first: Any) -> list[int]:
    seeds = list(range(first, first + given)) if type(given) is int and type(first) is int else given
    if not isinstance(seeds, (list, tuple)) or not seeds or not all(type(seed) is int for seed in seeds):
        raise ConfigError(f'`--seeds={given!r}` must be a whole number of at least 1, or a list such as "[2020,2021]".')
    return list(dict.fromkeys(seeds))


def _compare(
    runs: dict[str, Any],
    metrics: Any,
    reference: str | None,
    folder: Path,
    others: dict[str, str] | None = None,
    data_path: str | None = None,
) -> None:
    from rporec_recbole.evaluation.tables import to_terminal
    from rporec_recbole.runs.comparison import write_comparison
    from rporec_recbole.runs.lists import compare_with_lists

    if not isinstance(metrics, (list, tuple)) or not metrics:
        raise ConfigError(f'`--metrics={metrics!r}` must be a list such as "[ndcg@10,hit@10]".')
    try:
        comparison = compare_with_lists(runs, [str(metric).lower() for metric in metrics], reference, others, data_path)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    paths = write_comparison(comparison, folder)
    print(f"\n{to_terminal(comparison)}\n\nWritten to {folder}: {', '.join(path.name for path in paths)}")
