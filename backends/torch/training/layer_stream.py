"""What a monitor keeps of one layer while states stream by: moments in halves, and what few points hold of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from isoscore_star.backends.torch._compat import without_autocast
from isoscore_star.backends.torch.moments import StreamingMoments

FEW = 100
"""One point in so many is "few"."""

_ENOUGH = 4  # groups: two in each half; or independent points


@dataclass(frozen=True)
class MonitoredLayer:
    """One layer at one measurement of `IsotropyMonitor`.

    Attributes
    ----------
    name : str
        ``"layer_07"``, or ``"union"``.
    module : str
        Name of the module, as in ``model.named_modules()``; empty for the union.
    score : float or None
        Of two halves of the sequences; of independent points (states of shape (m, d)) the unbiased score. None where
        there are fewer than four, or two in a half, and for states that are not finite.
    count, group_count : int
        Points, and sequences that have some (0 for independent points).
    coordinate, coordinate_share : int, float
        The coordinate of the largest variance, and its fraction of the total variance.
    few_points_share : float
        What one point in a hundred, those farthest from the mean of their batch, hold of the variance; 0 where a batch
        has fewer than a hundred.
    finite : bool
        Whether the states were.
    """

    name: str
    module: str
    score: float | None
    count: int
    group_count: int
    coordinate: int
    coordinate_share: float
    few_points_share: float
    finite: bool


class LayerStream:
    """Sums of one layer, on its device; nothing but `measured` waits for it."""

    def __init__(self, module: str, dim: int, device: Any) -> None:
        self.module = module
        self.moments = StreamingMoments(dim, device, fourth_order=True)
        self._held = self.moments.mean.new_zeros(2)  # by few points, by all; in squares of the unit
        self._unit = self.moments.mean.new_zeros(())
        self._layers: list[LayerStream] = [self]

    @torch.no_grad()
    def update(self, states: Tensor, mask: Tensor | None, groups: Any) -> None:
        """Take in a batch."""
        self.moments.update(states, mask, groups)
        with without_autocast(states.device.type):
            held, unit = _held_by_few(states.detach().reshape(-1, states.shape[-1]), mask)
            self._hold(held.to(self._held), unit.to(self._unit))

    def skip(self, shape: Any, groups: Any) -> None:
        """Count the sequences of a batch in which the layer did not run, whose numbers the others count, too."""
        mean = self.moments.mean
        self.moments.update(mean.new_zeros((*shape, len(mean))), mean.new_zeros(shape, dtype=torch.bool), groups)

    def merge(self, other: LayerStream) -> None:
        """Take in another layer of the same sequences."""
        self.moments.merge(other.moments)
        self._hold(other._held.to(self._held), other._unit.to(self._unit))
        self._layers = [layer for layer in self._layers if layer is not self] + other._layers

    def reduce(self) -> None:
        """Replace by the sums of all ranks, all of which have to call it."""
        self.moments.reduce()
        unit = self._unit.clone()
        dist.all_reduce(unit, dist.ReduceOp.MAX)
        self._hold(torch.zeros_like(self._held), unit)
        dist.all_reduce(self._held)

    def measured(self, name: str) -> MonitoredLayer:
        """Wait for the device and return the numbers of what may be the union of several layers."""
        moments, count = self.moments, self.moments.count
        halves = [layer._sequences() for layer in self._layers]
        first, second = (max(sizes) for sizes in zip(*halves, strict=True))
        enough = min(first, second) >= _ENOUGH // 2
        if moments.group_count is None:
            enough = max(layer.moments.count for layer in self._layers) >= _ENOUGH
        variances = moments.scatter.diagonal()
        share, coordinate = (variances / variances.sum()).max(0)
        few, everything = self._held.tolist()
        score, finite = float(moments.isoscore_unbiased()), math.isfinite(everything)
        return MonitoredLayer(
            name=name,
            module=self.module,
            score=score if finite and enough else None,
            count=count,
            group_count=max(map(sum, halves)),
            coordinate=int(coordinate),
            coordinate_share=float(share) if finite and everything else 0.0,
            few_points_share=few / everything if finite and everything else 0.0,
            finite=finite,
        )

    def _sequences(self) -> tuple[int, int]:
        """Return how many sequences with points are in each half."""
        first, second = self.moments._split()
        return int(first.met), int(second.met)

    def _hold(self, held: Tensor, unit: Tensor) -> None:
        """Add what points hold in squares of a unit; the larger unit is kept, in which nothing overflows."""
        larger = torch.maximum(self._unit, unit)
        whole = larger.clamp(min=torch.finfo(larger.dtype).tiny)
        self._held = self._held * (self._unit / whole) ** 2 + held * (unit / whole) ** 2
        self._unit = larger


def _held_by_few(points: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the squared distances from the mean, summed over the farthest points of a hundred and over all.

    They are in squares of a unit, the second one, since those of finite numbers may be none.
    """
    points = points if points.dtype == torch.float64 else points.float()
    keep = points.new_ones(len(points)) if mask is None else (mask.reshape(-1) != 0).to(points.dtype)
    points = torch.where(keep[:, None] > 0, points, 0.0)
    unit = points.abs().amax() if points.numel() else points.new_zeros(())
    finite = unit.isfinite()
    unit = torch.where(finite & (unit > 0), unit, 1.0)
    points = points / unit
    mean = points.sum(0) / keep.sum().clamp(min=1)
    distances = (points - mean).square().sum(1) * keep
    farthest = distances.topk(len(distances) // FEW).values
    # Of the points alone, whose number only the device knows, those behind padding left out.
    count = torch.arange(len(farthest), device=farthest.device) < keep.sum() // FEW
    few = torch.where(count, farthest, 0).sum()
    return torch.where(finite, torch.stack([few, distances.sum()]), torch.nan), unit
