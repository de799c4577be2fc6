"""The farthest points of a stream, on the device that has its points."""

from __future__ import annotations

import numpy as np

from isoscore_star.core.checks import Points
from isoscore_star.readers import Farthest


def take_farthest(farthest: Farthest, cloud: Points, *, on_device: bool) -> None:
    """Offer the points of a batch, of which an accelerator sends only those that are kept."""
    if not on_device:
        for rows in cloud.rows():
            farthest.take(rows)
        return
    for flat, mask in zip(cloud.clouds, cloud.masks, strict=True):
        points = flat if mask is None else flat[mask]
        if len(points):
            wide = points.float() if points.device.type == "mps" else points.double()
            farthest.count_in(len(points), np.asarray(wide.mean(0).cpu().numpy(), np.float64))
            lengths = (points - points.new_tensor(farthest.mean)).square().sum(1)
            kept = points[lengths.topk(min(Farthest.KEPT, len(points))).indices]
            farthest.keep(kept.float().cpu().numpy().astype(np.float64))
