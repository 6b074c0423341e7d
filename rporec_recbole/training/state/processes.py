"""The processes that work on one run, as `torchrun` or `accelerate launch` start them; alone there is one."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from rporec_recbole.errors import ConfigError

T = TypeVar("T")
_SHARDING = {"ACCELERATE_USE_FSDP": "FSDP", "ACCELERATE_USE_DEEPSPEED": "DeepSpeed"}
_WAIT = timedelta(days=7)  # helpers wait for the main process through whole stages


def launched() -> bool:
    """Whether a launcher has started several processes for this run."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def helping() -> bool:
    """Whether this process is one of several, and not the main one."""
    return launched() and os.environ.get("RANK", "0") != "0"


class Processes:
    """This process among its like; the first one that is made joins the group that a launcher announced.

    Args:
        device: where tensors that are exchanged lie.

    Attributes:
        rank: its number, from 0.
        count: how many there are.

    Raises:
        ConfigError: `accelerate launch` was told to shard the weights.
    """

    def __init__(self, device: torch.device) -> None:
        for variable, name in _SHARDING.items():
            if os.environ.get(variable, "").lower() in ("true", "1"):
                raise ConfigError(
                    f"accelerate is set to {name}, which shards the weights, and texts are written from whole ones. Take its plain "
                    "multi-GPU setting (DDP), `accelerate launch --multi_gpu`; where a backbone is too large for one GPU, set `lora=True` or "
                    "`backbone_dtype=bfloat16`."
                )
        if launched() and not dist.is_initialized():
            dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=_WAIT)
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
