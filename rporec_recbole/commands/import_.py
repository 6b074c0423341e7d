"""`rporec import`: one's own tables, or the raw files of a public data set, as a data set that runs find by its name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from rporec_recbole.errors import ConfigError

_BODY = """\
Makes a data set of tables: CSV (any separator), JSON lines, Parquet, a folder of Hugging Face datasets; packed (.gz) or inside an archive
(shop.zip/purchases.csv) too. Writes dataset/NAME/ with RecBole's atomic files and NAME.yaml, which every run on it reads. It says what it took for
what, shows the first rows as they will be read, and counts what it could not use. Nothing is written unless all is well.

\b
  rporec import purchases.csv --items=products.csv
  rporec import purchases.csv --items=products.csv --name=shop --user=customer --item=sku --time=when --text=name,brand

Raw files of public data sets are known by name; docs/own_data.md has the list and where the files are from:

\b
  rporec import ml-1m ml-1m.zip
  rporec import amazon-2023 Video_Games.jsonl.gz --items=meta_Video_Games.jsonl.gz
"""


@click.command("import", help=_BODY)
@click.argument("words", nargs=-1, metavar="[SOURCE] PURCHASES")
@click.option("--items", help="Table of items, with a column of ids and columns of texts.")
@click.option("--users", help="Table of users.")
@click.option("--name", help="Of the data set; default: the name of the file, or of the source.")
@click.option("--data_path", default="dataset", show_default=True, help="Parent folder of data sets.")
@click.option("--user", help="Column of the user. Columns that are not named are found by usual names.")
@click.option("--item", help="Column of the item.")
@click.option("--time", help="Column of the time; none: the rows stand in their order.")
@click.option("--rating", help="Column of ratings; none: leave them out.")
@click.option("--text", help="Columns that describe an item, title first, separated by commas.")
@click.option("--items_id", help="Column of the id in the table of items, where it is called otherwise.")
@click.option("--users_id", help="Column of the id in the table of users, where it is called otherwise.")
@click.option("--time_format", help="How times are written: a pattern such as %d/%m/%Y, or s, ms, us, ns since 1970.")
@click.option("--since", help="Leave out what lies before this date, such as 2023-10-01.")
@click.option("--until", help="Leave out what lies at this date and after.")
@click.option(
    "--bad_rows", default=None, help="refuse (default) or skip rows without a user, an item or a readable time."
)
@click.option(
    "--duplicates",
    default="drop",
    show_default=True,
    help="drop or keep rows with user, item and time of an earlier one.",
)
@click.option("--encoding", default=None, help="Of text files, such as cp1252; default utf-8.")
@click.option("--separator", help="comma, semicolon, tab, pipe or the character; default: found.")
@click.option("--columns", help="Names of the columns of PURCHASES, where no first line has them.")
@click.option("--quotes", default="True", help="False: quotes are characters like any other.")
@click.option("--overwrite", is_flag=False, flag_value="True", default="False", help="Replace a data set of this name.")
@click.option(
    "--as_in_paper",
    is_flag=False,
    flag_value="True",
    default="False",
    help="amazon-2023: the preparation of RPORec's paper.",
)
def command(words: tuple[str, ...], **options: Any) -> None:
    """Imports, and says what came of it."""
    from rporec_recbole.tables.sources import SOURCES

    if not words:
        raise ConfigError(
            "Write `rporec import PURCHASES` with the file of a table, or `rporec import SOURCE FILE` with one of "
            f"{', '.join(SOURCES)} and its file. `rporec import --help` shows more."
        )
    for key in ("quotes", "overwrite", "as_in_paper"):
        options[key] = _switch(key, options[key])
    if words[0] in SOURCES and (len(words) > 1 or not Path(words[0]).exists()):
        from rporec_recbole.tables.named import import_source

        print(import_source(words[0], words[1:], options).summary)
        return
    if len(words) > 1:
        from rporec_recbole.errors import did_you_mean

        hint = did_you_mean(words[0], SOURCES) if not Path(words[0]).exists() else ""
        raise ConfigError(
            f"`rporec import` takes one table of interactions, and got {', '.join(words)}.{hint} The table of items is named with --items=FILE; "
            f"sources: {', '.join(SOURCES)}."
        )
    from rporec_recbole.tables.own import import_own

    print(import_own(words[0], options).summary)


def _switch(key: str, text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ConfigError(f"`--{key}={text}` must be True or False.")
    return text.lower() == "true"


HELP = "usage: rporec import PURCHASES [--items=PRODUCTS] [--name=NEW] [--overwrite=True]\n\n" + _BODY.replace(
    "\b\n", ""
)


def main(arguments: Sequence[str]) -> None:
    """Runs the command.

    Args:
        arguments: the words after `rporec import`.

    Raises:
        RPORecError: they cannot be followed; the message says why.
    """
    try:
        command.main(list(arguments), prog_name="rporec import", standalone_mode=False)
    except click.ClickException as error:
        raise ConfigError(f"{error.format_message()} `rporec import --help` shows the options.") from error
