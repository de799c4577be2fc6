"""`StreamingMoments`: count, mean and scatter of tensors that arrive in batches, on their own device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from isoscore_star.backends.torch import distributed as ranks
from isoscore_star.backends.torch.frame import inverse_unit, largest_entry
from isoscore_star.backends.torch.points import (
    at_least,
    centred_rows,
    compute_dtype,
    count_points,
    first_point,
    mean_variance,
    product_dtype,
    symmetric_products,
    widest,
    without_autocast,
)
from isoscore_star.backends.torch.target import target_of, with_target
from isoscore_star.core import checks, formulas, value_checks
from isoscore_star.core.errors import InvalidTypeError, InvalidValueError
from isoscore_star.core.moments import BLOCK_ROWS
from isoscore_star.core.protocol import Invariants


class StreamingMoments:
    """Count, mean and scatter of points that arrive in batches, in d² memory and without waiting for the device.

    Batches, layers and ranks merge exactly (`isoscore_star.core.formulas`). Blocks of at most a few thousand points are
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
    >>> from isoscore_star.backends.torch.moments import StreamingMoments
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
        self.dim = checks.dimensions(dim, "dim")
        self.fourth_order = fourth_order
        self._placed = device is not None
        place = torch.device("cpu" if device is None else device)
        # n, the unit, an anchor, and in powers of the unit the mean's offset from it, the scatter and, with the fourth
        # order, Σa² and z = Σa·x about the mean (a = ‖x‖²).
        size = 2 + 2 * dim + dim * dim + (1 + dim if fourth_order else 0)
        self._packed = torch.zeros(size, dtype=widest(place), device=place)

    @property
    def mean(self) -> Tensor:
        """Mean of the points, shape (d,); zeros before any."""
        return self._anchor + self._offset * self._unit

    @property
    def scatter(self) -> Tensor:
        """Σ(x − μ)(x − μ)ᵀ, shape (d, d)."""
        return self._scatter * self._unit * self._unit

    @property
    def _unit(self) -> Tensor:
        """A power of two, so that no square leaves the range: 1 for points of usual size, 0 where none differs."""
        return self._packed[1]

    @property
    def _anchor(self) -> Tensor:
        """A point, from which the mean is kept, so that its digits need not be those of the spread too."""
        return self._packed[2 : 2 + self.dim]

    @property
    def _offset(self) -> Tensor:
        return self._packed[2 + self.dim : 2 + 2 * self.dim]

    @property
    def _scatter(self) -> Tensor:
        start = 2 + 2 * self.dim
        return self._packed[start : start + self.dim**2].view(self.dim, self.dim)

    @property
    def _fourth_and_third(self) -> Tensor:
        return self._packed[-1 - self.dim :]

    @property
    def count(self) -> int:
        """Number of points so far, which waits for the device."""
        return int(self._packed[0])

    @property
    def cov(self) -> Tensor:
        """Covariance (ddof = 1), shape (d, d); a DegenerateDataError for fewer than two points."""
        count = self.count
        value_checks.enough_points(count)
        # A processor's product XᵀX may differ from its mirror image by rounding of the points' own, narrower dtype.
        scatter = self.scatter
        return (scatter + scatter.T) / (2 * (count - 1))

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
        cloud = checks.points(points, mask)
        if cloud.backend.name != "torch":
            raise InvalidTypeError(
                "points",
                f"expected torch tensors; got arrays of {cloud.backend.name}. isoscore_star.Moments takes those",
            )
        if cloud.dim != self.dim:
            raise InvalidValueError("points", f"these moments are of {self.dim} dimensions; got points of {cloud.dim}")
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
            raise InvalidTypeError("other", f"expected StreamingMoments; got {type(other).__name__}")
        if other.dim != self.dim or (self.fourth_order and not other.fourth_order):
            raise InvalidValueError(
                "other",
                f"expected moments of {self.dim} dimensions{' with fourth_order' * self.fourth_order}; got "
                f"{other.dim} dimensions{' without it' * (other.dim == self.dim)}",
            )
        self._place(other._packed)
        self._merge(other)
        return self

    @torch.no_grad()
    def reduce(self, group: Any = None) -> StreamingMoments:
        """Replace by the moments of what all ranks have seen; every rank has to call it, once.

        It sends d² + 3d + 3 numbers (d + 1 more with the fourth order) and never a point. Without torch.distributed it
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
        own_count = self._packed[0].clone()
        reach = torch.stack([self._unit, self._offset.abs().amax() * self._unit])
        anchor, apart, (unit, reach) = ranks.common_anchor(self._anchor, own_count, reach, group)
        unit = torch.maximum(unit, _unit_for(apart + 2 * reach))
        own_offset = torch.where(own_count > 0, self._offset_from(anchor, unit), 0)
        sums = ranks.all_sum(torch.cat([own_count[None], own_count * own_offset]), group)
        offset = sums[1:] / sums[0].clamp(min=1)
        h = torch.where(own_count > 0, offset - own_offset, 0)
        if self.fourth_order:
            self._fourth_and_third.copy_(self._fourth_and_third_about(h, unit))
        self._move(h, unit)
        ranks.all_sum(self._packed[2 + 2 * self.dim :], group)
        self._packed[0] = sums[0]
        self._anchor.copy_(anchor)
        self._offset.copy_(offset)
        return self

    def packed(self) -> Tensor:
        """Return all as one vector, for `from_packed`; its first entry is n."""
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
                "vector", f"for dim={dim} expected shape {tuple(moments._packed.shape)}; got {tuple(vector.shape)}"
            )
        moments._packed.copy_(vector)
        return moments

    def invariants(self, shrinkage_cov: Tensor | None = None) -> Invariants:
        """Return the invariants that scores are made of, as tensors, for code that builds on moments."""
        count = self._packed[0]
        freedom = (count - 1).clamp(min=1)
        total = self._scatter.trace() / freedom
        mean, divisor = mean_variance(total, self.dim)
        cov = self._scatter / (freedom * divisor)
        q = self._fourth_and_third[0] / (freedom * divisor) / divisor if self.fourth_order else None
        target = target_of(shrinkage_cov, cov.dtype)
        cross = count.new_zeros(()) if target is None else (cov * target.matrix).sum() / target.variance
        unit = self._unit * mean.sqrt()
        found = with_target(count, unit, total / divisor, (cov * cov).sum(), q, cross, target)
        coarsest = product_dtype(cov.new_empty((0, self.dim), dtype=torch.float32))  # in which blocks may have come
        return found._replace(precision=torch.finfo(coarsest).eps)

    def _place(self, like: Tensor) -> None:
        if not self._placed:
            self._packed, self._placed = self._packed.to(like.device, widest(like.device)), True

    def _absorb(self, rows: Tensor, keep: Tensor | None) -> None:
        """Take in one block of rows."""
        self._place(rows)
        block = StreamingMoments(self.dim, self._packed.device, fourth_order=self.fourth_order)
        count = count_points([rows], [keep], compute_dtype(rows))
        anchor = first_point([rows], [keep])
        shifted = centred_rows(rows, keep, anchor)
        largest = largest_entry(shifted)
        inverse = inverse_unit(largest, _USUAL)
        shifted = shifted if inverse is None else shifted * inverse
        offset = shifted.sum(0) / at_least(count, 1)
        centred = centred_rows(shifted, keep, offset)
        # Converted before anything is added, since a sum may need more digits than either of its parts.
        unit = (largest > 0).to(block._packed)
        block._packed[0], block._packed[1] = count, unit if inverse is None else unit / inverse
        block._anchor.copy_(anchor[0])
        block._offset.copy_(offset)
        block._scatter.copy_(symmetric_products([centred]))
        if self.fourth_order:
            squared_norms = centred.square().sum(1)
            fourth = squared_norms.to(block._packed).square().sum()
            block._fourth_and_third.copy_(torch.cat([fourth[None], squared_norms @ centred]))
        self._merge(block)

    def _merge(self, other: StreamingMoments) -> None:
        theirs = StreamingMoments(self.dim, self._packed.device, fourth_order=self.fourth_order)
        theirs._packed.copy_(other._packed[: len(self._packed)])
        before, count = self._packed[0].clone(), theirs._packed[0]
        # The number of points before, or 1 where neither side has any, so that nothing is divided by zero.
        n1: Any = (before + count).clamp(min=1) - count
        both = (before > 0) & (count > 0)
        apart = torch.where(both, theirs.mean - self.mean, 0).abs().amax()
        unit = torch.maximum(self._unit, theirs._unit).maximum(_unit_for(apart))
        # Anchors are points: their difference has all the digits that the means, far from zero, have not.
        own_offset = self._offset_from(self._anchor, unit)
        delta = torch.where(both, theirs._offset_from(self._anchor, unit) - own_offset, 0)
        h1: Any = formulas.merged_mean(n1, torch.zeros_like(delta), count, delta)  # type: ignore[arg-type]
        h2 = h1 - delta
        if self.fourth_order:
            own, its = self._fourth_and_third_about(h1, unit), theirs._fourth_and_third_about(h2, unit)
            self._fourth_and_third.copy_(own + its)
        self._offset.copy_(torch.where(before > 0, own_offset + h1, theirs._offset_from(theirs._anchor, unit)))
        self._move(h1, unit)
        theirs._move(h2, unit)
        self._scatter.add_(theirs._scatter)
        self._anchor.copy_(torch.where(before > 0, self._anchor, theirs._anchor))
        self._packed[0] += count

    def _offset_from(self, anchor: Tensor, unit: Tensor) -> Tensor:
        """Return the mean's offset from another anchor, in another (larger) unit."""
        return (self._anchor - anchor) / _safe(unit) + self._offset * (self._unit / _safe(unit))

    def _move(self, h: Tensor, unit: Tensor) -> None:
        """Turn the scatter into that about a point at h from the mean, in powers of another (larger) unit."""
        self._scatter.mul_((self._unit / _safe(unit)).square()).addr_(self._packed[0] * h, h)
        self._unit.copy_(unit)

    def _fourth_and_third_about(self, h: Tensor, unit: Tensor) -> Tensor:
        """Return Σa² and z likewise, as one vector; before the scatter is moved."""
        count, ratio = self._packed[0], self._unit / _safe(unit)
        fourth, third = self._fourth_and_third.tensor_split([1])
        fourth, third, squared = fourth * ratio**4, third * ratio**3, ratio * ratio
        t, ah, hh = self._scatter.trace() * squared, (self._scatter @ h) * squared, h @ h
        given: Any = (fourth, count, t, hh, h @ ah, h @ third)
        third_given: Any = (third, count, t, h, ah, hh)
        moved: list[Any] = [formulas.recentred_fourth(*given), formulas.recentred_third(*third_given)]
        return torch.cat(moved)


_USUAL = 16
"""Entries between 2⁻ⁿ and 2ⁿ are in units of 1: fourth powers, and sums of them, are in float32's range then."""


def _unit_for(length: Tensor) -> Tensor:
    """Return the unit for lengths up to the given one, 0 for none."""
    inverse = inverse_unit(length, _USUAL)
    return (length > 0).to(length) if inverse is None else torch.where(length > 0, 1 / inverse, 0)


def _safe(unit: Tensor) -> Tensor:
    return unit + (unit == 0)
