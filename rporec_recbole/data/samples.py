"""Sampled evaluation (`uni100`, `pop100`): against which items a target is ranked, the same ones for every model and every time.

RecBole draws them anew at each evaluation, and leaves out a user's past for general models alone. Here a draw follows from the run's
seed, the split, the user and the target, and `hide_seen` decides for every model. As in RecBole an item may be drawn twice, every
item is as likely as the next (`uni`) or as often as it was chosen (`pop`), and the targets themselves are not drawn.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader import NegSampleEvalDataLoader

from rporec_recbole.errors import DatasetError

_SPLITS = ("valid", "test")


class Samples:
    """Draws the candidates of one split.

    Args:
        weights: `[N]` whole numbers, how likely each item is; 0 for the padding item.
        seed: of the run.
        split: `valid` or `test`.
        seen: `[S]` users and `[S]` items: whatever users have up to the end of this split.
        targets: `[P]` users and `[P]` items: the targets of this split.
    """

    def __init__(
        self,
        weights: np.ndarray,
        seed: int,
        split: str,
        seen: tuple[np.ndarray, np.ndarray],
        targets: tuple[np.ndarray, np.ndarray],
    ) -> None:
        self._below = np.cumsum(weights)
        self._seed = (seed, _SPLITS.index(split))
        self._left_out = {hide: np.unique(self._codes(*pairs)) for hide, pairs in ((True, seen), (False, targets))}

    def draw(self, user: int, target: int, number: int, hide_seen: bool) -> np.ndarray:
        """`[number]` items beside a target.

        Args:
            user: its number.
            target: item number.
            number: how many.
            hide_seen: none of what the user has seen, else none of the user's targets alone.

        Raises:
            DatasetError: nothing is left to draw from.
        """
        codes, size = self._left_out[hide_seen], len(self._below)
        first, last = np.searchsorted(codes, [user * size, (user + 1) * size])
        out = codes[first:last] - user * size
        # The number line of all weights, without the pieces of what is left out; each draw is moved behind those that stand before it.
        pieces = self._below[out] - self._below[out - 1]
        moves = np.concatenate([[0], np.cumsum(pieces)])
        left = int(self._below[-1] - moves[-1])
        if left < 1:
            raise DatasetError(
                "A user has chosen every item that could be drawn, so nothing is left to rank beside the target. Use the mode `full` of "
                "eval_args, leave such users out with --user_inter_num_interval, or set --hide_seen=False."
            )
        drawn = np.random.default_rng([*self._seed, user, target]).integers(left, size=number)
        places = np.searchsorted(self._below[out - 1] - moves[:-1], drawn, side="right")
        return np.searchsorted(self._below, drawn + moves[places], side="right")

    def _codes(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        return users.astype(np.int64) * len(self._below) + items


def give_samples(config: Any, interactions: tuple[np.ndarray, np.ndarray], loaders: Sequence[Any]) -> dict[str, str]:
    """Makes the loaders of a sampled evaluation draw by `Samples`.

    Args:
        config: RecBole's config.
        interactions: `[I]` users and `[I]` items of the whole data set.
        loaders: RecBole's, for validation and test.

    Returns:
        for each split that is sampled, a digest of what is drawn: other ones are no pairs.

    Raises:
        DatasetError: a user has nothing to draw from.
    """
    found = {}
    users, items = interactions
    later: list[tuple[np.ndarray, np.ndarray]] = []
    for split, loader in reversed(list(zip(_SPLITS, loaders, strict=True))):
        dataset = loader.dataset
        targets = tuple(dataset.inter_feat[field].numpy() for field in (dataset.uid_field, dataset.iid_field))
        wanted = config[f"{split}_neg_sample_args"]
        if isinstance(loader, NegSampleEvalDataLoader) and wanted["sample_num"] != "none":
            size = dataset.item_num
            weights = np.ones(size, dtype=np.int64)
            if wanted["distribution"] == "popularity":
                weights = np.bincount(items, minlength=size)
            weights[0] = 0
            by_time = getattr(dataset, "time_split", None)
            seen = by_time.until(split) if by_time is not None else without((users, items), later)
            loader.samples = Samples(weights, config["seed"], split, _with_lists(seen, dataset), targets)
            found[split] = _digest(loader.samples, targets, wanted["sample_num"], bool(config["hide_seen"]), dataset)
        later.append(targets)
    return found


def install() -> None:
    """Makes RecBole's loader of sampled evaluations draw by `Samples`; called once, by `host.registration.register`."""
    draw = NegSampleEvalDataLoader._neg_sampling

    @functools.wraps(draw)
    def draw_the_same(self: Any, rows: Any) -> Any:
        samples = getattr(self, "samples", None)
        if samples is None:
            return draw(self, rows)
        pairs = zip(rows[self.uid_field].tolist(), rows[self.iid_field].tolist(), strict=True)
        hide = bool(self.config["hide_seen"])
        drawn = [samples.draw(user, target, self.neg_sample_num, hide) for user, target in pairs]
        return self.sampling_func(rows, torch.from_numpy(np.stack(drawn, axis=1).reshape(-1)))

    NegSampleEvalDataLoader._neg_sampling = draw_the_same


def without(
    pairs: tuple[np.ndarray, np.ndarray], later: Sequence[tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Interactions without those of later splits, each pair once; what was chosen twice and is later once stays.

    Args:
        pairs: `[I]` users and `[I]` items.
        later: the same of each later split.
    """
    size = int(pairs[1].max(initial=0)) + 1
    codes, times = np.unique(pairs[0].astype(np.int64) * size + pairs[1], return_counts=True)
    for users, items in later:
        np.subtract.at(times, np.searchsorted(codes, users * size + items), 1)
    return np.divmod(codes[times > 0], size)


def _with_lists(seen: tuple[np.ndarray, np.ndarray], dataset: Any) -> tuple[np.ndarray, np.ndarray]:
    """With what stands in histories alone, where the user's files have histories ready made (`benchmark_filename`)."""
    field = getattr(dataset, f"{dataset.iid_field}_list_field", None)
    if field is None or hasattr(dataset, "timeline"):
        return seen
    rows, steps = dataset.inter_feat[field].numpy().nonzero()
    users = dataset.inter_feat[dataset.uid_field].numpy()[rows]
    return np.concatenate([seen[0], users]), np.concatenate([seen[1], dataset.inter_feat[field].numpy()[rows, steps]])


def _digest(
    samples: Samples, targets: tuple[np.ndarray, np.ndarray], number: int, hide_seen: bool, dataset: Any
) -> str:
    """SHA-256 over all that is drawn, by the names of users and items."""
    users, items = (dataset.field2id_token[field] for field in (dataset.uid_field, dataset.iid_field))
    lines = [
        "\t".join([users[user], items[item], *items[samples.draw(user, item, number, hide_seen)]])
        for user, item in sorted(set(zip(*(part.tolist() for part in targets), strict=True)))
    ]
    return hashlib.sha256("\n".join(sorted(lines)).encode("utf-8", "surrogatepass")).hexdigest()
