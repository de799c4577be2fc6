"""Every check of an argument, and every message. Each names the argument, what came, what is allowed, what to do.

Checks come in two kinds. The static ones look at types, dtypes, shapes and Python numbers; they cost nothing, never
wait for a device and hold everywhere, also inside a traced or compiled function. Those of values need numbers: the
measuring functions make them whenever there are numbers to look at, the training path only when asked.
"""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoscore_star._errors import DegenerateDataError, InvalidTypeError, InvalidValueError
from isoscore_star._protocol import Array, Backend, Invariants
from isoscore_star._registry import backend_of
from isoscore_star._score import unbiased_margin

_FLOATS = ("float64", "float32", "float16", "bfloat16", "float128", "float96")  # the last two are NumPy's longdouble
_INTEGERS = tuple(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64))
ESTIMATORS = ("shrinkage", "unbiased")


class Points(NamedTuple):
    """A checked union of clouds, flattened and in the hands of its backend."""

    backend: Backend
    clouds: list[Array]
    masks: list[Array | None]
    dim: int


def points(X: Any, mask: Any = None) -> Points:
    """Check X and its mask statically, and bring them to the form that backends take."""
    backend = backend_of(X)
    is_union = isinstance(X, (list, tuple))
    arrays = list(X) if is_union else [X]
    names = [f"X[{i}]" for i in range(len(arrays))] if is_union else ["X"]
    if backend.name == "numpy":
        arrays = [_as_numpy(name, array) for name, array in zip(names, arrays, strict=True)]
    for name, array in zip(names, arrays, strict=True):
        _check_array(name, array, backend)
    dims = [int(array.shape[-1]) for array in arrays]
    if len(set(dims)) > 1:
        raise InvalidValueError(
            f"X: the clouds of one union need the same number of dimensions (last axis); got {dims}. "
            "Measure clouds of different width one by one"
        )
    masks = _masks(mask, arrays, names, is_union, backend)
    return Points(backend, [backend.points(array) for array in arrays], masks, dims[0])


def _as_numpy(name: str, array: Any) -> NDArray[Any]:
    if np.ma.is_masked(array):
        raise InvalidValueError(
            f"{name}: {_count(np.ma.getmaskarray(array))} values are masked, by NumPy's masked array, which would be "
            "lost. Give its data as it is, and which points count as mask="
        )
    return np.asarray(array)


def _check_array(name: str, array: Array, backend: Backend) -> None:
    _check_dtype(name, backend.dtype_name(array))
    _check_dense(name, array)
    shape = _shape(name, array)
    if len(shape) < 2:
        raise InvalidValueError(
            f"{name}: expected points as rows, shape (points, dimensions) or (..., dimensions); got shape {shape}. "
            "A single vector has no isotropy"
        )
    if shape[-1] is None:
        raise InvalidValueError(
            f"{name}: the number of dimensions (last axis) has to be known and the same for all points; got shape "
            f"{shape}. Give the traced function's argument a shape such as (None, 768)"
        )
    if shape[-1] < 2:
        raise InvalidValueError(
            f"{name}: isotropy needs at least 2 dimensions (last axis); got shape {shape}. "
            "If points are columns, transpose"
        )


def _shape(name: str, array: Array) -> tuple[Any, ...]:
    """Give the shape, in which a size that only a later call will know is None."""
    try:
        return tuple(array.shape)
    except ValueError:  # what TensorFlow's shapes answer if not even their length is known
        raise InvalidValueError(
            f"{name}: the number of axes has to be known; got a tensor of unknown rank. "
            "Give the traced function's argument a shape such as (None, None, 768)"
        ) from None


def _check_dtype(name: str, dtype: str) -> None:
    if dtype not in _FLOATS + _INTEGERS:
        raise InvalidTypeError(
            f"{name}: expected real floating-point or integer numbers of at least 8 bits, floating-point ones of at "
            f"least 16; got dtype {dtype}. Convert to float32 or float64 what is meant as numbers"
        )


