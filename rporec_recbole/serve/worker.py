"""Writes the reasoning that the service had to do without: the backbone's work, in a process of its own."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path

from rporec_recbole.cot.draws import decodings_of
from rporec_recbole.cot.reasoner import Reasoner
from rporec_recbole.cot.store import Decoding
from rporec_recbole.errors import ConfigError, StoreError
from rporec_recbole.runs.finished import load_rporec
from rporec_recbole.serve.limits import Limits
from rporec_recbole.serve.pending import PENDING, Pending

logger = logging.getLogger(__name__)

_AT_ONCE = 16  # histories: texts are there soon, and a second worker finds others to write
_PAUSE = 0.2  # seconds between two looks at an empty queue


def work(path: str | Path, stop: Callable[[], bool], limits: Limits | None = None, **places: str | None) -> int:
    """Writes about queued histories until it is told to stop; any number of processes may do this for one run.

    Args:
        path: the run folder.
        stop: asked between two batches.
        limits: how many histories may wait.
        places: what moved since the run was made, as for `load_run`.

    Returns:
        how many histories were written about.

    Raises:
        ConfigError: the run's scores read no reasoning.
        RunFolderError: there is no finished run.
        StoreError: store or queue cannot be used.
    """
    folder = Path(path)
    model = load_rporec(folder, "a service", **places).model
    if not model.reads_reasoning:
        raise ConfigError(f"The scores of {folder} use no reasoning, so there is nothing for a worker to write.")
    decodings = decodings_of(model.evaluation_decoding, model.settings.backbone.cot_samples)
    written = 0
    with contextlib.closing(model.reasoner.store) as store:
        with contextlib.closing(Pending(folder / PENDING, (limits or Limits()).pending)) as pending:
            while not stop():
                prompts = pending.first(_AT_ONCE)
                if not prompts:
                    time.sleep(_PAUSE)
                    continue
                # A new one each time: a reasoner remembers all that it has seen.
                reasoner = Reasoner(
                    model.reasoner.generator, model.reasoner.template, store, parse=model.reasoner.parse
                )
                written += _write(reasoner, prompts, decodings, pending)
    return written


def _write(reasoner: Reasoner, prompts: dict[str, str], decodings: list[Decoding], pending: Pending) -> int:
    """Writes about all of them; if that fails, about one after the other, and sets aside what fails alone too."""
    try:
        for decoding in decodings:
            reasoner.complete(list(prompts.values()), decoding)
        pending.remove(prompts)
        return len(prompts)
    except StoreError:  # no prompt's fault: nothing is set aside for it
        raise
    except Exception as error:
        if len(prompts) > 1:
            return sum(_write(reasoner, {key: prompt}, decodings, pending) for key, prompt in prompts.items())
        logger.exception("Nothing could be written about a history; it is set aside in %s", pending.path)
        pending.fail(next(iter(prompts)), f"{type(error).__name__}: {error}")
        return 0
