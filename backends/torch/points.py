"""Counts, centres and products of clouds, for the backend and its distributed and streaming forms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from isoscore_star.backends.torch._compat import transformed

_PANEL = 192
"""Columns below which products of panels are slower."""

_NARROW = 128
"""Dimensions below which float32 points are multiplied in float64; see `product_dtype`."""

_ROWS_PER_DIM = 16
"""Rows, for each dimension, over which products are summed in float32; see `product_dtype`."""

_MOST_ROWS = 8192
"""Rows over which they are summed in float64: equal rows round the same way, by up to rows·ε in all."""


def on_cpu(tensor: Tensor) -> bool:
    """Return whether values are known without waiting for a device."""
    return tensor.device.type == "cpu"


def may_be_tracked(tensor: Tensor) -> bool:
    """Return whether the tensor may be differentiated, which torch.func does not say for its outer levels."""
    return tensor.requires_grad or transformed()


def compute_dtype(points: Tensor) -> torch.dtype:
    """Return float64 for float64 and integers, if the device has it, and float32 otherwise."""
    wide = points.dtype == torch.float64 or not points.is_floating_point()
    return torch.float64 if wide and points.device.type != "mps" else torch.float32


def product_dtype(points: Tensor) -> torch.dtype:
    """Return the dtype in which points are centred and multiplied: float64 also for few dimensions.

    One far point can make the entries of XᵀX so large that other rows are lost in float32, up to 2·rows/(2²⁴·d) of the
    score. So float32 sums run over at most 16·d rows, 2e-6, and sums of these in float64. With few dimensions that
    would be few rows, and float64 costs little.
    """
    narrow = points.shape[-1] < _NARROW and points.device.type != "mps"
    return torch.float64 if narrow else compute_dtype(points)


def widest(device: torch.device) -> torch.dtype:
    """Return float64, or float32 on Apple's devices, which lack it."""
    return torch.float32 if device.type == "mps" else torch.float64


def count_points(clouds: Sequence[Tensor], masks: Sequence[Tensor | None], dtype: torch.dtype) -> Any:
    """Return m: an int without masks, else a tensor."""
    total: Any = 0
    for index, (cloud, mask) in enumerate(zip(clouds, masks, strict=True)):
        if mask is None:
            total = total + len(cloud)
        elif index == 0 or mask is not masks[index - 1]:  # layers often share one mask
            own = mask.sum(dtype=dtype)
            total = total + own
        else:
            total = total + own
    if torch.compiler.is_compiling():  # to a number the compiled code would be specialised
        return clouds[0].new_full((), total, dtype=dtype) if not isinstance(total, Tensor) else total
    return total


def at_least(count: Any, least: int) -> Any:
    """Bound a count, an int or a tensor, from below."""
    return count.clamp(min=least) if isinstance(count, Tensor) else max(count, least)


def first_point(clouds: Sequence[Tensor], masks: Sequence[Tensor | None]) -> Tensor:
    """Return the first unmasked point, (1, d), without gradient; zero if there is none.

    Differences from it are exact for close points and zero for identical ones, so that a mean far from zero costs no
    digits.
    """
    masked: list[tuple[Tensor, Tensor]] = []
    anchor = None
    for cloud, mask in zip(clouds, masks, strict=True):
        if len(cloud) and mask is None:
            anchor = cloud.detach()[:1].to(product_dtype(cloud))
            break
        # The same mask selects the same rows of the next cloud.
        if len(cloud) and mask is not None and not (masked and mask is masked[-1][1]):
            masked.append((cloud.detach(), mask))
    if anchor is None:
        anchor = clouds[0].new_zeros((1, clouds[0].shape[1]), dtype=product_dtype(clouds[0]))
    for cloud, mask in reversed(masked):
        first = mask.to(torch.uint8).argmax().reshape(1)
        row = cloud.index_select(0, first).to(anchor.dtype)
        anchor = torch.where(mask.index_select(0, first)[:, None], row, anchor)
    return anchor


def centred_rows(rows: Tensor, keep: Tensor | None, mean: Tensor | float) -> Tensor:
    """Subtract the mean; masked rows are zero."""
    centred = rows - mean
    return centred if keep is None else torch.where(keep[:, None], centred, 0)


def symmetric_products(parts: Iterable[Tensor]) -> Tensor:
    """Sum XᵀX over parts, in float64 if there are several products; see `product_dtype`."""
    total: Any = None
    for product in _products(parts):
        total = product if total is None else total.to(widest(product.device)) + product
        del product
    result: Tensor = total
    return result


def _products(parts: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield products of some rows: on a CPU by panels of the upper triangle, since torch has no syrk."""
    waiting: Tensor | None = None
    rows = 0
    for part in parts:
        dim = part.shape[1]
        if part.device.type != "cpu" or dim < 2 * _PANEL or torch.compiler.is_compiling():
            yield _product(part)
            continue
        most = _ROWS_PER_DIM * dim if part.dtype == torch.float32 else len(part)
        for piece in torch.split(part, most):
            if waiting is not None and part.dtype == torch.float32 and rows + len(piece) > most:
                yield _mirrored(waiting)
                waiting = None
            if waiting is None:
                waiting, rows = piece.new_zeros(dim, dim), 0
            for panel in _panels(dim):
                waiting[panel, panel.start :].addmm_(piece[:, panel].T, piece[:, panel.start :])
            rows += len(piece)
    if waiting is not None:
        yield _mirrored(waiting)


def _panels(dim: int) -> list[slice]:
    width = dim // min(4, dim // _PANEL)
    return [slice(start, min(start + width, dim)) for start in range(0, dim, width)]


def _mirrored(upper: Tensor) -> Tensor:
    for panel in _panels(len(upper)):
        upper[panel.stop :, panel] = upper[panel, panel.stop :].T
    return upper


def _product(part: Tensor) -> Tensor:
    """Return XᵀX; for many rows as a sum of batched products."""
    rows, dim = part.shape
    most = _ROWS_PER_DIM * dim if part.dtype == torch.float32 else _MOST_ROWS
    if torch.compiler.is_compiling() or rows <= most:
        return part.T @ part
    whole = rows - rows % most
    pieces, left = part[:whole].reshape(-1, most, dim), part[whole:]
    return (pieces.mT @ pieces).sum(0, dtype=widest(part.device)) + left.T @ left


def squared_lengths(rows: Tensor) -> Tensor:
    """Return ‖xᵢ‖², without gradients without storing the squares."""
    if torch.is_grad_enabled():
        return rows.square().sum(1)
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1)
    return norms.square()


def squared_norm(matrix: Tensor) -> Tensor:
    """Return ‖matrix‖²_F, row by row."""
    return squared_lengths(matrix).sum()
