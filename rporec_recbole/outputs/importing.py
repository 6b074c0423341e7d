"""Texts that were written outside, into the store of a run: checked, keyed, all of them or none. `rporec cots import`."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rporec_recbole.cot.draws import Draws
from rporec_recbole.cot.store import StoredText
from rporec_recbole.data.history_files import files_named
from rporec_recbole.errors import ConfigError, DatasetError, RunFolderError
from rporec_recbole.outputs.shards import TEXTS, count_in, longest_text, read_manifest, rows_in, run_that_writes
from rporec_recbole.runs.finished import LoadedRun
from rporec_recbole.settings.bars import progress_bar

IMPORTED = "imported"
"""What the store says of who wrote a text, where nobody else said it."""


@dataclass
class TakenIn:
    """What became of the rows of some files.

    Attributes:
        files: how many.
        texts: rows with a text.
        new: texts that the store did not have.
        malformed: texts that the head cannot read; their users are ranked by the trunk until another draw is there.
        failed: rows without a text, whose writer said why.
    """

    files: int
    texts: int = 0
    new: int = 0
    malformed: int = 0
    failed: int = 0


def import_texts(
    path: str | Path,
    source: str | Path,
    *,
    writer: str = IMPORTED,
    max_characters: int | None = None,
    **places: str | None,
) -> TakenIn:
    """Takes texts into the store of a run, in one transaction.

    Args:
        path: the run folder.
        source: folder of a job (`outputs.shards`), or a file, folder or pattern of Parquet files with columns `key`, `prompt` and `text`.
        writer: who wrote texts whose rows do not say it in a column `writer`.
        max_characters: longer texts are refused; None: than a text of the run's own can be.
        places: what moved since, as for `load_run`.

    Raises:
        DatasetError: files cannot be read, or rows cannot be used; each kind of mistake with its number and its first example. Nothing was kept.
        StoreError: a key has two different texts. Nothing was kept.
        RunFolderError: the scores of the run use no reasoning, or its store cannot be written.
    """
    if not writer.strip():
        raise ConfigError("`--writer=` is empty. Name who wrote the texts, or leave it out.")
    folder = Path(source)
    with run_that_writes(path, **places) as (run, draws):
        store = run.model.reasoner.store
        if store.path is None:
            raise RunFolderError(
                f"The store of {path} cannot be written. Copy the run, or give yourself the right to write there."
            )
        read_manifest(folder, draws)
        files = files_named(folder / TEXTS if (folder / TEXTS).is_dir() else folder, (".parquet",))
        check = _Check(run, draws, writer, max_characters)
        check.open(files)
        done = TakenIn(len(files))
        done.new = store.take(check.rows(files, done))
    return done


class _Check:
    """What is wrong with rows, by kind: how many, and the first."""

    def __init__(self, run: LoadedRun, draws: Draws, writer: str, max_characters: int | None) -> None:
        self._draws, self._writer, self._parse = draws, writer, run.model.reasoner.parse
        self._longest = longest_text(run, draws) if max_characters is None else max_characters
        self._decodings = [json.dumps(one.identity, sort_keys=True) for one in draws.all]
        self._wrong: dict[str, tuple[int, str]] = {}

    def open(self, files: list[Path]) -> None:
        """Refuses files that are no whole Parquet files with the columns that are needed, all of them at once.

        Raises:
            DatasetError: there are such.
        """
        for file in files:
            try:
                next(rows_in(file, ("key", "prompt", "text")), None)
            except DatasetError as error:
                self._note("files cannot be read", str(error))
        self._refuse()

    def rows(self, files: list[Path], done: TakenIn) -> Iterator[StoredText]:
        """All texts of sound rows.

        Raises:
            DatasetError: at the end, where a row is not sound.
        """
        with progress_bar(total=sum(map(count_in, files)), desc="import", unit="text") as bar:
            for file in files:
                number = itertools.count(1)
                for rows in rows_in(file, ("key", "prompt", "text"), ("reason", "writer")):
                    for row in rows:
                        found = self._checked(row, done, f"{file.name}, row {next(number)}")
                        if found is not None:
                            yield found
                    bar.update(len(rows))
        self._refuse()

    def _checked(self, row: tuple[str | None, ...], done: TakenIn, here: str) -> StoredText | None:
        key, prompt, text, reason, writer = row
        if text is None and reason:
            done.failed += 1
            return None
        writer = writer or self._writer
        draw = None if key is None or prompt is None else self._draws.of_key(key, prompt)
        problem = self._problem(text, draw, writer)
        if problem is not None or key is None or prompt is None or text is None or draw is None:
            self._note(problem or "", f"{here}, key {key}")
            return None
        done.texts += 1
        done.malformed += not self._parse(text).well_formed
        return StoredText(key, prompt, text, writer, self._decodings[draw])

    def _problem(self, text: str | None, draw: int | None, writer: str) -> str | None:
        own = (
            writer == self._draws.writer
        )  # a backbone of the run's own may write nothing, which is malformed and no mistake
        if text is None or (not own and not text.strip()):
            return "rows have an empty text, and no reason for it"
        if not own and len(text) > self._longest:
            return f"texts are longer than {self._longest:,} characters, the longest that this run writes (--max_characters=N allows more)"
        if draw is None:
            return "keys are not those of their prompts in this run: they are another run's, or prompts were changed on their way"
        return None

    def _note(self, kind: str, here: str) -> None:
        count, first = self._wrong.get(kind, (0, here))
        self._wrong[kind] = count + 1, first

    def _refuse(self) -> None:
        if self._wrong:
            lines = "\n  ".join(f"{count:,} {kind}; the first: {first}" for kind, (count, first) in self._wrong.items())
            raise DatasetError(
                f"These texts cannot be imported, and nothing was kept. Correct or remove what is named:\n  {lines}"
            )
