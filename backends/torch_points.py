"""What the forms of torch's covariance have in common: clouds of points, their counts, blocks, centres and products.

Nothing here knows gradients; `isoscore_star.backends.torch` and its distributed and streaming kin are made of this.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from isoscore_star._protocol import Invariants

_DEVICE_ERRORS = tuple(
    getattr(torch, name) for name in ("AcceleratorError", "OutOfMemoryError") if hasattr(torch, name)
)


_PANEL = 192
"""Columns below which a product of panels is slower than the work that it saves."""


def values_at_hand(tensor: Tensor) -> bool:
    """Tell whether looking at a value costs nothing; on devices it has to be waited for."""
    return tensor.device.type == "cpu"


def concrete(scalar: Any) -> float | None:
    """Give the value, which waits for the device; None while tracing, compiling or under vmap."""
    if not isinstance(scalar, Tensor):
        return float(scalar)
    if torch.compiler.is_compiling() or scalar.is_meta:
        return None
    try:
        return float(scalar.item())
    except _DEVICE_ERRORS:
        raise
    except RuntimeError:  # what vmap, fake tensors and export answer where a value does not exist
        return None


def numbers_at_hand(*scalars: Any) -> Sequence[Any]:
    """Give numbers for 0-d tensors where none has to be waited for and nothing differentiates them, else the tensors.

    A dozen steps between numbers cost less than one between tensors.
    """
    if torch.is_grad_enabled() or any(isinstance(s, Tensor) and not values_at_hand(s) for s in scalars):
        return scalars
    numbers = [concrete(scalar) for scalar in scalars]
    return scalars if None in numbers else numbers


def may_be_tracked(tensor: Tensor) -> bool:
    """Tell whether something may differentiate by the tensor: torch.func does not say so for its outer levels."""
    return tensor.requires_grad or transformed()


def transformed() -> bool:
    """Tell whether a transformation of torch.func is at work: grad, vmap, jvp, ..."""
    return bool(torch._C._are_functorch_transforms_active())


def compute_dtype(points: Tensor) -> torch.dtype:
    """Give float64 for float64 and integers, where the device has it, and float32 for all else."""
    wide = points.dtype == torch.float64 or not points.is_floating_point()
    return torch.float64 if wide and points.device.type != "mps" else torch.float32


def _has_autocast(device_type: str) -> bool:
    try:
        return torch.amp.is_autocast_available(device_type)
    except RuntimeError:  # a kind of device that this torch does not know
        return False


# Found once, since torch.compile (of torch 2.11) cannot trace the question.
_AUTOCAST = frozenset(filter(_has_autocast, ("cpu", "cuda", "xpu", "mps", "hpu", "mtia", "maia", "ipu", "xla")))


def without_autocast(device_type: str) -> Any:
    """Switch autocast off for a while, where it is on."""
    # Autocast would run the products in half precision. Devices that have none refuse even to switch it off.
    available = device_type in _AUTOCAST if torch.compiler.is_compiling() else _has_autocast(device_type)
    if available and torch.is_autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return contextlib.nullcontext()


def count_points(clouds: Sequence[Tensor], masks: Sequence[Tensor | None], dtype: torch.dtype) -> Any:
    """Give m: an int without masks, a tensor with them, since only the device knows it then."""
    total: Any = 0
    for index, (cloud, mask) in enumerate(zip(clouds, masks, strict=True)):
        if mask is None:
            total = total + len(cloud)
        elif index == 0 or mask is not masks[index - 1]:  # often one mask is that of every layer
            own = mask.sum(dtype=dtype)
            total = total + own
        else:
            total = total + own
    return total


def at_least(count: Any, least: int) -> Any:
    """Bound a count from below, be it an int or a tensor."""
    return count.clamp(min=least) if isinstance(count, Tensor) else max(count, least)


def first_point(clouds: Sequence[Tensor], masks: Sequence[Tensor | None]) -> Tensor:
    """Give the first point that counts, (1, d), without gradient; zero if there is none.

    Differences from it are exactly zero for identical points and exact for close ones, so that a mean far from zero
    costs no digits and a cloud without spread has exactly zero scatter.
    """
    masked: list[tuple[Tensor, Tensor]] = []
    anchor = None
    for cloud, mask in zip(clouds, masks, strict=True):
        if len(cloud) and mask is None:
            anchor = cloud.detach()[:1].to(compute_dtype(cloud))
            break
        # Where a mask has left out all of one cloud it does so of the next, too.
        if len(cloud) and mask is not None and not (masked and mask is masked[-1][1]):
            masked.append((cloud.detach(), mask))
    if anchor is None:
        anchor = clouds[0].new_zeros((1, clouds[0].shape[1]), dtype=compute_dtype(clouds[0]))
    for cloud, mask in reversed(masked):
        first = mask.to(torch.uint8).argmax().reshape(1)
        row = cloud.index_select(0, first).to(anchor.dtype)
        anchor = torch.where(mask.index_select(0, first)[:, None], row, anchor)
    return anchor


def centred_rows(rows: Tensor, keep: Tensor | None, mean: Tensor | float) -> Tensor:
    """Subtract the mean, and put zeros where a mask leaves out."""
    centred = rows - mean
    return centred if keep is None else torch.where(keep[:, None], centred, 0)


def symmetric_products(parts: Iterable[Tensor]) -> Tensor:
    """Sum XᵀX over parts: on a CPU by panels of the upper triangle, 5/8 of the work for four (torch has no syrk)."""
    scatter: Any = None
    panels: list[slice] = []
    for part in parts:
        if scatter is None:
            dim = part.shape[1]
            if part.device.type != "cpu" or dim < 2 * _PANEL or torch.compiler.is_compiling():
                scatter = part.T @ part
                continue
            scatter = part.new_zeros(dim, dim)
            width = dim // min(4, dim // _PANEL)
            panels = [slice(start, min(start + width, dim)) for start in range(0, dim, width)]
        if not panels:
            scatter.addmm_(part.T, part)
        for panel in panels:
            scatter[panel, panel.start :].addmm_(part[:, panel].T, part[:, panel.start :])
    for panel in panels:
        scatter[panel.stop :, panel] = scatter[panel, panel.stop :].T
    result: Tensor = scatter
    return result


def scale_of(total: Tensor, target: Tensor | None, dim: int) -> Tensor:
    """Give σ, the mean variance of S and Σ_S together, or 1 where that is zero."""
    scale = (total if target is None else total + target.trace()) / dim
    return scale + (scale == 0)


def squared_lengths(rows: Tensor) -> Tensor:
    """Give ‖xᵢ‖²; where nothing is differentiated without writing the squares."""
    if torch.is_grad_enabled():
        return rows.square().sum(1)
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1)
    return norms.square()


def squared_norm(matrix: Tensor) -> Tensor:
    """Give ‖matrix‖²_F, row by row."""
    return squared_lengths(matrix).sum()


def with_target(
    count: Any, scale: Tensor, t: Tensor, f: Tensor, q: Tensor | None, cross: Tensor, target: Tensor | None
) -> Invariants:
    """Put the invariants together, with those of Σ_S if there is one."""
    if target is None:
        return Invariants(count, scale, t, f, q)
    numbers = _on_host(target, scale)
    if numbers is not None:
        return Invariants(count, scale, t, f, q, cross, *numbers)
    scaled = target / scale
    return Invariants(count, scale, t, f, q, cross, scaled.trace(), (scaled * scaled).sum())


def _on_host(target: Tensor, scale: Tensor) -> tuple[float, float] | None:
    """Give tr Σ_S/σ and ‖Σ_S/σ‖²_F as numbers, without a copy of Σ_S, on a CPU, where looking at a value is free."""
    if not values_at_hand(target) or (unit := concrete(scale)) is None or may_be_tracked(target):
        return None
    norms = torch.linalg.vector_norm(target, dim=1)
    size = concrete(norms.sum())
    if size is None or not 1e-15 < size < 1e15:  # then no square that matters leaves float32's range
        return None
    return target.trace().item() / unit, norms.double().square().sum().item() / unit**2
