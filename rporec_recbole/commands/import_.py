"""`rporec import`: one's own tables, or the raw files of a public data set, as a data set that runs find by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rporec_recbole.commands.arguments import Command, OneOf, Truth
from rporec_recbole.errors import ConfigError, did_you_mean

HELP = """\
Makes a data set of tables: CSV (any separator), JSON lines, Parquet, a folder of Hugging Face `datasets`; packed (.gz) or in an archive
(shop.zip/purchases.csv) too. Columns that are not named are found by usual names.

It says what it took for what, shows the first rows as they will be read, and counts what it could not use. Then it writes dataset/NAME/ with RecBole's
atomic files and NAME.yaml, which every run on it reads. Nothing is written unless all is well.

SOURCE is a public data set whose raw files are known: ml-100k, ml-1m, ml-10m, ml-20m, ml-25m, ml-32m, ml-latest-small, amazon-2014, amazon-2018,
amazon-2023, yelp, steam, kuairec. docs/own_data.md says where they are from.
"""


@click.command(
    "import",
    cls=Command,
    help=HELP,
    short_help="Make a data set of your own tables, or of public raw files.",
    usages=(
        "rporec import PURCHASES [--items=PRODUCTS] [--user=customer] [--item=sku] [--time=when] [--text=name,brand] [--name=NAME]",
        "rporec import SOURCE RAW [--name=NAME] [--key=value ...]",
    ),
    examples=(
        ("rporec import purchases.csv --items=products.csv", "columns by their usual names; makes dataset/purchases"),
        ("rporec import purchases.csv --columns=customer,sku,when --bad_rows=skip", "a file without a header"),
        ("rporec import ml-25m ml-25m.zip", "a public data set, as it is downloaded"),
    ),
)
@click.argument("words", nargs=-1, required=True, metavar="PURCHASES")
@click.option("--items", metavar="FILE", help="Table of items: a column of ids and columns of texts.")
@click.option("--users", metavar="FILE", help="Table of users.")
@click.option("--name", metavar="NAME", help="Of the data set; default: that of the file, or of the source.")
@click.option(
    "--data_path", default="dataset", metavar="DIR", show_default=True, help="The parent folder of data sets."
)
@click.option("--user", metavar="COLUMN", help="The user.")
@click.option("--item", metavar="COLUMN", help="The item.")
@click.option("--time", metavar="COLUMN", help="The time; none: the rows stand in their order in time.")
@click.option("--rating", metavar="COLUMN", help="The rating; none: leave ratings out.")
@click.option("--text", metavar="COLUMNS", help="What describes an item, title first, separated by commas.")
@click.option("--items_id", metavar="COLUMN", help="The item in the table of items, where it is called otherwise.")
@click.option("--users_id", metavar="COLUMN", help="The user in the table of users, where it is called otherwise.")
@click.option(
    "--time_format",
    metavar="FORMAT",
    help="How times are written: a pattern such as %d/%m/%Y, or s, ms, us, ns since 1970. Default: found out, or refused where nobody can know.",
)
@click.option("--since", metavar="DATE", help="Leave out what lies before it, such as 2023-10-01.")
@click.option("--until", metavar="DATE", help="Leave out what lies at it and after.")
@click.option(
    "--bad_rows",
    type=OneOf("refuse", "skip"),
    help="What to do with rows without a user, an item or a time that can be read. Default: refuse (kuairec: skip).",
)
@click.option(
    "--duplicates",
    type=OneOf("drop", "keep"),
    default="drop",
    show_default=True,
    help="What to do with rows that have the user, the item and the time of an earlier one.",
)
@click.option("--encoding", metavar="NAME", help="Of text files, such as cp1252; default: utf-8.")
@click.option(
    "--separator", metavar="WHAT", help="comma, semicolon, tab, pipe, or the character itself; default: found out."
)
@click.option("--columns", metavar="NAMES", help="Names of the columns of PURCHASES, where no first line has them.")
@click.option("--quotes", type=Truth(), default=True, help="False: quotes are characters like any other.")
@click.option("--overwrite", type=Truth(), default=False, help="Replace a data set of this name.")
@click.option(
    "--as_in_paper", type=Truth(), default=False, help="amazon-2023: prepared as RPORec's paper did, with its split."
)
def command(words: tuple[str, ...], **options: Any) -> None:
    """Imports, and says what came of it."""
    from rporec_recbole.tables.sources import SOURCES

    if words[0] in SOURCES and (len(words) > 1 or not Path(words[0]).exists()):
        from rporec_recbole.tables.named import import_source

        print(import_source(words[0], words[1:], options).summary)
        return
    if len(words) > 1:
        hint = did_you_mean(words[0], SOURCES) if not Path(words[0]).exists() else ""
        raise ConfigError(
            f"`rporec import` takes one table of interactions, and got {', '.join(words)}.{hint} The table of items is named with --items=FILE; "
            f"sources: {', '.join(SOURCES)}."
        )
    from rporec_recbole.tables.own import import_own

    print(import_own(words[0], options).summary)
