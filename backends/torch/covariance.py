"""The covariance of a batch, without waiting for the device."""

from __future__ import annotations

import torch
from torch import Tensor

from isoscore_star.backends.torch._compat import without_autocast
from isoscore_star.backends.torch.distributed import cloud_across
from isoscore_star.backends.torch.points import count_points, product_dtype
from isoscore_star.backends.torch.scatter import Scatter
from isoscore_star.core.checks import Points


@torch.no_grad()
def covariance_of(cloud: Points, all_ranks: bool = False) -> Tensor:
    """Return the covariance (ddof = 1) of points, of all ranks if wanted; zero for fewer than two."""
    clouds, masks = cloud.clouds, cloud.masks
    with without_autocast(clouds[0].device.type):
        if all_ranks:
            union = cloud_across(clouds, masks, None)
            of_all: Tensor = union.cov * union.unit * union.unit
            return of_all
        count = count_points(clouds, masks, product_dtype(clouds[0]))
        if not sum(len(rows) for rows in clouds):
            return clouds[0].new_zeros((cloud.dim, cloud.dim), dtype=product_dtype(clouds[0]))
        unit, _, _, _, _, _, cov, *_ = Scatter.forward(None, 1.0, count, False, len(clouds), *clouds, *masks)
        own: Tensor = cov * unit * unit
        return own
