"""A cloud as it is handed over: scale, dtype, mask, union, memory order, all drawn from one generator."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from fuzz import clouds
from fuzz.clouds import Generator

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
    make = clouds.FAMILIES[rng.integers(len(clouds.FAMILIES))]
    X, scale = make(rng, m, d) if m else np.zeros((0, d)), 1.0
    if dtype in INTEGERS:
        X = _integers(rng, X, dtype)
    elif rng.random() < 0.35:
        scale = scale_of(rng, dtype)
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


def scale_of(rng: Generator, dtype: str) -> float:
    """Draw a scale, mostly in the declared range of a dtype, sometimes at the ends of what it can hold."""
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
