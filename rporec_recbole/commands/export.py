"""`rporec export`: the vectors of a run, for another ranker."""

from __future__ import annotations

from collections.abc import Mapping

import click

from rporec_recbole.commands.arguments import Command, places_options, run_argument

HELP = """\
The vectors of a finished RPORec run as Parquet, keyed by the ids of the data files, and schema.json: what each column holds, how a
score is made of them, where they came from. The folder appears when it is complete; an older export is replaced.

\b
items      item_id, vector
users      user_id, the vector as evaluated and the trunk's, the offset of history items, whether and how much reasoning counted
reasoning  user_id, the vectors of both texts, and the texts
answers    user_id, item_id, what is added to a score because the user's answers name the item

Where the run uses reasoning, what is missing is written first. Memory does not grow with the number of users.
"""


@click.command(
    "export",
    cls=Command,
    help=HELP,
    short_help="Write the vectors of items, users and reasoning, for another ranker.",
    usages=(
        "rporec export RUN [--what=items,users,reasoning,answers] [--output=vectors] [--dtype=float32] [--split=test]",
    ),
)
@run_argument
@click.option("--what", metavar="PARTS", help="Parts, separated by commas; default all that the run has.")
@click.option(
    "--output", default="vectors", metavar="FOLDER", show_default=True, help="New, or with an older export in it."
)
@click.option("--dtype", default="float32", metavar="float32|float16", show_default=True, help="Of the vectors.")
@click.option(
    "--split", default="test", metavar="valid|test", show_default=True, help="Whose histories the users have."
)
@places_options
def command(
    run_dir: str, what: str | None, output: str, dtype: str, split: str, places: Mapping[str, str | None]
) -> None:
    """Writes the vectors of a run and says where."""
    from rporec_recbole.outputs.export import export

    rows = export(run_dir, output, None if what is None else what.split(","), dtype=dtype, split=split, **places)
    found = ", ".join(f"{count:,} rows of {part}" for part, count in rows.items())
    print(f"{found} are in {output}")
