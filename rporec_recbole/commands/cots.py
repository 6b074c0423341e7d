"""`rporec cots`: what the backbone wrote in a run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from rporec_recbole.commands.arguments import PLACES, PLACES_HELP, options_of, split_arguments
from rporec_recbole.errors import ConfigError

HELP = """\
usage: rporec cots stats RUN
       rporec cots show RUN [--count=3] [--seed=0]
       rporec cots export RUN [--to=cots.jsonl]
       rporec cots write RUN [--split=valid|test]

stats   figures by writer and decoding: format rate, lengths, distinct texts and answers, faults by kind; of a finished run also how
        often the next item was among the answers
show    so many random texts of each writer, with their prompts
export  all texts as JSON lines
write   writes the texts that the run's evaluation lacks, shared by all processes that do this on one machine: several GPUs
        through `torchrun --nproc-per-node=N --no-python rporec cots write RUN`
"""
HELP += PLACES_HELP


def main(arguments: Sequence[str]) -> None:
    """Shows what the backbone wrote in a run, or has the rest written.

    Args:
        arguments: the words after `rporec cots`.

    Raises:
        RPORecError: they cannot be followed; the message says why.
    """
    from rporec_recbole.cot import report
    from rporec_recbole.outputs.texts import export_texts

    words, given = split_arguments(arguments, texts=["to", "split", *PLACES])
    options = options_of("cots", given, {"count": 3, "seed": 0, "to": "cots.jsonl", "split": None, **PLACES})
    if options["split"] not in (None, "valid", "test"):
        raise ConfigError(f"`--split={options['split']!r}` must be valid or test; without it both are written.")
    if len(words) != 2 or words[0] not in ("stats", "show", "export", "write"):
        raise ConfigError(
            "Write `rporec cots stats RUN`, `rporec cots show RUN`, `rporec cots export RUN --to=FILE.jsonl` or `rporec cots "
            "write RUN`."
        )
    what, run_dir = words
    if what == "write":
        places = {key: options[key] for key in PLACES}
        _write(run_dir, [options["split"]] if options["split"] else ["valid", "test"], places)
        return
    if superfluous := [key for key in given if key in PLACES]:
        raise ConfigError(
            f"`cots {what}` reads the store alone, so --{superfluous[0]} means nothing to it. Leave it out."
        )
    with contextlib.closing(report.open_store(run_dir)) as store:
        if what == "export":
            print(f"{export_texts(store, options['to']):,} texts are in {options['to']}")
        elif what == "stats":
            groups = report.by_writer(store)
            print(f"{report.statistics(groups)}\n\nwhat is wrong with them")
            print(report.faults(groups, report.limits_of(run_dir)))
            known = answers_in(run_dir)
            if known:
                print(f"\nwhat they know\n{known}")
        else:
            print(report.samples(report.by_writer(store), options["count"], options["seed"]))


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
