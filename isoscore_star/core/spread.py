"""Centred points, with every sum that a score needs, in one of two forms (NumPy).

`Scatter` is for many points: d × d numbers, merged over blocks. `FewPoints` is for fewer points than dimensions: the
points themselves and their m × m products.

The unit is a power of two, 1 unless the points are extremely large or small.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from copy import copy
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigvalsh

from isoscore_star.core.errors import InvalidValueError
from isoscore_star.core.merging import Operations, Sums, merge
from isoscore_star.core.scaling import where_known
from isoscore_star.core.sketch import SketchedSpread

FloatArray = NDArray[np.float64]

_CACHE = 2**19
"""Bytes of rows that stay in a processor's cache from one operation to the next."""

_NARROW = 128
"""Dimensions below which float32 points are multiplied in float64.

One far point can make the entries of a scatter so large that float32 loses all other rows: 2²⁴ times as large as a
row's own, for a far point of squared length d·2²⁴ in units of the others' variance. Each other row then is a fraction
2/(d·2²⁴) of the score: at most 8·10⁻⁶ for the 8,192 rows of a block and d = 128.
"""

_STEP = 64
_STEPS = 15
"""Units are powers of 2⁶⁴ up to the 15th: 1 for points within 2³² of 1, and all lengths stay in range."""


class Spread(Protocol):
    """The interface of both forms; see `isoscore_star.core.merging.Sums`, and `Invariants` for the precision."""

    count: int
    anchor: FloatArray
    unit: float
    offset: FloatArray
    precision: float

    @property
    def total(self) -> float:
        """Trace of A."""

    @property
    def squares(self) -> float:
        """‖A‖²_F."""

    @property
    def third(self) -> FloatArray:
        """Vector z."""

    @property
    def fourth(self) -> float:
        """Σ‖x‖⁴."""

    def times(self, rows: FloatArray) -> FloatArray:
        """Return rows·A."""

    def inner(self, matrix: FloatArray) -> float:
        """Return ⟨A, matrix⟩."""

    def diagonal(self) -> FloatArray:
        """Return the diagonal of A."""

    def eigenvalues(self) -> FloatArray:
        """Return the eigenvalues of A, largest first."""

    def matrix(self) -> FloatArray:
        """Return A, d × d numbers."""

    def copy(self) -> Spread:
        """Return a copy that merging leaves unchanged."""


class Scatter(Sums):
    """The form for many points; see `Spread`."""

    def __init__(self, block: NDArray[Any]) -> None:
        rows, anchor, unit, offset = _centre(block)
        self.precision = float(np.finfo(rows.dtype).eps)
        third, fourth = np.zeros(rows.shape[1]), 0.0
        with np.errstate(invalid="ignore", over="ignore"):
            # NumPy computes X.T @ X of the same array by a symmetric product (syrk), half the work of a general one.
            scatter = np.asarray(rows.T @ rows, np.float64)
            for part in _parts(rows):
                squared_norms = np.einsum("ij,ij->i", rows[part], rows[part])
                third += squared_norms @ rows[part]
                squared_norms = squared_norms.astype(np.float64)
                fourth += float(squared_norms @ squared_norms)
        super().__init__(len(rows), unit, anchor, offset, scatter, third, fourth)

    @classmethod
    def of_sums(cls, sums: Sums, precision: float) -> Scatter:
        """Return the scatter of sums that were computed elsewhere, with products of this rounding."""
        scatter = cls.__new__(cls)
        Sums.__init__(scatter, **vars(sums))
        scatter.precision = precision
        return scatter

    @property
    def total(self) -> float:
        return float(self.scatter.trace())

    @property
    def squares(self) -> float:
        return float(np.vdot(self.scatter, self.scatter))

    def times(self, rows: FloatArray) -> FloatArray:
        return np.asarray(rows @ self.scatter)

    def inner(self, matrix: FloatArray) -> float:
        return float(np.vdot(self.scatter, matrix))

    def diagonal(self) -> FloatArray:
        return np.asarray(self.scatter.diagonal())

    def eigenvalues(self) -> FloatArray:
        return np.asarray(np.maximum(eigvalsh(self.scatter)[::-1], 0.0))

    def matrix(self) -> FloatArray:
        return np.asarray(self.scatter)

    def copy(self) -> Scatter:
        twin = copy(self)
        twin.scatter = self.scatter.copy()
        return twin

    @np.errstate(over="ignore", invalid="ignore")  # as in `_centre`
    def merge(self, other: Scatter) -> None:
        """Merge another scatter, which stays unchanged, into this."""
        merge(self, other, _OPERATIONS)
        self.precision = max(self.precision, other.precision)