def _check_dense(name: str, array: Array) -> None:
    layout = str(getattr(array, "layout", ""))
    if layout.startswith("torch.sparse"):
        raise InvalidTypeError(f"{name}: expected a dense array; got one of layout {layout}. Give {name}.to_dense()")


def _masks(mask: Any, arrays: list[Array], names: list[str], is_union: bool, backend: Backend) -> list[Array | None]:
    if mask is None:
        return [None] * len(arrays)
    if is_union and isinstance(mask, (list, tuple)):
        if len(mask) != len(arrays):
            raise InvalidValueError(
                f"mask: expected one mask (or None) for each of the {len(arrays)} clouds; got {len(mask)} masks"
            )
        masks = list(mask)
    else:
        masks = [mask] * len(arrays)
    return [_mask(m, a, n, backend) for m, a, n in zip(masks, arrays, names, strict=True)]


def _mask(mask: Any, array: Array, name: str, backend: Backend) -> Array | None:
    if mask is None:
        return None
    mask_backend = same_framework("mask", mask, backend)
    if mask_backend.name == "numpy":
        mask = _as_numpy("mask", mask)
    dtype = mask_backend.dtype_name(mask)
    if dtype != "bool" and dtype not in _FLOATS + _INTEGERS:
        raise InvalidTypeError(f"mask: expected booleans or zeros and ones; got dtype {dtype}")
    _check_dense("mask", mask)
    expected = tuple(array.shape[:-1])
    shape = _shape("mask", mask)
    if not same_shape(shape, expected):
        raise InvalidValueError(
            f"mask: expected shape {expected}, one entry for each point of {name} (shape {tuple(array.shape)}); "
            f"got {shape}. Entries are 1 or true for a point, 0 or false for padding"
        )
    return backend.mask(mask, array)


def same_shape(shape: tuple[int | None, ...], expected: tuple[int | None, ...]) -> bool:
    """Compare shapes; None is a size that only a later call will know, and fits any."""
    pairs = zip(shape, expected, strict=False)
    return len(shape) == len(expected) and all(a is None or b is None or a == b for a, b in pairs)


def across(value: Any, backend: Backend) -> Any:
    """Require a backend that can sum over devices, if that was asked for."""
    if value is not None and not backend.distributed:
        raise InvalidValueError(
            f"across: the {backend.name} backend cannot sum over devices; got {value!r}. Leave it out, or merge Moments"
        )
    return value


def same_framework(name: str, array: Any, backend: Backend) -> Backend:
    """Require X's own framework or NumPy, and return which of the two it is."""
    if isinstance(array, (list, tuple)):
        raise InvalidTypeError(
            f"{name}: expected an array of X's framework ({backend.name}) or NumPy; got a {type(array).__name__} of "
            f"{len(array)}. Convert it by numpy.asarray"
        )
    other = backend_of(array, name)
    if other.name in (backend.name, "numpy", *backend.takes) or (backend.name == "numpy" and "numpy" in other.takes):
        return other
    raise InvalidTypeError(
        f"{name}: expected an array of X's framework ({backend.name}) or NumPy; got one of {other.name}. "
        f"Convert it, or give X in {other.name}"
    )


def weight(name: str, value: Any, backend: Backend, low: float = -math.inf, high: float = math.inf) -> Any:
    """Require a finite real number in [low, high], or a 0-d array of X's framework, whose value is not looked at.

    Such an array is how a schedule changes λ or ζ without compiling anew.
    """
    if isinstance(value, (Real, np.ndarray)) or not backend.owns(value):
        return number(name, value[()] if isinstance(value, np.ndarray) and value.shape == () else value, low, high)
    dtype, shape = backend.dtype_name(value), tuple(value.shape)
    if shape != () or dtype not in _FLOATS:
        raise InvalidValueError(
            f"{name}: as an array it has to be a scalar, of shape () and floating-point; got {dtype} of shape {shape}"
        )
    return value


