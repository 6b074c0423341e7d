"""Texts of a whole job of prompts, by the run's own backbone in this process: `rporec cots write --histories`.

`TextWriter` is a map from a batch of prompts to a batch of texts and knows nothing of files; `write_shards` is the loop over shards
that feeds it. Whatever else maps over batches can take the place of the loop.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from rporec_recbole.cot.draws import Draws, Wanted, looking_in
from rporec_recbole.cot.reasoner import TextGenerator
from rporec_recbole.data.histories import read_histories
from rporec_recbole.errors import BackboneError, ConfigError, DatasetError, first_line
from rporec_recbole.outputs.prompts import SHARD_ROWS, item_ids, prompts_of, told_of
from rporec_recbole.outputs.shards import (
    PROMPTS,
    TEXT_COLUMNS,
    TEXTS,
    check_folder,
    count_in,
    files_in,
    read_manifest,
    rows_in,
    run_that_writes,
)
from rporec_recbole.outputs.table_file import table_writer
from rporec_recbole.settings.bars import progress_bar
from rporec_recbole.text.completions import Completion

Columns = Mapping[str, np.ndarray]
Write = Callable[[Columns], Columns]
"""From a batch of prompts (`key`, `prompt`, `draw`) to rows of `TEXT_COLUMNS`."""

BATCH_ROWS = 512
_PATIENCE = 60.0  # seconds after which what was written goes to disk, at the end of a batch
_HOPELESS = 8  # texts; where so many fail and none was written, it is not the prompts' fault


class TextWriter:
    """Writes the texts of a batch of prompts, and again what came out malformed.

    Args:
        generator: the run's backbone.
        draws: of the run's evaluation.
        parse: reads what was written.
    """

    def __init__(self, generator: TextGenerator, draws: Draws, parse: Callable[[str], Completion]) -> None:
        self._generator, self._draws, self._parse = generator, draws, parse

    def __call__(self, batch: Columns) -> dict[str, np.ndarray]:
        """All texts of a batch.

        Args:
            batch: `key`, `prompt` and `draw` of B texts.

        Returns:
            rows of `TEXT_COLUMNS`: a text or a reason, at least one for each prompt.
        """
        asked = [Wanted(*row) for row in zip(*(batch[name].tolist() for name in Wanted._fields), strict=True)]
        rows: list[tuple[Wanted, str | None, str | None]] = []
        while asked:
            fresh = []
            for draw, some in itertools.groupby(sorted(asked, key=lambda one: one.draw), key=lambda one: one.draw):
                fresh += self._written(list(some), draw)
            rows += fresh
            done = {one.key: text is None or self._parse(text).well_formed for one, text, _ in fresh}
            asked = self._draws.following([one for one, _, _ in fresh], looking_in(done))
        found: dict[str, list[Any]] = {
            "key": [one.key for one, _, _ in rows],
            "prompt": [one.prompt for one, _, _ in rows],
            "text": [text for _, text, _ in rows],
            "reason": [reason for _, _, reason in rows],
            "writer": [self._draws.writer] * len(rows),
        }
        return {name: np.array(values, dtype=object) for name, values in found.items()}

    def _written(self, wanted: list[Wanted], draw: int) -> list[tuple[Wanted, str | None, str | None]]:
        """A text of each, or why there is none: where a batch fails its halves are tried, down to the prompt at fault."""
        try:
            texts = self._generator.generate([one.prompt for one in wanted], self._draws.all[draw])
        except Exception as error:
            if len(wanted) == 1:
                return [(wanted[0], None, f"{type(error).__name__}: {first_line(error)}")]
            half = len(wanted) // 2
            return [*self._written(wanted[:half], draw), *self._written(wanted[half:], draw)]
        return [(one, text, None) for one, text in zip(wanted, texts, strict=True)]


@dataclass
class Written:
    """What a job has done.

    Attributes:
        texts: written by this process.
        failed: rows that this process set aside.
        before: prompts that were done when it began.
        prompts: of the job.
        reason: of the first row that was set aside.
    """

    texts: int = 0
    failed: int = 0
    before: int = 0
    prompts: int = 0
    reason: str = ""


def write_texts(
    path: str | Path,
    histories: str | Path,
    output: str | Path,
    *,
    shard_rows: int = SHARD_ROWS,
    batch_rows: int = BATCH_ROWS,
    retry: bool = False,
    skip_unknown: bool = False,
    encoding: str | None = None,
    gpu: str | None = None,
    **places: str | None,
) -> Written:
    """Writes the texts of histories into shards; a job that was cut short goes on.

    Args:
        path: the run folder; nothing in it changes.
        histories, output, shard_rows, skip_unknown, encoding: as for `outputs.prompts.write_prompts`; prompts that are there are taken.
        batch_rows: prompts that the backbone gets at once. A job that is killed loses a batch, and at most a minute more.
        retry: try rows again that were set aside.
        gpu, places: as for `load_run`.

    Raises:
        ConfigError: the folder cannot be used, or holds prompts of other histories.
        DatasetError: the histories cannot be used, or the folder is another run's.
        BackboneError: nothing can be written at all.
        RunFolderError: the scores of the run use no reasoning, or nothing can be written to disk.
    """
    folder = Path(output)
    check_folder(folder)
    with run_that_writes(path, gpu=gpu, **places) as (run, draws):
        facts = told_of(histories)
        known = read_manifest(folder, draws)
        if known is None:
            if files_in(folder / TEXTS):
                raise ConfigError(f"`--output={folder}` holds texts and no manifest.json. Name a new folder.")
            read = read_histories(histories, item_ids(run), skip_unknown, encoding, run.config["encoding"] or "utf-8")
            prompts_of(run, draws, read, folder, shard_rows, facts)
        elif known["histories"]["files"] != facts["files"]:
            raise ConfigError(
                f"`--output={folder}` holds prompts of other histories: {known['histories']['name']}. Name those, or a new folder."
            )
        reasoner = run.model.reasoner
        writer = TextWriter(reasoner.generator, draws, reasoner.parse)
        return write_shards(folder, writer, draws, reasoner.parse, batch_rows=batch_rows, retry=retry)


def write_shards(
    folder: Path,
    write: Write,
    draws: Draws,
    parse: Callable[[str], Completion],
    *,
    batch_rows: int = BATCH_ROWS,
    retry: bool = False,
) -> Written:
    """Writes what a job's folder lacks, shard by shard; files of texts appear when they are complete.

    Args:
        folder: of the job, with prompts.
        write: from a batch of prompts to a batch of texts.
        draws, parse: of the run.
        batch_rows, retry: as for `write_texts`.

    Raises:
        BackboneError: the first texts all fail.
        RunFolderError: nothing can be written.
    """
    (folder / TEXTS).mkdir(exist_ok=True)
    done = Written()
    shards = files_in(folder / PROMPTS)
    with progress_bar(total=sum(map(count_in, shards)), desc="texts", unit="text") as bar:
        for shard in shards:
            wanted = [
                Wanted(key, prompt, int(draw))
                for rows in rows_in(shard, ("key", "prompt", "draw"))
                for key, prompt, draw in rows
            ]
            asked = draws.following(wanted, looking_in(_there(folder, shard, parse, retry)))
            asked.sort(key=lambda one: -len(one.prompt))  # then the batches have prompts of like length
            lacking = {one.prompt for one in asked}
            before = sum(one.prompt not in lacking for one in wanted)
            done.prompts, done.before = done.prompts + len(wanted), done.before + before
            bar.update(before)
            waiting: list[Columns] = []
            last = time.monotonic()
            for start in range(0, len(asked), batch_rows):
                some = asked[start : start + batch_rows]
                waiting.append(write(_batch(some)))
                _count(done, waiting[-1])
                bar.update(len(some))
                if time.monotonic() - last > _PATIENCE:
                    _flush(folder, shard, waiting)
                    last = time.monotonic()
            _flush(folder, shard, waiting)
    return done


def _there(folder: Path, shard: Path, parse: Callable[[str], Completion], retry: bool) -> dict[str, bool]:
    """Keys of a shard that are done, and whether nothing more need be written for them."""
    found: dict[str, bool] = {}
    for file in files_in(folder / TEXTS, f"{shard.stem}-"):
        try:
            for rows in rows_in(file, ("key", "text", "reason")):
                for key, text, _ in rows:
                    if text is not None:
                        found[key] = parse(text).well_formed
                    elif not retry:
                        found.setdefault(key, True)
        except DatasetError as error:
            raise DatasetError(f"{error} Remove the file: what it held is written again.") from error
    return found


def _batch(wanted: Sequence[Wanted]) -> dict[str, np.ndarray]:
    kinds = (object, object, np.int32)
    return {
        name: np.array(values, dtype=kind)
        for name, values, kind in zip(Wanted._fields, zip(*wanted, strict=True), kinds, strict=True)
    }


def _count(done: Written, rows: Columns) -> None:
    reasons = [reason for reason in rows["reason"].tolist() if reason is not None]
    done.failed += len(reasons)
    done.texts += len(rows["key"]) - len(reasons)
    done.reason = done.reason or next(iter(reasons), "")
    if not done.texts and done.failed >= _HOPELESS:
        raise BackboneError(
            f"None of the first {done.failed} texts could be written: {done.reason}. Nothing was set aside; correct that and start again."
        )


def _flush(folder: Path, shard: Path, waiting: list[Columns]) -> None:
    """Puts what waits into a new file. It is named after its keys, so nothing that stands in another file is written over."""
    if not waiting:
        return
    keys = "".join(key for columns in waiting for key in columns["key"].tolist())
    path = folder / TEXTS / f"{shard.stem}-{sha256(keys.encode()).hexdigest()[:16]}.parquet"
    with table_writer(path, TEXT_COLUMNS) as append:
        for columns in waiting:
            append(columns)
    waiting.clear()
