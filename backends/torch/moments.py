"""`StreamingMoments`: count, mean and scatter of tensors that arrive in batches, on their own device."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor

from isoscore_star.backends.torch import distributed as ranks
from isoscore_star.backends.torch._compat import without_autocast
from isoscore_star.backends.torch.backend import BACKEND
from isoscore_star.backends.torch.frame import inverse_unit, largest_entry
from isoscore_star.backends.torch.points import (
    at_least,
    centred_rows,
    compute_dtype,
    count_points,
    first_point,
    product_dtype,
    squared_norm,
    symmetric_products,
    widest,
)
from isoscore_star.backends.torch.target import target_of
from isoscore_star.core import checks, parameters, value_checks
from isoscore_star.core.accumulator import BLOCK_ROWS
from isoscore_star.core.errors import InvalidTypeError, InvalidValueError
from isoscore_star.core.merging import Operations, Sums, invariants_of_sums, merge, moved_third_and_fourth
from isoscore_star.core.protocol import Invariants
from isoscore_star.core.scaling import not_zero, with_target
from isoscore_star.core.score import measured_unbiased_score, shrunk_score


class StreamingMoments:
    """Count, mean and scatter of points that arrive in batches, in d² memory and without waiting for the device.

    It is `isoscore_star.Moments` for training: nothing is copied to the host, and no value is checked. Blocks of at
    most a few thousand points are multiplied in the dtype in which torch points are computed (float32 for half
    precision); sums are kept in float64.

    Parameters
    ----------
    dim : int
        Dimensions d.
    device : torch.device or str, optional
        By default that of the first points; required in a distributed run where a rank may see none. On Apple's
        devices, without float64, sums are float32.
    fourth_order : bool, default False
        Also keep what the unbiased score needs, d + 1 more numbers.

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
        self.dim = parameters.dimensions(dim, "dim")
        self.fourth_order = fourth_order
        self._placed = device is not None
        place = torch.device("cpu" if device is None else device)
        size = sum(_sizes(dim, fourth_order))
        self._sums = _unpacked(torch.zeros(size, dtype=widest(place), device=place), dim, fourth_order)

    @property
    def mean(self) -> Tensor:
        """Mean of the points, shape (d,); zeros before any."""
        mean: Tensor = self._sums.anchor + self._sums.offset * self._sums.unit
        return mean

    @property
    def scatter(self) -> Tensor:
        """Σ(x − μ)(x − μ)ᵀ, shape (d, d)."""
        scatter: Tensor = self._sums.scatter * self._sums.unit * self._sums.unit
        return scatter

    @property
    def count(self) -> int:
        """Number of points so far, which waits for the device."""
        return int(self._sums.count)

    @property
    def cov(self) -> Tensor:
        """Covariance (ddof = 1), shape (d, d); a DegenerateDataError for fewer than two points."""
        count = self.count
        value_checks.enough_points(count)
        # XᵀX may be asymmetric by rounding in the points' narrower dtype.
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
        """Take in the points of other moments, which stay unchanged.

        Returns
        -------
        StreamingMoments
            This object.

        Raises
        ------
        InvalidValueError, InvalidTypeError
            If they are no such moments, of another d, or lack the fourth order that is kept here.
        """
        if not isinstance(other, StreamingMoments):
            raise InvalidTypeError("other", f"expected StreamingMoments; got {type(other).__name__}")
        if other.dim != self.dim or (self.fourth_order and not other.fourth_order):
            raise InvalidValueError(
                "other",
                f"expected moments of {self.dim} dimensions{' with fourth_order' * self.fourth_order}; got "
                f"{other.dim} dimensions{' without it' * (other.dim == self.dim)}",
            )
        self._place(other._sums.scatter)
        merge(self._sums, _beside(other._sums, self._sums.scatter), _OPERATIONS)
        return self

    @torch.no_grad()
    def reduce(self, group: Any = None) -> StreamingMoments:
        """Replace by the moments of all ranks' points; every rank has to call it.

        It sends d² + 3d + 3 numbers (d + 1 more with the fourth order). Without torch.distributed it does nothing.

        Parameters
        ----------
        group : "world" or torch.distributed.ProcessGroup, optional
            By default all ranks.

        Returns
        -------
        StreamingMoments
            This object.
        """
        if not ranks.initialised():
            return self
        group = None if group is None else ranks.process_group(group)
        sums, own_count = self._sums, self._sums.count
        reach = torch.stack([sums.unit, sums.offset.abs().amax() * sums.unit])
        anchor, apart, (unit, reach) = ranks.common_anchor(sums.anchor, own_count, reach, group)
        unit = torch.maximum(unit, _unit_for(apart + 2 * reach))
        divisor = not_zero(unit, torch.where)
        ratio = sums.unit / divisor
        own_offset = torch.where(own_count > 0, (sums.anchor - anchor) / divisor + sums.offset * ratio, 0)
        count, total = ranks.all_sum(torch.cat([own_count[None], own_count * own_offset]), group).tensor_split([1])
        offset = total / count.clamp(min=1)
        h = torch.where(own_count > 0, offset - own_offset, 0)
        if self.fourth_order:
            moved = torch.cat([part.reshape(-1) for part in moved_third_and_fourth(sums, h, ratio, _OPERATIONS)])
            sums.third, fourth = ranks.all_sum(moved, group).tensor_split([self.dim])
            sums.fourth = fourth[0]
        sums.scatter.mul_(ratio * ratio).addr_(own_count * h, h)
        ranks.all_sum(sums.scatter, group)
        sums.count, sums.unit, sums.anchor, sums.offset = count[0], unit, anchor, offset
        return self

    def isoscore(self) -> Tensor:
        """Return IsoScore of all points; see `isoscore_star`."""
        return self.isoscore_star()

    @torch.no_grad()
    def isoscore_star(self, shrinkage_cov: Any = None, zeta: float = 0.0) -> Tensor:
        """Return IsoScore* of all points, without waiting for the device.

        Parameters
        ----------
        shrinkage_cov : Tensor or ndarray of shape (d, d), optional
            Σ_S, whose values are not checked.
        zeta : float, default 0.0
            ζ in [0, 1], the weight of Σ_S.

        Returns
        -------
        Tensor of shape ()
            In [0, 1]; 0 for fewer than two points or without variance, and NaN if a point was not finite.

        Raises
        ------
        InvalidValueError, InvalidTypeError
            For ζ out of range, or above 0 without `shrinkage_cov`, and for a matrix of another shape.
        """
        zeta, target = parameters.zeta(zeta, shrinkage_cov), None
        if shrinkage_cov is not None:
            matrix = checks.square_matrix("shrinkage_cov", shrinkage_cov, BACKEND, self.dim)
            target = torch.as_tensor(matrix).to(self._sums.scatter) if zeta else None
        score: Tensor = shrunk_score(self.invariants(target), zeta, self.dim, torch.where)
        return score.clamp(0.0, 1.0)  # which rounding can leave by a little

    @torch.no_grad()
    def isoscore_unbiased(self) -> Tensor:
        """Return the unbiased score of all points, without waiting for the device.

        Returns
        -------
        Tensor of shape ()
            0 for fewer than four points or without variance. NaN if a point was not finite, and where
            `isoscore_star.isoscore_unbiased` raises.

        Raises
        ------
        InvalidValueError
            If the fourth order is not kept.
        """
        if not self.fourth_order:
            raise InvalidValueError(
                "fourth_order", "the unbiased score needs it; these moments were made without. Give fourth_order=True"
            )
        score: Tensor = measured_unbiased_score(self.invariants(), self.dim, torch.where)
        return score

    def packed(self) -> Tensor:
        """Return the moments as one vector, for `from_packed`; its first entry is n."""
        sums = self._sums
        parts = [sums.count, sums.unit, sums.anchor, sums.offset, sums.scatter]
        parts += [sums.fourth, sums.third] if self.fourth_order else []
        return torch.cat([part.reshape(-1) for part in parts])

    @classmethod
    def from_packed(cls, vector: Tensor, dim: int, *, fourth_order: bool = False) -> StreamingMoments:
        """Return moments from a copy of the vector that `packed` returned.

        Raises
        ------
        InvalidValueError
            If the vector's length does not fit d.
        """
        size = sum(_sizes(dim, fourth_order))
        if vector.shape != (size,):
            raise InvalidValueError("vector", f"for dim={dim} expected shape {(size,)}; got {tuple(vector.shape)}")
        moments = cls(dim, vector.device, fourth_order=fourth_order)
        moments._sums = _unpacked(vector.to(moments._sums.scatter, copy=True), dim, fourth_order)
        return moments

    def invariants(self, shrinkage_cov: Tensor | None = None) -> Invariants:
        """Compute the invariants of the points so far."""
        sums = self._sums
        total, squares = sums.scatter.trace(), squared_norm(sums.scatter)
        computed = invariants_of_sums(sums.count, sums.unit, total, squares, sums.fourth, self.dim, torch.where)
        coarsest = product_dtype(sums.scatter.new_empty((0, self.dim), dtype=torch.float32))  # of blocks so far
        invariants, scale = computed[0]._replace(precision=torch.finfo(coarsest).eps), computed[1]
        target = target_of(shrinkage_cov, sums.scatter.dtype)
        if target is None:
            return invariants
        return with_target(invariants, target, (sums.scatter * target.matrix).sum() / scale / target.divisor)

    def _place(self, like: Tensor) -> None:
        if not self._placed:
            self._sums = _beside(self._sums, like.new_empty(0, dtype=widest(like.device)))
            self._placed = True

    def _absorb(self, rows: Tensor, keep: Tensor | None) -> None:
        """Take in one block of rows."""
        self._place(rows)
        count = count_points([rows], [keep], compute_dtype(rows))
        anchor = first_point([rows], [keep])
        shifted = centred_rows(rows, keep, anchor)
        largest = largest_entry(shifted)
        inverse = inverse_unit(largest, _USUAL)
        shifted = shifted if inverse is None else shifted * inverse
        offset = shifted.sum(0) / at_least(count, 1)
        centred = centred_rows(shifted, keep, offset)
        # Converted before anything is added, since a sum may need more digits than its parts.
        unit = (largest > 0).to(self._sums.unit)
        unit = unit if inverse is None else unit / inverse
        block = Sums(torch.zeros_like(unit) + count, unit, anchor[0], offset, symmetric_products([centred]))
        if self.fourth_order:
            squared_norms = centred.square().sum(1)
            block.third, block.fourth = squared_norms @ centred, squared_norms.to(unit).square().sum()
        merge(self._sums, _beside(block, self._sums.scatter), _OPERATIONS)


