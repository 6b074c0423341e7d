"""A planted world: a data set whose next item follows from the words of the last two, in an order that only a reader sees.

An item is a flag: three stripes from top to bottom, each in one of some colours, and a cloth; all of them exist. Its title names
them, `in amber; in coral; in ivory; in wool`. After the flags `before` and `newest` a user chooses

    top     the bottom colour of `newest`
    middle  the top colour of `before`
    bottom  the colour after the middle one of `newest`, in a fixed circle

in any cloth, with probability 1 - noise; otherwise any flag. All flags are equally popular and most of them rare, so ids learn little.
And a bag of words, with pairs of neighbours too, says which colours a flag has and not where: `in` stands before and
behind each colour. What could be reached is known: nothing ranks better than the flags that the rule names first, then all others.

Letters in shapes: U users, L steps, N flags.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

COLOURS = (
    *("amber", "coral", "ivory", "olive", "mauve", "ochre", "sepia", "lilac", "khaki", "beige", "azure", "ebony"),
    *("lemon", "peach", "black", "white"),
)
CLOTHS = ("wool", "silk", "felt", "lace")
NAME = "planted"


@dataclass(frozen=True)
class World:
    """Sizes of a world; two equal ones write the same files.

    Attributes:
        users: U.
        length: L, interactions of each user; the last two are RecBole's validation and test items.
        colours: how many of `COLOURS`.
        cloths: how many of `CLOTHS`: so many flags are equally right.
        noise: share of the steps at which the rule does not hold.
        turned: share of a user's first `early` steps at which the circle runs the other way round, and the rule holds otherwise: who learned
            from these alone knows two answers, and which of them is right shows only later.
        early: how many; with `SETTINGS` the last of them is the last position that teaches the writer.
        seed: of all draws.
    """

    users: int = 1000
    length: int = 12
    colours: int = 12
    cloths: int = 2
    noise: float = 0.2
    turned: float = 0.0
    early: int = 7
    seed: int = 2020

    @property
    def items(self) -> int:
        """N."""
        return self.colours**3 * self.cloths

    def flags(self) -> np.ndarray:
        """Top, middle, bottom and cloth of each flag, `[N, 4]`."""
        shape = (self.colours, self.colours, self.colours, self.cloths)
        return np.stack(np.unravel_index(np.arange(self.items), shape), axis=1)

    def titles(self) -> list[str]:
        """What is written on each flag."""
        return [
            "; ".join(f"in {word}" for word in (COLOURS[top], COLOURS[middle], COLOURS[bottom], CLOTHS[cloth]))
            for top, middle, bottom, cloth in self.flags()
        ]

    def follows(self, before: np.ndarray, newest: np.ndarray, turn: int | np.ndarray = 1) -> np.ndarray:
        """The flags that the rule names, one in each cloth, `[..., cloths]`, after two flags, `[...]` both; -1 turns the circle round."""
        flags, c = self.flags(), self.colours
        top, middle, bottom = flags[newest, 2], flags[before, 0], (flags[newest, 1] + turn) % c
        first = ((top * c + middle) * c + bottom) * self.cloths
        return first[..., None] + np.arange(self.cloths)

    def sequences(self) -> np.ndarray:
        """What each user chose, oldest first, `[U, L]`."""
        rng = np.random.default_rng(self.seed)
        chosen = rng.integers(self.items, size=(self.users, self.length))
        for step in range(2, self.length):
            turn = np.where(rng.random(self.users) < (self.turned if step < self.early else 0), -1, 1)
            right = self.follows(chosen[:, step - 2], chosen[:, step - 1], turn)
            named = right[np.arange(self.users), rng.integers(self.cloths, size=self.users)]
            chosen[:, step] = np.where(rng.random(self.users) < self.noise, chosen[:, step], named)
        return chosen

    def best_ndcg(self, k: int = 10) -> float:
        """The expected NDCG@k of the best ranking: the flags that the rule names, then all others, which are equally likely."""
        gains = 1 / np.log2(np.arange(k) + 2)
        chance = np.full(k, self.noise / self.items)
        chance[: self.cloths] += (1 - self.noise) / self.cloths
        return float(gains @ chance)

    def write(self, parent: Path) -> Path:
        """Writes RecBole's files into `parent / NAME`; returns the parent, for `data_path`."""
        folder = parent / NAME
        folder.mkdir(parents=True, exist_ok=True)
        rows = ["user_id:token\titem_id:token\ttimestamp:float"]
        for user, chosen in enumerate(self.sequences()):
            rows += [f"u{user}\tf{item}\t{user * self.length + step}" for step, item in enumerate(chosen)]
        (folder / f"{NAME}.inter").write_text("\n".join(rows) + "\n", encoding="utf-8")
        lines = ["item_id:token\ttitle:token_seq", *(f"f{item}\t{title}" for item, title in enumerate(self.titles()))]
        (folder / f"{NAME}.item").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return parent


SETTINGS = {
    "load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "title"]},
    "item_text_fields": ["title"],
    "item_inter_num_interval": "[0,inf)",  # a flag that nobody has chosen yet may be the next one
    "ladder_early": 0.6,
}
"""How RecBole reads it."""
