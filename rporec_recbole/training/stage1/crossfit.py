"""Scores texts by heads that know neither their positions nor their users (for best-of-N, stage 1b).

The users are split into two halves. For each half, a trunk and a fusion learn from early positions of the other one; then
they say by how much each text raises the log-probability of its position's target. A head that had learned from a position
would be sure of its target with any text.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from rporec_recbole.data import ladder
from rporec_recbole.data.dataset import RUNGS, TARGETS, window_positions
from rporec_recbole.data.score_budget import rows_at_once
from rporec_recbole.errors import ConfigError
from rporec_recbole.model.rechead import Reasoning
from rporec_recbole.model.rporec import RPORec
from rporec_recbole.text.completions import Completion
from rporec_recbole.training.stage1.fusion import FusionRows, fusion_loss, fusion_rows, train_fusion
from rporec_recbole.training.state.positions import PositionLog

FitTrunk = Callable[[str, Interaction], None]
"""Trains the model's head, which starts from new weights, on windows; the name is for progress bar and curves."""
_HELD_OUT = 5  # every fifth user of a half chooses the epoch of its fusion
_ROWS = 1024


def cross_fitted_gains(
    model: RPORec,
    dataset: Any,
    ends: np.ndarray,
    samples: Sequence[Sequence[Completion]],
    fit_trunk: FitTrunk,
    positions: PositionLog,
    seed: int,
) -> np.ndarray:
    """log p(target | history, text) - log p(target | history) for N texts of each position, `[P, N]`.

    The trunks do not learn from these positions, so that inside each half too the fusion learns on positions that are new
    to its trunk. The model is given back as it came, and so are torch's random numbers.

    Args:
        model: lends its head.
        dataset: an `RPORecDataset`.
        ends: `[P]` timeline indices of early positions.
        samples: N times the texts of all positions; malformed ones gain exactly 0.
        fit_trunk: see `FitTrunk`.
        positions: gets what taught the two heads, as `1b scorer 1` and `1b scorer 2`.
        seed: seed of the split, of new weights and of all draws.

    Raises:
        ConfigError: there are too few users or early positions for two halves.
    """
    head, device, settings = model.head, model.device, model.settings.fusion
    kept, before = copy.deepcopy(model.state_dict()), (model.reasoning_on, model.max_rung, model.on_learned)
    histories = dataset.histories(ends)
    # Users in random order deal themselves to the halves 0 and 1, and in each half to those held out and the others.
    number = np.random.default_rng(seed).permutation(dataset.user_num)
    order = number[histories[dataset.uid_field].numpy()]
    texts = [text for sample in samples for text in sample]
    # Beside empty histories: what is gained shall be the completion's, and not that of the history's own text.
    reasoning = model.encode_completions(texts, torch.zeros(len(texts), 1, dtype=torch.int64))
    gains = np.zeros((len(ends), len(samples)))
    with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
        torch.manual_seed(seed)
        try:
            for half in (0, 1):
                name = f"1b scorer {half + 1}"
                model.on_learned = lambda learned, name=name: positions.add(name, learned)
                model.learn_from(ladder.EARLY)
                model.restart_head()
                fit_trunk(f"{name}, trunk", _windows_without(dataset, number % 2 == half, ends))
                rows = fusion_rows(
                    head,
                    histories[model.ITEM_SEQ].to(device),
                    model.clock_of(histories),
                    reasoning.at(slice(len(ends))),
                    histories[model.ITEM_ID].to(device),
                )
                learning, held_out = order % 2 == half, order // 2 % _HELD_OUT == 0
                train, valid, scored = (
                    _with_all_texts(rows, reasoning, np.flatnonzero(chosen))
                    for chosen in (learning & ~held_out, learning & held_out, ~learning)
                )
                if not len(train) or not len(valid) or not len(scored):
                    raise ConfigError(
                        f"`best_of={len(samples)}` needs early positions of more users than there are, to fit one half of the "
                        "users' head on the other half. Raise `best_of_positions`, or set `best_of` to 1."
                    )
                train_fusion(
                    head,
                    train,
                    valid,
                    settings,
                    seed=seed,
                    desc=f"{name}, fusion",
                )
                positions.add(name, ends[learning])
                gains[~learning] = _gains(model, scored).reshape(len(samples), -1).T
        finally:
            model.load_state_dict(kept)
            model.reasoning_on, model.max_rung, model.on_learned = before
    return gains


def _windows_without(dataset: Any, users: np.ndarray, ends: np.ndarray) -> Interaction:
    """The windows of some users (`[n_users]` True), with given positions taken from the early rung."""
    windows = dataset.inter_feat
    left_out = torch.isin(window_positions(windows), torch.from_numpy(ends))
    rungs = torch.where(left_out, ladder.FUSION, windows[RUNGS])
    learned = (windows[TARGETS] > 0) & (rungs <= ladder.EARLY)
    index = (learned.any(dim=1) & torch.from_numpy(users)[windows[dataset.uid_field]]).nonzero().squeeze(1)
    return Interaction({name: (rungs if name == RUNGS else windows[name])[index] for name in windows.columns})


def _with_all_texts(rows: FusionRows, reasoning: Reasoning, chosen: np.ndarray) -> FusionRows:
    """The chosen positions once with each of their texts; `reasoning` holds the first text of all positions, then the
    second of all, and so on."""
    row = torch.from_numpy(chosen).to(rows.targets.device)
    count = len(reasoning.vectors) // len(rows)
    text = (torch.arange(count, device=row.device)[:, None] * len(rows) + row).flatten()
    row = row.repeat(count)
    return FusionRows(rows.states[row], rows.seen[row], reasoning.at(text), rows.targets[row])


@torch.no_grad()
def _gains(model: RPORec, rows: FusionRows) -> np.ndarray:
    """What each row's text gains, `[R]`."""
    items = model.head.item_vectors()
    parts: list[Tensor] = []
    for index in torch.arange(len(rows), device=rows.targets.device).split(rows_at_once(_ROWS, len(items))):
        nothing = torch.zeros(len(index), dtype=torch.bool, device=index.device)
        without = fusion_loss(model.head, items, rows, index, nothing, "none")
        parts.append(without - fusion_loss(model.head, items, rows, index, None, "none"))
    return torch.cat(parts).cpu().numpy()
