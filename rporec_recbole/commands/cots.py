"""`rporec cots`: what the backbone wrote in a run."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from rporec_recbole.commands.arguments import (
    PLACES,
    Command,
    OneOf,
    RunFolder,
    Truth,
    Whole,
    given_options,
    places_options,
)
from rporec_recbole.errors import ConfigError

HELP = """\
What the backbone wrote in a run, and texts for as many histories as there are (docs/scale.md).

\b
stats    figures by writer and decoding: format rate, lengths, distinct texts and answers, faults by kind; of a finished run also
         how often the next item was among the answers
show     so many random texts of each writer, with their prompts
export   all texts as JSON lines
write    writes the texts that the run's evaluation lacks, shared by all processes that do this on one machine: several GPUs
         through `torchrun --nproc-per-node=N --no-python rporec cots write RUN`; with --histories the texts of those, into
         Parquet files, and a job that was cut short goes on
prompts  the prompts of histories whose texts the run's store lacks, as Parquet files, for a writer outside
import   takes texts of DIR, whatever wrote them, into the run's store: checked, all of them or none
"""

_MEAN = {
    "stats": (),
    "show": ("count", "seed"),
    "export": ("to",),
    "write": ("split", *PLACES),
    "prompts": ("histories", "output", "shard_rows", "skip_unknown", "encoding", *PLACES),
    "import": ("writer", "max_characters", *PLACES),
}
"""Word -> options that mean something to it."""
_OF_HISTORIES = ("histories", "output", "shard_rows", "batch_rows", "retry", "skip_unknown", "encoding", *PLACES)


@click.command(
    "cots",
    cls=Command,
    help=HELP,
    short_help="Read what the backbone wrote, count it, have more written, here or outside.",
    usages=(
        "rporec cots stats RUN",
        "rporec cots show RUN [--count=3] [--seed=0]",
        "rporec cots export RUN [--to=cots.jsonl]",
        "rporec cots write RUN [--split=valid|test]",
        "rporec cots prompts RUN --histories=FILE [--output=NIGHT]",
        "rporec cots write RUN --histories=FILE [--output=NIGHT]",
        "rporec cots import RUN TEXTS [--writer=NAME]",
    ),
)
@click.argument("what", metavar="|".join(_MEAN), type=OneOf(*_MEAN))
@click.argument("run_dir", metavar="RUN", type=RunFolder(or_file=True))
@click.argument("folder", metavar="[DIR]", required=False)
@click.option("--count", type=Whole(), default=3, show_default=True, help="show: texts of each writer.")
@click.option("--seed", type=Whole(), default=0, show_default=True, help="show: of the draw.")
@click.option("--to", default="cots.jsonl", metavar="FILE", show_default=True, help="export: where to.")
@click.option("--split", type=OneOf("valid", "test"), help="write: of one split alone.")
@click.option(
    "--histories",
    metavar="FILES",
    help="write, prompts: a file of histories, a folder of them or a pattern, as `rporec recommend` reads them.",
)
@click.option(
    "--output", metavar="DIR", default="texts", show_default=True, help="write, prompts: folder for prompts and texts."
)
@click.option(
    "--shard_rows", type=Whole(1), default=16384, show_default=True, help="write, prompts: prompts in a file."
)
@click.option(
    "--batch_rows", type=Whole(1), default=512, show_default=True, help="write: prompts that the backbone gets at once."
)
@click.option("--retry", type=Truth(), default=False, help="write: try again what was set aside with a reason.")
@click.option(
    "--skip_unknown", type=Truth(), default=False, help="write, prompts: leave out unknown items, and say how many."
)
@click.option("--encoding", metavar="NAME", help="write, prompts: of the histories, as for `rporec recommend`.")
@click.option(
    "--writer",
    metavar="NAME",
    help="import: who wrote texts that do not say it in a column `writer`; default `imported`.",
)
@click.option(
    "--max_characters",
    type=Whole(1),
    help="import: refuse longer texts; default what the run's own texts cannot exceed.",
)
@places_options
@click.pass_context
def command(
    ctx: click.Context, what: str, run_dir: str, folder: str | None, count: int, seed: int, to: str, split: str | None,
    places: Mapping[str, str | None], **options: Any,
) -> None:  # fmt: skip
    """Shows what the backbone wrote in a run, has more written, or takes in what was written elsewhere."""
    histories = options["histories"]
    meant = _OF_HISTORIES if what == "write" and histories is not None else _MEAN[what]
    if superfluous := [name for name in given_options(ctx) if name not in (*meant, "what", "run_dir", "folder")]:
        raise ConfigError(
            f"`--{superfluous[0]}` means nothing to `cots {what}`{_without(what, histories)}. Leave it out."
        )
    if (folder is not None) != (what == "import"):
        raise ConfigError(
            f"`cots {what}` {'needs the folder of the texts' if folder is None else f'takes no word `{folder}`'}. Write "
            f"`rporec cots {what} {run_dir}{' DIR' if folder is None else ''}`."
        )
    if what == "prompts" and histories is None:
        raise ConfigError(f"`cots prompts` needs histories. Write `rporec cots prompts {run_dir} --histories=FILES`.")
    if what == "write" and histories is None:
        _write(run_dir, [split] if split else ["valid", "test"], places)
    elif what in ("write", "prompts"):
        chosen = {name: options[name] for name in meant if name not in PLACES}
        (_write_texts if what == "write" else _write_prompts)(run_dir, chosen, places)
    elif what == "import":
        assert folder is not None
        _import(run_dir, folder, options, places)
    else:
        _show(what, run_dir, count, seed, to)


def _without(what: str, histories: str | None) -> str:
    return "" if what != "write" else f" with{'out' if histories is None else ''} --histories"


def _show(what: str, run_dir: str, count: int, seed: int, to: str) -> None:
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


def _write_prompts(run_dir: str, options: Mapping[str, Any], places: Mapping[str, str | None]) -> None:
    from rporec_recbole.outputs.prompts import write_prompts

    done = write_prompts(run_dir, **{**options, **places})
    if done.skipped_items:
        print(
            f"rporec: left out {done.skipped_items:,} unknown items and {done.skipped_users:,} users without a known one.",
            file=sys.stderr,
        )
    print(
        f"{done.prompts:,} prompts of {done.users:,} users are in {options['output']}; equal ones stand once, and those whose texts the run "
        "has are left out"
    )


def _write_texts(run_dir: str, options: Mapping[str, Any], places: Mapping[str, str | None]) -> None:
    from rporec_recbole.outputs.writing import write_texts

    done = write_texts(run_dir, **{**options, **places}, gpu=gpu_of_this_process())
    if done.failed:
        print(
            f"rporec: {done.failed:,} prompts are set aside with a reason; the first: {done.reason}. --retry=True tries them again.",
            file=sys.stderr,
        )
    print(
        f"{done.texts:,} texts were written for {done.prompts:,} prompts, {done.before:,} of which were done before; they are in "
        f"{options['output']}. Next: rporec cots import {run_dir} {options['output']}"
    )


def _import(run_dir: str, folder: str, options: Mapping[str, Any], places: Mapping[str, str | None]) -> None:
    from rporec_recbole.outputs.importing import import_texts

    told = {name: options[name] for name in ("writer", "max_characters") if options[name] is not None}
    done = import_texts(run_dir, folder, **{**told, **places})
    print(
        f"{done.texts:,} texts of {done.files:,} files: {done.new:,} are new to the run, {done.texts - done.new:,} it had"
    )
    if done.malformed:
        print(
            f"{done.malformed:,} of them are malformed. Another draw takes their place where the run has one left: write the prompts again."
        )
    if done.failed:
        print(f"rporec: {done.failed:,} rows have a reason in the place of a text and were left out", file=sys.stderr)


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
