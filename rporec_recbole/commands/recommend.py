"""`rporec recommend`: the best items for users of a run, or for new histories."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rporec_recbole.commands.arguments import PLACES, PLACES_HELP, options_of, split_arguments
from rporec_recbole.errors import ConfigError

HELP = """\
usage: rporec recommend RUN [--users=ID,ID,...|FILE] [--split=test|valid|all] [--top_k=100] [--output=recs.parquet]
       rporec recommend RUN --histories=FILE [--top_k=100] [--output=recs.parquet]

The best items, one row each: user_id, rank (1 is best), item_id, score. The form goes by the suffix of --output: .parquet, .csv
or .jsonl. The file appears when it is complete; an older one is replaced.

  --users         of the run, as user_id of the data has them; or a file with one on each line. Default: all of the split.
                  They get what the evaluation ranked for their row: targets stand where ranks.parquet has them
  --histories     new users. FILE.jsonl: {"user": "...", "items": ["...", "..."]} on each line; any other file:
                  user<TAB>item item item. Oldest item first; the newest MAX_ITEM_LIST_LENGTH of the run are read
  --split         whose histories the users have. test or valid: of these rows of the evaluation, whose target is still to come.
                  all: everything that the run knows of a user, with ratings; this is what to show users next. Rows that a filter took
                  away (val_interval, rm_dup_inter) it does not know
  --top_k         items per user
  --hide_seen     True or False: whether items that a user has chosen before are left out; default True with --split=all,
                  otherwise as in the run
  --skip_unknown  True: leave out unknown users and items, and say how many
  --encoding      of these files, such as cp1252; default as the run's data files have it, and UTF-8 for JSON

Works for RPORec and for RecBole's models; one that reads no histories (BPR, LightGCN, ...) knows of a user what it was trained on.
--histories needs a model that reads histories and nothing else (RPORec, SASRec, GRU4Rec, ...). Where the run uses reasoning, what is
missing is written first.
"""
HELP += PLACES_HELP


def main(arguments: Sequence[str]) -> None:
    """Writes the best items and says for whom.

    Args:
        arguments: the words after `rporec recommend`.

    Raises:
        RPORecError: they cannot be followed; the message says why.
    """
    words, given = split_arguments(
        arguments,
        texts=["users", "histories", "split", "output", "encoding", *PLACES],
        switches=["skip_unknown", "hide_seen"],
    )
    defaults = {
        "users": None,
        "histories": None,
        "split": "test",
        "top_k": 100,
        "output": "recs.parquet",
        "hide_seen": None,
        "skip_unknown": False,
        "encoding": None,
        **PLACES,
    }
    options = options_of("recommend", given, defaults)
    if len(words) != 1:
        raise ConfigError("Write `rporec recommend RUN` with the folder of a finished run.")
    if options["split"] not in ("valid", "test", "all"):
        raise ConfigError(
            f"`--split={options['split']}` must be test, valid, or all for whole profiles, the newest interaction included."
        )
    if options["histories"] is not None and "split" in given:
        raise ConfigError(
            "`--split` chooses the histories of the run's own users; it means nothing beside --histories."
        )
    for key in ("hide_seen", "skip_unknown"):
        if options[key] not in (True, False, None):
            raise ConfigError(f"`--{key}={options[key]!r}` must be True or False.")
    if options["top_k"] == 0:
        raise ConfigError("`--top_k=0` asks for nothing. Give a whole number of at least 1.")

    from rporec_recbole.outputs.recommend import recommend
    from rporec_recbole.runs.folder import read_config

    encoding = options["encoding"] or read_config(Path(words[0])).get("encoding") or "utf-8"
    users = None if options.pop("users") is None else users_of(given["users"], encoding)
    output = options.pop("output")
    written = recommend(words[0], output, users=users, **options)
    if written.skipped_items or written.skipped_users:
        print(
            f"rporec: left out {written.skipped_items:,} unknown items and {written.skipped_users:,} users who are unknown or have "
            "no known item.",
            file=sys.stderr,
        )
    print(f"{written.rows:,} recommendations for {written.users:,} users are in {output}")


def users_of(text: str, encoding: str = "utf-8") -> list[str]:
    """Users by name, separated by commas; or one on each line of a file.

    Args:
        text: the names, or the path of the file.
        encoding: of the file.

    Raises:
        ConfigError: there is none.
        DatasetError: the file cannot be read.
    """
    from rporec_recbole.data.histories import list_lines

    path = Path(text)
    lines = [line for _, line in list_lines(path, encoding)] if path.is_file() else text.split(",")
    users = [line.strip(" \t") for line in lines if line.strip()]
    if not users:
        raise ConfigError(f"`--users={text}` names no user. Write --users=ID,ID or a file with one on each line.")
    return users
