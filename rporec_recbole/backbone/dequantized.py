"""A GGUF file as an ordinary folder of plain numbers, made once and kept: reading such a file takes tens of seconds, the folder one."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

import torch
import transformers
from huggingface_hub import constants
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from rporec_recbole.backbone.lean import write_lean
from rporec_recbole.errors import BackboneError, first_line, translating

_FORM = 1  # of what is kept; another one is made anew
_LEAN = "lean.gguf"


def dequantized(path: Path) -> Path:
    """The folder of a GGUF file: config, tokenizer and float32 weights, beside what Hugging Face keeps (`HF_HOME`).

    Args:
        path: of the file. A copy of it elsewhere has the same folder; where its bytes change, it has another one.

    Raises:
        BackboneError: nothing can be written there.
        OSError, ValueError: transformers cannot read the file.
    """
    found = path.stat()
    content = _digest(path.resolve(), found.st_size, found.st_mtime_ns)
    kept = Path(constants.HF_HOME) / "rporec_recbole"
    folder = kept / f"{path.stem}-{content}-{transformers.__version__}-{_FORM}"
    if folder.is_dir():
        return folder
    logging.getLogger().info(f"reading {path.name} once; its numbers are kept in {folder}")
    with translating(lambda error: _unwritable(error, path, kept), OSError):
        kept.mkdir(parents=True, exist_ok=True)
        growing = Path(tempfile.mkdtemp(prefix=".writing-", dir=kept))
    try:
        with translating(lambda error: _unwritable(error, path, kept) if _is_full(error) else None, OSError):
            _write(path, growing)
        try:
            os.rename(growing, folder)
        except OSError:  # another process was quicker
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(growing, ignore_errors=True)
    return folder


def _is_full(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _unwritable(error: Exception, path: Path, kept: Path) -> BackboneError:
    return BackboneError(
        f"`backbone={path}`: its numbers are to be kept in {kept}, four bytes a weight, and that cannot be written: {first_line(error)}. "
        "Name another folder with the environment variable HF_HOME."
    )


def _write(path: Path, folder: Path) -> None:
    transformers_logging.disable_progress_bar()
    lean = folder / _LEAN
    quick = lean if write_lean(path, lean) else path  # a damaged file ends here
    tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    # The class of a model family rebuilds itself by its own rules when it is loaded again, and then splits words in another way than the
    # file said.
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer,
        chat_template=tokenizer.chat_template,
        **{name: getattr(tokenizer, name) for name in ("bos_token", "eos_token", "pad_token", "unk_token")},
    ).save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(str(quick.parent), gguf_file=quick.name, dtype=torch.float32)
    # They are plain numbers by now, and transformers would refuse to train what says that it is quantized.
    model.hf_quantizer.remove_quantization_config(model)
    lean.unlink(missing_ok=True)
    model.save_pretrained(folder)


@lru_cache
def _digest(path: Path, size: int, changed: int) -> str:
    """What a file holds, in sixteen signs; asked again when it has changed."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
