"""A finished run's ranks with other texts in the place of its own: read by its own fusion, or by one that is fitted to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import torch

from rporec_recbole.backbone.load import load_backbone
from rporec_recbole.cot.reasoner import Reasoner
from rporec_recbole.cot.substitutes import GivesReasoning
from rporec_recbole.data import ladder
from rporec_recbole.data.files import read_tensors
from rporec_recbole.host.bridge import build_model
from rporec_recbole.runs.finished import LoadedRun
from rporec_recbole.training.stage1.fusion import FusionRows, train_fusion
from rporec_recbole.training.stage1.rows import fusion_texts, reasoned_rows
from rporec_recbole.training.stage1.strength import Tried, fresh_reasoning, try_strengths
from rporec_recbole.training.state import checkpoint

Make = Callable[[Reasoner], GivesReasoning]
"""Puts something in the place of what a writer writes, or beside it."""


def ranks_with(loaded: LoadedRun, reasoner: GivesReasoning | None) -> pd.DataFrame:
    """Test ranks of the run's own head with other reasoning, or none."""
    model = loaded.model
    with _unchanged(loaded):
        model.reasoner, model.reasoning_on = reasoner, model.reasoning_on and reasoner is not None
        return loaded.evaluate("test")[1]


def refitted(loaded: LoadedRun, make: Make, fitted_to: Make | None = None) -> pd.DataFrame:
    """Test ranks of a new fusion on the run's trunk, fitted as the run fits its own.

    Where the run was refreshed, trunk and writer have seen the positions that a fusion is fitted to. So as in the run, texts for these
    come from the writer before the refresh, how far answers are trusted is learned with the head before it, and the fusion says
    nothing afterwards, where both were kept (`controls: True`).

    Args:
        loaded: the run.
        make: gives what is read on validation and test, of the run's reasoner.
        fitted_to: gives what the fusion is fitted to; the same if None.
    """
    model, early = loaded.model, loaded.run_dir / checkpoint.HEAD_BEFORE_REFRESH
    with _unchanged(loaded):
        own = model.reasoner
        writer = reasoner_of(loaded, checkpoint.BACKBONE_BEFORE_REFRESH) or own
        teacher = (fitted_to or make)(writer)
        kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        new = build_model(loaded.config, loaded.loaders["train"]).head
        if early.is_file():
            model.load_state_dict({**kept, **read_tensors(early, "Run the controls' run again.")[0]})
        fresh_reasoning(model.head, new)
        first = _Fit(loaded, teacher, make(writer))
        tried = first.try_strengths()
        first(first.train)
        if early.is_file():
            expert = model.head.expert
            trust = {} if expert is None else {name: one.detach().clone() for name, one in expert.named_parameters()}
            model.load_state_dict(kept)
            fresh_reasoning(model.head, new)
            if expert is None:
                again = _Fit(loaded, teacher, make(own))
                again(again.train)
            else:
                expert.load_state_dict(trust, strict=False)
                tried = tried.of_answers()
        model.reasoner = make(own)
        tried.best.set(model.head)
        return loaded.evaluate("test")[1]


def reasoner_of(loaded: LoadedRun, name: str | Path) -> Reasoner | None:
    """What another backbone of the run writes into the run's store; None if that backbone was not kept.

    Args:
        loaded: the run.
        name: of the backbone's folder in the run folder.
    """
    folder, model = loaded.run_dir / name, loaded.model
    if not folder.is_dir():
        return None
    own = model.backbone, model.reasoner
    model.connect(load_backbone(folder, model.settings.backbone, torch.device(model.device)), own[1].store)
    found = model.reasoner
    model.backbone, model.reasoner = own
    return found


class _Fit:
    """Fits the fusion of the model as it is, on its trunk.

    Args:
        loaded: the run.
        teacher: what is read at the positions that teach the fusion.
        shown: what is read from then on, on validation first.
    """

    def __init__(self, loaded: LoadedRun, teacher: GivesReasoning, shown: GivesReasoning) -> None:
        self._loaded, model = loaded, loaded.model
        model.reasoner, model.reasoning_on = teacher, True
        dataset = loaded.loaders["train"].dataset
        ends = dataset.positions(ladder.FUSION, model.settings.fusion.fusion_positions)
        self.train, _ = fusion_texts(model, dataset, ends, "control, texts")
        self._users = dataset.timeline[dataset.uid_field].numpy()[ends]
        model.reasoner = shown
        rows = loaded.loaders["valid"].dataset.inter_feat
        self._valid, _ = reasoned_rows(model, rows, model.evaluation_decoding, "control, validation texts")

    def __call__(self, rows: FusionRows) -> None:
        """Trains fusion and expert on some rows."""
        model = self._loaded.model
        train_fusion(model.head, rows, self._valid, model.settings.fusion, seed=model.seed, desc="control, fusion")

    def try_strengths(self) -> Tried:
        """As the run does (`training/stage1/strength.py`)."""
        model, config = self._loaded.model, self._loaded.config
        return try_strengths(
            model.head,
            self.train,
            self._users,
            self,
            model.settings.fusion.fusion_strengths,
            metric=config["valid_metric"],
            hide_seen=bool(config["hide_seen"]),
            seed=model.seed,
        )


@contextmanager
def _unchanged(loaded: LoadedRun) -> Iterator[None]:
    """Whatever is done to the model inside, afterwards it is as it was."""
    model = loaded.model
    own = model.reasoner, model.reasoning_on
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    try:
        yield
    finally:
        model.load_state_dict(kept)
        model.reasoner, model.reasoning_on = own
