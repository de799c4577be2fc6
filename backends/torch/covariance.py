"""The covariance of a batch, without waiting for the device."""

from __future__ import annotations

import torch
from torch import Tensor

from isoscore_star.backends.torch._compat import without_autocast
from isoscore_star.backends.torch.blocks import joined
from isoscore_star.backends.torch.distributed import cloud_across
from isoscore_star.backends.torch.points import count_points, product_dtype
from isoscore_star.backends.torch.scatter import Scatter
from isoscore_star.core.checks import Points


@torch.no_grad()
def covariance_of(cloud: Points, all_ranks: bool = False) -> Tensor:
    """Return the covariance (ddof = 1) of points, of all ranks if wanted; zero for fewer than two."""
    clouds, masks = joined(cloud.clouds, cloud.masks)
    with without_autocast(clouds[0].device.type):
        dtype = product_dtype(clouds[0])
        if all_ranks:
            union = cloud_across(clouds, masks, None)
            unit, cov = union.unit, union.cov
        elif sum(len(rows) for rows in clouds):
            count = count_points(clouds, masks, dtype)
            unit, _, _, _, _, _, cov, *_ = Scatter.forward(None, 1.0, count, False, len(clouds), *clouds, *masks)
        else:
            return torch.zeros(cloud.dim, cloud.dim, dtype=dtype, device=clouds[0].device)
        result: Tensor = cov * unit * unit
        return result
