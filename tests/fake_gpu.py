"""PyTorch's fake tensors on `cuda`, on a machine that has none: shapes and devices without numbers.

torch itself says whether operands lie on one device, by the rules of its compiler. What cannot be traced so:

- a step that looks at numbers: a mask as an index whose length is asked for, `tolist`, `if tensor.any()`;
- gradients: torch's engine asks the driver for a stream;
- `Module.to`: torch cannot exchange a fake weight in place, see `on_fake_gpu`.

`tests/pretend_gpu.py` does all three.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

CUDA = torch.device("cuda", 0)
_KINDS, _OF_CUDA, _SPARE = 22, 1, 20  # kinds of devices in `c10::DeviceType`, and two of them
_REGISTRY = "_ZN3c104impl26device_guard_impl_registryE"  # c10::impl::device_guard_impl_registry


class _Guard(torch._C._acc.DeviceGuard):
    """What torch asks which device is the current one: there is one."""

    def type_(self) -> Any:
        return torch._C._autograd.DeviceType.CUDA

    def get_device(self) -> torch.device:
        return CUDA

    def exchange_device(self, device: torch.device) -> torch.device:
        return CUDA

    def set_device(self, device: torch.device) -> None: ...

    def unchecked_set_device(self, device: torch.device) -> None: ...

    def device_count(self) -> int:
        return 1


_GUARD = _Guard()


@contextmanager
def fake_gpu() -> Iterator[FakeTensorMode]:
    """What is made inside has no numbers and lies where it is asked to lie, `cuda` too."""
    with _guarded(), FakeTensorMode(shape_env=ShapeEnv()) as mode:
        yield mode


@contextmanager
def _guarded() -> Iterator[None]:
    """torch refuses to index or move a tensor of a device that has no guard, and a build for processors has none for `cuda`.

    A build for CUDA without a GPU gets one from `FakeTensorMode` itself; for this one a guard of ours is written to the same table.
    """
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
    guards = (ctypes.c_void_p * _KINDS).in_dll(library, _REGISTRY)
    if guards[_OF_CUDA] is not None:
        yield
        return
    spare = guards[_SPARE]
    torch._C._acc.register_python_privateuseone_device_guard(_GUARD)
    guards[_OF_CUDA], guards[_SPARE] = guards[_SPARE], spare
    try:
        yield
    finally:
        guards[_OF_CUDA] = None


def on_fake_gpu(module: nn.Module) -> nn.Module:
    """Puts fake weights and buffers on `cuda` in the place of a module's own, inside `fake_gpu`."""
    for part in module.modules():
        for own in (part._parameters, part._buffers):
            for name, value in own.items():
                if value is not None:
                    fake = torch.empty(value.shape, dtype=value.dtype, device=CUDA)
                    own[name] = nn.Parameter(fake, value.requires_grad) if own is part._parameters else fake
    return module
