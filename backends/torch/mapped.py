"""Y = (X − x̄)·Σ_S, block by block, with the sums that the anchored loss needs, and its combination with X − x̄.

Of a Σ_S of low rank, U·K·Uᵀ, Y is (X − x̄)·U.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from isoscore_star.backends.torch._compat import transformed
from isoscore_star.backends.torch.blocks import step_of
from isoscore_star.backends.torch.frame import Frame
from isoscore_star.backends.torch.low_rank import factors
from isoscore_star.backends.torch.points import squared_norm, widest


def mapped_sums(
    frame: Frame, clouds: Sequence[Tensor], masks: Sequence[Tensor | None], target: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """Return Σ‖x − x̄‖² and Σ(x − x̄)ᵀΣ_S(x − x̄), in the widest dtype, and each cloud's Y."""
    low = factors(target)
    onto = target if low is None else low[0]
    sums = target.new_zeros(2, dtype=widest(target.device))
    mapped = []
    for cloud, keep in zip(clouds, masks, strict=True):
        parts = _slices(cloud)
        result = None if len(parts) == 1 else target.new_empty((len(cloud), onto.shape[1]))
        for part in parts:
            centred = frame.centred(cloud[part], None if keep is None else keep[part])
            product = centred @ onto if result is None else torch.mm(centred, onto, out=result[part])
            cross = centred * product if low is None else (product @ low[1]) * product
            sums = sums + torch.stack([squared_norm(centred), cross.sum()])
        mapped.append(product if result is None else result)
    return sums, mapped


def combined(
    clouds: Sequence[Tensor],
    masks: Sequence[Tensor | None],
    mapped: Sequence[Tensor],
    frame: Frame,
    target: Tensor,
    on_points: Tensor,
    on_mapped: Tensor,
) -> list[Tensor]:
    """Return a·(x − x̄) + b·Σ_S(x − x̄) for each cloud, in its dtype."""
    low, results = factors(target), []
    back = None if low is None else (low[1] * on_mapped) @ low[0].T
    for cloud, keep, its in zip(clouds, masks, mapped, strict=True):
        parts = _slices(cloud)
        result = None if len(parts) == 1 else torch.empty_like(cloud)
        for part in parts:
            centred = frame.centred(cloud[part], None if keep is None else keep[part])
            out = result[part] if result is not None and cloud.dtype == its.dtype else None
            if back is not None:
                combination = torch.addmm(centred * on_points, its[part], back, out=out)
            elif out is None:
                combination = torch.addcmul(its[part] * on_mapped, centred, on_points)
            else:
                combination = torch.mul(its[part], on_mapped, out=out).addcmul_(centred, on_points)
            if result is not None and out is None:
                result[part] = combination
        results.append(combination.to(cloud.dtype) if result is None else result)
    return results


def _slices(cloud: Tensor) -> list[slice]:
    """Return the places of blocks that stay in a cache."""
    if torch.compiler.is_compiling() or transformed() or len(cloud) <= (step := step_of(cloud)):
        return [slice(None)]
    return [slice(start, start + step) for start in range(0, len(cloud), step)]