_USUAL = 16
"""Entries between 2⁻ⁿ and 2ⁿ have the unit 1: sums of their fourth powers are in float32's range."""


def _sizes(dim: int, fourth_order: bool) -> list[int]:
    """Return the lengths of n, unit, anchor, offset, scatter and, if kept, Σ‖x‖⁴ and z."""
    return [1, 1, dim, dim, dim * dim, *([1, dim] if fourth_order else [])]


def _unpacked(vector: Tensor, dim: int, fourth_order: bool) -> Sums:
    """Return the sums in a packed vector, as views."""
    count, unit, anchor, offset, scatter, *fourth_and_third = torch.split(vector, _sizes(dim, fourth_order))
    sums = Sums(count[0], unit[0], anchor, offset, scatter.view(dim, dim))
    if fourth_order:
        fourth, sums.third = fourth_and_third
        sums.fourth = fourth[0]
    return sums


def _beside(sums: Sums, like: Tensor) -> Sums:
    """Convert sums to the dtype and device of a tensor."""
    return Sums(*(None if part is None else part.to(like) for part in vars(sums).values()))


def _unit_for(length: Tensor) -> Tensor:
    """Return the unit for lengths up to the given one, 0 for none."""
    inverse = inverse_unit(length, _USUAL)
    return (length > 0).to(length) if inverse is None else torch.where(length > 0, 1 / inverse, 0)


_OPERATIONS = Operations(
    torch.where,
    operator.matmul,
    torch.trace,
    lambda vector: _unit_for(vector.abs().amax()),
    lambda scatter, own, other, its, u, v: scatter.mul_(own).addcmul_(other, its).addr_(u, v),
)
