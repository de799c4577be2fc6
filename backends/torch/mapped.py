"""Y = (X − x̄)·Σ_S, block by block, with the sums that the anchored loss needs, and its combination with X − x̄."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from isoscore_star.backends.torch._compat import transformed
from isoscore_star.backends.torch.blocks import step_of
from isoscore_star.backends.torch.frame import Frame
from isoscore_star.backends.torch.points import widest


def mapped_sums(
    frame: Frame, clouds: Sequence[Tensor], masks: Sequence[Tensor | None], target: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """Return Σ‖x − x̄‖² and Σ(x − x̄)·y, in the widest dtype, and each cloud's Y."""
    sums = target.new_zeros(2, dtype=widest(target.device))
    mapped = []
    for cloud, keep in zip(clouds, masks, strict=True):

        def product(part: slice, cloud: Tensor = cloud, keep: Tensor | None = keep) -> Tensor:
            nonlocal sums
            centred = frame.centred(cloud[part], None if keep is None else keep[part])
            result = centred @ target
            sums = sums + torch.stack([centred.square().sum(), (centred * result).sum()])
            return result

        mapped.append(_rows(cloud, target.dtype, product))
    return sums, mapped


def combined(
    clouds: Sequence[Tensor],
    masks: Sequence[Tensor | None],
    mapped: Sequence[Tensor],
    frame: Frame,
    on_points: Tensor,
    on_mapped: Tensor,
) -> list[Tensor]:
    """Return a·(x − x̄) + b·y for each cloud, in its dtype."""
    results = []
    for cloud, keep, its in zip(clouds, masks, mapped, strict=True):

        def combination(part: slice, cloud: Tensor = cloud, keep: Tensor | None = keep, its: Tensor = its) -> Tensor:
            centred = frame.centred(cloud[part], None if keep is None else keep[part])
            return torch.addcmul(its[part] * on_mapped, centred, on_points)

        results.append(_rows(cloud, cloud.dtype, combination))
    return results


def _rows(cloud: Tensor, dtype: torch.dtype, compute: Callable[[slice], Tensor]) -> Tensor:
    """Compute rows, in blocks that stay in a cache."""
    step = step_of(cloud)
    if torch.compiler.is_compiling() or transformed() or len(cloud) <= step:
        return compute(slice(None)).to(dtype)
    result = cloud.new_empty(cloud.shape, dtype=dtype)
    for start in range(0, len(cloud), step):
        part = slice(start, start + step)
        result[part] = compute(part)
    return result
