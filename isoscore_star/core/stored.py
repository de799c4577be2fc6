"""Accumulators as plain arrays and back, bit by bit, so that an interrupted job goes on as if it had not been."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core.accumulator import Accumulator
from isoscore_star.core.errors import InvalidValueError
from isoscore_star.core.merging import Sums
from isoscore_star.core.sketch import SketchedScatter
from isoscore_star.core.sketch_accumulator import SketchAccumulator
from isoscore_star.core.spread import Scatter

Arrays = Mapping[str, NDArray[Any]]

_SUMS = ("count", "unit", "anchor", "offset", "scatter", "third", "fourth")
_SKETCHED = ("count", "anchor", "offset", "variances", "product")


def arrays_of(accumulator: Accumulator) -> dict[str, NDArray[Any]]:
    """Return what an accumulator holds: its sums if there are any, and the rows that are not multiplied yet."""
    if accumulator.dim is None:
        return {}
    arrays: dict[str, NDArray[Any]] = {"dim": np.asarray(accumulator.dim)}
    if isinstance(accumulator, SketchAccumulator):
        arrays |= {"size": np.asarray(accumulator.size), "seed": np.asarray(accumulator.seed)}
        if accumulator.sums is not None:
            arrays |= {name: np.asarray(getattr(accumulator.sums, name)) for name in _SKETCHED}
        return arrays
    if accumulator.scatter is not None:
        arrays |= {name: np.asarray(getattr(accumulator.scatter, name)) for name in _SUMS}
        arrays["precision"] = np.asarray(accumulator.scatter.precision)
    if accumulator.waiting:
        arrays["rows"] = np.concatenate(accumulator.waiting)
    return arrays


def accumulator_of(arrays: Arrays) -> Accumulator:
    """Return the accumulator that `arrays_of` took apart."""
    if not arrays:
        return Accumulator()
    dim = int(_get(arrays, "dim", ()))
    if "size" in arrays:
        return _sketched(arrays, dim)
    accumulator = Accumulator()
    accumulator.dim = dim
    if "count" in arrays:
        shapes = ((), (), (dim,), (dim,), (dim, dim), (dim,), ())
        count, unit, anchor, offset, scatter, third, fourth = (
            _get(arrays, name, shape) for name, shape in zip(_SUMS, shapes, strict=True)
        )
        precision = float(_get(arrays, "precision", ()))
        _require(_is_count(count), "count", "a number of points")
        _require(float(unit) > 0, "unit", "a positive length")
        _require(0 < precision < 0.01, "precision", "a rounding error")
        _require(bool((scatter.diagonal() >= 0).all()), "scatter", "no negative variance")
        sums = Sums(int(count), float(unit), anchor, offset, scatter, third, float(fourth))
        accumulator.scatter = Scatter.of_sums(sums, precision)
    if "rows" in arrays:
        rows = _get(arrays, "rows", (None, dim), as_float=False)
        _require(len(rows) > 0, "rows", "at least one row")
        accumulator.absorb(rows)
    return accumulator


def sketch_of(accumulator: Accumulator) -> tuple[int | None, int]:
    """Return the size and the seed of its sketch, if it has one."""
    if isinstance(accumulator, SketchAccumulator):
        return accumulator.size, accumulator.seed
    return None, 0


def _sketched(arrays: Arrays, dim: int) -> SketchAccumulator:
    accumulator = SketchAccumulator(int(_get(arrays, "size", ())), int(_get(arrays, "seed", ())))
    accumulator.dim = dim
    if "count" in arrays:
        shapes = ((), (dim,), (dim,), (dim,), (dim, accumulator.size))
        count, *sums = (_get(arrays, name, shape) for name, shape in zip(_SKETCHED, shapes, strict=True))
        _require(_is_count(count), "count", "a number of points")
        _require(bool((sums[2] >= 0).all()), "variances", "no negative one")
        accumulator.sums = SketchedScatter(int(count), *sums)
    return accumulator


def _is_count(count: NDArray[Any]) -> bool:
    return 0 < float(count) < 2.0**62 and float(count).is_integer()


def _require(holds: bool, name: str, what: str) -> None:
    if not holds:
        raise InvalidValueError("arrays", f"expected {what} in {name!r}; got others: they are damaged")


def _get(arrays: Arrays, name: str, shape: tuple[int | None, ...], *, as_float: bool = True) -> NDArray[Any]:
    if name not in arrays:
        raise InvalidValueError("arrays", f"expected {name!r}, as to_arrays writes it; got only {sorted(arrays)}")
    try:
        array = np.array(arrays[name])
    except ValueError as error:
        raise InvalidValueError("arrays", f"expected {name!r}, numbers of shape {shape}; got a ragged list") from error
    fits = len(shape) == array.ndim and all(n in (None, m) for n, m in zip(shape, array.shape, strict=True))
    if not fits or array.dtype.kind not in "fiu":
        raise InvalidValueError(
            "arrays", f"expected {name!r}, numbers of shape {shape}; got {array.dtype} of shape {array.shape}"
        )
    if not np.isfinite(array).all():
        raise InvalidValueError("arrays", f"expected finite numbers in {name!r}; got NaN or inf: they are damaged")
    return array.astype(np.float64, copy=False) if as_float else array
