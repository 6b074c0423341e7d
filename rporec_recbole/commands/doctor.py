"""`rporec doctor`: versions, and the repairs that let RecBole run on them."""

from __future__ import annotations

from collections.abc import Sequence

from rporec_recbole.errors import ConfigError

HELP = """\
usage: rporec doctor

Versions of what a result depends on, and the repairs that let RecBole run on them: symptom, cause, and when each can go.
"""


def main(arguments: Sequence[str]) -> None:
    """Prints versions and repairs.

    Args:
        arguments: the words after `rporec doctor`.

    Raises:
        RPORecError: they cannot be followed; the message says why.
    """
    from rporec_recbole.host.repairs import REPAIRS
    from rporec_recbole.version import versions

    if arguments:
        raise ConfigError("`rporec doctor` takes no arguments.")
    for name, number in versions().items():
        print(f"{name:<16}{number}")
    print(f"\n{len(REPAIRS)} repairs of RecBole are in force:")
    for repair in REPAIRS:
        print(
            f"\n{repair.name}\n  symptom:     {repair.symptom}\n  cause:       {repair.cause}\n  remove when: {repair.remove_when}"
        )
