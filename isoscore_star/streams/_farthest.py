"""The points farthest from the mean, kept while a stream passes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core.checks import Points

_KEPT = 10
"""As many as `isoscore_star.LongestPoints` looks at."""


class Farthest:
    """Keeps the points farthest from the mean of all points so far, which moves while they arrive.

    A point may be missed that lies about as far as those that are kept; one that holds a visible share of the variance
    is not.
    """

    def __init__(self) -> None:
        self._count, self._unit = 0, 1.0
        self._sum: NDArray[np.float64] = np.zeros(1)
        self.rows: NDArray[Any] | None = None

    def take(self, cloud: Points, *, on_device: bool) -> None:
        """Take in a batch."""
        with np.errstate(over="ignore", invalid="ignore"):
            if not on_device:
                for rows in cloud.rows():
                    if len(rows):
                        self._count_in(len(rows), (rows / self._scale(rows)).sum(axis=0, dtype=np.float64))
                        self._keep(rows)
                return
            for flat, mask in zip(cloud.clouds, cloud.masks, strict=True):
                points = flat if mask is None else flat[mask]
                if len(points):
                    first = points[:1].float().cpu().numpy()
                    total = (
                        (points / self._scale(first)).double().sum(0)
                        if points.device.type != "mps"
                        else ((points / self._scale(first)).float().sum(0))
                    )
                    self._count_in(len(points), np.asarray(total.cpu().numpy(), np.float64))
                    mean = points.new_tensor(self._sum / self._count * self._unit)
                    lengths = (points - mean).square().sum(1)
                    self._keep(points[lengths.topk(min(_KEPT, len(points))).indices].float().cpu().numpy())

    def _scale(self, rows: NDArray[Any]) -> float:
        """Return a length by which rows are divided, so that squares stay in the range of floats."""
        if not self._count:
            self._unit = float(np.abs(rows.astype(np.float64)).max()) or 1.0
        return self._unit

    def _count_in(self, count: int, total: NDArray[np.float64]) -> None:
        self._count += count
        self._sum = self._sum + total

    def _keep(self, rows: NDArray[Any]) -> None:
        kept = rows if self.rows is None else np.concatenate([self.rows, rows])
        away = kept / self._unit - self._sum / self._count
        lengths = np.einsum("ij,ij->i", away, away)
        self.rows = kept[np.argsort(lengths)[-_KEPT:]]
