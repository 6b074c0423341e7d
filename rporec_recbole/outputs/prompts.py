"""Histories as prompts in shards, for whatever writes their texts: `rporec cots prompts`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rporec_recbole.cot.draws import Draws, Wanted
from rporec_recbole.data.files import unwritable
from rporec_recbole.data.histories import Histories, read_histories
from rporec_recbole.data.history_files import files_named
from rporec_recbole.data.met import Met
from rporec_recbole.errors import ConfigError
from rporec_recbole.outputs.asked import history_rows
from rporec_recbole.outputs.shards import (
    MANIFEST,
    PROMPT_COLUMNS,
    PROMPTS,
    TEXTS,
    check_folder,
    files_in,
    run_that_writes,
    write_manifest,
)
from rporec_recbole.outputs.table_file import parts_writer
from rporec_recbole.runs.finished import LoadedRun
from rporec_recbole.settings.bars import progress_bar

SHARD_ROWS = 1 << 14
_AT_ONCE = 1 << 12  # histories


@dataclass(frozen=True)
class Prompted:
    """What was asked for.

    Attributes:
        users: with a known item.
        prompts: texts to be written: equal prompts are written for once.
        skipped_items: unknown items that were left out.
        skipped_users: users without a known item.
    """

    users: int
    prompts: int
    skipped_items: int
    skipped_users: int


def write_prompts(
    path: str | Path,
    histories: str | Path,
    output: str | Path,
    *,
    shard_rows: int = SHARD_ROWS,
    skip_unknown: bool = False,
    encoding: str | None = None,
    **places: str | None,
) -> Prompted:
    """Writes the prompts of histories whose texts the run's store lacks.

    Memory is that of one shard, and sixteen bytes a user and a prompt.

    Args:
        path: the run folder.
        histories: a file, a folder or a pattern (`data.history_files`).
        output: folder of the job (`outputs.shards`), without texts; older prompts in it are replaced.
        shard_rows: prompts in a file.
        skip_unknown: leave unknown items out instead of refusing.
        encoding: of the histories, as for `recommend`.
        places: what moved since, as for `load_run`.

    Raises:
        ConfigError: the folder cannot be used.
        DatasetError: the histories cannot be used.
        RunFolderError: the scores of the run use no reasoning, or nothing can be written.
    """
    folder = Path(output)
    check_folder(folder)
    if files_in(folder / TEXTS):
        raise ConfigError(
            f"`--output={folder}` holds texts already. Import them (`rporec cots import RUN {folder}`), and name a new folder."
        )
    with run_that_writes(path, **places) as (run, draws):
        read = read_histories(histories, item_ids(run), skip_unknown, encoding, run.config["encoding"] or "utf-8")
        return prompts_of(run, draws, read, folder, shard_rows, told_of(histories))


def told_of(histories: str | Path) -> dict[str, Any]:
    """What a job remembers of its histories, by which it knows them again."""
    files = [one for one in files_named(histories) if one.exists()]
    return {"name": str(histories), "files": [[one.name, one.stat().st_size] for one in files]}


def item_ids(run: LoadedRun) -> Mapping[str, int]:
    """Item token -> RecBole's id."""
    return run.dataset.field2token_id[run.dataset.iid_field]


def prompts_of(
    run: LoadedRun, draws: Draws, read: Histories, folder: Path, shard_rows: int, facts: Mapping[str, Any]
) -> Prompted:
    """The same of a run that is there.

    Args:
        run: whose prompts they are.
        draws: of its evaluation.
        read: the histories.
        folder: of the job.
        shard_rows: prompts in a file.
        facts: of the histories, for the manifest.
    """
    model, store = run.model, run.model.reasoner.store
    met, count = Met(), 0

    def look(keys: Sequence[str]) -> dict[str, bool]:
        return {key: model.reasoner.parse(text).well_formed for key, text in store.get(keys).items()}

    with unwritable(f"{folder} cannot be written", "--output"):
        folder.mkdir(exist_ok=True)
        (folder / MANIFEST).unlink(missing_ok=True)
    with (
        parts_writer(folder / PROMPTS, PROMPT_COLUMNS, shard_rows) as append,
        progress_bar(total=read.count, desc="prompts", unit="user") as bar,
    ):
        for piece, rows in history_rows(run, read.pieces(_AT_ONCE)):
            prompts = model.reasoner.prompts(rows[model.ITEM_SEQ].tolist(), model.ratings_of(rows))
            wanted = draws.missing(prompts, look)
            if wanted:
                again = met.again([one.key for one in wanted])
                wanted = [one for one, known in zip(wanted, again, strict=True) if not known]
                append(_columns(run, wanted))
                count += len(wanted)
            bar.update(len(piece))
    done = Prompted(read.count, count, read.skipped_items, len(read.without))
    with unwritable(f"{folder} cannot be written", "--output"):
        write_manifest(
            folder,
            run,
            draws,
            {"prompts": count, "users": read.count, "shard_rows": shard_rows, "histories": dict(facts)},
        )
    return done


def _columns(run: LoadedRun, wanted: Sequence[Wanted]) -> dict[str, np.ndarray]:
    template, around = run.model.reasoner.template, run.model.backbone.prompts.overhead
    return {
        "key": np.array([one.key for one in wanted], dtype=object),
        "prompt": np.array([one.prompt for one in wanted], dtype=object),
        "tokens": np.array([around + template.tokens(one.prompt) for one in wanted], dtype=np.int32),
        "draw": np.array([one.draw for one in wanted], dtype=np.int32),
    }
