"""A GPU for tests on a machine that has none: tensors that say they lie on `cuda:0`, while their numbers lie on the processor.

PyTorch's own fake tensors (`tests/fake_gpu.py`) have no numbers, so a step that looks at numbers cannot be traced with them, and
most of this package does: which token comes next, which rows are finished. Here each operation is computed on the processor,
so every step runs to its end and gives what the processor gives, and tensors of two devices that meet raise as CUDA raises.

No part of CUDA itself runs: no kernel, no autocast, no stream, no memory of a GPU.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from recbole.config import Config
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
_STANDS_IN = torch.device("meta", 1)  # what torch itself takes our tensors for
_MOVES = {"aten::_to_copy", "aten::to", "aten::copy_"}
_INDEXED = {"aten::index": 0, "aten::index_put": 1, "aten::index_put_": 1, "aten::_index_put_impl_": 1}


class DeviceError(RuntimeError):
    """What CUDA would have raised."""


class OnCuda(torch.Tensor):
    """A tensor of `cuda:0`; `numbers` are its numbers, on the processor."""

    numbers: Tensor

    @staticmethod
    def __new__(cls, numbers: Tensor) -> OnCuda:
        form = {"dtype": numbers.dtype, "layout": numbers.layout, "device": _STANDS_IN}
        place = {"strides": numbers.stride(), "storage_offset": numbers.storage_offset()}
        made = torch.Tensor._make_wrapper_subclass(cls, numbers.shape, **form, **place)
        made.numbers = numbers
        return made

    @property
    def device(self) -> torch.device:
        return CUDA

    @property
    def is_cuda(self) -> bool:
        return True

    @property
    def is_meta(self) -> bool:
        return False

    def tolist(self) -> Any:
        return self.numbers.tolist()

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copied: Tensor = OnCuda(self.numbers.clone())
        if isinstance(self, torch.nn.Parameter):
            copied = torch.nn.Parameter(copied, self.requires_grad)
        memo[id(self)] = copied
        return copied

    def data_ptr(self) -> int:
        return self.numbers.data_ptr()

    def untyped_storage(self) -> Any:
        return self.numbers.untyped_storage()

    def numpy(self, **_: Any) -> Any:
        raise DeviceError("numpy: can't convert a tensor of cuda:0; use Tensor.cpu() first")

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"OnCuda({self.numbers})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


class _Named(TorchFunctionMode):
    """`cuda`, wherever a call names it, becomes what stands in for it, before torch looks for a driver."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.Tensor.cuda:
            return args[0].to(_STANDS_IN)
        if "device" not in kwargs and func is not torch.Tensor.to:
            return func(*args, **kwargs)
        args, kwargs = tree_map(_named, args), tree_map(_named, kwargs)
        if func not in (torch.tensor, torch.as_tensor):
            return func(*args, **kwargs)
        device = kwargs.pop("device")  # numbers are read on the processor, then moved
        made = func(*args, **kwargs)
        return made if device is None else made.to(device)


def _named(value: Any) -> Any:
    if isinstance(value, str) and value.split(":")[0] == "cuda":
        return _STANDS_IN
    return _STANDS_IN if isinstance(value, torch.device) and value.type == "cuda" else value


