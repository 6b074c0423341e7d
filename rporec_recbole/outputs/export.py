"""The vectors of a finished run as Parquet, for a ranker that knows nothing of this package.

items.parquet      item_id, vector: e_i of every item
users.parquet      user_id, vector (u, as evaluated), trunk_vector (s), history_offset b(s), well_formed, gate
answers.parquet    user_id, item_id, added: what is added to the score of an item because the user's answers name it
reasoning.parquet  user_id, cot_vector, answer_vector (what the head reads), cot, answer, well_formed, gate
schema.json        what each column holds, how a score is made of them, where they came from

A user has the history of the user's last row of a split; of a run on everything (`rporec fit`), the whole profile; or it is a new one with a
history of a file. Vectors are made batch by batch as the run's evaluation makes them, and
memory does not grow with the number of users.

Letters in shapes: B users, N items, H hidden size, D size of a text vector.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rporec_recbole.data.files import replacing_folder, unwritable, write_text
from rporec_recbole.data.histories import Histories, read_histories
from rporec_recbole.errors import ConfigError, RunFolderError, did_you_mean
from rporec_recbole.outputs.exported import ROWS, of_histories, of_split
from rporec_recbole.outputs.table_file import table_writer
from rporec_recbole.runs.finished import LoadedRun, hash_of_run, load_rporec
from rporec_recbole.settings.bars import progress_bar
from rporec_recbole.text.completions import first_well_formed
from rporec_recbole.version import versions

PARTS, DTYPES = ("items", "users", "reasoning", "answers"), ("float32", "float16")
SCHEMA = "schema.json"
_FORMAT = 1
_AT_ONCE = 1 << 16  # items

_MEANING = {
    "item_id": "as in the data files; the padding item of training is left out",
    "user_id": "as in the data files",
    "vector": "items: e_i; users: u, with reasoning where it counted",
    "trunk_vector": "s: the user without reasoning",
    "history_offset": "b(s), added to the scores of items that stand in the user's history; 0 for a head without it",
    "well_formed": "whether the reasoning could be parsed, and so counted",
    "gate": "how much the head let the reasoning count, from 0 to 1; 0 where it did not count",
    "cot_vector": "enc(cot) as the head reads it; of several texts a user, the mean of the well-formed ones",
    "answer_vector": "enc(answer), likewise",
    "added": "to the score of this user and item, because what the backbone wrote names the item",
    "cot": "the chain of thought; of several texts a user, that of the first well-formed one; empty where there is none",
    "answer": "the item that the backbone guesses, in words, likewise",
}
_SCORE = (
    "score(user, item) = users.vector . items.vector, plus users.history_offset if the item is one of the newest {length} that the user "
    "has chosen, plus answers.added where answers.parquet has the pair; the largest is best. With users.trunk_vector in place of users.vector it is the score without reasoning, answers left out too. No cosine, "
    "no temperature. {hidden}"
)


def export(
    path: str | Path,
    output: str | Path,
    what: Sequence[str] | None = None,
    *,
    dtype: str = "float32",
    split: str = "test",
    histories: str | Path | None = None,
    missing_texts: str = "write",
    skip_unknown: bool = False,
    encoding: str | None = None,
    **places: str | None,
) -> dict[str, int]:
    """Writes vectors of a run into a folder; an older export there is replaced when the new one is complete.

    Args:
        path: folder of an RPORec run.
        output: a new folder, an empty one, or one with an older export and nothing else.
        what: some of `PARTS`; None means all that the run has.
        dtype: of vectors, one of `DTYPES`; other numbers are always float32.
        split: `valid` or `test`: whose rows give the histories of the users.
        histories: new users in place of a split's, as for `outputs.recommend.recommend`.
        missing_texts, skip_unknown, encoding: likewise.
        places: what moved since, as for `load_run`.

    Returns:
        part -> rows.

    Raises:
        ConfigError: an argument is wrong, the run is none of RPORec, or it has no reasoning to export.
        DatasetError: the histories cannot be used.
        RunFolderError: there is no finished run, its vectors are no finite numbers, or the folder cannot be written.
    """
    output = Path(output)
    _check(output, what, dtype, split)
    run = load_rporec(path, "vectors", **places)
    try:
        if what is None:
            what = PARTS if run.model.reads_reasoning else PARTS[:2]
            what = [part for part in what if part != "answers" or run.model.head.expert is not None]
        elif {"reasoning", "answers"} & set(what) and not run.model.reads_reasoning:
            raise ConfigError(
                f"The scores of {path} use no reasoning, so there is none to export. Leave it out: --what=items,users."
            )
        if run.model.reasoner is not None:
            run.model.reasoner.writes = missing_texts == "write"
        read = None
        if histories is not None:
            names = run.dataset.field2token_id[run.dataset.iid_field]
            read = read_histories(histories, names, skip_unknown, encoding, run.config["encoding"] or "utf-8")
        with torch.no_grad():
            items = run.model.head.item_vectors()
        sizes = items.shape[1], 0 if run.model.encoder is None else run.model.encoder.size
        schemas = {part: _columns(part, dtype, *sizes) for part in PARTS if part in what}
        rows = dict.fromkeys(schemas, 0)
        with unwritable(f"{output} cannot be written", "--output"), replacing_folder(output) as folder:
            with contextlib.ExitStack() as stack:
                append = {
                    part: stack.enter_context(table_writer(folder / f"{part}.parquet", columns))
                    for part, columns in schemas.items()
                }
                for part, columns in _parts(run, items, split, read, set(schemas)):
                    append[part]({name: _stored(values, dtype, run) for name, values in columns.items()})
                    rows[part] += len(next(iter(columns.values())))
            about = _about(run, split if read is None else "histories", dtype, sizes, schemas, rows)
            write_text(folder / SCHEMA, json.dumps(about, indent=2, ensure_ascii=False) + "\n")
    finally:
        if run.model.reasoner is not None:
            run.model.reasoner.store.close()
    return rows


def _check(output: Path, what: Sequence[str] | None, dtype: str, split: str) -> None:
    for part in PARTS[:1] if what is None else what or [""]:
        if part not in PARTS:
            raise ConfigError(f"`--what={part}` must be some of {','.join(PARTS)}.{did_you_mean(part, PARTS)}")
    if dtype not in DTYPES:
        raise ConfigError(f"`--dtype={dtype}` must be {' or '.join(DTYPES)}.{did_you_mean(dtype, DTYPES)}")
    if split not in ("valid", "test"):
        raise ConfigError(f"`--split={split}` must be valid or test.")
    if output.exists() and not output.is_dir():
        raise ConfigError(f"`--output={output}` is a file. Name a folder.")
    if not output.resolve().parent.is_dir():
        raise ConfigError(f"`--output={output}`: the folder {output.parent} does not exist. Make it, or name another.")
    ours = {SCHEMA, *(f"{part}.parquet" for part in PARTS)}
    others = sorted({one.name for one in output.iterdir()} - ours) if output.is_dir() else []
    if others:
        raise ConfigError(
            f"`--output={output}` holds other files than an export, such as `{others[0]}`, and would be replaced. Name a new folder."
        )


def _columns(part: str, dtype: str, hidden: int, text: int) -> dict[str, str]:
    """Column -> type."""
    vector, encoded = f"{dtype}[{hidden}]", f"{dtype}[{text}]"
    counted = {"well_formed": "bool", "gate": "float32"}
    return {
        "items": {"item_id": "string", "vector": vector},
        "users": {
            "user_id": "string",
            "vector": vector,
            "trunk_vector": vector,
            "history_offset": "float32",
            **counted,
        },
        "reasoning": {
            "user_id": "string",
            "cot_vector": encoded,
            "answer_vector": encoded,
            "cot": "string",
            "answer": "string",
            **counted,
        },
        "answers": {"user_id": "string", "item_id": "string", "added": "float32"},
    }[part]


def _stored(values: Any, dtype: str, run: LoadedRun) -> np.ndarray:
    """Vectors in the type that they are kept in; other columns as they are."""
    if not isinstance(values, Tensor):
        return values
    array = values.cpu().numpy()
    if array.ndim == 1:
        return array
    with np.errstate(over="ignore"):
        array = array.astype(dtype)
    if not np.isfinite(array).all():
        fits = bool(torch.isfinite(values).all())
        raise RunFolderError(
            f"Vectors of {run.run_dir} "
            + (
                "do not fit into float16. Export them with --dtype=float32."
                if fits
                else "are no finite numbers. Train it again."
            )
        )
    return array


def _parts(
    run: LoadedRun, items: Tensor, split: str, read: Histories | None, wanted: set[str]
) -> Iterator[tuple[str, Mapping[str, np.ndarray | Tensor]]]:
    """Pieces of the tables, items first."""
    if "items" in wanted:
        tokens = np.array(run.dataset.field2id_token[run.dataset.iid_field], dtype=object)
        for first in range(1, len(items), _AT_ONCE):
            piece = slice(first, first + _AT_ONCE)
            yield "items", {"item_id": tokens[piece], "vector": items[piece]}
    if wanted == {"items"}:
        return
    count, batches = of_split(run, split) if read is None else (read.count, of_histories(run, read))
    with progress_bar(total=count, desc="export", unit="user") as bar:
        for users, places, batch in batches:
            columns = {"user_id": users, **_of_batch(run.model, batch, items, torch.from_numpy(places))}
            for part in ("users", "reasoning"):
                if part in wanted:
                    yield part, columns
            if "answers" in wanted:
                yield "answers", _answers(run, batch, torch.from_numpy(places), users)
            bar.update(len(places))


@torch.no_grad()
def _answers(run: LoadedRun, batch: Any, places: Tensor, users: np.ndarray) -> dict[str, np.ndarray]:
    """What the answers of each wanted user of a batch add to scores, a row for each pair of user and item."""
    model, tokens = run.model, np.array(run.dataset.field2id_token[run.dataset.iid_field], dtype=object)
    reasoning, _ = model.reasoning(batch, model.evaluation_decoding)
    histories, clock, there = batch[model.ITEM_SEQ].to(model.device), model.clock_of(batch), places.to(model.device)
    rows = model.head.heard_items(histories[there], reasoning.at(there), None if clock is None else clock[there])
    pairs = [(user, item, added) for user, row in zip(users, rows, strict=True) for item, added in row]
    return {
        "user_id": np.array([user for user, _, _ in pairs], dtype=object),
        "item_id": tokens[[item for _, item, _ in pairs]] if pairs else np.array([], dtype=object),
        "added": np.array([added for _, _, added in pairs], dtype=np.float32),
    }


@torch.no_grad()
def _of_batch(model: Any, batch: Any, items: Tensor, places: Tensor) -> dict[str, np.ndarray | Tensor]:
    """What is known of each wanted user of a batch, as columns of both tables."""
    head, histories, clock = model.head, batch[model.ITEM_SEQ].to(items.device), model.clock_of(batch)
    reasoning, texts = model.reasoning(batch, model.evaluation_decoding) if model.reads_reasoning else (None, None)
    pieces: dict[str, list[Tensor]] = {}
    for first in range(0, len(histories), ROWS):
        rows = slice(first, first + ROWS)
        part = None if reasoning is None else reasoning.at(rows)
        state = head.last_state(histories[rows], items, None if clock is None else clock[rows])
        nothing = state.new_zeros(len(state))
        offset = head.history_offset(state)
        found = {
            "vector": head.user_vectors(state, part),
            "trunk_vector": state,
            "history_offset": nothing if offset is None else offset,
            "well_formed": nothing.bool() if part is None else part.well_formed,
            "gate": nothing if part is None else head.gate(state, part).where(part.well_formed, nothing),
        }
        for name, piece in found.items():
            pieces.setdefault(name, []).append(piece)
    columns: dict[str, Any] = {name: torch.cat(parts).cpu()[places] for name, parts in pieces.items()}
    if reasoning is not None and texts is not None:
        columns["cot_vector"], columns["answer_vector"] = reasoning.vectors.cpu()[places].chunk(2, dim=1)
        shown = [first_well_formed(texts[place]) for place in places.tolist()]
        columns["cot"] = np.array([one.cot for one in shown], dtype=object)
        columns["answer"] = np.array([one.answer for one in shown], dtype=object)
    return columns


def _about(
    run: LoadedRun,
    split: str,
    dtype: str,
    sizes: tuple[int, int],
    schemas: Mapping[str, Mapping[str, str]],
    rows: Mapping[str, int],
) -> dict[str, Any]:
    """The content of `schema.json`."""
    config = run.config
    hidden = "The run hides what a user has chosen before." if config["hide_seen"] else "Seen items are ranked too."
    return {
        "format": _FORMAT,
        "run": run.run_dir.resolve().name,
        "run_hash": hash_of_run(run.run_dir),
        "model": str(config["model"]),
        "dataset": str(config["dataset"]),
        "split": split,
        "reasoning": bool(run.model.reads_reasoning),
        "dtype": dtype,
        "dimension": sizes[0],
        "text_dimension": sizes[1],
        "score": _SCORE.format(length=config["MAX_ITEM_LIST_LENGTH"], hidden=hidden),
        "files": {
            f"{part}.parquet": {
                "rows": rows[part],
                "columns": [{"name": name, "type": kind, "meaning": _MEANING[name]} for name, kind in columns.items()],
            }
            for part, columns in schemas.items()
        },
        "versions": versions(),
    }
