"""What the setting `backbone` means: a folder, an adapter folder, a GGUF file or a hub id; where its files are, and whether they are whole."""

from __future__ import annotations

import importlib.util
import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils import cached_file, has_file

from rporec_recbole.backbone.dequantized import dequantized
from rporec_recbole.backbone.model import BASE
from rporec_recbole.errors import BackboneError, first_line, translating
from rporec_recbole.settings.types import is_embedded
from rporec_recbole.text.prompts import INSTRUCTIONS

ADAPTER, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_DESCRIBED = ("config.json", "README.md")
"""What a repository of a hub has beside its weights."""


class Source(NamedTuple):
    """Where the files of a backbone are.

    Attributes:
        name: what the user asked for, `~` written out.
        weights: the model: a folder, a GGUF file or a hub id; of an adapter its base.
        is_adapter: whether `name` is a PEFT adapter folder.
    """

    name: str
    weights: str
    is_adapter: bool


def is_gguf(name: str) -> bool:
    """Whether a source is a GGUF file, by its ending."""
    return name.lower().endswith(".gguf")


def one_message(source: str) -> AbstractContextManager[None]:
    """Whatever transformers raises while a source is loaded (it has many kinds) becomes one `BackboneError`."""
    return translating(
        lambda error: BackboneError(
            f"`backbone={source}` cannot be loaded: {first_line(error)}. Give `tiny`, a folder that `save_pretrained` wrote, a .gguf "
            "file, or a Hugging Face id that is downloaded already or reachable. Weights are read from safetensors and GGUF files alone."
        )
    )


def find_source(name: str, base: str | None = None) -> Source:
    """What a `backbone` means.

    Args:
        name: as the user wrote it.
        base: what the run names whose adapter this is; its own note of that is read where nothing is there, or for any other adapter.

    Raises:
        BackboneError: a path without a model, or an adapter without weights or base.
    """
    given, name = name, _written_out(name)
    folder = Path(name)
    if (folder.exists() or _is_gone(name)) and not (
        any((folder / file).is_file() for file in ("config.json", ADAPTER)) or (is_gguf(name) and folder.is_file())
    ):
        inside = sorted(path for path in folder.glob("*") if is_gguf(path.name))
        advice = (
            f"Name the file: --backbone={inside[0]}"
            if inside
            else "Give such a folder, a .gguf file, a Hugging Face id, or `tiny`"
        )
        raise BackboneError(
            f"`backbone={given}` is a local path but no model: a folder needs config.json, weights and tokenizer files, as "
            f"`save_pretrained` writes them. {advice}."
        )
    if not (folder / ADAPTER).is_file():
        return Source(name, name, False)
    if not (folder / ADAPTER_WEIGHTS).is_file():  # PEFT would unpickle adapter_model.bin
        raise BackboneError(
            f"`backbone={given}` is an adapter without {ADAPTER_WEIGHTS}, and nothing else is read. Save it again with "
            "`save_pretrained`, which writes that file."
        )
    return Source(name, _base_of(folder, given, base), True)


def _base_of(folder: Path, given: str, base: str | None) -> str:
    if (folder / BASE).is_dir():
        return str(folder / BASE)
    if base is not None and not is_embedded(base) and not _is_gone(_written_out(base)):
        return find_source(base).weights
    with one_message(given):
        named = noted_base(folder)
    if _is_gone(named):
        looked = f"{named} or {base}" if base not in (None, named) else named
        advice = f"write where it is as `base_model_name_or_path` into {folder / ADAPTER}"
        raise BackboneError(
            f"`backbone={given}` is an adapter on {looked}, and nothing is there. Put its base back, or "
            f"{advice if base is None else 'name where it is with --backbone=FOLDER_OR_ID_OR_GGUF'}."
        )
    return named


def noted_base(folder: Path) -> str:
    """The base that an adapter folder itself names."""
    from peft import PeftConfig

    return _written_out(str(PeftConfig.from_pretrained(str(folder)).base_model_name_or_path))


def _is_gone(name: str) -> bool:
    """Whether it can only be a path, and nothing is there."""
    local = name.startswith((".", "/")) or (is_gguf(name) and len(Path(name).parts) < 3)
    return local and not Path(name).exists()


