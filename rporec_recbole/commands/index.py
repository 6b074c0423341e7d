"""`rporec index`: an index of a run's items."""

from __future__ import annotations

from collections.abc import Sequence

from rporec_recbole.commands.arguments import PLACES, PLACES_HELP, split_arguments
from rporec_recbole.errors import ConfigError

HELP = """\
usage: rporec index RUN [--kind=exact|hnsw|ivfpq] [--output=FOLDER] [--key=value ...]

An index of the item vectors of a finished RPORec run, by inner product, which is what the head scores with. Needs
pip install "rporec_recbole[serve]".

  --kind    exact: the head's own ranking; up to some 100,000 items it answers at once
            hnsw:  a graph; nearly all of the best items in a fraction of the time, for more memory
            ivfpq: lists of short codes; less memory than the vectors themselves, finds fewer of the best
  --output  default RUN/index; an older index there is replaced when the new one is complete

  hnsw      --hnsw_neighbours=48 --hnsw_build=500 --hnsw_search=1024
  ivfpq     --ivf_lists=4096 --ivf_probes=32 --pq_parts=32 --pq_bits=8

What they cost and find: docs/vectors.md, benchmarks/index_recall.py.
"""
HELP += PLACES_HELP


def main(arguments: Sequence[str]) -> None:
    """Builds the index of a run's items and says what it finds.

    Args:
        arguments: the words after `rporec index`.

    Raises:
        RPORecError: they cannot be followed; the message says why.
    """
    words, options = split_arguments(arguments, texts=["kind", "output", *PLACES])
    if len(words) != 1:
        raise ConfigError("Write `rporec index RUN` with the folder of a finished RPORec run.")

    from rporec_recbole.serve.run_index import build_index

    kind, output = options.pop("kind", "exact"), options.pop("output", None)
    places = {key: options.pop(key, None) for key in PLACES}
    index, folder = build_index(words[0], kind, options, output, **places)
    print(f"The {index.kind} index of {index.count:,} items of dimension {index.dimension} is in {folder}")
