"""Version quirks and private names of torch, each with where it comes from and when it can go."""

from __future__ import annotations

import contextlib
import inspect
from typing import Any

import torch
from torch import Tensor

# Errors of a device, which are RuntimeErrors like those of values that do not exist. AcceleratorError came with torch
# 2.8; the question can go with older ones.
_DEVICE_ERRORS = tuple(
    getattr(torch, name) for name in ("AcceleratorError", "OutOfMemoryError") if hasattr(torch, name)
)


def concrete(scalar: Any) -> float | None:
    """Return the value, which waits for the device; None while tracing, compiling or under vmap.

    There is no question for whether a value exists: vmap, fake tensors and export answer with a RuntimeError (2.13).
    """
    if not isinstance(scalar, Tensor):
        return float(scalar)
    if torch.compiler.is_compiling() or scalar.is_meta:
        return None
    try:
        return float(scalar.item())
    except _DEVICE_ERRORS:
        raise
    except RuntimeError:
        return None


def transformed() -> bool:
    """Return whether a transformation of torch.func is at work: grad, vmap, jvp, ...

    Private, as torch's own autograd.Function asks it (pytorch/pytorch#134889 lets it be compiled); no public name says
    so as of 2.13.
    """
    return bool(torch._C._are_functorch_transforms_active())


def in_backward_pass() -> bool:
    """Return whether a backward pass is going on, in which a layer runs only where checkpointing runs it again.

    Private, as torch's checkpoint asks it (pytorch/pytorch#90105); no public name says so as of 2.13.
    """
    return torch._C._current_graph_task_id() != -1


def surely_fewer(rows: int, dim: int) -> bool:
    """Return whether there are fewer rows than dimensions; no, where compiled code is for any number of rows.

    The place of the question is still called experimental in 2.13.
    """
    if not torch.compiler.is_compiling():
        return rows < dim
    from torch.fx.experimental.symbolic_shapes import statically_known_true  # which takes long to import

    return statically_known_true(rows < dim)


def _has_autocast(device_type: str) -> bool:
    try:
        return torch.amp.is_autocast_available(device_type)
    except RuntimeError:  # a kind of device that this torch does not know
        return False


# Found once, since torch.compile cannot trace the question before 2.12 (huggingface/diffusers#14160 met that too).
_AUTOCAST = frozenset(filter(_has_autocast, ("cpu", "cuda", "xpu", "mps", "hpu", "mtia", "maia", "ipu", "xla")))


def without_autocast(device_type: str) -> Any:
    """Switch autocast off for a while, where it is on: it would run products in half precision.

    Devices that have none refuse even to switch it off.
    """
    available = device_type in _AUTOCAST if torch.compiler.is_compiling() else _has_autocast(device_type)
    if available and torch.is_autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return contextlib.nullcontext()


def signed(function: type[torch.autograd.Function]) -> type[torch.autograd.Function]:
    """Keep the signature of forward, which torch finds anew at every apply (2.13): as long as a small product takes."""
    function.forward.__signature__ = inspect.signature(function.forward)  # type: ignore[attr-defined]
    return function