def _written_out(name: str) -> str:
    # No shell does it behind `--backbone=`.
    return str(Path(name).expanduser()) if name.startswith("~") else name


def arguments_for(name: str) -> dict[str, str]:
    """The arguments by which `from_pretrained` finds a model. Of a GGUF file it is the folder of its numbers, made here where it is not
    there yet.

    Raises:
        BackboneError: the package that reads GGUF is missing, or the folder cannot be written.
        OSError, ValueError: the file cannot be read.
    """
    if not is_gguf(name):
        return {"pretrained_model_name_or_path": name}
    if importlib.util.find_spec("gguf") is None:
        raise BackboneError(f'`backbone={name}` needs the package gguf: pip install "rporec_recbole[gguf]".')
    path = Path(name)
    return {
        "pretrained_model_name_or_path": str(
            dequantized(path if path.is_file() else Path(cached_file(str(path.parent), path.name)))
        )
    }


def check_weights(source: Source) -> None:
    """Refuses a model whose files are missing or cut off; of a local one the headers are read, of one on a hub the names. What a
    GGUF file holds, whoever reads its config has to read.

    Raises:
        BackboneError: says which file.
    """
    folder = Path(source.weights)
    if folder.is_file():
        return
    if folder.is_dir():
        _check_folder(folder, source.name)
        return
    if is_gguf(source.weights):
        where, whole = str(folder.parent), [folder.name]
    else:
        where, whole = source.weights, [ADAPTER_WEIGHTS] if has_file(source.weights, ADAPTER) else [*_WEIGHTS]
    if not any(has_file(where, name) for name in whole):
        # No answer of a hub reads as no file.
        if not any(has_file(where, name) for name in (*_DESCRIBED, ADAPTER)):
            raise BackboneError(
                f"`backbone={source.name}` is no folder here and no model that was downloaded, and no hub says that it has "
                f"{' or '.join(whole)} of it. Where there is no network, name a folder: `hf download {where}` fills one where there is."
            )
        raise BackboneError(
            f"`backbone={source.name}` has none of {whole}, and weights of another form are not read. Take a model that has, or save it "
            "with `save_pretrained` and name the folder."
        )


def _check_folder(folder: Path, name: str) -> None:
    files = sorted(folder.glob("*.safetensors"))
    wanted = {folder / file for index in folder.glob("*.safetensors.index.json") for file in _files_of(index)}
    missing = sorted(wanted - set(files)) if files else [folder / _WEIGHTS[0]]
    if missing:
        raise BackboneError(
            f"`backbone={name}`: no file {missing[0]}, and weights of another form are not read. `save_pretrained` writes such files."
        )
    for file in files:
        try:
            with safe_open(file, framework="pt"):
                pass
        except (OSError, SafetensorError) as error:
            raise BackboneError(f"`backbone={name}`: {file} is damaged ({error}). Copy or save it again.") from error


def _files_of(index: Path) -> set[str]:
    """The files that the index of a model in several files names."""
    return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())


def tokenizer_of(source: Source) -> Any:
    """The tokenizer beside a model or an adapter; that of the base where an adapter was saved without one.

    Raises:
        BackboneError: there is none.
    """
    own = not source.is_adapter or any(Path(source.name).glob("tokenizer*"))
    name = source.name if own else source.weights
    # A GGUF file says how it splits words; the class of a model family would do that by rules of its own.
    kind = PreTrainedTokenizerFast if is_gguf(name) else AutoTokenizer
    tokenizer = kind.from_pretrained(**arguments_for(name))
    # Where the files are missing transformers makes up a tokenizer that knows no word.
    if not set(tokenizer(INSTRUCTIONS["instruct"])["input_ids"]) - set(tokenizer.all_special_ids):
        raise BackboneError(
            f"`backbone={name}` has no tokenizer: not a word of an instruction is a token of it. Put the tokenizer files (tokenizer.json, "
            "tokenizer_config.json) beside the weights, as `tokenizer.save_pretrained` writes them."
        )
    return tokenizer
