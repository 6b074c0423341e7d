"""`rporec models`: the models that can be run."""

from __future__ import annotations

import textwrap

import click

from rporec_recbole.commands.arguments import Command, OneOf
from rporec_recbole.settings.known import KINDS, models_by_kind
from rporec_recbole.settings.properties import properties_dir

HELP = """\
The models that --model can name: RPORec, its rivals (docs/rivals.md) and RecBole's, by kind, and for which data sets their settings were tuned here. What came out
when each of them was run: docs/recbole_models.md.
"""


@click.command(
    "models",
    cls=Command,
    help=HELP,
    short_help="List the models that can be run.",
    usages=("rporec models [--kind=sequential]",),
)
@click.option("--kind", type=OneOf(*KINDS), metavar="KIND", help=f"One of {', '.join(KINDS)}.")
def command(kind: str | None) -> None:
    """Prints the names."""
    tuned = sorted(path.stem for path in (properties_dir() / "model").glob("*-*.yaml"))
    for one, names in models_by_kind().items():
        if kind not in (None, one):
            continue
        print(
            f"{one} ({len(names)})\n{textwrap.fill(', '.join(names), 100, initial_indent='  ', subsequent_indent='  ')}"
        )
    print(
        f"tuned here, as MODEL-DATASET\n{textwrap.fill(', '.join(tuned), 100, initial_indent='  ', subsequent_indent='  ', break_on_hyphens=False)}"
    )
