"""`rporec export`: the vectors of a run, for another ranker."""

from __future__ import annotations

from collections.abc import Sequence

from rporec_recbole.commands.arguments import PLACES, PLACES_HELP, options_of, split_arguments
from rporec_recbole.errors import ConfigError

HELP = """\
usage: rporec export RUN [--what=items,users,reasoning,answers] [--output=vectors] [--dtype=float32] [--split=test]

The vectors of a finished RPORec run as Parquet, keyed by the ids of the data files, and schema.json: what each column holds, how a
score is made of them, where they came from. The folder appears when it is complete; an older export is replaced.

  --what    items: item_id, vector. users: user_id, the vector as evaluated and the trunk's, the offset of history items,
            whether and how much reasoning counted. reasoning: user_id, the vectors of both texts, and the texts.
            answers: user_id, item_id, what is added to a score because the user's answers name the item.
            Default: all that the run has
  --output  a folder, new or with an older export in it
  --dtype   of the vectors: float32 or float16
  --split   valid or test: whose histories the users have

Where the run uses reasoning, what is missing is written first. Memory does not grow with the number of users.
"""
HELP += PLACES_HELP


def main(arguments: Sequence[str]) -> None:
    """Writes the vectors of a run and says where.

    Args:
        arguments: the words after `rporec export`.

    Raises:
        RPORecError: they cannot be followed; the message says why.
    """
    words, given = split_arguments(arguments, texts=["what", "output", "dtype", "split", *PLACES])
    defaults = {"what": None, "output": "vectors", "dtype": "float32", "split": "test", **PLACES}
    options = options_of("export", given, defaults)
    if len(words) != 1:
        raise ConfigError("Write `rporec export RUN` with the folder of a finished RPORec run.")

    from rporec_recbole.outputs.export import export

    what = options.pop("what")
    rows = export(words[0], options.pop("output"), None if what is None else what.split(","), **options)
    found = ", ".join(f"{count:,} rows of {part}" for part, count in rows.items())
    print(f"{found} are in {given.get('output', defaults['output'])}")
