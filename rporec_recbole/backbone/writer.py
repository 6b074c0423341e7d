"""What a saved backbone keeps beside weights and tokenizer, so that it is the same writer on another day and for another version.

A chat template may print today's date, and a newer version may make fingerprints in another way; either would mean that every text of a
run is written anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from rporec_recbole.backbone.fingerprint import FORM
from rporec_recbole.data.files import write_json
from rporec_recbole.errors import BackboneError, first_line

_FILE = "writer.json"


class Writer(NamedTuple):
    """How a backbone writes, beside its weights.

    Attributes:
        around: what the chat template puts before and after a prompt, as it was rendered once; None where it was not.
        form: how its fingerprint is made (`fingerprint.FORM`).
        base: digest of the weights that its adapter stands on and that are not saved with it; None where there are none.
    """

    around: tuple[str, str] | None = None
    form: int = FORM
    base: str | None = None


def keep_writer(folder: Path, writer: Writer) -> None:
    """Writes it into a folder."""
    write_json(folder / _FILE, writer._asdict())


def kept_writer(folder: Path) -> Writer | None:
    """What `keep_writer` wrote; None in a folder without it.

    Raises:
        BackboneError: it cannot be read.
    """
    path = folder / _FILE
    if not path.is_file():
        return None
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        around = kept["around"]
        return Writer(None if around is None else (str(around[0]), str(around[1])), int(kept["form"]), kept.get("base"))
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise BackboneError(
            f"{path} cannot be read ({first_line(error)}). It says how prompts were shown to this backbone; copy it again, or "
            "remove it, and texts are written anew."
        ) from error
