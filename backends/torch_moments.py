"""`StreamingMoments`: count, mean and scatter of tensors that arrive in batches, on their own device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from isoscore_star import _checks, _formulas, _value_checks
from isoscore_star._errors import InvalidTypeError, InvalidValueError
from isoscore_star._moments import BLOCK_ROWS
from isoscore_star._protocol import Invariants
from isoscore_star.backends import torch_distributed as ranks
from isoscore_star.backends.torch_points import (
    at_least,
    centred_rows,
    compute_dtype,
    count_points,
    first_point,
    scale_of,
    symmetric_products,
    with_target,
    without_autocast,
)


class StreamingMoments:
    """Count, mean and scatter of points that arrive in batches, in d² memory and without waiting for the device.

    Batches, layers and ranks merge exactly (`isoscore_star._formulas`). Blocks of at most a few thousand points are
    multiplied in the dtype in which torch points are computed (float32 for half precision); sums are kept in float64.
    It is `isoscore_star.Moments` for training: nothing is copied to the host, and no value is checked.

    Parameters
    ----------
    dim : int
        Dimensions d.
    device : torch.device or str, optional
        Where the moments are kept; by default on the device of the first points. Give it in a distributed run where a
        rank may see none. Apple's devices have no float64, so there it is float32.
    fourth_order : bool, default False
        Keep what the unbiased score needs too, d + 2 more numbers.

    Examples
    --------
    >>> import torch
    >>> from isoscore_star.backends.torch_moments import StreamingMoments
    >>> points = torch.randn(100, 8, dtype=torch.float64) + 5
    >>> moments = StreamingMoments(8)
    >>> for batch in points.split(30):
    ...     moments.update(batch)
    StreamingMoments(count=30, dim=8)
    ...
    >>> torch.allclose(moments.cov, torch.cov(points.T))
    True
    """

    def __init__(self, dim: int, device: Any = None, *, fourth_order: bool = False) -> None:
        self.dim = _checks.dimensions(dim, "dim")
        self.fourth_order = fourth_order
        self._placed = device is not None
        size = 1 + dim + dim * dim + (2 + dim if fourth_order else 0)
        place = torch.device("cpu" if device is None else device)
        self._packed = torch.zeros(size, dtype=_widest(place), device=place)

    @property
    def mean(self) -> Tensor:
        """Mean of the points, shape (d,); zeros before any."""
        return self._packed[1 : 1 + self.dim]

    @property
    def scatter(self) -> Tensor:
        """Σ(x − μ)(x − μ)ᵀ, shape (d, d)."""
        start = 1 + self.dim
        return self._packed[start : start + self.dim**2].view(self.dim, self.dim)

    @property
    def _fourth_and_on(self) -> Tensor:
        """Σa² and z = Σa·x, in powers of a unit of length since they leave the range before squares do; then that."""
        return self._packed[-2 - self.dim :]

    @property
    def _unit(self) -> Tensor:
        return self._packed[-1]

    @property
    def count(self) -> int:
        """Number of points so far, which waits for the device."""
        return int(self._packed[0])

    @property
    def cov(self) -> Tensor:
        """Covariance (ddof = 1), shape (d, d); a DegenerateDataError for fewer than two points."""
        count = self.count
        _value_checks.enough_points(count)
        # A processor's product XᵀX may differ from its mirror image by rounding of the points' own, narrower dtype.
        return (self.scatter + self.scatter.T) / (2 * (count - 1))

    def __repr__(self) -> str:
        return f"StreamingMoments(count={self.count}, dim={self.dim})"

    @torch.no_grad()
    def update(self, points: Any, mask: Any = None) -> StreamingMoments:
        """Take in a batch of points.

        Parameters
        ----------
        points : Tensor of shape (m, d) or (..., d), or a list of such tensors
            Of any real dtype and device; detached.
        mask : Tensor of shape ``points.shape[:-1]``, optional
            1 or true for points, 0 or false for padding; for a list also a list of masks (or None).

        Returns
        -------
        StreamingMoments
            This object, so that calls can be chained.

        Raises
        ------
        InvalidValueError, InvalidTypeError
            For a wrong shape or dtype.
        """
        cloud = _checks.points(points, mask)
        if cloud.backend.name != "torch":
            raise InvalidTypeError(
                f"points: expected torch tensors; got arrays of {cloud.backend.name}. isoscore_star.Moments takes those"
            )
        if cloud.dim != self.dim:
            raise InvalidValueError(f"points: these moments are of {self.dim} dimensions; got points of {cloud.dim}")
        with without_autocast(cloud.clouds[0].device.type):
            for rows, keep in zip(cloud.clouds, cloud.masks, strict=True):
                for start in range(0, len(rows), BLOCK_ROWS):
                    part = slice(start, start + BLOCK_ROWS)
                    self._absorb(rows[part], None if keep is None else keep[part])
        return self

    @torch.no_grad()
    def merge(self, other: StreamingMoments) -> StreamingMoments:
        """Take in the points that other moments have seen, exactly; the other ones stay as they are.

        Returns
        -------
        StreamingMoments
            This object.

        Raises
        ------
        InvalidValueError, InvalidTypeError
            If the other ones are no such moments, of another d, or without the fourth order that is kept here.
        """
        if not isinstance(other, StreamingMoments):
            raise InvalidTypeError(f"other: expected StreamingMoments; got {type(other).__name__}")
        if other.dim != self.dim or (self.fourth_order and not other.fourth_order):
            raise InvalidValueError(
                f"other: expected moments of {self.dim} dimensions{' with fourth_order' * self.fourth_order}; got "
                f"{other.dim} dimensions{' without it' * (other.dim == self.dim)}"
            )
        self._place(other.scatter)
        self._merge(other)
        return self

    @torch.no_grad()
    def reduce(self, group: Any = None) -> StreamingMoments:
        """Replace by the moments of what all ranks have seen; every rank has to call it, once.

        It sends d² + 2d + 1 numbers (d + 2 more with the fourth order) and never a point. Without torch.distributed it
        does nothing.

        Parameters
        ----------
        group : "world" or torch.distributed.ProcessGroup, optional
            Which ranks; by default all.

        Returns
        -------
        StreamingMoments
            This object.
        """
        if not ranks.initialised():
            return self
        group = None if group is None else ranks.process_group(group)
        own_count = self._packed[0]
        anchor = ranks.common_anchor(self.mean, own_count, group)
        sums = ranks.all_sum(torch.cat([own_count[None], own_count * (self.mean - anchor)]), group)
        mean = anchor + sums[1:] / sums[0].clamp(min=1)
        delta = torch.where(own_count > 0, mean - self.mean, 0)
        about = [torch.addr(self.scatter, own_count * delta, delta).reshape(-1)]
        if self.fourth_order:
            spread = (about[0][:: self.dim + 1].sum() / (own_count.clamp(min=1) * self.dim)).sqrt()
            unit = ranks.all_max(torch.maximum(self._unit, spread), group)
            about.append(self._fourth_and_third(mean, unit))
            self._unit.copy_(unit)
        about_mean = ranks.all_sum(torch.cat(about), group)
        self._packed[0], self._packed[1 : 1 + self.dim] = sums[0], mean
        self._packed[1 + self.dim :][: len(about_mean)] = about_mean
        return self

    def packed(self) -> Tensor:
        """Give all as one vector: n, mean, scatter row by row (with the fourth order then Σa², z, unit)."""
        return self._packed.clone()

    @classmethod
    def from_packed(cls, vector: Tensor, dim: int, *, fourth_order: bool = False) -> StreamingMoments:
        """Make moments from what `packed` gave, which is copied.

        Raises
        ------
        InvalidValueError
            If the vector has not the length that belongs to d.
        """
        moments = cls(dim, vector.device, fourth_order=fourth_order)
        if vector.shape != moments._packed.shape:
            raise InvalidValueError(
                f"vector: for dim={dim} expected shape {tuple(moments._packed.shape)}; got {tuple(vector.shape)}"
            )
        moments._packed.copy_(vector)
        return moments

    def invariants(self, shrinkage_cov: Tensor | None = None) -> Invariants:
        """Give the invariants that scores are made of, as tensors, for code that builds on moments."""
        count = self._packed[0]
        freedom = (count - 1).clamp(min=1)
        total = self.scatter.trace() / freedom
        scale = scale_of(total, shrinkage_cov, self.dim)
        cov = self.scatter / (freedom * scale)
        q = None
        if self.fourth_order:
            # In two steps, since unit⁴/σ² is in range though neither of its parts need be.
            squared_unit = self._unit.square() / scale
            q = self._fourth_and_on[0] * squared_unit * squared_unit / freedom
        cross = count.new_zeros(()) if shrinkage_cov is None else (cov * (shrinkage_cov / scale)).sum()
        return with_target(count, scale, total / scale, (cov * cov).sum(), q, cross, shrinkage_cov)

    def _place(self, like: Tensor) -> None:
        if not self._placed:
            self._packed, self._placed = self._packed.to(like.device, _widest(like.device)), True

    def _absorb(self, rows: Tensor, keep: Tensor | None) -> None:
        """Take in one block of rows."""
        self._place(rows)
        block = StreamingMoments(self.dim, self._packed.device, fourth_order=self.fourth_order)
        count = count_points([rows], [keep], compute_dtype(rows))
        some = at_least(count, 1)
        anchor = first_point([rows], [keep])
        shifted = centred_rows(rows, keep, anchor)
        offset = shifted.sum(0) / some
        centred = centred_rows(shifted, keep, offset)
        scatter = symmetric_products([centred])
        block._packed[0] = count
        # Added in the state's own precision, since the sum may need more digits than either of its parts.
        block.mean.copy_(anchor[0]).add_(offset.to(block.mean))
        block.scatter.copy_(scatter)
        if self.fourth_order:
            unit = (scatter.trace() / (some * self.dim)).sqrt()
            points = centred / (unit + (unit == 0))
            squared_norms = points.square().sum(1)
            parts = [squared_norms.square().sum()[None], squared_norms @ points, unit[None]]
            block._fourth_and_on.copy_(torch.cat(parts))
        self._merge(block)

    def _merge(self, other: StreamingMoments) -> None:
        theirs = other._packed.to(self._packed)[: len(self._packed)]
        if theirs.data_ptr() == self._packed.data_ptr():
            theirs = theirs.clone()
        count, mean, scatter = theirs[0], theirs[1 : 1 + self.dim], theirs[1 + self.dim :][: self.dim**2]
        # The number of points before, or 1 where neither side has any, so that nothing is divided by zero.
        before = (self._packed[0] + count).clamp(min=1) - count
        merged: Any = _formulas.merged_mean(before, self.mean, count, mean)  # type: ignore[arg-type]
        delta = mean - self.mean
        outer = delta * _formulas.merged_outer_factor(before, count)  # type: ignore[arg-type]
        if self.fourth_order:
            # A unit of the spread about the common mean, since either side alone may have none.
            total = self.scatter.trace() + theirs[1 + self.dim :: self.dim + 1][: self.dim].sum() + outer @ delta
            unit = torch.maximum(self._unit, theirs[-1]).maximum((total / ((before + count) * self.dim)).sqrt())
            both = self._fourth_and_third(merged, unit) + other._fourth_and_third(merged, unit)
            self._fourth_and_on.copy_(torch.cat([both, unit[None]]))
        self.scatter.add_(scatter.view_as(self.scatter)).addr_(outer, delta)
        self.mean.copy_(merged)
        self._packed[0] += count

    def _fourth_and_third(self, mean: Tensor, unit: Tensor) -> Tensor:
        """Give Σaᵢ² and z = Σaᵢxᵢ about another mean, in powers of another (larger) unit, as one vector."""
        safe = unit + (unit == 0)
        count, own_mean, scatter = self._packed[0].to(mean), self.mean.to(mean), self.scatter.to(mean)
        fourth, third, own_unit = self._fourth_and_on.to(mean).tensor_split([1, 1 + self.dim])
        ratio = own_unit / safe
        fourth, third = fourth[0] * ratio[0] ** 4, third * ratio**3
        h = torch.where(count > 0, (mean - own_mean) / safe, 0)
        ah = (scatter / safe) @ (h / safe)
        t = scatter.trace() / safe / safe
        hh, hah, hz = h @ h, h @ ah, h @ third
        moved: Any = _formulas.recentred_fourth(fourth, count, t, hh, hah, hz)  # type: ignore[arg-type]
        third_moved: Any = _formulas.recentred_third(third, count, t, h, ah, hh)  # type: ignore[arg-type]
        return torch.cat([moved[None], third_moved])


def _widest(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64
