"""`rporec controls`: is it the reasoning that helps?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rporec_recbole.commands.arguments import PLACES, PLACES_HELP, split_arguments
from rporec_recbole.errors import ConfigError

HELP = """\
usage: rporec controls RUN [--only=NAME,NAME]

Ranks the test split of a finished RPORec run without reasoning, with another user's, with the bare history in its place, the
answer alone, and a trunk alone with the same training; where the fusion reads the history's text too, also that without a
written word. One table and one plot with paired 95 % intervals, written into RUN: controls.json, controls.parquet,
controls.png. The same as --controls at training.

  --only   some of them, such as --only="no CoT,history text"; the others, which may train for minutes, stay as RUN has them
"""
HELP += PLACES_HELP


def main(arguments: Sequence[str]) -> None:
    """Evaluates the controls of a finished run and prints their table.

    Args:
        arguments: the words after `rporec controls`.

    Raises:
        RPORecError: they cannot be followed; the message says why.
    """
    from rporec_recbole.runs.controls import run_controls
    from rporec_recbole.runs.folder import finish, in_use

    words, options = split_arguments(arguments, texts=["only", *PLACES])
    only, places = options.pop("only", None), {key: options.pop(key, None) for key in PLACES}
    if len(words) != 1 or options:
        raise ConfigError(
            "Write `rporec controls RUN` with the folder of a finished RPORec run, and `--only=NAME,NAME` if you like."
        )
    names = None if only is None else [name.strip() for name in only.split(",") if name.strip()]
    contrasts = run_controls(words[0], names, **places)
    if names is None and not in_use(Path(words[0])):
        finish(Path(words[0]))  # a run that was killed in its controls has them now
    show(contrasts, words[0])


def show(contrasts: list[Any], run_dir: str) -> None:
    """Prints the table, and where it was written to."""
    from rporec_recbole.runs.controls import table_of

    print(f"\n{table_of(contrasts)}\n\nThe controls are in {run_dir}: controls.json, controls.parquet, controls.png")
