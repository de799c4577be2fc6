"""`StreamingMoments`: count, mean and scatter of tensors that arrive in batches, on their own device."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isoscore_star.backends.torch import distributed as ranks
from isoscore_star.backends.torch import sums as sums_of
from isoscore_star.backends.torch._compat import without_autocast
from isoscore_star.backends.torch.backend import BACKEND
from isoscore_star.backends.torch.points import compute_dtype, count_points, product_dtype, squared_norm, widest
from isoscore_star.backends.torch.target import target_of
from isoscore_star.core import checks, parameters, value_checks
from isoscore_star.core.accumulator import BLOCK_ROWS
from isoscore_star.core.checks import Points
from isoscore_star.core.errors import InvalidTypeError, InvalidValueError
from isoscore_star.core.groups import Groups, groups_of, groups_with_points, halves_of
from isoscore_star.core.merging import Sums, invariants_of_sums, merge, pair_of_sums, swapped
from isoscore_star.core.moments import Moments
from isoscore_star.core.protocol import Invariants
from isoscore_star.core.scaling import with_target
from isoscore_star.core.score import measured_halves_score, measured_unbiased_score, shrunk_score


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
        Also keep what the unbiased score needs: d + 2 more numbers, and once points come in groups, such as the tokens
        of sentences, two halves of the groups, which takes 2·d² memory.

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
        self._first = self._empty(torch.zeros((), dtype=widest(place), device=place))
        self._second: Sums | None = None  # of the groups with odd numbers
        # Numbers if the host knows them, else tensors.
        self._groups: Any = 0
        self._independent: Any = 0  # points without groups, which are in the first half

    @property
    def mean(self) -> Tensor:
        """Mean of the points, shape (d,); zeros before any."""
        union = self._union()
        mean: Tensor = union.anchor + union.offset * union.unit
        return mean

    @property
    def scatter(self) -> Tensor:
        """Σ(x − μ)(x − μ)ᵀ, shape (d, d)."""
        union = self._union()
        scatter: Tensor = union.scatter * union.unit * union.unit
        return scatter

    @property
    def count(self) -> int:
        """Number of points so far, which waits for the device."""
        return int(self._count())

    @property
    def group_count(self) -> int | None:
        """Number of groups so far, which may wait for the device; None if points are independent."""
        return int(self._groups) or None

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
    def update(self, points: Any, mask: Any = None, groups: Any = "auto") -> StreamingMoments:
        """Take in a batch of points.

        Parameters
        ----------
        points : Tensor of shape (sequences, tokens, d), (m, d) or (..., d), or a list of such tensors
            Of any real dtype and device; detached. Give all layers of a batch in one list, so that the tokens of a
            sequence stay together.
        mask : Tensor of shape ``points.shape[:-1]``, optional
            1 or true for points, 0 or false for padding; for a list also a list of masks (or None).
        groups : "auto", int, array of labels, or None, default "auto"
            Which points were sampled together, for the unbiased score; without `fourth_order` not used. See
            `isoscore_star.isoscore_unbiased`. Numbers count on from update to update: a label of another update is
            another group. Labels on a device, which are not waited for, are the groups' numbers in this update.

        Returns
        -------
        StreamingMoments
            This object, so that calls can be chained.

        Raises
        ------
        InvalidValueError, InvalidTypeError
            For a wrong shape or dtype, and if `groups` does not fit; then the moments are unchanged.
        """
        cloud = checks.points(points, mask)
        if cloud.backend.name != "torch":
            raise InvalidTypeError(
                "points",
                f"expected torch tensors; got arrays of {cloud.backend.name}. isoscore_star.Moments takes those",
            )
        if cloud.dim != self.dim:
            raise InvalidValueError("points", f"these moments are of {self.dim} dimensions; got points of {cloud.dim}")
        found = groups_of(cloud, groups, waiting=False) if self.fourth_order else None
        with without_autocast(cloud.clouds[0].device.type):
            self._place(cloud.clouds[0])
            if found is None:
                self._independent = self._independent + count_points(
                    cloud.clouds, cloud.masks, compute_dtype(cloud.clouds[0])
                )
                _absorb(self._first, cloud)
            else:
                self._absorb_halves(cloud, found)
        return self

    @torch.no_grad()
    def merge(self, other: StreamingMoments, *, counting_on: bool = False) -> StreamingMoments:
        """Take in the points of other moments, which stay unchanged, and whose groups are other groups.

        Parameters
        ----------
        other : StreamingMoments
            Also on another device.
        counting_on : bool, default False
            Whether the numbers of its groups count on from these, as they would in one stream. By default halves merge
            with halves, which keeps a sequence in its half where the other moments are of another layer.

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
        self._place(other._first.scatter)
        like, halves = self._first.scatter, (other._first, other._second)
        if self.fourth_order:
            its_groups, its_independent = (
                part.to(like) if isinstance(part, Tensor) else part for part in (other._groups, other._independent)
            )
            if counting_on and other._second is not None:
                halves = swapped(
                    other._first, other._second, _of(self._groups, other._first.count) % 2 != 0, torch.where
                )
            self._groups = self._groups + its_groups
            self._independent = self._independent + its_independent
        first, second = halves
        merge(self._first, sums_of.beside(first, like), sums_of.OPERATIONS)
        if second is not None:
            ours = self._split()[1] if self.fourth_order else self._first
            merge(ours, sums_of.beside(second, like), sums_of.OPERATIONS)
        return self

    @torch.no_grad()
    def reduce(self, group: Any = None) -> StreamingMoments:
        """Replace by the moments of all ranks' points; every rank has to call it.

        It sends d² + 3d + 3 numbers; with the fourth order d + 2 more, and all of them for each half of the groups,
        whose numbers count on from rank to rank. Without torch.distributed it does nothing.

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
        halves = self._split() if self.fourth_order else (self._first,)
        if self.fourth_order:
            rank, size = torch.distributed.get_rank(group), torch.distributed.get_world_size(group)
            counts = self._first.anchor.new_zeros(size + 1)
            counts[rank], counts[size] = self._groups, self._independent
            counts = ranks.all_sum(counts, group)
            self._groups, self._independent = counts[:size].sum(), counts[size]
            halves = swapped(*self._split(), counts[:rank].sum() % 2 != 0, torch.where)
            self._first, self._second = halves
        for half in halves:
            sums_of.add_ranks(half, group)
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
            target = torch.as_tensor(matrix).to(self._first.scatter) if zeta else None
        score: Tensor = shrunk_score(self.invariants(target), zeta, self.dim, torch.where)
        return score.clamp(0.0, 1.0)  # which rounding can leave by a little

    @torch.no_grad()
    def isoscore_unbiased(self, groups: Any = "auto") -> Tensor:
        """Return the unbiased score of all points, without waiting for the device.

        Parameters
        ----------
        groups : "auto" or None, default "auto"
            The groups that the updates had; None takes all points for independent.

        Returns
        -------
        Tensor of shape ()
            0 for fewer than four points, or two groups with points in each half, or without variance (in a half). NaN
            if a point was not finite, and where `isoscore_star.isoscore_unbiased` raises.

        Raises
        ------
        InvalidValueError
            If the fourth order is not kept, or some updates had groups and others not; NaN if only the device knows.
        """
        if not self.fourth_order:
            raise InvalidValueError(
                "fourth_order", "the unbiased score needs it; these moments were made without. Give fourth_order=True"
            )
        grouped = parameters.stream_has_groups(groups)
        if not grouped or (isinstance(self._groups, int) and not self._groups):
            return self._independent_score()
        if isinstance(self._groups, int) and isinstance(self._independent, int):
            if self._independent:
                raise value_checks.mixed_with_groups(self._independent, self.count)
            return self._halves_score()
        count = self._first.count
        mixed, some = _of(self._independent, count) > 0, _of(self._groups, count) > 0
        halves = torch.where(mixed, torch.nan, self._halves_score())
        return torch.where(some, halves, self._independent_score())

    def packed(self) -> Tensor:
        """Return the moments as one vector, for `from_packed`; its first entry is n."""
        first = sums_of.packed(self._first)
        if self._second is None:
            return first
        first[0] = self._count()
        numbers = [_of(number, first)[None] for number in (self._groups, self._independent)]
        return torch.cat([first, sums_of.packed(self._second), *numbers])

    @classmethod
    def from_packed(cls, vector: Tensor, dim: int, *, fourth_order: bool = False) -> StreamingMoments:
        """Return moments from a copy of the vector that `packed` returned.

        Raises
        ------
        InvalidValueError
            If the vector's length does not fit d.
        """
        size = sums_of.length(dim, fourth_order=fourth_order)
        sizes = [(size,), (2 * size + 2,)] if fourth_order else [(size,)]
        if vector.shape not in sizes:
            raise InvalidValueError(
                "vector", f"for dim={dim} expected shape {' or '.join(map(str, sizes))}; got {tuple(vector.shape)}"
            )
        moments = cls(dim, vector.device, fourth_order=fourth_order)
        copied = vector.to(moments._first.scatter, copy=True)
        moments._first = sums_of.unpacked(copied[:size], dim, fourth_order=fourth_order)
        if len(copied) > size:
            moments._second = sums_of.unpacked(copied[size:-2], dim, fourth_order=True)
            moments._first.count = moments._first.count - moments._second.count
            moments._groups, moments._independent = copied[-2], copied[-1]
        elif fourth_order:
            moments._independent = moments._first.count
        return moments

    @torch.no_grad()
    def to_moments(self) -> Moments:
        """Return `isoscore_star.Moments` of the same points, on the host, for all that `isoscore_star.measure` tells.

        Returns
        -------
        Moments
            With the same halves.

        Raises
        ------
        InvalidValueError
            If the fourth order is not kept, or a point was not finite.

        Examples
        --------
        >>> import torch
        >>> from isoscore_star.backends.torch.moments import StreamingMoments
        >>> streamed = StreamingMoments(8, fourth_order=True).update(torch.randn(20, 5, 8))
        >>> abs(streamed.to_moments().isoscore_unbiased() - float(streamed.isoscore_unbiased())) < 1e-12
        True
        """
        if not self.fourth_order:
            raise InvalidValueError("fourth_order", "Moments need it; these were made without. Give fourth_order=True")
        groups, independent = int(self._groups), int(self._independent)
        if groups and independent:
            raise value_checks.mixed_with_groups(independent, self.count)
        names = ("even", "odd") if groups else ("independent",)
        arrays: dict[str, Any] = {"met": np.zeros(groups, bool)}
        for half, (name, sums) in enumerate(zip(names, self._split(), strict=False)):
            host = {part: np.asarray(value.cpu(), np.float64) for part, value in vars(sums).items()}
            arrays["met"][half::2][: int(host.pop("met"))] = True  # which of them is not known, only how many
            if host["count"]:
                host |= {"dim": np.asarray(self.dim), "precision": np.asarray(self._precision())}
                arrays |= {f"{name}.{part}": value for part, value in host.items()}
        return Moments.from_arrays(arrays)

    def invariants(self, shrinkage_cov: Tensor | None = None) -> Invariants:
        """Compute the invariants of the points so far."""
        sums = self._union()
        total, squares = sums.scatter.trace(), squared_norm(sums.scatter)
        computed = invariants_of_sums(sums.count, sums.unit, total, squares, sums.fourth, self.dim, torch.where)
        invariants, scale = computed[0]._replace(precision=self._precision()), computed[1]
        target = target_of(shrinkage_cov, sums.scatter.dtype)
        if target is None:
            return invariants
        return with_target(invariants, target, (sums.scatter * target.matrix).sum() / scale / target.divisor)

    def _count(self) -> Tensor:
        count: Tensor = self._first.count if self._second is None else self._first.count + self._second.count
        return count

    def _union(self) -> Sums:
        if self._second is None:
            return self._first
        union = replace(self._first, scatter=self._first.scatter.clone())  # the only part that changes in place
        merge(union, self._second, sums_of.OPERATIONS)
        return union

    def _independent_score(self) -> Tensor:
        score: Tensor = measured_unbiased_score(self.invariants(), self.dim, torch.where)
        return score

    def _halves_score(self) -> Tensor:
        first, second = self._split()
        inner = (first.scatter * second.scatter).sum()
        pair = pair_of_sums(first, second, inner, self.dim, sums_of.OPERATIONS, self._precision())
        enough = (first.met >= 2) & (second.met >= 2)
        score: Tensor = measured_halves_score(pair, self.dim, torch.where, enough=enough)
        return score

    def _precision(self) -> float:
        """Return the epsilon of the narrowest dtype in which blocks may have been multiplied."""
        like = self._first.scatter
        return torch.finfo(product_dtype(like.new_empty((0, self.dim), dtype=torch.float32))).eps

    def _empty(self, like: Tensor) -> Sums:
        size = sums_of.length(self.dim, fourth_order=self.fourth_order)
        return sums_of.unpacked(like.new_zeros(size), self.dim, fourth_order=self.fourth_order)

    def _split(self) -> tuple[Sums, Sums]:
        """Return both halves."""
        if self._second is None:
            self._second = self._empty(self._first.scatter)
        return self._first, self._second

    def _place(self, like: Tensor) -> None:
        if not self._placed:
            like = like.new_empty(0, dtype=widest(like.device))
            self._first = sums_of.beside(self._first, like)
            self._second = None if self._second is None else sums_of.beside(self._second, like)
            self._placed = True

    def _absorb_halves(self, cloud: Points, groups: Groups) -> None:
        odd = self._groups % 2 != 0
        halves = swapped(*self._split(), odd, torch.where)
        for sums, part in zip(halves, halves_of(cloud, groups), strict=False):
            _absorb(sums, part)
            sums.met = sums.met + groups_with_points(part, groups)
        self._first, self._second = swapped(*halves, odd, torch.where)
        count = groups.count
        if count is None:  # labels that are the numbers
            largest = [numbers.max() for numbers in groups.numbers or [] if numbers.numel()]
            count = torch.stack(largest).max().to(self._first.count) + 1 if largest else 0
        self._groups = self._groups + count


def _absorb(sums: Sums, cloud: Points) -> None:
    """Take in a cloud, block by block."""
    for rows, keep in zip(cloud.clouds, cloud.masks, strict=True):
        for start in range(0, len(rows), BLOCK_ROWS):
            part = slice(start, start + BLOCK_ROWS)
            block = sums_of.sums_of_block(rows[part], None if keep is None else keep[part], sums)
            merge(sums, block, sums_of.OPERATIONS)


def _of(number: Any, like: Tensor) -> Tensor:
    """Return a number that the host may know as a tensor."""
    return torch.as_tensor(number).to(like)