class FewPoints:
    """The form for fewer points than dimensions; see `Spread`."""

    def __init__(self, points: NDArray[Any]) -> None:
        self.count = len(points)
        self._rows, self.anchor, self.unit, self.offset = _centre(points)
        self.precision = float(np.finfo(self._rows.dtype).eps)

    @cached_property
    def _products(self) -> FloatArray:
        """Inner products of the points, m × m."""
        return np.asarray(self._rows @ self._rows.T, np.float64)

    @property
    def total(self) -> float:
        return float(self._products.trace())

    @property
    def squares(self) -> float:
        return float(np.vdot(self._products, self._products))

    @property
    def third(self) -> FloatArray:
        return np.asarray(self._products.diagonal() @ self._rows.astype(np.float64, copy=False))

    @property
    def fourth(self) -> float:
        squared_norms = self._products.diagonal()
        return float(squared_norms @ squared_norms)

    def rows(self) -> FloatArray:
        """Return the centred points."""
        return self._rows.astype(np.float64, copy=False)  # NumPy multiplies two dtypes without BLAS

    def times(self, rows: FloatArray) -> FloatArray:
        return np.asarray((rows @ self.rows().T) @ self.rows())

    def inner(self, matrix: FloatArray) -> float:
        return float(np.vdot(self.rows() @ matrix, self.rows()))

    def diagonal(self) -> FloatArray:
        return np.asarray(np.einsum("ij,ij->j", self._rows, self._rows), np.float64)

    def eigenvalues(self) -> FloatArray:
        eigenvalues = np.zeros(self._rows.shape[1])
        if self.count:
            eigenvalues[: self.count] = np.maximum(eigvalsh(self._products)[::-1], 0.0)
        return eigenvalues

    def matrix(self) -> FloatArray:
        return np.asarray(self._rows.T @ self._rows, np.float64)

    def copy(self) -> FewPoints:
        return self


def centred(spread: Spread, rows: NDArray[Any]) -> FloatArray:
    """Return points less the mean, in the unit, in float64."""
    return np.asarray((rows.astype(np.float64) - spread.anchor) / spread.unit - spread.offset)


def inner_product(ours: Spread, theirs: Spread) -> float:
    """Return ⟨A, B⟩ of two spreads, by the smallest product."""
    if isinstance(ours, SketchedSpread) and isinstance(theirs, SketchedSpread):
        return ours.with_other(theirs).value
    if isinstance(theirs, FewPoints):
        ours, theirs = theirs, ours
    if not isinstance(ours, FewPoints):
        return ours.inner(theirs.matrix())
    if isinstance(theirs, FewPoints):
        products = ours.rows() @ theirs.rows().T
        return float(np.vdot(products, products))
    return float(np.vdot(theirs.times(ours.rows()), ours.rows()))


def mean_of(spread: Spread) -> FloatArray:
    """Return the mean of the points."""
    return spread.anchor + spread.offset * spread.unit


def differences_overflow() -> InvalidValueError:
    """Return the error for points that are too far apart."""
    return InvalidValueError(
        "X",
        "the differences of these values overflow. The score does not change with scale: divide X by its largest "
        "value (and shrinkage_cov by the square of that)",
    )


def largest_entry(rows: NDArray[Any]) -> float:
    """Return the largest absolute value, or NaN."""
    # Floats first, since the negative of an integer may overflow.
    return float(np.maximum(float(rows.max()), -float(rows.min()))) if rows.size else 0.0


def _centre(block: NDArray[Any]) -> tuple[NDArray[Any], FloatArray, float, FloatArray]:
    """Return centred rows, anchor, unit and offset, in float32 for wide float32 points, else in float64."""
    dim = block.shape[1]
    if not len(block):
        return np.empty((0, dim)), np.zeros(dim), 1.0, np.zeros(dim)
    precision: Any = precision_of(block)
    # Values that are not finite give NaN, which value checks explain.
    with np.errstate(invalid="ignore", over="ignore"):
        anchor = block[0].astype(precision)
        rows = np.empty(block.shape, precision)
        total, largest = np.zeros(dim), 0.0
        for part in _parts(rows):
            np.subtract(block[part], anchor, out=rows[part], dtype=precision)
            total += _sum(rows[part])
            largest = float(np.maximum(largest, largest_entry(rows[part])))
        if precision is np.float32 and (_unit_of(largest) != 1 or largest == math.inf):
            return _centre(block.astype(np.float64))
        unit = _unit_of(largest)
        if unit != 1:
            rows /= unit
            total = _sum(rows)
        offset = (total / len(block)).astype(precision)
        rows -= offset
        return rows, anchor.astype(np.float64), unit, offset.astype(np.float64)


def precision_of(points: NDArray[Any]) -> type[np.float32] | type[np.float64]:
    """Return the dtype in which points are multiplied."""
    return np.float32 if points.dtype == np.float32 and points.shape[-1] >= _NARROW else np.float64


def units_of(lengths: NDArray[Any]) -> FloatArray:
    """Round lengths to units, of which points are multiplied in: powers of 2⁶⁴; 1 for zero, inf and NaN."""
    with np.errstate(divide="ignore"):
        steps = np.rint(np.log2(lengths, dtype=np.float64) / _STEP)
    steps[~np.isfinite(steps)] = 0
    return np.asarray(np.ldexp(1.0, _STEP * np.clip(steps, -_STEPS, _STEPS).astype(np.int64)))


def _unit_of(length: float) -> float:
    """Round a length to a power of 2⁶⁴ whose reciprocal is in range: the least for zero, 1 for inf and NaN."""
    if not length < math.inf:
        return 1.0
    steps = round(math.log2(length) / _STEP) if length else -_STEPS
    return 2.0 ** (_STEP * max(-_STEPS, min(_STEPS, steps)))


def _sum(rows: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(np.ones(len(rows), rows.dtype) @ rows)


def _parts(rows: NDArray[Any]) -> Iterator[slice]:
    step = max(1, _CACHE // rows[:1].nbytes)
    return (slice(start, start + step) for start in range(0, len(rows), step))


_OPERATIONS = Operations(where_known, operator.matmul, np.trace, lambda vector: _unit_of(float(np.abs(vector).max())))
