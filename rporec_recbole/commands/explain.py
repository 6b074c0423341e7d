"""`rporec explain`: why users got what they got, as a page or as JSON."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rporec_recbole.commands.arguments import PLACES, PLACES_HELP, options_of, split_arguments
from rporec_recbole.errors import ConfigError

HELP = """\
usage: rporec explain RUN --user=ID[,ID...] [--split=test] [--format=html|json] [--output=FILE]
       rporec explain RUN [--sample=20] [--seed=0] [--split=test] [--format=html|json] [--output=FILE]

Per user: the history with titles, what the backbone was shown and wrote, how much the head let it count, the ten best items
with and without that text, and where the target stood. Scores are made as the evaluation makes them, so ranks are those of
ranks.parquet. A run without reasoning gets a page with its history and its ranking.

  --user    users, as user_id of the data has them
  --sample  or so many random ones, by --seed
  --split   valid or test
  --format  html: one file that loads nothing, for a browser; json: the same facts
  --output  default RUN/explanation.html or RUN/explanation.json; an older file is replaced
"""
HELP += PLACES_HELP


def main(arguments: Sequence[str]) -> None:
    """Writes the page, or the facts as JSON.

    Args:
        arguments: the words after `rporec explain`.

    Raises:
        RPORecError: they cannot be followed; the message says why.
    """
    words, given = split_arguments(arguments, texts=["user", "split", "format", "output", *PLACES])
    defaults = {"user": None, "sample": 20, "seed": 0, "split": "test", "format": "html", "output": None, **PLACES}
    options = options_of("explain", given, defaults)
    if len(words) != 1:
        raise ConfigError("Write `rporec explain RUN` with the folder of a finished run.")
    for key, allowed in {"split": ("valid", "test"), "format": ("html", "json")}.items():
        if options[key] not in allowed:
            raise ConfigError(f"`--{key}={options[key]}` must be {' or '.join(allowed)}.")
    if options["user"] is not None and given.keys() & {"sample", "seed"}:
        raise ConfigError("`--user` names users and `--sample` draws them. Give one of the two.")
    users = None if options["user"] is None else [name for name in options["user"].split(",") if name]
    if users == [] or options["sample"] == 0:
        raise ConfigError("No user is asked for. Name some with --user=ID,ID or draw some with --sample=20.")
    output = Path(options["output"] or Path(words[0]) / f"explanation.{options['format']}")
    if options["output"] and not output.parent.is_dir():
        raise ConfigError(f"`--output={output}`: the folder {output.parent} does not exist. Make it, or name another.")

    from rporec_recbole.data.files import unwritable, write_text
    from rporec_recbole.explain.explanation import differing, explain
    from rporec_recbole.explain.page import page
    from rporec_recbole.runs.folder import refuse_own_file

    refuse_own_file(output)

    facts = explain(
        words[0], users, options["sample"], options["seed"], options["split"], **{key: options[key] for key in PLACES}
    )
    if options["format"] == "json":
        text = json.dumps(dataclasses.asdict(facts), indent=2, allow_nan=False) + "\n"
    else:
        text = page(facts)
    with unwritable(f"{output} cannot be written", "--output"):
        write_text(output, text)
    others = differing(facts, words[0])
    if others:
        print(
            f"rporec: {others} of {len(facts.users)} ranks are not those of ranks.parquet: another machine, other versions or another "
            "number of threads, or the run folder was changed.",
            file=sys.stderr,
        )
    print(f"{len(facts.users):,} users of {facts.rows:,} are in {output}")
