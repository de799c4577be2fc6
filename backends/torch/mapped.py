"""Y = (X − x̄)·Σ_S, block by block, with the sums that the anchored loss needs, and its combination with X − x̄."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from isoscore_star.backends.torch._compat import transformed
from isoscore_star.backends.torch.blocks import step_of
from isoscore_star.backends.torch.frame import Frame
from isoscore_star.backends.torch.points import squared_norm, widest


def mapped_sums(
    frame: Frame, clouds: Sequence[Tensor], masks: Sequence[Tensor | None], target: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """Return Σ‖x − x̄‖² and Σ(x − x̄)·y, in the widest dtype, and each cloud's Y."""
    sums = target.new_zeros(2, dtype=widest(target.device))
    mapped = []
    for cloud, keep in zip(clouds, masks, strict=True):
        parts = _slices(cloud)
        result = None if len(parts) == 1 else cloud.new_empty(cloud.shape, dtype=target.dtype)
        for part in parts:
            centred = frame.centred(cloud[part], None if keep is None else keep[part])
            product = centred @ target if result is None else torch.mm(centred, target, out=result[part])
            sums = sums + torch.stack([squared_norm(centred), (centred * product).sum()])
        mapped.append(product if result is None else result)
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
        parts = _slices(cloud)
        result = None if len(parts) == 1 else torch.empty_like(cloud)
        for part in parts:
            centred = frame.centred(cloud[part], None if keep is None else keep[part])
            if result is None or cloud.dtype != its.dtype:
                combination = torch.addcmul(its[part] * on_mapped, centred, on_points).to(cloud.dtype)
            else:
                combination = torch.mul(its[part], on_mapped, out=result[part]).addcmul_(centred, on_points)
            if result is not None and cloud.dtype != its.dtype:
                result[part] = combination
        results.append(combination if result is None else result)
    return results


def _slices(cloud: Tensor) -> list[slice]:
    """Return the places of blocks that stay in a cache."""
    if torch.compiler.is_compiling() or transformed() or len(cloud) <= (step := step_of(cloud)):
        return [slice(None)]
    return [slice(start, start + step) for start in range(0, len(cloud), step)]
