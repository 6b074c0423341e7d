"""The ladder of positions: who may learn from which training position of a user.

Numbers learned on a position are over-confident on that position. So each user's training positions are split by time:
early ones teach the trunk and the backbone; of the later ones, which neither has seen, some teach the fusion and others
give the prompts of reinforcement learning. RecBole's validation and test items come after all of them.
"""

from __future__ import annotations

import numpy as np

EARLY, FUSION, RL = 1, 2, 3


def rungs(positions: int, early_share: float, rl_share: float) -> np.ndarray:
    """The rung of each training position of one user, oldest first.

    The first `ceil(early_share * positions)` are `EARLY`. The later ones are dealt evenly in time to `RL` (a share of
    `rl_share`) and `FUSION`.

    Args:
        positions: number of the user's training targets.
        early_share: above 0, up to 1.
        rl_share: from 0, below 1.

    Returns:
        `[positions]` int8 array of `EARLY`, `FUSION` and `RL`.
    """
    result = np.full(positions, EARLY, dtype=np.int8)
    first_late = int(np.ceil(early_share * positions))
    late = np.arange(positions - first_late)
    is_rl = np.floor((late + 1) * rl_share) > np.floor(late * rl_share)
    result[first_late:] = np.where(is_rl, RL, FUSION)
    return result
