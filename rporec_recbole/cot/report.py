"""Lets a person look at generated reasoning: `rporec cots stats|show`."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path

from rporec_recbole.cot.quality import REASONS, QualityLimits, Written, sift
from rporec_recbole.cot.store import CoTStore, StoredText
from rporec_recbole.errors import StoreError
from rporec_recbole.settings.properties import read_yaml
from rporec_recbole.settings.reader import default_settings
from rporec_recbole.text.completions import parse_completion

STORE, CONFIG = "reasoning.sqlite", "config.yaml"
Groups = dict[tuple[str, str], list[StoredText]]
"""Texts by (fingerprint of the writer, JSON of the decoding), in the order of their first text."""


def open_store(path: str | Path) -> CoTStore:
    """The store of a run folder, or a store itself.

    Raises:
        StoreError: there is none, or the file is something else.
    """
    path = Path(path)
    path = path / STORE if path.is_dir() else path
    if not path.is_file():
        raise StoreError(f"There is no store of reasoning texts at {path}. Name the folder of an RPORec run.")
    with path.open("rb") as file:  # a store that is opened may be repaired; any other file must stay as it is
        if file.read(16) != b"SQLite format 3\0":
            raise StoreError(f"{path} is no store of reasoning texts. Name the folder of an RPORec run.")
    return CoTStore(path)


def limits_of(path: str | Path) -> QualityLimits:
    """The `quality_limits` of the run that a store belongs to; the defaults for a store that lies elsewhere.

    Raises:
        ConfigError: the run's config cannot be read, or its limits make no sense.
    """
    path = Path(path)
    config = (path if path.is_dir() else path.parent) / CONFIG
    values = read_yaml(config) if config.is_file() else {}
    own = {key: value for key, value in values.items() if key == "quality_limits"}
    return QualityLimits(**default_settings(**own).backbone.quality_limits)


def by_writer(store: Iterable[StoredText]) -> Groups:
    """The texts of a store, one group per writer and decoding: a stage that changes the backbone makes a new group."""
    groups: Groups = {}
    for row in store:
        groups.setdefault((row.generator, row.decoding), []).append(row)
    return groups


def statistics(groups: Groups) -> str:
    """One line per group: how many texts, how many well-formed, how long, how different."""
    lines = [
        f"{'writer':<9}{'decoding':<12}{'texts':>7}{'well-formed':>13}{'words of cot':>14}{'of answer':>11}"
        f"{'distinct texts':>16}{'distinct answers':>18}"
    ]
    for (writer, decoding), rows in groups.items():
        parsed = [parse_completion(row.text) for row in rows]
        good = [one for one in parsed if one.well_formed]
        words = [sum(len(part.split()) for part in parts) / max(1, len(good)) for parts in _sections(good)]
        lines.append(
            f"{writer[:8]:<9}{_drawn(decoding):<12}{len(rows):>7,}"
            f"{len(good) / len(rows):>13.1%}{words[0]:>14.1f}{words[1]:>11.1f}"
            f"{len({row.text for row in rows}):>16,}{len({one.answer for one in good}):>18,}"
        )
    return "\n".join(lines)


def faults(groups: Groups, limits: QualityLimits) -> str:
    """One line per group: how many texts each reason of `cot.quality` speaks against that needs no target.

    A text counts for its first reason only.
    """
    names = [name for name in REASONS if name != "leak"]
    lines = [f"{'writer':<9}{'decoding':<12}" + "".join(f"{name:>12}" for name in names) + f"{'no fault':>12}"]
    for (writer, decoding), rows in groups.items():
        kept, counts = sift((Written(parse_completion(row.text), row.prompt) for row in rows), limits)
        lines.append(
            f"{writer[:8]:<9}{_drawn(decoding):<12}"
            + "".join(f"{counts[name]:>12,}" for name in names)
            + f"{len(kept):>12,}"
        )
    return "\n".join(lines)


def _drawn(decoding: str) -> str:
    temperature = json.loads(decoding).get("temperature", 0)
    return f"t={temperature:g}" if temperature else "greedy"


def _sections(good: list) -> tuple[list[str], list[str]]:
    return [one.cot for one in good], [one.answer for one in good]


def samples(groups: Groups, count: int, seed: int) -> str:
    """Random texts of each group, prompt included. Item titles and texts are untrusted: control characters are not shown."""
    draw = random.Random(seed)
    parts = []
    for (writer, decoding), rows in groups.items():
        parts.append(f"=== writer {writer[:8]}, {decoding}: {min(count, len(rows))} of {len(rows):,} texts")
        for row in draw.sample(rows, min(count, len(rows))):
            verdict = "well-formed" if parse_completion(row.text).well_formed else "MALFORMED"
            parts.append(f"--- prompt\n{_printable(row.prompt)}\n--- completion ({verdict})\n{_printable(row.text)}\n")
    return "\n".join(parts)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text).rstrip()
