"""`rporec export`: the vectors of a run, for another ranker."""

from __future__ import annotations

from collections.abc import Mapping

import click

from rporec_recbole.commands.arguments import Command, OneOf, Truth, given_options, places_options, run_argument
from rporec_recbole.errors import ConfigError

HELP = """\
The vectors of a finished RPORec run as Parquet, keyed by the ids of the data files, and schema.json: what each column holds, how a
score is made of them, where they came from. The folder appears when it is complete; an older export is replaced.

\b
items      item_id, vector
users      user_id, the vector as evaluated and the trunk's, the offset of history items, whether and how much reasoning counted
reasoning  user_id, the vectors of both texts, and the texts
answers    user_id, item_id, what is added to a score because the user's answers name the item

Where the run uses reasoning, what is missing is written first, or left out (--missing_texts=trunk). Memory does not grow with the number of users.
"""


@click.command(
    "export",
    cls=Command,
    help=HELP,
    short_help="Write the vectors of items, users and reasoning, for another ranker.",
    usages=(
        "rporec export RUN [--what=items,users,reasoning,answers] [--output=vectors] [--dtype=float32] [--split=test]",
        "rporec export RUN --histories=FILE [--output=vectors] [--missing_texts=write|trunk]",
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
@click.option(
    "--histories",
    metavar="FILES",
    help="New users in place of a split's: a file, a folder or a pattern, as for recommend.",
)
@click.option(
    "--missing_texts",
    type=OneOf("write", "trunk"),
    default="write",
    show_default=True,
    help="Where the store lacks a text. write: it is written first. trunk: the user's vector is the trunk's.",
)
@click.option("--skip_unknown", type=Truth(), default=False, help="Leave out unknown items of histories.")
@click.option("--encoding", metavar="NAME", help="Of the histories, as for recommend.")
@places_options
@click.pass_context
def command(
    ctx: click.Context, run_dir: str, what: str | None, output: str, dtype: str, split: str, histories: str | None,
    missing_texts: str, skip_unknown: bool, encoding: str | None, places: Mapping[str, str | None],
) -> None:  # fmt: skip
    """Writes the vectors of a run and says where."""
    told = given_options(ctx)
    if histories is not None and "split" in told:
        raise ConfigError(
            "`--split` chooses the histories of the run's own users; it means nothing beside --histories."
        )
    if histories is None and (lost := [name for name in ("skip_unknown", "encoding") if name in told]):
        raise ConfigError(f"`--{lost[0]}` is said of histories; it means nothing without --histories.")

    from rporec_recbole.outputs.export import export

    rows = export(
        run_dir, output, None if what is None else what.split(","), dtype=dtype, split=split, histories=histories,
        missing_texts=missing_texts, skip_unknown=skip_unknown, encoding=encoding, **places,
    )  # fmt: skip
    found = ", ".join(f"{count:,} rows of {part}" for part, count in rows.items())
    print(f"{found} are in {output}")
