"""`rporec cots`: what the backbone wrote in a run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from rporec_recbole.commands.arguments import Command, OneOf, RunFolder, Whole, places_options, told_places
from rporec_recbole.errors import ConfigError

HELP = """\
What the backbone wrote in a run.

\b
stats   figures by writer and decoding: format rate, lengths, distinct texts and answers, faults by kind; of a finished run also
        how often the next item was among the answers
show    so many random texts of each writer, with their prompts
export  all texts as JSON lines
write   writes the texts that the run's evaluation lacks, shared by all processes that do this on one machine: several GPUs
        through `torchrun --nproc-per-node=N --no-python rporec cots write RUN`
"""


@click.command(
    "cots",
    cls=Command,
    help=HELP,
    short_help="Read what the backbone wrote, count it, or have the rest written.",
    usages=(
        "rporec cots stats RUN",
        "rporec cots show RUN [--count=3] [--seed=0]",
        "rporec cots export RUN [--to=cots.jsonl]",
        "rporec cots write RUN [--split=valid|test]",
    ),
)
@click.argument("what", metavar="stats|show|export|write", type=OneOf("stats", "show", "export", "write"))
@click.argument("run_dir", metavar="RUN", type=RunFolder(or_file=True))
@click.option("--count", type=Whole(), default=3, show_default=True, help="show: texts of each writer.")
@click.option("--seed", type=Whole(), default=0, show_default=True, help="show: of the draw.")
@click.option("--to", default="cots.jsonl", metavar="FILE", show_default=True, help="export: where to.")
@click.option("--split", type=OneOf("valid", "test"), help="write: of one split alone.")
@places_options
def command(
    what: str, run_dir: str, count: int, seed: int, to: str, split: str | None, places: Mapping[str, str | None]
) -> None:
    """Shows what the backbone wrote in a run, or has the rest written."""
    if what == "write":
        _write(run_dir, [split] if split else ["valid", "test"], places)
        return
    if superfluous := told_places(places):
        raise ConfigError(
            f"`cots {what}` reads the store alone, so --{superfluous[0]} means nothing to it. Leave it out."
        )

    from rporec_recbole.cot import report

    with contextlib.closing(report.open_store(run_dir)) as store:
        if what == "export":
            from rporec_recbole.outputs.texts import export_texts

            print(f"{export_texts(store, to):,} texts are in {to}")
        elif what == "stats":
            groups = report.by_writer(store)
            print(f"{report.statistics(groups)}\n\nwhat is wrong with them")
            print(report.faults(groups, report.limits_of(run_dir)))
            known = answers_in(run_dir)
            if known:
                print(f"\nwhat they know\n{known}")
        else:
            print(report.samples(report.by_writer(store), count, seed))


def _write(run_dir: str, splits: Sequence[str], places: Mapping[str, str | None]) -> None:
    from rporec_recbole.runs.finished import load_run

    run = load_run(run_dir, gpu=gpu_of_this_process(), **places)
    for split in splits:
        print(f"{split}: this process wrote {run.write_reasoning(split):,} texts; now none is missing")
    run.model.reasoner.store.close()


def answers_in(run_dir: str) -> str:
    """What the writer of a finished run knows, a line a split; empty where nobody measured it."""
    from rporec_recbole.evaluation.answers import described
    from rporec_recbole.runs.folder import METRICS, read_results

    if not (Path(run_dir) / METRICS).is_file():
        return ""
    found = read_results(Path(run_dir))[0].get("answers", {})
    return "\n".join(f"{split:<6}{described(measure)}" for split, measure in found.items())


def gpu_of_this_process() -> str | None:
    """The GPU that torchrun or accelerate means this process to take; None without a launcher."""
    rank = os.environ.get("LOCAL_RANK", "")
    if not rank.isdigit():
        return None
    visible = [gpu for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
    return visible[int(rank) % len(visible)] if visible else rank