class _Computed(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


@contextmanager
def pretend_gpu() -> Iterator[None]:
    """What is made inside lies where it is asked to lie, `cuda` too."""
    moved = mock.patch.object(torch.nn.Module, "to", _to)
    with mock.patch.multiple(torch.cuda, **_driver()), moved, _without_inference_mode(), _Named(), _Computed():
        yield


@contextmanager
def gpu() -> Iterator[None]:
    """`pretend_gpu`, which RecBole and accelerate find."""
    own = Config._init_device

    def found(config: Any) -> None:
        own(config)
        config.final_config_dict["device"] = CUDA

    with pretend_gpu(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Config, "_init_device", found)
        patch.setattr(PartialState, "default_device", CUDA)
        patch.setenv("ACCELERATE_TORCH_DEVICE", "cuda:0")
        try:
            yield
        finally:
            AcceleratorState._reset_state(reset_partial_state=True)


def on(device: torch.device) -> Any:
    """`gpu` for `CUDA`, and nothing for the processor."""
    return gpu() if device == CUDA else contextlib.nullcontext()


def _to(module: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.nn.Module:
    """`Module.to`. torch cannot change the kind of a weight in place, so one that moves is made anew; tied ones stay tied."""
    device, dtype, *_ = torch._C._nn._parse_to(*args, **kwargs)
    made: dict[int, Tensor] = {}

    def moved(own: Tensor) -> Tensor:
        if (device is None or isinstance(own, OnCuda) == (device.type != "cpu")) and dtype in (None, own.dtype):
            return own
        if id(own) not in made:
            found = own.detach().to(device or own.device, dtype if own.is_floating_point() else None)
            made[id(own)] = (
                torch.nn.Parameter(found, own.requires_grad) if isinstance(own, torch.nn.Parameter) else found
            )
        return made[id(own)]

    for part in module.modules():
        for held in (part._parameters, part._buffers):
            held.update({name: moved(own) for name, own in held.items() if own is not None})
    return module


def _without_inference_mode() -> Any:
    """torch makes no views of tensors like ours in inference mode; without gradients everything else is the same."""
    return mock.patch.object(torch._C, "_InferenceMode", lambda on: torch.no_grad() if on else contextlib.nullcontext())


def _driver() -> dict[str, Any]:
    """What is asked of CUDA beside tensors: which GPUs there are, and the state of their generator, which is the last seed alone."""
    state = [torch.zeros(8, dtype=torch.uint8)]

    def seed(number: int) -> None:
        state[0] = torch.tensor(list(int(number).to_bytes(8, "little", signed=True)), dtype=torch.uint8)

    def put(new: Tensor, device: Any = 0) -> None:
        state[0] = new

    return {
        "_lazy_init": lambda: None,  # asked wherever `_Named` is not: in the backward of an `autograd.Function`
        "device_count": lambda: 1,
        "set_device": lambda device: None,
        "get_device_name": lambda device=0: "pretended",
        "manual_seed_all": seed,
        "get_rng_state": lambda device=0: state[0],
        "get_rng_state_all": lambda: [state[0]],
        "set_rng_state": put,
    }


def _computed(func: Any, args: Any, named: dict[str, Any]) -> Any:
    """What an operation gives, on the device where CUDA would leave it."""
    flat, form = tree_flatten((args, {key: value for key, value in named.items() if key != "pin_memory"}))
    tensors = [one for one in flat if isinstance(one, Tensor)]
    asked = next((one for one in flat if isinstance(one, torch.device)), None)
    if not any(isinstance(one, OnCuda) for one in tensors) and (asked is None or not _is_ours(asked)):
        return func(*args, **named)
    name = func._schema.name
    on_cuda = _on_cuda(name, args, tensors) if asked is None else _is_ours(asked)
    generator = named.get("generator")
    if generator is not None and on_cuda and generator.device.type == "cpu":
        raise DeviceError(f"{name}: expected a generator of cuda and found one of cpu")
    own_args, own_named = tree_unflatten([_own(one) for one in flat], form)
    found = func(*own_args, **own_named)
    written = _written(func, args, named)
    if written:
        return written[0] if len(written) == 1 else tuple(written)
    return tree_map(lambda one: OnCuda(one) if isinstance(one, Tensor) else one, found) if on_cuda else found


def _own(value: Any) -> Any:
    """What the processor computes with."""
    if isinstance(value, OnCuda):
        return value.numbers
    return torch.device("cpu") if isinstance(value, torch.device) and _is_ours(value) else value


def _is_ours(device: torch.device) -> bool:
    """Whether a device is the pretended one; a plain `meta`, which transformers loads models with, is not."""
    return device.type == "cuda" or device == _STANDS_IN


def _written(func: Any, args: Any, named: dict[str, Any]) -> list[Any]:
    """The arguments that an operation gives back after it has written to them; none where it makes new ones."""
    returns = func._schema.returns
    if not returns or not all(one.alias_info is not None and one.alias_info.is_write for one in returns):
        return []
    arguments = func._schema.arguments
    given = {one.name: value for one, value in zip(arguments, args, strict=False)} | named
    return [given[one.name] for one in arguments if one.alias_info is not None and one.alias_info.is_write]


def _on_cuda(name: str, args: Any, tensors: list[Tensor]) -> bool:
    """Whether the operands lie there. A single number of the processor may join them, and indices may lie on the processor.

    Raises:
        DeviceError: they do not lie on one device.
    """
    if name in _MOVES:
        return isinstance(tensors[0], OnCuda)
    if name in _INDEXED:
        own = isinstance(args[0], OnCuda)
        if not own and any(isinstance(index, OnCuda) for index in args[1]):
            raise DeviceError(f"{name}: indices of cuda:0 for a tensor of cpu; they should lie on cpu")
        tensors = [args[0], *([args[2]] if _INDEXED[name] else [])]
    found = {isinstance(one, OnCuda) for one in tensors if one.dim() or isinstance(one, OnCuda)}
    if len(found) > 1:
        raise DeviceError(f"{name}: expected all tensors to be on the same device, but found cuda:0 and cpu")
    return True in found
