"""Streaming moments of a cloud: count, mean, spread and every score, in d² memory or less (NumPy)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core import checks, parameters, value_checks
from isoscore_star.core.accumulator import Accumulator, covariance, pair_of
from isoscore_star.core.batches import batches_of, is_stream, numbers_in_lists, require_alone
from isoscore_star.core.checks import Points
from isoscore_star.core.errors import InvalidTypeError, InvalidValueError
from isoscore_star.core.groups import groups_of, halves_of, numbers_of
from isoscore_star.core.protocol import Invariants, Pair
from isoscore_star.core.score import halves_score, shrunk_score, unbiased_margin, unbiased_score
from isoscore_star.core.sketch_accumulator import SketchAccumulator
from isoscore_star.core.spread import Spread, mean_of
from isoscore_star.core.stored import Arrays, accumulator_of, arrays_of, sketch_of

FloatArray = NDArray[np.float64]

_PARTS = ("independent", "even", "odd")


class Moments:
    """Count, mean and scatter of points that arrive in batches, and every score of all of them.

    Batches, layers, devices and files merge exactly (`isoscore_star.core.formulas`), so a dataset of any size is
    measured in d² memory, and two processes exchange d² numbers instead of points. Fewer points than dimensions are
    stored unchanged, so that few very wide points need no d² memory. Blocks of float32 of 128 dimensions and more are
    multiplied in float32, all others in float64; sums are kept in float64.

    Points that come in groups, such as the tokens of sentences, are kept as two halves of the groups, for the score
    that is right for them; see `isoscore_star.isoscore_unbiased`. That takes 2·d² memory.

    Parameters
    ----------
    sketch : int, optional
        Keep products with so many random columns instead of the scatter: d·k memory (of halves twice that) and 2·m·d·k
        multiplications. Scores are estimates then (`isoscore_star.core.sketch`); `Measurement.sketch_error` says how
        far off. For widths of which d² does not fit.
    seed : int, default 0
        Of these columns; moments that are merged have the same.

    Attributes
    ----------
    count : int
        Unmasked points so far.
    group_count : int or None
        Groups so far, those without a point included; None if points are independent.
    dim : int or None
        Dimensions d; None before the first update.
    mean : ndarray of shape (d,), float64
        Their mean.
    cov : ndarray of shape (d, d), float64
        Their covariance (ddof = 1).

    Raises
    ------
    DegenerateDataError
        From ``mean`` before any point, from ``cov`` and the scores for fewer than two points.
    InvalidValueError
        From ``cov`` if variances leave the range of floats (the scores do not).

    Examples
    --------
    >>> import numpy as np
    >>> import isoscore_star as iso
    >>> points = np.random.default_rng(0).normal(size=(1000, 8)) + 5
    >>> moments = iso.Moments()
    >>> for batch in np.split(points, 10):
    ...     moments.update(batch)
    Moments(count=100, dim=8)
    ...
    >>> abs(moments.isoscore() - iso.isoscore(points)) < 1e-12
    True
    """

    def __init__(self, *, sketch: int | None = None, seed: int = 0) -> None:
        self.sketch = None if sketch is None else parameters.sketch_size("sketch", sketch)
        self.seed = parameters.group_number("seed", seed)
        self._independent = self._new()
        self._halves = (self._new(), self._new())
        self._met = np.zeros(0, bool)  # for each group, by its number, whether it has a point
        self._all: Accumulator | None = None  # of the halves, once it was needed

    @property
    def count(self) -> int:
        """Number of points so far."""
        return sum(part.count for part in self._parts)

    @property
    def dim(self) -> int | None:
        """Dimensions d; None before the first update."""
        return next((part.dim for part in self._parts if part.dim is not None), None)

    @property
    def group_count(self) -> int | None:
        """Number of groups so far; None if points are independent."""
        return len(self._met) or None

    @property
    def mean(self) -> FloatArray:
        """Mean of the points, shape (d,)."""
        value_checks.enough_points(self.count, 1, "a mean")
        return mean_of(self.spread())

    @property
    def cov(self) -> FloatArray:
        """Covariance of the points (ddof = 1), shape (d, d)."""
        value_checks.enough_points(self.count)
        return covariance(self.spread())

    def __copy__(self) -> Moments:
        return Moments(sketch=self.sketch, seed=self.seed).merge(self)

    def __repr__(self) -> str:
        groups = f", group_count={self.group_count}" if self.group_count else ""
        return f"Moments(count={self.count}, dim={self.dim}{groups})"

    def update(self, X: Any, mask: Any = None, groups: Any = "auto", first_group: int | None = None) -> Moments:
        """Take in a batch of points.

        Parameters
        ----------
        X : array of shape (sequences, tokens, d), (m, d) or (..., d), or a list of such arrays
            Of any installed framework; converted to NumPy, detached. Give all layers of a batch in one list, so that
            the tokens of a sequence stay together. Or an iterable of batches, such as a generator or a data loader,
            each an array, a list of arrays, a vector, or a mapping with ``"X"`` and, if there are any, ``"mask"`` and
            ``"groups"``.
        mask : array of shape ``X.shape[:-1]``, optional
            1 or true for points, 0 or false for padding.
        groups : "auto", int, array of labels, or None, default "auto"
            Which points were sampled together; see `isoscore_star.isoscore_unbiased`. Numbers count on from update to
            update: a label of another update is another group.
        first_group : int, optional
            The number of X's first group, for groups that an update before had a part or a layer of. Labels then are
            integers, the groups' numbers counted from this one.

        Returns
        -------
        Moments
            This object, so that calls can be chained.

        Raises
        ------
        InvalidValueError
            If the values are not finite, d differs from that of earlier batches, or `groups` does not fit; then the
            moments are unchanged (of an iterable, they hold the batches before).
        """
        if is_stream(X):
            require_alone(mask=mask, first_group=first_group)
            for batch in batches_of(X, groups):
                self.update(*batch)
            return self
        X = numbers_in_lists(X)
        cloud = checks.points(X, mask)
        if self.dim not in (None, cloud.dim):
            raise InvalidValueError(
                "X",
                f"these moments are of {self.dim} dimensions; got points of {cloud.dim}. "
                "Use one Moments for each width",
            )
        if self.sketch is not None and self.sketch >= cloud.dim:
            raise InvalidValueError(
                "sketch", f"expected fewer columns than the {cloud.dim} dimensions; got {self.sketch}. Leave it out"
            )
        value_checks.mask_values(mask, cloud.backend)
        first = len(self._met) if first_group is None else parameters.group_number("first_group", first_group)
        found = groups_of(cloud, groups, numbered=first_group is not None)
        if found is None:
            if first_group is not None:
                raise InvalidValueError("first_group", "expected none for independent points. Leave it out")
            self._take([(self._independent, self._absorbed(cloud))])
            return self
        halves = halves_of(cloud, found, first_number=first)
        batches = [self._absorbed(half, cloud) for half in (halves.first, halves.second)]
        self._take(list(zip(self._halves, batches, strict=True)))
        met = np.zeros(first + int(found.count), bool)
        met[first + numbers_of(cloud, found)] = True
        self._met = _either(self._met, met)
        return self

    def merge(self, other: Moments, *, same_groups: bool = False) -> Moments:
        """Take in the points of other moments.

        Parameters
        ----------
        other : Moments
            Stays unchanged.
        same_groups : bool, default False
            Whether its groups are these, by their numbers, as of another layer of the same sequences. By default they
            are others, whose numbers count on.

        Returns
        -------
        Moments
            This object.

        Raises
        ------
        InvalidValueError
            If they are of another d.
        """
        if not isinstance(other, Moments):
            raise InvalidTypeError("other", f"expected Moments; got {type(other).__name__}. Use update for points")
        if other is self:
            other = copy.copy(self)
        if other.dim is None:
            return self
        if self.dim not in (None, other.dim):
            raise InvalidValueError("other", f"expected moments of {self.dim} dimensions; got {other.dim}")
        if self.dim is None and self.sketch is None:  # of what kind it is decides what comes first
            self.sketch, self.seed = other.sketch, other.seed
            self._independent, self._halves = self._new(), (self._new(), self._new())
        if (self.sketch, self.seed) != (other.sketch, other.seed):
            raise InvalidValueError(
                "other",
                f"expected moments with the same sketch, {self.sketch} columns of seed {self.seed}; got {other.sketch} "
                f"of seed {other.seed}. Make both with the same sketch= and seed=",
            )
        its_parts: tuple[Accumulator, ...] = other._parts
        if not same_groups and len(self._met) % 2:  # its groups with even numbers get odd ones
            its_parts = (other._independent, *reversed(other._halves))
        self._take([(ours, its) for ours, its in zip(self._parts, its_parts, strict=True) if its.dim is not None])
        self._met = _either(self._met, other._met) if same_groups else np.concatenate([self._met, other._met])
        return self

    @property
    def groups_with_points(self) -> int:
        """Number of groups so far that have a point; 0 if points are independent."""
        return int(np.count_nonzero(self._met))

    @property
    def groups_in_halves(self) -> tuple[int, int]:
        """Number of groups with an even and with an odd number that have a point."""
        return int(np.count_nonzero(self._met[::2])), int(np.count_nonzero(self._met[1::2]))

    def turned(self) -> Moments:
        """Return a copy whose halves are exchanged: its groups' numbers count from 1."""
        twin = copy.copy(self)
        twin._halves = (twin._halves[1], twin._halves[0])
        twin._met = np.concatenate([[False], twin._met])
        return twin

    def merge_halves(self, other: Moments) -> Moments:
        """Take in the points of other groups, which stay in their halves: a group without points evens our number."""
        if len(self._met) % 2:
            self._met = np.append(self._met, False)
        return self.merge(other)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return all that these moments hold, for a file; see `from_arrays`.

        Returns
        -------
        dict of str to ndarray
            Names such as ``"even.scatter"``; at most 2·d² numbers, and as many rows as are not multiplied yet. They
            are no copies: write or copy them before these moments change.
        """
        parts = zip(_PARTS, self._parts, strict=True)
        arrays = {f"{part}.{name}": array for part, of in parts for name, array in arrays_of(of).items()}
        return arrays | {"met": self._met}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Moments:
        """Return the moments that `to_arrays` took apart, which go on to the very bit.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            As `to_arrays` returned them; copied.

        Returns
        -------
        Moments
            Equal ones.

        Raises
        ------
        InvalidValueError
            If an array is missing, of another shape, or holds NaN or inf.

        Examples
        --------
        >>> import numpy as np
        >>> import isoscore_star as iso
        >>> moments = iso.Moments().update(np.random.default_rng(0).normal(size=(100, 8)))
        >>> iso.Moments.from_arrays(moments.to_arrays()).isoscore() == moments.isoscore()
        True
        """
        if not isinstance(arrays, Mapping):
            raise InvalidTypeError(
                "arrays", f"expected a mapping of names to arrays, as to_arrays returns; got {type(arrays).__name__}"
            )
        met = np.array(arrays.get("met", 0))
        if met.ndim != 1 or met.dtype != np.bool_:
            raise InvalidValueError(
                "arrays", "expected 'met', a boolean for each group, as to_arrays writes it; got none"
            )
        independent, even, odd = (
            accumulator_of({name[len(part) + 1 :]: arrays[name] for name in arrays if name.startswith(f"{part}.")})
            for part in _PARTS
        )
        if len({part.dim for part in (independent, even, odd) if part.dim is not None}) > 1:
            raise InvalidValueError("arrays", "expected parts of one number of dimensions; got several")
        kinds = {sketch_of(part) for part in (independent, even, odd) if part.dim is not None}
        if len(kinds) > 1:
            raise InvalidValueError("arrays", "expected parts of one kind; got some with a sketch, and others")
        size, seed = kinds.pop() if kinds else (None, 0)
        moments = cls(sketch=size, seed=seed)
        for ours, its in zip(moments._parts, (independent, even, odd), strict=True):
            if its.dim is not None:
                vars(ours).update(vars(its))
        moments._met = met
        return moments

    def isoscore(self) -> float:
        """IsoScore of all points; see `isoscore_star.isoscore`."""
        return self.isoscore_star()

    def isoscore_star(self, shrinkage_cov: Any = None, zeta: float = 0.0) -> float:
        """IsoScore* of all points; see `isoscore_star.isoscore_star`."""
        zeta = parameters.zeta(zeta, shrinkage_cov)
        dim = self._require_spread(2, "IsoScore*")
        target = None if shrinkage_cov is None else value_checks.shrinkage_target(shrinkage_cov, dim)
        return float(np.clip(shrunk_score(self.invariants(target), zeta, dim, np.where), 0.0, 1.0))

    def isoscore_unbiased(self, groups: Any = "auto") -> float:
        """Unbiased score of all points; see `isoscore_star.isoscore_unbiased`.

        Parameters
        ----------
        groups : "auto" or None, default "auto"
            The groups that the updates had; None takes all points for independent.

        Returns
        -------
        float
            The score.
        """
        grouped = parameters.stream_has_groups(groups)
        dim = self._require_spread(4, "the unbiased estimate")
        if not grouped or not self.group_count:
            invariants = self.invariants(fourth_order=True)
            value_checks.positive_margin(float(unbiased_margin(invariants)), self.count, invariants.precision)
            return float(unbiased_score(invariants, dim, np.where, floored=False))
        pair = self.pair()
        value_checks.enough_groups(*(int(np.count_nonzero(self._met[half::2])) for half in (0, 1)))
        value_checks.positive_halves(pair.counts, pair.t_a, pair.t_b, pair.inner, pair.precision)
        return float(halves_score(pair, dim, np.where, enough=True, floored=False))

    def invariants(self, shrinkage_cov: FloatArray | None = None, *, fourth_order: bool = False) -> Invariants:
        """Compute the invariants of the points so far."""
        return self._union().invariants(shrinkage_cov, fourth_order=fourth_order)

    def spread(self) -> Spread:
        """Return the centred points so far, in the form for their number."""
        return self._union().spread()

    def half(self, number: int) -> Accumulator:
        """Return the points of the groups with even numbers (0), or with odd numbers (1)."""
        return self._halves[number]

    def pair(self) -> Pair:
        """Compute what the score of the two halves depends on, requiring that all points came in groups."""
        if self._independent.count:
            raise value_checks.mixed_with_groups(self._independent.count, self.count)
        return pair_of(*self._halves)

    @property
    def _parts(self) -> tuple[Accumulator, ...]:
        return (self._independent, *self._halves)

    def _union(self) -> Accumulator:
        if not self.group_count:
            return self._independent
        if self._all is None:
            self._all = self._new()
            for part in self._parts:
                if part.dim is not None:
                    self._all.add(part)
        return self._all

    def _take(self, pairs: list[tuple[Accumulator, Accumulator]]) -> None:
        for ours, its in pairs:
            ours.add(its)
        self._all = None

    def _new(self) -> Accumulator:
        return Accumulator() if self.sketch is None else SketchAccumulator(self.sketch, self.seed)

    def _absorbed(self, part: Points, cloud: Points | None = None) -> Accumulator:
        """Take in a part of a cloud, requiring that it is finite, and keep no view of the caller's arrays."""
        to_numpy, batch = part.backend.to_numpy, self._new()
        for array, keep in zip(part.clouds, part.masks, strict=True):
            batch.absorb(to_numpy(array), None if keep is None else to_numpy(keep))
        if not batch.is_finite():
            value_checks.explain_non_finite(part if cloud is None else cloud)
        batch.own()
        return batch

    def _require_spread(self, least: int, why: str) -> int:
        value_checks.enough_points(self.count, least, why)
        spread = self.spread()
        if not spread.total:
            raise value_checks.identical_points(self.count)
        return len(spread.anchor)


def _either(met: NDArray[np.bool_], other: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which of the groups with these numbers have a point in either."""
    union = np.zeros(max(len(met), len(other)), bool)
    union[: len(met)] = met
    union[: len(other)] |= other
    return union
