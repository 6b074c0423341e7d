"""A finished run's ranks with other texts in the place of its own: read by its own fusion, or by one that is fitted to them."""

from __future__ import annotations

import pandas as pd

from rporec_recbole.cot.substitutes import GivesReasoning
from rporec_recbole.data import ladder
from rporec_recbole.host.bridge import build_model
from rporec_recbole.runs.finished import LoadedRun
from rporec_recbole.training.stage1.fusion import choose_strength, train_fusion
from rporec_recbole.training.stage1.rows import fusion_texts, reasoned_rows


def ranks_with(loaded: LoadedRun, reasoner: GivesReasoning | None) -> pd.DataFrame:
    """Ranks of the run's own head with other reasoning, or none."""
    model = loaded.model
    own, on = model.reasoner, model.reasoning_on
    try:
        model.reasoner, model.reasoning_on = reasoner, on and reasoner is not None
        return loaded.evaluate("test")[1]
    finally:
        model.reasoner, model.reasoning_on = own, on


def refitted(loaded: LoadedRun, reasoner: GivesReasoning, shown: GivesReasoning | None = None) -> pd.DataFrame:
    """Ranks of a new fusion on the run's trunk.

    Args:
        loaded: the run.
        reasoner: gives what the fusion is fitted to.
        shown: gives what it reads at test time; the same if None.
    """
    model, settings = loaded.model, loaded.model.settings.fusion
    own, on = model.reasoner, model.reasoning_on
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fresh = build_model(loaded.config, loaded.loaders["train"]).state_dict()
    new = {
        name: fresh[name] if name.startswith(("head.fusion.", "head.expert.")) else tensor
        for name, tensor in kept.items()
    }
    try:
        model.load_state_dict(new)
        model.reasoner, model.reasoning_on = reasoner, True
        dataset = loaded.loaders["train"].dataset
        ends = dataset.positions(ladder.FUSION, settings.fusion_positions)
        train, _ = fusion_texts(model, dataset, ends, "control, texts")
        rows = loaded.loaders["valid"].dataset.inter_feat
        valid, _ = reasoned_rows(model, rows, model.evaluation_decoding, "control, validation texts")
        train_fusion(model.head, train, valid, settings, seed=model.seed, desc="control, fusion")
        metric, bigger = loaded.config["valid_metric"].lower(), loaded.config["valid_metric_bigger"]
        choose_strength(model.head, settings.fusion_strengths, lambda: loaded.evaluate("valid")[0][metric], bigger)
        return ranks_with(loaded, shown or reasoner)
    finally:
        model.load_state_dict(kept)
        model.reasoner, model.reasoning_on = own, on
