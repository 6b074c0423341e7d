"""Generated reasoning as JSON lines, for other programs: `rporec cots export`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from rporec_recbole.cot.store import StoredText
from rporec_recbole.data.files import replacing
from rporec_recbole.errors import StoreError
from rporec_recbole.text.completions import parse_completion


def export_texts(store: Iterable[StoredText], path: str | Path) -> int:
    """Writes one JSON object a line: key, prompt, text, generator, decoding, cot, answer, well_formed. Returns how many.

    Raises:
        StoreError: the file exists, or cannot be written.
    """
    path, count = Path(path), 0
    try:
        path.touch(exist_ok=False)
        try:
            with replacing(path) as growing, growing.open("w", encoding="utf-8") as file:
                for line in _as_json(store):
                    file.write(line + "\n")
                    count += 1
        except BaseException:
            path.unlink()
            raise
    except OSError as error:
        raise StoreError(f"{path} cannot be written ({error}). Choose another file with --to=FILE.jsonl.") from error
    return count


def _as_json(store: Iterable[StoredText]) -> Iterator[str]:
    for row in store:
        parsed = parse_completion(row.text)
        found = {"cot": parsed.cot, "answer": parsed.answer, "well_formed": parsed.well_formed}
        yield json.dumps({**vars(row), "decoding": json.loads(row.decoding), **found})
