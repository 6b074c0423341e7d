"""`rporec controls`: is it the reasoning that helps?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from rporec_recbole.commands.arguments import Command, places_options, run_argument

HELP = """\
Ranks the test split of a finished RPORec run without reasoning, with another user's, with the bare history in its place, the
answer alone, and a trunk alone with the same training; where the fusion reads the history's text too, also that without a
written word. One table and one plot with paired 95 % intervals, written into RUN: controls.json, controls.parquet,
controls.png. The same as --controls at training.
"""


@click.command(
    "controls",
    cls=Command,
    help=HELP,
    short_help="Is it the reasoning that helps? The same as --controls, for a finished run.",
    usages=("rporec controls RUN [--only=NAME,NAME]",),
)
@run_argument
@click.option(
    "--only",
    metavar="NAMES",
    help='Some of them, such as --only="no CoT,history text"; the others, which may train for minutes, stay as RUN has them.',
)
@places_options
def command(run_dir: str, only: str | None, places: Mapping[str, str | None]) -> None:
    """Evaluates the controls of a finished run and prints their table."""
    from rporec_recbole.runs.controls import run_controls
    from rporec_recbole.runs.folder import finish, in_use

    names = None if only is None else [name.strip() for name in only.split(",") if name.strip()]
    contrasts = run_controls(run_dir, names, **places)
    if names is None and not in_use(Path(run_dir)):
        finish(Path(run_dir))  # a run that was killed in its controls has them now
    show(contrasts, run_dir)


def show(contrasts: list[Any], run_dir: str) -> None:
    """Prints the table, and where it was written to."""
    from rporec_recbole.runs.controls import table_of

    print(f"\n{table_of(contrasts)}\n\nThe controls are in {run_dir}: controls.json, controls.parquet, controls.png")
