"""Checks of numbers and words; they also run inside a traced or compiled function."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core.errors import InvalidTypeError, InvalidValueError
from isoscore_star.core.messages import shown
from isoscore_star.core.protocol import Backend

FLOATS = ("float64", "float32", "float16", "bfloat16", "float128", "float96")  # the last two are NumPy's longdouble
ESTIMATORS = ("shrinkage", "unbiased", "anchored")
MEASURING_ESTIMATORS = ("shrinkage", "unbiased")
"""Those of a score to look at: the anchored one is for gradients alone."""

MOST_GROUPS = 2**31
"""Of which a stream remembers for each whether it has a point."""


def sketch_size(name: str, value: Any) -> int:
    """Require enough columns for the leading directions, and for an estimate of the rest with its error."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InvalidTypeError(name, f"expected an integer, or None; got {shown(value)}")
    if value < 16:
        raise InvalidValueError(name, f"expected at least 16 columns; got {value}")
    return int(value)


def number(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """Require a finite real number in [low, high]."""
    allowed = "a finite number" if math.isinf(low) else f"a number in [{low:g}, {high:g}]"
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise InvalidTypeError(name, f"expected {allowed}; got {shown(value)} of type {type(value).__name__}")
    try:
        number = float(value)
    except (OverflowError, ValueError):  # an integer beyond the range of floats; a signalling NaN
        number = math.nan
    # Not math.isfinite, which torch.compile does not trace.
    if not (low <= number <= high and not value < low and value <= high and abs(number) < math.inf):
        raise InvalidValueError(name, f"expected {allowed}; got {shown(value)}")
    return number


def numbers(name: str, values: Sequence[Any]) -> NDArray[np.float64]:
    """Require a list of finite numbers."""
    if any(isinstance(value, Sequence) or getattr(value, "shape", ()) for value in values):
        raise InvalidValueError(name, "expected a list of numbers or an array of shape (d,); got a list of lists")
    return np.array([number(f"{name}[{i}]", value) for i, value in enumerate(values)], dtype=np.float64)


def weight(name: str, value: Any, backend: Backend, low: float = -math.inf, high: float = math.inf) -> Any:
    """Require a number in [low, high], or (for schedules) a 0-d array of X's framework, whose value is not checked."""
    if isinstance(value, (Real, np.ndarray)) or not backend.owns(value):
        return number(name, value[()] if isinstance(value, np.ndarray) and value.shape == () else value, low, high)
    dtype, shape = backend.dtype_name(value), tuple(value.shape)
    if shape != () or dtype not in FLOATS:
        raise InvalidValueError(
            name, f"as an array it has to be a scalar, of shape () and floating-point; got {dtype} of shape {shape}"
        )
    return value


def zeta(value: Any, shrinkage_cov: Any, backend: Backend | None = None) -> Any:
    """Require ζ in [0, 1], and Σ_S unless ζ is known to be 0."""
    weighted = number("zeta", value, 0.0, 1.0) if backend is None else weight("zeta", value, backend, 0.0, 1.0)
    if shrinkage_cov is None and not (isinstance(weighted, float) and weighted == 0):
        raise InvalidValueError(
            "shrinkage_cov",
            f"zeta={shown(value)} mixes in a shrinkage covariance, but none was given. "
            "Give one (the covariance of many more points, for example isoscore_star.Moments().update(points).cov), "
            'or set zeta=0, or use estimator="unbiased" (isoscore_unbiased), which needs none. Modules and layers take '
            'their own from the batches with estimator="anchored"',
        )
    return weighted


def anchor(shrinkage_cov: Any) -> Any:
    """Require Σ_S of the anchored estimator."""
    if shrinkage_cov is None:
        raise InvalidValueError(
            "shrinkage_cov",
            'estimator="anchored" compares the batch with a covariance of many more points, but none was given. Give '
            'one (isoscore_star.Moments().update(points).cov, for example), or use estimator="unbiased", without any',
        )
    return shrinkage_cov


def stream_has_groups(groups: Any) -> bool:
    """Require "auto" or None, and return whether the groups that the updates of a stream had count."""
    if groups is not None and (not isinstance(groups, str) or groups != "auto"):
        raise InvalidValueError("groups", f'expected "auto" or None, since update takes groups; got {shown(groups)}')
    return groups is not None


def usual_groups(groups: Any) -> Any:
    """Require the groups of every batch: "auto", an axis or None."""
    if groups is None or (isinstance(groups, str) and groups == "auto"):
        return groups
    if isinstance(groups, bool | np.bool_) or not isinstance(groups, Integral):
        raise InvalidValueError(
            "groups",
            f'expected "auto", an axis, or None; got {shown(groups)}. Labels belong to a batch: give them with it',
        )
    return int(groups)


def groups_of_batch(groups: Any, usual: Any) -> Any:
    """Return the groups of a batch of a metric with such usual groups, which "auto" means."""
    if isinstance(groups, str) and groups == "auto":
        return usual
    if usual is None and groups is not None:
        raise InvalidValueError(
            "groups", 'this metric was made with groups=None, and keeps no halves. Make it with groups="auto"'
        )
    return groups


def decay(name: str, value: Any) -> float:
    """Require a decay of an exponential average, in [0, 1)."""
    checked = number(name, value, 0.0, 1.0)
    if checked == 1:
        raise InvalidValueError(name, "expected a number in [0, 1); 1 would never take a batch in")
    return checked


def choice(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    """Require one of the allowed words."""
    if not isinstance(value, str) or value not in allowed:
        raise InvalidValueError(name, f"expected one of {', '.join(map(repr, allowed))}; got {shown(value)}")
    return str(value)


def dimensions(d: Any, name: str = "d") -> int:
    """Require a number of dimensions."""
    return _integer(name, d, "at least 2 dimensions", 2, typed="an integer of at least 2")


def rank(name: str, value: Any, dim: int) -> int:
    """Require a number of directions in d dimensions."""
    return _integer(name, value, f"an integer from 1 to {dim}, the number of dimensions", 1, dim)


def group_number(name: str, number: Any) -> int:
    """Require the number of a group."""
    return _integer(name, number, "an integer from 0 on, below 2³¹", 0, MOST_GROUPS - 1)


def _integer(name: str, value: Any, allowed: str, low: int, high: int = 2**63 - 1, typed: str = "") -> int:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Integral):
        raise InvalidTypeError(name, f"expected {typed or allowed}; got {shown(value)} of type {type(value).__name__}")
    if not low <= int(value) <= high:
        raise InvalidValueError(name, f"expected {allowed}; got {shown(value)}")
    return int(value)
