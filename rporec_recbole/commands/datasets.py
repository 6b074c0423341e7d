"""`rporec datasets`: the data sets that can be named."""

from __future__ import annotations

import textwrap
from pathlib import Path

import click

from rporec_recbole.commands.arguments import Command
from rporec_recbole.settings.datasets import BUNDLED, downloaded, in_folder

HELP = """\
The data sets that --dataset can name: those in a folder, ml-100k, which needs no files, and those that RecBole downloads when they are named
and the folder has none of that name.
"""


@click.command(
    "datasets",
    cls=Command,
    help=HELP,
    short_help="List the data sets that can be named.",
    usages=("rporec datasets [--data_path=dataset]",),
)
@click.option(
    "--data_path", default="dataset", metavar="DIR", show_default=True, help="The parent folder of data sets."
)
def command(data_path: str) -> None:
    """Prints the names."""
    print(f"{BUNDLED:<24}comes with RecBole")
    for name in in_folder(data_path):
        size = sum(path.stat().st_size for path in Path(data_path, name).iterdir() if path.is_file())
        print(f"{name:<24}{size / 1e6:,.1f} MB in {Path(data_path, name)}")
    print(f"\nRecBole downloads, where there is a network ({len(downloaded())}):")
    print(
        textwrap.fill(", ".join(downloaded()), 100, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    )
