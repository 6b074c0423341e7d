"""The kinds of index and their options: names, defaults and limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rporec_recbole.errors import ConfigError, did_you_mean

DEFAULTS: dict[str, dict[str, int]] = {
    "exact": {},
    "hnsw": {"hnsw_neighbours": 48, "hnsw_build": 500, "hnsw_search": 1024},
    "ivfpq": {"ivf_lists": 4096, "ivf_probes": 32, "pq_parts": 32, "pq_bits": 8},
}
"""Kind -> its options. Meant for a million items of dimension 64 (`benchmarks/index_recall.py` measures them).

hnsw_neighbours  edges of an item in the graph, twice as many on its lowest level: memory, and recall
hnsw_build       width of the search that finds these edges: time to build, and recall
hnsw_search      width of a search: time of a query, and recall
ivf_lists        lists that the items are shared out to: about 4 sqrt(N)
ivf_probes       lists that a query reads: time of a query, and recall
pq_parts         parts that a vector is cut into; each is stored as one code of `pq_bits` bits
pq_bits          of a code; 8 is fastest
"""

_LIMITS = {"hnsw_neighbours": (2, 512), "hnsw_build": (2, 100_000), "hnsw_search": (1, 1_000_000), "pq_bits": (1, 12)}


def check_options(kind: str, options: Mapping[str, Any]) -> dict[str, int]:
    """All options of a kind: what was given, over `DEFAULTS`.

    Raises:
        ConfigError: the kind or an option does not exist, or a value is out of range.
    """
    if kind not in DEFAULTS:
        raise ConfigError(f"`--kind={kind}` must be one of {', '.join(DEFAULTS)}.{did_you_mean(kind, DEFAULTS)}")
    owners = {name: owner for owner, names in DEFAULTS.items() for name in names}
    for name, value in options.items():
        if name not in owners:
            raise ConfigError(
                f"An index has no option --{name}.{did_you_mean(name, owners)} Those of {kind}: {', '.join(DEFAULTS[kind]) or 'none'}."
            )
        if owners[name] != kind:
            raise ConfigError(f"`--{name}` is an option of --kind={owners[name]} and means nothing with --kind={kind}.")
        least, most = _LIMITS.get(name, (1, 1 << 20))
        if type(value) is not int or not least <= value <= most:
            raise ConfigError(f"`--{name}={value!r}` must be a whole number from {least} to {most:,}.")
    return {**DEFAULTS[kind], **options}


def check_fits(options: Mapping[str, int], count: int, dimension: int) -> None:
    """Refuses options of `ivfpq` that `count` vectors of a dimension do not allow.

    Raises:
        ConfigError: the parts do not divide the dimension, or there are too few vectors to learn lists and codes from.
    """
    if dimension % options["pq_parts"]:
        fitting = [parts for parts in range(1, dimension + 1) if dimension % parts == 0]
        raise ConfigError(
            f"`--pq_parts={options['pq_parts']}` must divide the dimension {dimension} of the item vectors: one of {fitting}."
        )
    needed = max(options["ivf_lists"], 1 << options["pq_bits"])
    if count < needed:
        raise ConfigError(
            f"{count:,} items are too few for ivf_lists={options['ivf_lists']} and pq_bits={options['pq_bits']}, which need {needed:,}. "
            f"Give smaller ones, or take --kind=exact: with so few items it answers at once."
        )
    if options["ivf_probes"] > options["ivf_lists"]:
        raise ConfigError(f"`--ivf_probes={options['ivf_probes']}` must be at most ivf_lists={options['ivf_lists']}.")
