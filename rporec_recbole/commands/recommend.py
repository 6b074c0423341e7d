"""`rporec recommend`: the best items for users of a run, or for new histories."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from rporec_recbole.commands.arguments import Command, OneOf, Truth, Whole, given_options, places_options, run_argument
from rporec_recbole.errors import ConfigError

HELP = """\
What to show users next: the best items, one row each: user_id, rank (1 is best), item_id, score, title. The form goes by the suffix of
--output: .parquet, .csv or .jsonl; a name without a suffix is a folder of Parquet files. They appear when they are complete; older ones
are replaced. Memory does not grow with the number of users.

Users whom a filter left out of the training (user_inter_num_interval) are ranked from what they have, if the model reads histories.

Works for RPORec and for RecBole's models; one that reads no histories (BPR, LightGCN, ...) knows of a user what it was trained on.
The last words are coverage, Gini and novelty of the best 10 (docs/beyond_accuracy.md).

--histories needs a model that reads histories and nothing else (RPORec, SASRec, GRU4Rec, ...). Where the run uses reasoning, what is
missing is written first, or the trunk ranks without it (--missing_texts=trunk).
"""


@click.command(
    "recommend",
    cls=Command,
    help=HELP,
    short_help="Write the best items of all users, of some, or of new histories.",
    usages=(
        "rporec recommend RUN [--users=ID,ID,...|FILE] [--split=all|test|valid] [--top_k=100] [--output=recs.parquet]",
        "rporec recommend RUN --histories=FILE [--top_k=100] [--output=recs.parquet|recs] [--missing_texts=write|trunk]",
    ),
)
@run_argument
@click.option(
    "--users",
    metavar="IDS|FILE",
    help="As user_id of the data has them; or a file with one on each line. Default: all.",
)
@click.option(
    "--histories",
    metavar="FILES",
    help='New users: a file, a folder or a pattern. FILE.jsonl: {"user": "...", "items": ["...", "..."]} on each line; FILE.parquet: a list `items`; FILE.csv: `items` with spaces between ids; any other file: user<TAB>item item item. Oldest item first; the newest MAX_ITEM_LIST_LENGTH of the run are read. `times` beside `items`, counted as in the data files, says when each was chosen, for a run that reads it (time_buckets); without them such a run ranks by the order.',
)
@click.option(
    "--split",
    type=OneOf("test", "valid", "all"),
    default="all",
    show_default=True,
    help="Whose histories the users have. all: everything that the data have of a user, with ratings; rows that a filter took away (val_interval, rm_dup_inter) are not in it. test or valid: what the evaluation ranked, whose target, a newer item of the user, is still to come; targets stand where ranks.parquet has them.",
)
@click.option(
    "--top_k", "--topk", "--k", "top_k", type=Whole(1), default=100, show_default=True, help="Items per user."
)
@click.option(
    "--output",
    default="recs.parquet",
    metavar="FILE",
    show_default=True,
    help=".parquet, .csv or .jsonl; without a suffix a folder.",
)
@click.option(
    "--hide_seen",
    type=Truth(),
    help="Whether items that a user has chosen before are left out; default True; with --split=test or valid as in the run.",
)
@click.option(
    "--fallback",
    type=OneOf("none", "popular"),
    default="none",
    show_default=True,
    help="popular: users for whom nothing can be ranked get the most popular items of the training part, without a score. none: they are refused by name where they were asked for, and otherwise counted.",
)
@click.option(
    "--missing_texts",
    type=OneOf("write", "trunk"),
    default="write",
    show_default=True,
    help="Where the run uses reasoning and its store lacks a text. write: it is written first. trunk: the trunk ranks without it.",
)
@click.option(
    "--skip_unknown", type=Truth(), default=False, help="Leave out unknown users and items, and say how many."
)
@click.option(
    "--encoding",
    metavar="NAME",
    help="Of these files, such as cp1252; default as the run's data files have it, and UTF-8 for JSON.",
)
@click.option(
    "--model",
    metavar="MODULE:CLASS",
    help="Of a run of a class of somebody's own: which one it is. It is imported, so name none that you do not trust.",
)
@places_options
@click.pass_context
def command(
    ctx: click.Context, run_dir: str, users: str | None, histories: str | None, split: str, top_k: int, output: str,
    hide_seen: bool | None, fallback: str, missing_texts: str, skip_unknown: bool, encoding: str | None, model: str | None,
    places: Mapping[str, str | None],
) -> None:  # fmt: skip
    """Writes the best items and says for whom."""
    if histories is not None and "split" in given_options(ctx):
        raise ConfigError(
            "`--split` chooses the histories of the run's own users; it means nothing beside --histories."
        )

    from rporec_recbole.runs.folder import read_config

    config = read_config(Path(run_dir))
    named = None if users is None else users_of(users, encoding or config.get("encoding") or "utf-8")
    write_and_say(
        run_dir, output, users=named, histories=histories, split=split, top_k=top_k, hide_seen=hide_seen,
        skip_unknown=skip_unknown, fallback=fallback, missing_texts=missing_texts, encoding=encoding, model=model, **places,
    )  # fmt: skip


def write_and_say(run_dir: str, output: str, **options: Any) -> None:
    """Writes the best items and says for whom.

    Args:
        run_dir: the run folder.
        output: the file.
        options: as for `outputs.recommend.recommend`.
    """
    from rporec_recbole.outputs.recommend import recommend
    from rporec_recbole.runs.folder import read_config

    written = recommend(run_dir, output, **options)
    asked = options.get("users") is not None or options.get("histories") is not None
    for sentence in _said(written, read_config(Path(run_dir)), asked):
        print(f"rporec: {sentence}", file=sys.stderr)
    print(f"{written.rows:,} recommendations for {written.users:,} users are in {output}")
    if written.measures:
        print(", ".join(f"{name} {value:.4f}" for name, value in written.measures.items()))


def _said(written: Any, config: Mapping[str, Any], asked: bool) -> list[str]:
    """What became of users and items that are not the run's own; `asked` for by name or by history."""
    said = []
    if written.filtered:
        said.append(
            f"{written.filtered:,} of these users were left out of the training by a filter "
            f"(user_inter_num_interval={config.get('user_inter_num_interval')}) and are ranked from what they have."
        )
    if written.popular:
        said.append(
            f"{written.popular:,} of these users have no item that the run knows, or the model learned nothing of them; they get the "
            "most popular items, without a score."
        )
    if written.lacking:
        said.append(f"{written.lacking:,} texts are not in the run's store: the trunk ranked without them.")
    if written.skipped_items or (written.skipped_users and asked):
        said.append(
            f"left out {written.skipped_items:,} unknown items and {written.skipped_users:,} users who are unknown or have "
            "no known item."
        )
    elif written.skipped_users:
        said.append(
            f"{written.skipped_users:,} more users stand in {config['dataset']}.inter and get nothing: a filter left them out of the training, "
            "and none of their items is known, or the model ranks for users that it was trained on alone. --fallback=popular gives "
            "them the most popular items."
        )
    return said


def users_of(text: str, encoding: str = "utf-8") -> list[str]:
    """Users by name, separated by commas; or one on each line of a file.

    Args:
        text: the names, or the path of the file.
        encoding: of the file.

    Raises:
        ConfigError: there is none.
        DatasetError: the file cannot be read.
    """
    from rporec_recbole.data.history_files import list_lines

    path = Path(text)
    lines = [line for _, line in list_lines(path, encoding)] if path.is_file() else text.split(",")
    users = [line.strip(" \t") for line in lines if line.strip()]
    if not users:
        raise ConfigError(f"`--users={text}` names no user. Write --users=ID,ID or a file with one on each line.")
    return users
