"""`rporec index`: an index of a run's items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from rporec_recbole.commands.arguments import Command, Literal, places_options, run_argument

HELP = """\
An index of the item vectors of a finished RPORec run, by inner product, which is what the head scores with. Needs
pip install "rporec_recbole[serve]".

\b
exact  the head's own ranking; up to some 100,000 items it answers at once
hnsw   a graph; nearly all of the best items in a fraction of the time, for more memory
ivfpq  lists of short codes; less memory than the vectors themselves, finds fewer of the best

What they cost and find: docs/vectors.md, benchmarks/index_recall.py.
"""


@click.command(
    "index",
    cls=Command,
    help=HELP,
    short_help="Make an index of the items, which finds the best of many without scoring all.",
    usages=("rporec index RUN [--kind=exact|hnsw|ivfpq] [--output=FOLDER]",),
)
@run_argument
@click.option("--kind", default="exact", metavar="exact|hnsw|ivfpq", show_default=True, help="Of the index.")
@click.option(
    "--output",
    metavar="FOLDER",
    help="Default RUN/index; an older index there is replaced when the new one is complete.",
)
@click.option("--hnsw_neighbours", type=Literal(), metavar="N", help="hnsw: edges of a node (48).")
@click.option("--hnsw_build", type=Literal(), metavar="N", help="hnsw: candidates while it is made (500).")
@click.option("--hnsw_search", type=Literal(), metavar="N", help="hnsw: candidates of a search (1024).")
@click.option("--ivf_lists", type=Literal(), metavar="N", help="ivfpq: lists (4096).")
@click.option("--ivf_probes", type=Literal(), metavar="N", help="ivfpq: lists that are read (32).")
@click.option("--pq_parts", type=Literal(), metavar="N", help="ivfpq: codes of a vector (32).")
@click.option("--pq_bits", type=Literal(), metavar="N", help="ivfpq: bits of a code (8).")
@places_options
def command(run_dir: str, kind: str, output: str | None, places: Mapping[str, str | None], **sizes: Any) -> None:
    """Builds the index of a run's items and says what it finds."""
    from rporec_recbole.serve.run_index import build_index

    given = {name: value for name, value in sizes.items() if value is not None}
    index, folder = build_index(run_dir, kind, given, output, **places)
    print(f"The {index.kind} index of {index.count:,} items of dimension {index.dimension} is in {folder}")