def number(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """Require a finite real number in [low, high]."""
    allowed = "a finite number" if math.isinf(low) else f"a number in [{low:g}, {high:g}]"
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise InvalidTypeError(f"{name}: expected {allowed}; got {value!r} of type {type(value).__name__}")
    number = float(value)
    if not math.isfinite(number) or not low <= number <= high:
        raise InvalidValueError(f"{name}: expected {allowed}; got {value!r}")
    return number


def zeta(value: Any, shrinkage_cov: Any, backend: Backend | None = None) -> Any:
    """Require ζ in [0, 1], and Σ_S where ζ > 0 or, as a scalar of the given backend, not known."""
    share = number("zeta", value, 0.0, 1.0) if backend is None else weight("zeta", value, backend, 0.0, 1.0)
    if shrinkage_cov is None and not (isinstance(share, float) and share == 0):
        raise InvalidValueError(
            f"shrinkage_cov: zeta={value} mixes in a shrinkage covariance, but none was given. "
            "Give one (the covariance of many more points, for example isoscore_star.Moments().update(points).cov), "
            'or set zeta=0, or use estimator="unbiased" (isoscore_unbiased), which needs none'
        )
    return share


def group_labels(groups: Any, X: Any) -> list[NDArray[Any]] | None:
    """Check the labels of points that belong together, and flatten them like the points."""
    if groups is None:
        return None
    is_union = isinstance(X, (list, tuple))
    arrays, labels = (list(X), groups) if is_union else ([X], [groups])
    if not isinstance(labels, (list, tuple)) or len(labels) != len(arrays):
        raise InvalidValueError(
            f"groups: expected a list with one array of labels for each of the {len(arrays)} clouds"
        )
    flat = []
    for array, part in zip(arrays, labels, strict=True):
        part = np.asarray(part)
        if tuple(part.shape) != tuple(array.shape[:-1]):
            raise InvalidValueError(
                f"groups: expected shape {tuple(array.shape[:-1])}, one label for each point; got {tuple(part.shape)}"
            )
        flat.append(part.reshape(-1))
    return flat


def choice(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    """Require one of some words."""
    if value not in allowed:
        raise InvalidValueError(f"{name}: expected one of {', '.join(map(repr, allowed))}; got {value!r}")
    return str(value)


def width(name: str, array: Any, dim: int) -> None:
    """Require points of a width that was agreed before."""
    shape = tuple(getattr(array, "shape", ()))
    if shape and shape[-1] != dim:
        raise InvalidValueError(
            f"{name}: this loss was made for dim={dim}; got shape {shape}, whose last axis is {shape[-1]}"
        )


def square_matrix(name: str, matrix: Any, backend: Backend, dim: int | None = None) -> Any:
    """Check a covariance statically: framework, dtype, shape (d, d). Returns it, as an ndarray if it is array-like."""
    owner = same_framework(name, matrix, backend)
    if owner.name == "numpy":
        matrix = _as_numpy(name, matrix)
    _check_dtype(name, owner.dtype_name(matrix))
    _check_dense(name, matrix)
    shape = _shape(name, matrix)
    if len(shape) != 2 or None in shape or shape[0] != shape[1] or shape[0] < 2:
        raise InvalidValueError(
            f"{name}: expected a square matrix of shape (d, d) with d of at least 2; got shape {shape}"
        )
    if dim is not None and shape[0] != dim:
        raise InvalidValueError(
            f"{name}: expected shape ({dim}, {dim}), as X has {dim} dimensions; got {shape}. "
            "It has to come from points of the same kind as X"
        )
    return matrix


def covariance_values(name: str, matrix: Any, backend: Backend) -> None:
    """Require finite, symmetric values with variances that are not negative and not all zero, if values are known.

    Also ‖C‖²_F ≤ (tr C)², which Σλ² ≤ (Σλ)² says of eigenvalues that are not negative: a matrix that violates it has
    others, and a score below 0. Either is held to √ε of the dtype, symmetry relative to the largest entry: summing m
    products in another order changes an entry by at most m·ε, and nobody's m·ε exceeds √ε, while a matrix that is no
    covariance misses by far.
    """
    owner = backend_of(matrix, name)
    if owner.concrete(owner.total(owner.constant(matrix, matrix))) is None:
        return
    values = owner.to_numpy(matrix)
    tolerance = _covariance_tolerance(owner.dtype_name(matrix))
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise InvalidValueError(f"{name}: every entry has to be finite; got {_count(~np.isfinite(values))} NaN or inf")
    variances = np.diagonal(values)
    if (variances < 0).any():
        i = int(np.argmin(variances))
        raise InvalidValueError(
            f"{name}: variances (the diagonal) cannot be negative; got {variances[i]:g} at [{i}, {i}]"
        )
    if not variances.any():
        raise DegenerateDataError(f"{name}: every variance is zero, so there is no direction to compare")
    asymmetry = np.abs(values - values.T).max()
    largest = np.abs(values).max()
    if asymmetry > tolerance * largest:
        raise InvalidValueError(
            f"{name}: a covariance is symmetric; got entries that differ from their mirror image by {asymmetry:g}. "
            "If that is rounding, give (C + C.T) / 2"
        )
    squares = float(np.sum((values / largest) ** 2) / np.sum(variances / largest) ** 2)
    if squares > 1 + tolerance:
        raise InvalidValueError(
            f"{name}: a covariance has no negative eigenvalue, so its squared entries sum to at most its squared trace "
            f"(got {squares:.3g} times that). Give the covariance of points, such as Moments().update(points).cov"
        )


def _covariance_tolerance(dtype: str) -> float:
    """Give √ε of a dtype in which a covariance is stored."""
    if dtype == "bfloat16":
        return 2.0**-4
    return math.sqrt(float(np.finfo(dtype if dtype in _FLOATS else np.float64).eps))


def shrinkage_target(cov: Any, dim: int) -> NDArray[np.float64]:
    """Check Σ_S wholly, values too, and give it in float64 (for code that works in NumPy)."""
    owner = backend_of(cov, "shrinkage_cov")
    matrix = square_matrix("shrinkage_cov", cov, owner, dim)
    covariance_values("shrinkage_cov", matrix, owner)
    return owner.to_numpy(matrix).astype(np.float64)


def spectrum(eigenvalues: Any, backend: Backend) -> Any:
    """Check eigenvalues: shape (d,), and if values are known, finite, not negative, not all zero."""
    name = "eigenvalues"
    if backend.name == "numpy":
        eigenvalues = _as_numpy(name, eigenvalues)
    _check_dtype(name, backend.dtype_name(eigenvalues))
    _check_dense(name, eigenvalues)
    shape = _shape(name, eigenvalues)
    if len(shape) != 1 or None in shape or shape[0] < 2:
        raise InvalidValueError(f"{name}: expected shape (d,) with d of at least 2; got shape {shape}")
    if backend.concrete(backend.total(backend.constant(eigenvalues, eigenvalues))) is not None:
        values = backend.to_numpy(eigenvalues).astype(np.float64)
        if not np.isfinite(values).all():
            raise InvalidValueError(
                f"{name}: every value has to be finite; got {_count(~np.isfinite(values))} NaN or inf"
            )
        if (values < 0).any():
            raise InvalidValueError(
                f"{name}: those of a covariance are not negative; got {values.min():g}. If that is rounding, cut at 0"
            )
        if not values.any():
            raise DegenerateDataError(f"{name}: all are zero, so there is no direction to compare")
    return eigenvalues


def dimensions(d: Any, name: str = "d") -> int:
    """Require a number of dimensions."""
    if isinstance(d, bool) or not isinstance(d, Integral):
        raise InvalidTypeError(f"{name}: expected an integer of at least 2; got {d!r} of type {type(d).__name__}")
    if d < 2:
        raise InvalidValueError(f"{name}: expected at least 2 dimensions; got {d}")
    return int(d)


def enough_points(count: int, least: int = 2, why: str = "a covariance") -> None:
    """Require a number of points."""
    if count < least:
        raise DegenerateDataError(f"X: {why} needs at least {least} points; got {count} (masked points do not count)")


def identical_points(count: int) -> DegenerateDataError:
    """Say that there is no variance."""
    return DegenerateDataError(
        f"X: all {count} points are identical (zero variance), so there is no direction to compare. "
        "Check that X holds points as rows, not one point repeated"
    )


def unbiased_estimate(cloud: Points, invariants: Invariants) -> None:
    """Require a positive estimate of tr(Σ²), if values are known."""
    margin = cloud.backend.concrete(unbiased_margin(invariants))
    count = cloud.backend.concrete(invariants.count)
    if margin is not None and count is not None:
        positive_margin(margin, int(count), epsilon(cloud.backend.dtype_name(cloud.clouds[0])))


def positive_margin(margin: float, count: int, precision: float) -> None:
    """Require more than rounding: each of the three terms errs by some ε, which eight cover."""
    if not margin > 8 * precision:
        raise DegenerateDataError(
            f"X: with these {count} points the unbiased estimate of the denominator tr(Σ²) is not positive (all their "
            "differences are orthogonal), so there is no unbiased score. Give more points, or use isoscore_star with a "
            "shrinkage_cov"
        )


def epsilon(dtype: str) -> float:
    """Machine precision of what points of a dtype are computed in."""
    narrow = dtype.startswith(("float32", "float16", "bfloat16"))
    return float(np.finfo(np.float32 if narrow else np.float64).eps)


def measured_values(cloud: Points, mask: Any, invariants: Invariants, least: int, why: str) -> None:
    """Check the values behind computed invariants; does nothing where they are not known yet."""
    count, spread, scale = map(cloud.backend.concrete, (invariants.count, invariants.t, invariants.scale))
    if count is None or spread is None or scale is None:
        return
    mask_values(mask)
    enough_points(int(count), least, why)
    if not (math.isfinite(spread) and math.isfinite(scale)):
        explain_non_finite(cloud)
    if spread == 0:
        raise identical_points(int(count))


def mask_values(mask: Any) -> None:
    """Require zeros and ones."""
    for part in mask if isinstance(mask, (list, tuple)) else [mask]:
        if part is None:
            continue
        values = backend_of(part, "mask").to_numpy(part)
        if values.dtype != bool and not np.isin(values, (0, 1)).all():
            odd = values[~np.isin(values, (0, 1))].flat[0]
            raise InvalidValueError(
                f"mask: expected only zeros and ones (or booleans); got {odd!s}. Weights and additive masks (0 and "
                "-inf) are not supported: give mask == 0, or mask > 0.5, whichever says which points count"
            )


def explain_non_finite(cloud: Points) -> None:
    """Raise for a cloud whose invariants came out NaN or infinite, saying which of two causes it was."""
    for array, mask in zip(cloud.clouds, cloud.masks, strict=True):
        values = cloud.backend.to_numpy(array)
        rows = values if mask is None else values[cloud.backend.to_numpy(mask)]
        bad = ~np.isfinite(rows)
        if bad.any():
            raise InvalidValueError(
                f"X: every value has to be finite; got {_count(bad)} NaN or inf, the first in row "
                f"{int(np.argmax(bad.any(axis=1)))} of those that count. Remove them or mask their rows"
            )
    raise InvalidValueError(
        "X: the squares of these values overflow. The score does not change with scale: divide X by its largest "
        "value (and shrinkage_cov by the square of that)"
    )


def _count(bad: NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(bad))


def reference_points(X: Any) -> NDArray[np.float64]:
    """Check one NumPy cloud wholly, values too, without any of the backends' arithmetic."""
    X = _as_numpy("X", X)
    _check_array("X", X, backend_of(X))
    if X.ndim != 2:
        raise InvalidValueError(f"X: the reference takes one cloud of shape (points, dimensions); got shape {X.shape}")
    enough_points(len(X))
    if not np.isfinite(X).all():
        raise InvalidValueError(f"X: every value has to be finite; got {_count(~np.isfinite(X))} NaN or inf")
    if not (X[0] != X).any():
        raise identical_points(len(X))
    return np.asarray(X, dtype=np.float64)
