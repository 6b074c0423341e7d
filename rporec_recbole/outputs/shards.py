"""The folder of a job that writes texts: what is asked, what was written, and which run it belongs to.

manifest.json                  which run, how its texts are drawn, what they must look like
prompts/part-00000.parquet     key, prompt, tokens, draw
texts/NAME.parquet             key, prompt, text; reason where there is no text, writer where it is not this run's backbone

A key is the store's own (`cot.store.completion_key`): the digest of prompt, backbone and draw. So each row of `texts` says by itself
whether it belongs to a run, whatever wrote it and however its rows were mixed.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rporec_recbole.cot.draws import Draws, decodings_of
from rporec_recbole.data.files import write_json
from rporec_recbole.errors import ConfigError, DatasetError, RunFolderError, first_line
from rporec_recbole.runs.finished import LoadedRun, load_rporec
from rporec_recbole.tables.columnar import Parquet
from rporec_recbole.tables.opening import Place
from rporec_recbole.tables.table import as_texts
from rporec_recbole.text.completions import ANSWER, ANSWER_END, THINK, THINK_END
from rporec_recbole.version import versions

MANIFEST, PROMPTS, TEXTS = "manifest.json", "prompts", "texts"
FORMAT = 1
PROMPT_COLUMNS = {"key": "string", "prompt": "string", "tokens": "int32", "draw": "int32"}
TEXT_COLUMNS = {"key": "string", "prompt": "string", "text": "string", "reason": "string", "writer": "string"}
_ROWS = 1 << 12  # read at once


@contextlib.contextmanager
def run_that_writes(path: str | Path, **places: str | None) -> Iterator[tuple[LoadedRun, Draws]]:
    """A run whose scores read texts, and the draws of its evaluation; its store is closed at the end.

    Args:
        path: the run folder.
        places: what moved since, as for `load_run`.

    Raises:
        RunFolderError: the scores use no reasoning, or there is no run.
        ConfigError: the run is one of another model.
    """
    run = load_rporec(path, "texts", **places)
    try:
        if not run.model.reads_reasoning:
            raise RunFolderError(f"The scores of {path} use no reasoning, so there are no texts to write for them.")
        yield run, draws_of(run)
    finally:
        if run.model.reasoner is not None:
            run.model.reasoner.store.close()


def draws_of(run: LoadedRun) -> Draws:
    """The texts that the evaluation of a run reads."""
    model = run.model
    firsts = decodings_of(model.evaluation_decoding, model.settings.backbone.cot_samples)
    return Draws(model.reasoner.generator.fingerprint, firsts)


def longest_text(run: LoadedRun, draws: Draws) -> int:
    """Characters that no text of the run's own can exceed: its tokens at their longest, and a line of the catalogue for each guess."""
    token = max(map(len, run.model.backbone.tokenizer.get_vocab()))
    line = max(map(len, run.model.catalogue.lines))
    return max(one.max_new_tokens * token + (1 + one.guesses) * (line + 32) for one in draws.all)


def check_folder(folder: Path) -> None:
    """Refuses a folder that is no job's.

    Raises:
        ConfigError: it is a file, its parent is missing, or it holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"`--output={folder}` is a file. Name a folder.")
    if not folder.resolve().parent.is_dir():
        raise ConfigError(f"`--output={folder}`: the folder {folder.parent} does not exist. Make it, or name another.")
    others = sorted({one.name for one in folder.iterdir()} - {MANIFEST, PROMPTS, TEXTS}) if folder.is_dir() else []
    if others:
        raise ConfigError(f"`--output={folder}` holds other files, such as `{others[0]}`. Name a new folder.")


def write_manifest(folder: Path, run: LoadedRun, draws: Draws, facts: dict[str, Any]) -> None:
    """Writes what whoever writes the texts must know.

    Args:
        folder: of the job.
        run: whose texts they are.
        draws: of its evaluation.
        facts: of this job.
    """
    backbone = run.model.backbone
    write_json(
        folder / MANIFEST,
        {
            "format": FORMAT,
            "run": run.run_dir.resolve().name,
            "writer": draws.writer,
            "backbone": backbone.name,
            "around_prompt": backbone.prompts.around,
            "max_prompt_tokens": backbone.prompts.max_tokens,
            "draws": draws.described(),
            "text": {
                "form": f"{THINK}evidence, preference, intent{THINK_END}{ANSWER}a line of the catalogue{ANSWER_END}",
                "max_characters": longest_text(run, draws),
            },
            "columns": {PROMPTS: PROMPT_COLUMNS, TEXTS: TEXT_COLUMNS},
            **facts,
            "versions": versions(),
        },
    )


def read_manifest(folder: Path, draws: Draws) -> dict[str, Any] | None:
    """What `write_manifest` wrote of the same run; None where there is none.

    Raises:
        DatasetError: it cannot be read, another version wrote it, or it is another run's.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        form, writer = found["format"], found["writer"]
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise DatasetError(f"{path} cannot be read ({first_line(error)}). Name another folder.") from error
    if form != FORMAT:
        raise DatasetError(f"{path} has the format {form!r}; this version reads {FORMAT}. Make the prompts again.")
    if writer != draws.writer:
        raise DatasetError(
            f"{folder} belongs to another run: {found.get('run')}, with the backbone {str(writer)[:8]}, and this one has {draws.writer[:8]}. Texts of one "
            "backbone are none of another's; name the run that the prompts were made with."
        )
    return dict(found)


def files_in(folder: Path, start: str = "") -> list[Path]:
    """The Parquet files of a folder whose names have this start, in order; those that are being written are none."""
    return sorted(folder.glob(f"{start}*.parquet"))


def count_in(file: Path) -> int:
    """How many rows a file has; raises what `rows_in` does."""
    return Parquet(Place(file), may_be_empty=True).count


def rows_in(file: Path, needed: Sequence[str], more: Sequence[str] = ()) -> Iterator[list[tuple[Any, ...]]]:
    """Rows of a file, some at a time; values are texts.

    Args:
        file: Parquet.
        needed: columns that it must have.
        more: columns that are None where it has none.

    Raises:
        DatasetError: a column is missing, or the file is damaged.
    """
    table = Parquet(Place(file), may_be_empty=True, rows=_ROWS)
    lacking = [name for name in needed if name not in table.columns]
    if lacking:
        raise DatasetError(
            f"{file} has no column `{lacking[0]}`; it has {', '.join(table.columns)}. Needed: {', '.join(needed)}."
        )
    there = [name for name in (*needed, *more) if name in table.columns]
    try:
        for batch in table.batches(there):
            found = {name: as_texts(batch[name]).to_pylist() for name in there}
            nothing = [None] * len(batch[there[0]])
            yield list(zip(*(found.get(name, nothing) for name in (*needed, *more)), strict=True))
    except UnicodeDecodeError as error:
        raise DatasetError(f"{file} holds text that is no UTF-8 ({first_line(error)}).") from error
