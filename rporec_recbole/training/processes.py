"""The processes that work on one run, as `torchrun` or `accelerate launch` start them; alone there is one."""

from __future__ import annotations

from typing import Any, TypeVar

import torch.distributed as dist

T = TypeVar("T")


class Processes:
    """This process among its like.

    Attributes:
        rank: its number, from 0.
        count: how many there are.
    """

    def __init__(self) -> None:
        joined = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if joined else 0
        self.count = dist.get_world_size() if joined else 1

    @property
    def main(self) -> bool:
        """Whether this is the one that writes files."""
        return self.rank == 0

    def gather(self, values: list[T]) -> list[T]:
        """The values of all processes in the order of their ranks, to each of them."""
        if self.count == 1:
            return values
        parts: list[Any] = [None] * self.count
        dist.all_gather_object(parts, values)
        return [value for part in parts for value in part]

    def share(self, value: T | None) -> T:
        """The value of the main process; what the others give does not count."""
        box: list[Any] = [value]
        if self.count > 1:
            dist.broadcast_object_list(box, src=0)
        return box[0]  # type: ignore[no-any-return]
