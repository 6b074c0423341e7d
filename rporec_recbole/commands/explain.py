"""`rporec explain`: why users got what they got, as a page or as JSON."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from rporec_recbole.commands.arguments import Command, OneOf, Whole, given_options, places_options, run_argument
from rporec_recbole.errors import ConfigError

HELP = """\
Per user: the history with titles, what the backbone was shown and wrote, how much the head let it count, the ten best items
with and without that text, and where the target stood. Scores are made as the evaluation makes them, so ranks are those of
ranks.parquet. A text is shown also where the run lets it count 0, which the page says; it is written if it is missing. A run
without reasoning gets a page with its history and its ranking.
"""


@click.command(
    "explain",
    cls=Command,
    help=HELP,
    short_help="See why users got what they got, as a page.",
    usages=(
        "rporec explain RUN --users=ID[,ID...] [--split=test] [--format=html|json] [--output=FILE]",
        "rporec explain RUN [--sample=20] [--seed=0] [--split=test] [--format=html|json] [--output=FILE]",
    ),
)
@run_argument
@click.option(
    "--users", "--user", "user", metavar="IDS", help="Users, as user_id of the data has them, separated by commas."
)
@click.option("--sample", type=Whole(), default=20, show_default=True, help="Or so many random ones.")
@click.option("--seed", type=Whole(), default=0, show_default=True, help="Of the draw.")
@click.option("--split", type=OneOf("valid", "test"), default="test", show_default=True, help="Whose histories.")
@click.option(
    "--format",
    "form",
    type=OneOf("html", "json"),
    default="html",
    show_default=True,
    help="html: one file that loads nothing, for a browser; json: the same facts.",
)
@click.option("--output", metavar="FILE", help="Default RUN/explanation.html or .json; an older file is replaced.")
@places_options
@click.pass_context
def command(
    ctx: click.Context, run_dir: str, user: str | None, sample: int, seed: int, split: str, form: str,
    output: str | None, places: Mapping[str, str | None],
) -> None:  # fmt: skip
    """Writes the page, or the facts as JSON."""
    if user is not None and given_options(ctx).keys() & {"sample", "seed"}:
        raise ConfigError("`--users` names users and `--sample` draws them. Give one of the two.")
    users = None if user is None else [name for name in user.split(",") if name]
    if users == [] or sample == 0:
        raise ConfigError("No user is asked for. Name some with --users=ID,ID or draw some with --sample=20.")
    file = Path(output or Path(run_dir) / f"explanation.{form}")
    if output and not file.parent.is_dir():
        raise ConfigError(f"`--output={file}`: the folder {file.parent} does not exist. Make it, or name another.")

    from rporec_recbole.data.files import unwritable, write_text
    from rporec_recbole.explain.explanation import differing, explain
    from rporec_recbole.explain.page import page
    from rporec_recbole.runs.folder import refuse_own_file

    refuse_own_file(file)
    facts = explain(run_dir, users, sample, seed, split, **places)
    as_json = lambda: json.dumps(dataclasses.asdict(facts), indent=2, allow_nan=False) + "\n"  # noqa: E731
    text = as_json() if form == "json" else page(facts)
    with unwritable(f"{file} cannot be written", "--output"):
        write_text(file, text)
    others = differing(facts, run_dir)
    if others:
        print(
            f"rporec: {others} of {len(facts.users)} ranks are not those of ranks.parquet: another machine, other versions or another "
            "number of threads, or the run folder was changed.",
            file=sys.stderr,
        )
    print(f"{len(facts.users):,} users of {facts.rows:,} are in {file}")
