"""What the forms of torch's covariance have in common: clouds of points, their counts, blocks, centres and products.

Nothing here knows gradients; `isoscore_star.backends.torch` and its distributed and streaming kin are made of this.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from isoscore_star._protocol import Invariants

_DEVICE_ERRORS = tuple(
    getattr(torch, name) for name in ("AcceleratorError", "OutOfMemoryError") if hasattr(torch, name)
)


_PANEL = 192
"""Columns below which a product of panels is slower than the work that it saves."""

_ENTRIES = {"cpu": 2**18, "device": 2**24}
"""Entries of a block of rows that make its product worthwhile."""


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
    if torch.is_grad_enabled() or any(isinstance(s, Tensor) and s.device.type != "cpu" for s in scalars):
        return scalars
    numbers = [concrete(scalar) for scalar in scalars]
    return scalars if None in numbers else numbers


def compute_dtype(points: Tensor) -> torch.dtype:
    """Give float64 for float64 and integers, where the device has it, and float32 for all else."""
    wide = points.dtype == torch.float64 or not points.is_floating_point()
    return torch.float64 if wide and points.device.type != "mps" else torch.float32


def _has_autocast(device_type: str) -> bool:
    try:
        return torch.amp.is_autocast_available(device_type)
    except RuntimeError:  # a kind of device that this torch does not know
        return False


# Found once, since torch.compile (before torch 2.13) cannot trace the question.
_AUTOCAST = frozenset(filter(_has_autocast, ("cpu", "cuda", "xpu", "mps", "hpu", "mtia", "xla", "privateuseone")))


def without_autocast(device_type: str) -> Any:
    """Switch autocast off for a while, where it is on."""
    # Autocast would run the products in half precision. Devices that have none refuse even to switch it off.
    if device_type in _AUTOCAST and torch.is_autocast_enabled(device_type):
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


def launching_is_slow(rows: Tensor) -> bool:
    """Tell whether starting an operation takes longer than most of them run, as on a GPU: then few large ones do."""
    return rows.device.type != "cpu"


class Block(NamedTuple):
    """Rows that are multiplied at once: some of a cloud, or on a GPU several small clouds put together."""

    places: list[tuple[int, slice]]
    """The clouds that the rows come from, by number, and which of their rows."""

    rows: Tensor
    keep: Tensor | None


def row_blocks(
    clouds: Sequence[Tensor], masks: Sequence[Tensor | None], *, whole: bool, share: int = 2
) -> Iterator[Block]:
    """Give blocks of rows and their masks: at most 1/share of a d × d matrix, or what makes a product worthwhile."""
    dim, slow = clouds[0].shape[1], launching_is_slow(clouds[0])
    step = max(dim // share, _ENTRIES["device" if slow else "cpu"] // dim)
    together: list[tuple[int, slice]] = []
    waiting = 0
    for index, cloud in enumerate(clouds):
        rows = len(cloud)
        if waiting and (whole or not slow or waiting + rows > step):
            yield _block(clouds, masks, together)
            together, waiting = [], 0
        if whole or rows <= step:
            together.append((index, slice(0, rows)))
            waiting += rows
            continue
        for start in range(0, rows, step):
            yield _block(clouds, masks, [(index, slice(start, start + step))])
    if waiting:
        yield _block(clouds, masks, together)


def _block(clouds: Sequence[Tensor], masks: Sequence[Tensor | None], places: list[tuple[int, slice]]) -> Block:
    parts = [clouds[index][part] for index, part in places]
    kept = [masks[index] for index, _ in places]
    keep = all_kept(parts, [None if mask is None else mask[part] for mask, (_, part) in zip(kept, places, strict=True)])
    return Block(places, put_together(parts), keep)


def put_together(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate rows, without a copy where there is one part."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def all_kept(clouds: Sequence[Tensor], masks: Sequence[Tensor | None]) -> Tensor | None:
    """Give one mask for all clouds together, or None."""
    if all(mask is None for mask in masks):
        return None
    pairs = zip(clouds, masks, strict=True)
    return put_together([c.new_ones(len(c), dtype=torch.bool) if m is None else m for c, m in pairs])


def rows_of_clouds(clouds: Sequence[Tensor], computed: Iterable[tuple[Block, Tensor]]) -> list[Tensor]:
    """Give each cloud its rows, in its dtype, of what was computed block by block."""
    found: list[Tensor | None] = [None] * len(clouds)
    for block, result in computed:
        lengths = [len(clouds[index][part]) for index, part in block.places]
        pieces = torch.split(result, lengths) if len(lengths) > 1 else [result]
        for (index, part), piece in zip(block.places, pieces, strict=True):
            cloud, rows = clouds[index], found[index]
            if len(piece) == len(cloud):
                found[index] = piece.to(cloud.dtype)
                continue
            if rows is None:  # like the result, which vmap may have given a further axis
                rows = found[index] = result.new_empty(cloud.shape, dtype=cloud.dtype)
            rows[part] = piece
        del result, pieces, piece, rows  # before the next block is computed
    return [torch.zeros_like(c) if rows is None else rows for c, rows in zip(clouds, found, strict=True)]


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
    if target.device.type != "cpu" or target.requires_grad or (unit := concrete(scale)) is None:
        return None
    norms = torch.linalg.vector_norm(target, dim=1)
    size = concrete(norms.sum())
    if size is None or not 1e-15 < size < 1e15:  # then no square that matters leaves float32's range
        return None
    return target.trace().item() / unit, norms.double().square().sum().item() / unit**2
