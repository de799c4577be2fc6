"""Tables for pandas or polars, a row for each layer."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from isoscore_star.core.errors import InvalidTypeError, MissingDependencyError

_LIBRARIES = ("pandas", "polars")


def to_frame(thing: Any) -> Any:
    """Make a table of a measurement, a scan, a comparison or the measurement of classes.

    Parameters
    ----------
    thing : Measurement, mapping of str to Measurement, Scan, Comparison or GroupedMeasurement
        Of a measurement there is one row, else one for each layer or class.

    Returns
    -------
    pandas.DataFrame or polars.DataFrame
        Of the library that is imported already, or else of the one that is installed, pandas before polars.

    Raises
    ------
    InvalidTypeError
        If `thing` is none of these.
    MissingDependencyError
        If neither is installed.

    Examples
    --------
    >>> import numpy as np
    >>> import isoscore_star as iso
    >>> from isoscore_star import reporting
    >>> frame = reporting.to_frame(iso.measure(np.random.default_rng(0).normal(size=(100, 8))))
    >>> round(float(frame["score"][0]), 2), int(frame["count"][0])
    (0.89, 100)
    """
    library = _library()
    if hasattr(thing, "unbiased_scores"):
        frame = library.DataFrame(_of_classes(thing))
        return (
            frame.fill_nan(None) if hasattr(frame, "fill_nan") else frame
        )  # of polars, where NaN is not a missing value
    rows = rows_of(thing)
    return library.DataFrame({name: [row.get(name) for row in rows] for name in _names(rows)})


def _of_classes(thing: Any) -> dict[str, Any]:
    """Return the columns, of which there may be a million entries; NaN for what is undefined."""
    groups = {} if thing.group_counts is None else {"group_count": thing.group_counts}
    figures = ("scores", "unbiased_scores", "standard_errors")
    return {
        "label": thing.labels,
        "count": thing.counts,
        **groups,
        **{name.removesuffix("s"): getattr(thing, name).filled(float("nan")) for name in figures},
    }


def rows_of(thing: Any) -> list[dict[str, Any]]:
    """Return the rows of a table as plain numbers and strings."""
    if isinstance(thing, Mapping):
        return [{"layer": name, **numbers_of(one)} for name, one in thing.items()]
    if hasattr(thing, "spectrum"):
        return [numbers_of(thing)]
    if hasattr(thing, "layers"):
        return [_of_layer(one) for one in [*thing.layers, thing.union, thing.embeddings] if one is not None]
    if hasattr(thing, "rows") and hasattr(thing, "a"):
        return [_of_compared(row) for row in thing.rows]
    raise InvalidTypeError("thing", f"expected a Measurement, a Scan or a Comparison; got {type(thing).__name__}")


def numbers_of(measurement: Any) -> dict[str, Any]:
    """Return a measurement's numbers."""
    low, high = measurement.interval or (None, None)
    return {
        "score": measurement.score,
        "unbiased_score": measurement.unbiased_score,
        "standard_error": measurement.standard_error,
        "interval_low": low,
        "interval_high": high,
        "effective_dimensions": measurement.effective_dimensions,
        "count": measurement.count,
        "dim": measurement.dim,
        "group_count": measurement.group_count,
        "outlier_dimensions": len(measurement.outlier_dimensions),
        "warnings": "; ".join(measurement.warnings),
    }


def _of_layer(layer: Any) -> dict[str, Any]:
    without: dict[str, float | None] = {}
    for kind, one in layer.without.items():
        name = kind.replace(" ", "_")
        without |= {f"score_without_{name}": one.score, f"unbiased_score_without_{name}": one.unbiased_score}
    return {"layer": layer.name, **numbers_of(layer.measurement), **without}


def _of_compared(row: Any) -> dict[str, Any]:
    low, high = row.interval or (None, None)
    return {
        "layer": row.name,
        "score_a": row.a.score,
        "score_b": row.b.score,
        "unbiased_score_a": row.a.unbiased_score,
        "unbiased_score_b": row.b.unbiased_score,
        "difference": row.difference,
        "interval_low": low,
        "interval_high": high,
        "log_ratio": row.log_ratio,
        "log_ratio_error": row.log_ratio_error,
        "paired": row.paired,
        "cka": row.cka,
    }


def _names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _library() -> Any:
    for name in sorted(_LIBRARIES, key=lambda name: sys.modules.get(name) is None):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise MissingDependencyError("a table needs pandas or polars, and neither is installed: pip install pandas")
