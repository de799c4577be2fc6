"""Which objects are arrays and data frames of Dask, by their classes; Dask is not imported for that."""

from __future__ import annotations

from typing import Any


def is_distributed(X: Any) -> bool:
    """Return whether X is a Dask array or data frame, or a list or tuple with one."""
    return any(is_dask(item) for item in (X if isinstance(X, (list, tuple)) else (X,)))


def is_dask(item: Any) -> bool:
    """Return whether an object is of a class of Dask, or of one that inherits from it."""
    return any(base.__module__.partition(".")[0] == "dask" for base in type(item).__mro__)


def is_frame(item: Any) -> bool:
    """Return whether an object of Dask is a data frame or one column of it."""
    return is_dask(item) and hasattr(item, "npartitions") and hasattr(item, "map_partitions")


def is_column(item: Any) -> bool:
    """Return whether a data frame of Dask is one column."""
    return is_frame(item) and item.ndim == 1
