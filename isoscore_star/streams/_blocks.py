"""Moments of a block of a stream, on the device that has its points."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from isoscore_star.core.batches import Batch
from isoscore_star.core.checks import Points
from isoscore_star.core.moments import Moments


class Block(Protocol):
    """Moments on some device, whose groups have even and odd numbers as the stream's."""

    def count_on(self, number: int) -> None:
        """Make the next group's number even or odd as another."""

    def update(self, batch: Batch) -> None:
        """Take in a batch."""

    def moments(self) -> Moments:
        """Return the moments on the host, of an even number of groups."""


class HostBlock:
    """Moments in NumPy."""

    def __init__(self, dim: int) -> None:
        self._moments, self._dim = Moments(), dim

    def count_on(self, number: int) -> None:
        """See `Block`."""
        if ((self._moments.group_count or 0) - number) % 2:
            nothing = np.zeros((1, 1, self._dim))
            self._moments.update(nothing, np.zeros((1, 1), bool), groups=0)

    def update(self, batch: Batch) -> None:
        """See `Block`."""
        self._moments.update(*batch)

    def moments(self) -> Moments:
        """See `Block`."""
        return self._moments.merge_halves(Moments())


class TorchBlock:
    """Moments of torch, in the memory of an accelerator."""

    def __init__(self, dim: int, device: Any) -> None:
        from isoscore_star.backends.torch.moments import StreamingMoments

        self._moments = StreamingMoments(dim, device, fourth_order=True)

    def count_on(self, number: int) -> None:
        """See `Block`."""
        import torch

        if ((self._moments.group_count or 0) - number) % 2:
            nothing = torch.zeros((1, 1, self._moments.dim), device=self._moments.mean.device)
            self._moments.update(nothing, nothing[..., 0], groups=0)

    def update(self, batch: Batch) -> None:
        """See `Block`."""
        self._moments.update(*batch)

    def moments(self) -> Moments:
        """See `Block`."""
        return self._moments.to_moments().merge_halves(Moments())


def block_for(cloud: Points) -> Block:
    """Return a block where the points are."""
    if is_on_device(cloud):
        return TorchBlock(cloud.dim, cloud.clouds[0].device)
    return HostBlock(cloud.dim)


def is_on_device(cloud: Points) -> bool:
    """Return whether points of torch are on an accelerator, so that they are accumulated there."""
    return cloud.backend.name == "torch" and cloud.clouds[0].device.type not in ("cpu", "meta")
