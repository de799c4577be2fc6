"""Version quirks and private names of torch, each with its source and when it can go."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# Device errors, which are RuntimeErrors like those of values that do not exist. AcceleratorError came with torch 2.8;
# the check can go with older ones.
_DEVICE_ERRORS = tuple(
    getattr(torch, name) for name in ("AcceleratorError", "OutOfMemoryError") if hasattr(torch, name)
)


def concrete(scalar: Any) -> float | None:
    """Return the value, which waits for the device; None while tracing, compiling or under vmap.

    Nothing says whether a value exists: vmap, fake tensors and export raise a RuntimeError (2.13).
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
    """Return whether a transformation of torch.func (grad, vmap, jvp, ...) is active.

    Private, as in torch's autograd.Function (compilable since pytorch/pytorch#134889); no public name as of 2.13.
    """
    return bool(torch._C._are_functorch_transforms_active())


def in_backward_pass() -> bool:
    """Return whether a backward pass is running, in which only checkpointing runs layers.

    Private, as in torch's checkpoint (pytorch/pytorch#90105); no public name as of 2.13.
    """
    return torch._C._current_graph_task_id() != -1


def surely_fewer(rows: int, dim: int) -> bool:
    """Return whether there are fewer rows than dimensions; False where code is compiled for any number of rows.

    `statically_known_true` is still experimental in 2.13.
    """
    if not torch.compiler.is_compiling():
        return rows < dim
    from torch.fx.experimental.symbolic_shapes import statically_known_true  # slow to import

    return statically_known_true(rows < dim)


def _has_autocast(device_type: str) -> bool:
    try:
        return torch.amp.is_autocast_available(device_type)
    except RuntimeError:  # a device type unknown to this torch
        return False


# Computed once, since torch.compile cannot trace `_has_autocast` before 2.12 (as in huggingface/diffusers#14160).
_AUTOCAST = frozenset(filter(_has_autocast, ("cpu", "cuda", "xpu", "mps", "hpu", "mtia", "maia", "ipu", "xla")))


def without_autocast(device_type: str) -> Any:
    """Switch autocast, which runs products in half precision, off in a with block, where the device has it."""
    available = device_type in _AUTOCAST if torch.compiler.is_compiling() else _has_autocast(device_type)
    if available and torch.is_autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return contextlib.nullcontext()


def signed(function: type[torch.autograd.Function]) -> type[torch.autograd.Function]:
    """Store the signature of forward, which torch computes at every apply (2.13), as slow as a small product."""
    function.forward.__signature__ = inspect.signature(function.forward)  # type: ignore[attr-defined]
    return function


def in_full_precision(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Switch autocast off in a backward pass, where it may differ from the forward pass."""

    @functools.wraps(backward)
    def run(ctx: Any, *grads: Any) -> Any:
        # The device of a gradient, since a checkpoint allows only one access to saved tensors.
        devices = [grad.device.type for grad in grads if grad is not None]
        with without_autocast(devices[0] if devices else "cpu"):
            return backward(ctx, *grads)

    return run
