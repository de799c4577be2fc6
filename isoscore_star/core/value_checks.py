"""Checks of values: covariances, spectra, and the points of computed invariants.

Measuring functions make them wherever values are known, training only with ``check_values``, since the host waits for
the device then. `isoscore_star.core.checks` has those that need no values.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core import checks, parameters
from isoscore_star.core.array_likes import as_numpy
from isoscore_star.core.checks import Points
from isoscore_star.core.errors import DegenerateDataError, InvalidValueError
from isoscore_star.core.groups import Groups, Halves, numbers_of
from isoscore_star.core.protocol import Array, Backend, Invariants, Pair
from isoscore_star.core.registry import backend_of
from isoscore_star.core.score import rounding_of_margin, unbiased_margin
from isoscore_star.core.spread import differences_overflow, largest_entry


def covariance_values(name: str, matrix: Any, backend: Backend) -> None:
    """Require finite, symmetric values with variances that are not negative and not all zero, if values are known.

    Also ‖C‖²_F ≤ (tr C)², since Σλ² ≤ (Σλ)² for eigenvalues that are not negative; otherwise the score is below 0. Both
    to √ε of the dtype, symmetry relative to the largest entry: summing m products in another order changes an entry by
    at most m·ε, which is below √ε in practice.
    """
    owner = checks.owner_of(name, matrix, backend)
    if owner.concrete(matrix[0, 0]) is None:
        return
    values, tolerance = owner.to_numpy(matrix), _covariance_tolerance(owner.dtype_name(matrix))
    with np.errstate(over="ignore", invalid="ignore"):
        if not _plainly_a_covariance(values, tolerance):
            least = _least_variance(owner, owner.dtype_name(owner.constant(matrix[:1, :1], matrix)))
            _explain_covariance(name, values.astype(np.float64), tolerance, least)


def _plainly_a_covariance(values: NDArray[Any], tolerance: float) -> bool:
    """Return whether all checks surely hold, in less time than a small product; else `_explain_covariance` decides.

    Symmetry by C·v = Cᵀ·v for a random v: an entry that differs from its mirror image by e changes two components by
    e times a normal number.
    """
    if values.dtype not in (np.float32, np.float64):
        return False
    variances = values.diagonal().astype(np.float64)
    trace, squares, largest = float(variances.sum()), float(np.vdot(values, values)), float(variances.max())
    # Squares below this may have lost digits to underflow.
    least = float(np.finfo(values.dtype).tiny) / np.finfo(values.dtype).eps
    if not (variances.min() >= 0 and least < squares < math.inf and squares <= (1 + tolerance) * trace * trace):
        return False
    probe = _probe(len(values)).astype(values.dtype)
    return bool(np.abs(values @ probe - probe @ values).max() <= tolerance / 10 * largest)


@lru_cache(maxsize=8)
def _probe(dim: int) -> NDArray[np.float64]:
    probe: NDArray[np.float64] = np.random.default_rng(0).normal(size=dim)
    return probe


def _explain_covariance(name: str, values: NDArray[np.float64], tolerance: float, least: float) -> None:
    if not np.isfinite(values).all():
        raise InvalidValueError(name, f"every entry has to be finite; got {_not_finite(values)} NaN or inf")
    variances = np.diagonal(values)
    if (variances < 0).any():
        i = int(np.argmin(variances))
        raise InvalidValueError(
            name, f"variances (the diagonal) cannot be negative; got {variances[i]:g} at [{i}, {i}]"
        )
    if not variances.any():
        raise DegenerateDataError(name, "every variance is zero, so there is no direction to compare")
    if variances.max() < least:
        raise InvalidValueError(
            name,
            f"its values are too small for the digits of floats (the largest variance is {variances.max():g}). "
            "The score does not change with scale: multiply it, and X by the square root of that",
        )
    values = values / np.abs(values).max()
    asymmetry = np.abs(values - values.T).max()
    if asymmetry > tolerance:
        raise InvalidValueError(
            name,
            f"a covariance is symmetric; got entries that differ from their mirror image by {asymmetry:.2g} "
            "times the largest entry. If that is rounding, give (C + C.T) / 2",
        )
    squares = float(np.sum(values**2) / np.trace(values) ** 2)
    if squares > 1 + tolerance:
        raise InvalidValueError(
            name,
            f"a covariance has no negative eigenvalue, so its squared entries sum to at most its squared trace "
            f"(got {squares:.3g} times that). Give the covariance of points, such as Moments().update(points).cov",
        )


def _not_finite(values: NDArray[Any]) -> int:
    return int(np.count_nonzero(~np.isfinite(values)))


def _least_variance(backend: Backend, dtype: str) -> float:
    """Return the smallest value allowed for a covariance's largest variance.

    Entries are known to half the smallest positive number: 2⁻¹⁶ of the returned value in float32, 2⁻⁴⁴ in float64, or
    2⁻²⁰ where subnormal numbers count as zero.
    """
    info, flushes = np.finfo(dtype), backend.flushes_subnormals
    digits = 16 if info.bits <= 32 else 20 if flushes else 44
    return 2.0**digits * float(info.tiny) * (1 if flushes else float(info.eps))


def _covariance_tolerance(dtype: str) -> float:
    """Return √ε of a dtype in which a covariance is stored."""
    if dtype == "bfloat16":
        return 2.0**-4
    return math.sqrt(float(np.finfo(dtype if dtype in parameters.FLOATS else np.float64).eps))


def zeta_value(name: str, zeta: Any, backend: Backend) -> None:
    """Require a ζ in [0, 1] that is an array, if its value is known."""
    value = None if isinstance(zeta, float) else backend.concrete(zeta)
    if value is not None:
        parameters.number(name, value, 0.0, 1.0)


def shrinkage_target(cov: Any, dim: int | None) -> NDArray[np.float64]:
    """Check Σ_S, values too, and return it as a float64 ndarray."""
    owner = backend_of(cov, "shrinkage_cov")
    matrix = checks.square_matrix("shrinkage_cov", cov, owner, dim)
    covariance_values("shrinkage_cov", matrix, owner)
    return owner.to_numpy(matrix).astype(np.float64)


def spectrum(eigenvalues: Any, backend: Backend) -> Any:
    """Require eigenvalues: shape (d,), and if values are known, finite, not negative, not all zero."""
    name = "eigenvalues"
    eigenvalues = backend.accept(name, eigenvalues)
    checks.check_dtype(name, backend.dtype_name(eigenvalues))
    shape = checks.shape_of(name, eigenvalues)
    if len(shape) != 1 or None in shape or shape[0] < 2:
        raise InvalidValueError(name, f"expected shape (d,) with d of at least 2; got shape {shape}")
    if backend.concrete(eigenvalues[0]) is not None:
        with np.errstate(over="ignore"):
            values = backend.to_numpy(eigenvalues).astype(np.float64)
        if not np.isfinite(values).all():
            raise InvalidValueError(name, f"every value has to be finite; got {_not_finite(values)} NaN or inf")
        if (values < 0).any():
            raise InvalidValueError(
                name, f"those of a covariance are not negative; got {values.min():g}. If that is rounding, cut at 0"
            )
        if not values.any():
            raise DegenerateDataError(name, "all are zero, so there is no direction to compare")
        if values.max() < _least_variance(backend, backend.dtype_name(backend.constant(eigenvalues[:1], eigenvalues))):
            raise InvalidValueError(
                name,
                f"too small for the digits of floats (the largest is {values.max():g}). The score does not "
                "change with scale: multiply them all",
            )
    return eigenvalues


def enough_points(count: int, least: int = 2, why: str = "a covariance") -> None:
    """Require at least so many points."""
    if count < least:
        raise DegenerateDataError("X", f"{why} needs at least {least} points; got {count} (masked points do not count)")


def identical_points(count: int) -> DegenerateDataError:
    """Return the error for points without variance."""
    return DegenerateDataError(
        "X",
        f"all {count} points are identical (zero variance), so there is no direction to compare. "
        "Check that X holds points as rows, not one point repeated",
    )


def unbiased_estimate(cloud: Points, invariants: Invariants) -> None:
    """Require a positive estimate of tr(Σ²), if values are known."""
    margin = cloud.backend.concrete(unbiased_margin(invariants))
    count = cloud.backend.concrete(invariants.count)
    if margin is not None and count is not None:
        positive_margin(margin, int(count), invariants.precision)


def positive_margin(margin: float, count: int, precision: float) -> None:
    """Require an estimate of tr(Σ²) above its rounding error."""
    if not margin > rounding_of_margin(count, precision):
        raise DegenerateDataError(
            "X",
            f"with these {count} points the unbiased estimate of the denominator tr(Σ²) is not positive, or no more "
            "than rounding (their differences are orthogonal, or one point outweighs all others), so there is no "
            "unbiased score. Give more points, or float64, or use isoscore_star with a shrinkage_cov",
        )


def measured_values(cloud: Points, mask: Any, invariants: Invariants, least: int, why: str) -> None:
    """Require finite values, enough points and variance, if values are known."""
    count, spread, unit = map(cloud.backend.concrete, (invariants.count, invariants.t, invariants.unit))
    if count is None or spread is None or unit is None:
        return
    mask_values(mask, cloud.backend)
    enough_points(int(count), least, why)
    if not (math.isfinite(spread) and math.isfinite(unit)):
        explain_non_finite(cloud)
    if unit < _least_unit(cloud.backend, invariants.f) and _differ(np.concatenate(cloud.rows())):
        raise InvalidValueError(
            "X",
            f"the differences of these values are too small for the digits of {cloud.backend.name}'s numbers (their "
            f"standard deviation is about {unit:.1g}). The score does not change with scale: multiply X (and "
            "shrinkage_cov by the square of that)",
        )
    if spread == 0:
        raise identical_points(int(count))


def measured_halves(cloud: Points, mask: Any, groups: Groups, halves: Halves, pair: Pair, across: Any) -> None:
    """Require finite values, two groups with points in each half, and spread and directions in common, if known."""
    traces = [cloud.backend.concrete(trace) for trace in (pair.t_a, pair.t_b, pair.inner)]
    counts = [cloud.backend.concrete(count) for count in pair.counts]
    if None in traces or None in counts:
        return
    mask_values(mask, cloud.backend)
    t_a, t_b, inner = cast(list[float], traces)
    if not (math.isfinite(t_a) and math.isfinite(t_b)):
        explain_non_finite(cloud)
    if across is None:
        numbers = np.unique(numbers_of(cloud, groups))
        odd = int(np.count_nonzero(numbers % 2))
        enough_groups(len(numbers) - odd, odd)
    elif halves.count is not None:  # the groups of all devices, also those without points
        total = int(cloud.backend.concrete(halves.count) or 0)
        enough_groups(total - total // 2, total // 2)
    positive_halves(counts, t_a, t_b, inner, pair.precision)


def enough_groups(even: int, odd: int) -> None:
    """Require two groups with points in each half: one alone is without the variance between groups."""
    if min(even, odd) < 2:
        raise DegenerateDataError(
            "groups",
            f"the score of two halves needs at least 4 groups with points, 2 in each half; got {even + odd}, {even} "
            f"with even numbers and {odd} with odd ones. Give more sequences, or groups=None if the points are "
            "independent",
        )


def positive_halves(counts: Any, t_a: float, t_b: float, inner: float, precision: float) -> None:
    """Require spread in both halves, and an inner product above its rounding error.

    An entry of a scatter errs by `rounding_of_margin` of its terms, which sum to at most tr A·tr B (Cauchy-Schwarz).
    """
    if not t_a or not t_b:
        raise DegenerateDataError(
            "X",
            f"the {'first' if not t_a else 'second'} half of the groups has no variance (the halves have {counts[0]:g} "
            f"and {counts[1]:g} points), so there is no direction to compare. Give more groups, or check that X "
            "holds points as rows",
        )
    if not inner > t_a * t_b * rounding_of_margin(max(counts), precision):
        raise DegenerateDataError(
            "X",
            "the two halves of the groups have no direction in common, or no more than rounding, so there is no score "
            "without bias. Give more groups, or use isoscore_star with a shrinkage_cov",
        )


def mixed_with_groups(independent: int, count: int) -> InvalidValueError:
    """Return the error for a stream in which only some points came in groups."""
    return InvalidValueError(
        "groups",
        f"some updates had groups, others not: {independent} of {count} points are independent. Give groups in all "
        "updates, or isoscore_unbiased(groups=None)",
    )


def _least_unit(backend: Backend, invariant: Array) -> float:
    """Return the standard deviation below which digits are lost.

    Where subnormal numbers count as zero a difference errs by up to `tiny`, a fraction δ of the standard deviation. So
    small differences are about a fraction δ of all, so the score errs by δ²: 10⁻¹² in float64, 10⁻⁶ in float32.
    """
    if not backend.flushes_subnormals:
        return 5e-324
    info = np.finfo(backend.dtype_name(invariant))
    return float(info.tiny) * (1e6 if info.bits > 32 else 1e3)


def _differ(points: NDArray[Any]) -> bool:
    return bool((points != points[:1]).any())


def target_in_range(backend: Backend, target: Array, invariants: Invariants) -> None:
    """Require that Σ_S, whose values were checked, is in range in the dtype in which X is computed."""
    total, unit = backend.concrete(invariants.t0), backend.concrete(invariants.target_unit)
    if total is None or unit is None:
        return
    if total == 0 or not math.isfinite(total) or unit * unit < _least_variance(backend, backend.dtype_name(target)):
        raise InvalidValueError(
            "shrinkage_cov",
            f"its values leave the range of {backend.dtype_name(target)}, in which X is computed. Give "
            "X in float64, or divide X by a length (and shrinkage_cov by the square of that)",
        )


def mask_values(mask: Any, backend: Backend | None = None) -> None:
    """Require a mask, or masks, of zeros and ones."""
    for part in mask if isinstance(mask, (list, tuple)) else [mask]:
        if part is None:
            continue
        owner = backend_of(part, "mask") if backend is None else checks.owner_of("mask", part, backend)
        values = owner.to_numpy(part)
        if values.dtype != bool and not np.isin(values, (0, 1)).all():
            odd = values[~np.isin(values, (0, 1))].flat[0]
            raise InvalidValueError(
                "mask",
                f"expected only zeros and ones (or booleans); got {odd!s}. Weights and additive masks (0 and "
                "-inf) are not supported: give mask == 0, or mask > 0.5, whichever says which points count",
            )


def explain_non_finite(cloud: Points) -> None:
    """Raise for a cloud whose invariants are NaN or infinite: a value is, or a difference overflows."""
    for rows in cloud.rows():
        bad = ~np.isfinite(rows)
        if bad.any():
            raise InvalidValueError(
                "X",
                f"every value has to be finite; got {np.count_nonzero(bad)} NaN or inf, the first in row "
                f"{int(np.argmax(bad.any(axis=1)))} of those that count. Remove them or mask their rows",
            )
    raise differences_overflow()


def reference_points(X: Any) -> NDArray[np.float64]:
    """Check one NumPy cloud, values too, without the backends' arithmetic; return it in float64."""
    X = as_numpy("X", X)
    checks.check_array("X", X, backend_of(X))
    if X.ndim != 2:
        raise InvalidValueError(
            "X", f"the reference takes one cloud of shape (points, dimensions); got shape {X.shape}"
        )
    enough_points(len(X))
    if not np.isfinite(X).all():
        raise InvalidValueError("X", f"every value has to be finite; got {_not_finite(X)} NaN or inf")
    points: NDArray[np.float64] = X.astype(np.float64)
    if not _differ(points):
        raise identical_points(len(X))
    if largest_entry(points) >= 2.0**1023:
        raise differences_overflow()
    return points
