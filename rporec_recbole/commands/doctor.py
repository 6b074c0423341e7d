"""`rporec doctor`: versions, and the repairs that let RecBole run on them."""

from __future__ import annotations

import click

from rporec_recbole.commands.arguments import Command

HELP = "Versions of what a result depends on, and the repairs that let RecBole run on them: symptom, cause, and when each can go."


@click.command(
    "doctor",
    cls=Command,
    help=HELP,
    short_help="Show versions, and what is repaired in RecBole.",
    usages=("rporec doctor",),
)
def command() -> None:
    """Prints versions and repairs."""
    from rporec_recbole.host.repairs import REPAIRS
    from rporec_recbole.version import versions

    for name, number in versions().items():
        print(f"{name:<16}{number}")
    print(f"\n{len(REPAIRS)} repairs of RecBole are in force:")
    for repair in REPAIRS:
        print(
            f"\n{repair.name}\n  symptom:     {repair.symptom}\n  cause:       {repair.cause}\n  remove when: {repair.remove_when}"
        )
