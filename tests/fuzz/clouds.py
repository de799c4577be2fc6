"""Clouds to measure: families, scales, dtypes, masks and ways to hand them over, all drawn from one generator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Generator = np.random.Generator


def isotropic(rng: Generator, m: int, d: int) -> np.ndarray:
    return rng.normal(size=(m, d))


def steep(rng: Generator, m: int, d: int) -> np.ndarray:
    basis, _ = np.linalg.qr(rng.normal(size=(d, d)))
    return rng.normal(size=(m, d)) / np.arange(1, d + 1) @ basis


def geometric(rng: Generator, m: int, d: int) -> np.ndarray:
    return rng.normal(size=(m, d)) * 10.0 ** -(rng.integers(1, 7) * np.arange(d) % 100)


def rank_one(rng: Generator, m: int, d: int) -> np.ndarray:
    return np.outer(rng.normal(size=m), rng.normal(size=d))


def outlier(rng: Generator, m: int, d: int) -> np.ndarray:
    X = rng.normal(size=(m, d))
    X[rng.integers(m) if rng.random() < 0.5 else 0] += 10.0 ** rng.choice([2, 4, 4, 4, 6, 8])
    return X


def one_hot(rng: Generator, m: int, d: int) -> np.ndarray:
    return np.eye(d)[rng.integers(d, size=m)]


def identical(rng: Generator, m: int, d: int) -> np.ndarray:
    return np.tile(rng.choice([0.1, 1e6, 0.0, 1.0]) * rng.normal(size=d), (m, 1))


def identical_but_for_rounding(rng: Generator, m: int, d: int) -> np.ndarray:
    return np.tile(rng.normal(size=d), (m, 1)) * (1 + rng.choice([2.0**-52, 2.0**-23]) * rng.integers(-2, 3, (m, d)))


def far_away(rng: Generator, m: int, d: int) -> np.ndarray:
    mean = 10.0 ** rng.integers(0, 9) * (rng.normal(size=d) if rng.random() < 0.5 else np.ones(d))
    return rng.normal(size=(m, d)) + mean


def one_column_far_away(rng: Generator, m: int, d: int) -> np.ndarray:
    X = rng.normal(size=(m, d))
    X[:, rng.integers(d)] = 10.0 ** rng.integers(0, 9)
    return X


def two_points(rng: Generator, m: int, d: int) -> np.ndarray:
    return rng.normal(size=(2, d))[rng.integers(2, size=m)]


def two_heaps(rng: Generator, m: int, d: int) -> np.ndarray:
    X = rng.normal(size=(m, d))
    X[m // 2 :] += 10.0 ** rng.integers(1, 7)
    return X


def orthogonal(rng: Generator, m: int, d: int) -> np.ndarray:
    X = np.zeros((m, d))
    few = min(m, d, int(rng.integers(1, 5)))
    X[np.arange(few), rng.permutation(d)[:few]] = rng.integers(1, 4, few)
    return X


def grid(rng: Generator, m: int, d: int) -> np.ndarray:
    return rng.integers(-3, 4, size=(m, d)).astype(float)


def corners(rng: Generator, m: int, d: int) -> np.ndarray:
    return np.vstack([np.eye(d), -np.eye(d)])[np.arange(m) % (2 * d)]


def heavy_tailed(rng: Generator, m: int, d: int) -> np.ndarray:
    return rng.standard_t(1.5, size=(m, d))


def one_ulp(rng: Generator, m: int, d: int) -> np.ndarray:
    X = np.ones((m, d))
    if m:
        X[rng.integers(m), rng.integers(d)] += rng.choice([2.0**-52, 2.0**-23])
    return X


FAMILIES: tuple[Callable[[Generator, int, int], np.ndarray], ...] = (
    isotropic,
    isotropic,
    steep,
    geometric,
    rank_one,
    outlier,
    one_hot,
    identical,
    identical_but_for_rounding,
    far_away,
    far_away,
    one_column_far_away,
    two_points,
    two_heaps,
    orthogonal,
    grid,
    corners,
    heavy_tailed,
    one_ulp,
)

INTEGERS = tuple(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64))

# What other frameworks have not.
LAYOUTS_OF_NUMPY = ("read-only", "swapped", "long double", "frame")

# JAX compiles anew for every shape, dtype and union: few of each, and two shapes alone in all dtypes and as unions.
VARIED_SHAPES = ((5, 8), (16, 4))
FIXED_SHAPES = ((2, 4), (38, 2), (300, 4), (9000, 3), (12, 4), (6, 8), *VARIED_SHAPES)


class Case(NamedTuple):
    """A cloud as it is handed over, and as it is.

    Attributes
    ----------
    array : ndarray of shape (m, d) or (b, t, d)
        To be given in `dtype`; exact in it where NumPy has that dtype.
    keep : ndarray of shape (m,) or None
        The mask, all points of it in one array, in the dtype in which it is given.
    cuts : tuple of int
        Where the cloud is cut into a union; none for a single array.
    """

    family: str
    array: np.ndarray
    dtype: str
    keep: np.ndarray | None
    cuts: tuple[int, ...]
    layout: str
    scale: float

    def __str__(self) -> str:
        mask = "none" if self.keep is None else f"{self.keep.dtype}, {int((self.keep != 0).sum())} kept"
        return (
            f"{self.family} {self.array.shape} {self.dtype}, times {self.scale:.3g}, mask: {mask}, "
            f"cut at {list(self.cuts)}, {self.layout}"
        )


def draw(rng: Generator, dtypes: tuple[str, ...], *, shapes: tuple[tuple[int, int], ...], largest: int) -> Case:
    """Draw a case in one of some dtypes, of one of some shapes, or else of any of at most `largest` numbers."""
    dtype = str(rng.choice(dtypes))
    m, d = shapes[rng.integers(len(shapes))] if shapes else _shape(rng, largest)
    varied = not shapes or (m, d) in VARIED_SHAPES
    if not varied and dtype not in ("float64", "float32"):
        dtype = dtypes[0]
    make = FAMILIES[rng.integers(len(FAMILIES))]
    X, scale = make(rng, m, d) if m else np.zeros((0, d)), 1.0
    if dtype in INTEGERS:
        X = _integers(rng, X, dtype)
    elif rng.random() < 0.35:
        scale = _scale(rng, dtype)
    with np.errstate(over="ignore", under="ignore"):
        X = X * scale if scale != 1 else X
        if dtype in ("float32", "float16", "float64"):
            X = X.astype(dtype)
    if scale < 1e30 and not np.isfinite(X).all():  # what leaves float16's range is no test of anything
        X = np.clip(np.nan_to_num(X), -6e4, 6e4)
    if dtype not in INTEGERS and X.size and rng.random() < 0.02:
        X[rng.integers(m), rng.integers(d)] = rng.choice([np.nan, np.inf, -np.inf])
    keep = _mask(rng, m)
    if keep is not None and dtype not in INTEGERS and rng.random() < 0.7:
        X[keep == 0] = rng.choice([np.nan, np.inf, 1e4, 0.0])
    layout = str(rng.choice(("C", "C", "C", "F", "strided", *LAYOUTS_OF_NUMPY)))
    cuts: tuple[int, ...] = ()
    if varied and rng.random() < 0.25:
        at = [m // 3, m // 2] if shapes else rng.integers(0, m + 1, int(rng.integers(0, 4)))
        cuts = tuple(int(c) for c in sorted(at)) or (m,)
    elif rng.random() < 0.3 and m % 2 == 0:
        X = X.reshape(2, m // 2, d)
    return Case(make.__name__, X, dtype, keep, cuts, layout, scale)


def _shape(rng: Generator, largest: int) -> tuple[int, int]:
    size, width = rng.random(), rng.random()
    d = int(rng.integers(2, 9) if width < 0.65 else rng.integers(9, 65))
    if width > 0.995:
        return int(rng.integers(2, 40)), 700
    if size < 0.01:
        m = 0
    elif size < 0.03:
        m = 1
    elif size < 0.3:
        m = int(rng.integers(2, 7))
    elif size < 0.75:
        m = int(rng.integers(7, 41))
    elif size < 0.96:
        m = int(rng.integers(41, 301))
    elif size < 0.992:
        m = int(rng.integers(301, 3001))
    else:
        m, d = int(rng.choice([8191, 8192, 8193, 20000, 100_000])), int(rng.integers(2, 5))
    return min(m, largest // d), d


def _scale(rng: Generator, dtype: str) -> float:
    ranges = {"float64": (150, 200, 305, 323), "float16": (2, 3, 4, 7)}
    usual, wide, edge, subnormal = ranges.get(dtype, (15, 21, 37, 44))
    which = rng.random()
    if which < 0.6:
        power = rng.uniform(-usual, usual)
    elif which < 0.75:
        power = rng.choice([-wide, wide])
    elif which < 0.9:
        power = rng.uniform(-edge, edge)
    else:
        power = rng.choice([edge, -edge, -subnormal, 1 - subnormal])
    return float(10.0**power)


def _integers(rng: Generator, X: np.ndarray, dtype: str) -> np.ndarray:
    limits = np.iinfo(dtype)
    if rng.random() < 0.3:
        return rng.choice(np.array([limits.min, limits.max, limits.max - 1], dtype=dtype), size=X.shape)
    unit = min(limits.max, 2**53) / 8 if rng.random() < 0.5 else 10.0
    with np.errstate(all="ignore"):
        whole = np.clip(np.rint(np.nan_to_num(X) * unit), limits.min, min(limits.max, 2**62))
    return whole.astype(dtype)


def _mask(rng: Generator, m: int) -> np.ndarray | None:
    which = rng.random()
    if which < 0.55 or not m:
        return None
    keep = rng.random(m) < rng.choice([0.5, 0.9])
    if which > 0.9:
        keep = np.zeros(m, bool)
        keep[rng.choice(m, min(m, int(rng.integers(0, 6))), replace=False)] = True
    elif which > 0.87:
        keep[:] = True
    return keep.astype(rng.choice(["bool", "int64", "uint8", "float32", "float64"]))


def laid_out(array: np.ndarray, layout: str) -> Any:
    """Give the same values in another memory order, or as another thing that NumPy understands."""
    if layout == "swapped":
        return array.astype(array.dtype.newbyteorder())
    if layout == "long double" and array.dtype == np.float64:
        return array.astype(np.longdouble)
    if layout == "frame" and array.ndim == 2:
        import pandas as pd

        return pd.DataFrame(array)
    if layout == "F":
        return np.asfortranarray(array)
    if layout == "strided":
        wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
        wide[..., ::2] = array
        return wide[..., ::2]
    if layout == "read-only":
        array = array.copy()
        array.flags.writeable = False
    return array


def shrinkage_cov(rng: Generator, d: int, variance: float, dtype: str) -> np.ndarray:
    """Draw a Σ_S of about that variance, or of one many powers of ten away."""
    make = (isotropic, steep, rank_one, outlier, grid)[rng.integers(5)]
    points = make(rng, max(2 * d, 20), d)
    cov = points.T @ points / len(points) if d < 100 else np.diag(rng.gamma(1.0, size=d))
    power: Any = 0.0
    which = rng.random()
    if which > 0.9:
        power = rng.choice([-308, -290, -160, 160, 290, 300]) if dtype == "float64" else rng.choice([-38, -30, 30, 36])
        variance = 1.0
    elif which > 0.7:
        power = rng.uniform(-24, 24)
    with np.errstate(all="ignore"):
        return (cov / 2 + cov.T / 2) * variance * 10.0**power
