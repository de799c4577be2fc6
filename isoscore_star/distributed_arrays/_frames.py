"""Data frames: which columns are dimensions, and which one has the labels or the mask."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from isoscore_star.core.errors import InvalidTypeError, InvalidValueError
from isoscore_star.distributed_arrays._recognised import is_column, is_frame

_SHOWN = 10


def select_columns(frame: Any, *patterns: str) -> Any:
    """Return the columns of a data frame of Dask that names or patterns choose, in the order of the patterns.

    Parameters
    ----------
    frame : dask.dataframe.DataFrame
        Of any columns.
    *patterns : str
        Names of columns, or patterns with ``*``, ``?`` and ``[0-9]``; of a pattern in the order of the frame.

    Returns
    -------
    dask.dataframe.DataFrame
        Those columns, each once.

    Raises
    ------
    InvalidTypeError
        If it is no data frame of Dask.
    InvalidValueError
        If a pattern matches no column, or there is no pattern.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> import dask.dataframe as dd
    >>> import isoscore_star as iso
    >>> from isoscore_star.distributed_arrays import select_columns
    >>> rows = np.random.default_rng(0).normal(size=(100, 3))
    >>> table = pd.DataFrame(rows, columns=["emb_0", "emb_1", "emb_2"]).assign(document=np.arange(100) // 5)
    >>> frame = dd.from_pandas(table, npartitions=4)
    >>> measured = iso.measure(select_columns(frame, "emb_*"), groups=frame["document"])
    >>> measured.dim, measured.count, measured.group_count
    (3, 100, 20)
    """
    if not is_frame(frame) or is_column(frame):
        raise InvalidTypeError("frame", f"expected a data frame of Dask; got {type(frame).__name__}")
    names, chosen = list(frame.columns), dict[Any, None]()
    if not patterns:
        raise InvalidValueError("patterns", "expected a name or a pattern of columns; got none")
    for pattern in patterns:
        found = [pattern] if pattern in names else [name for name in names if fnmatchcase(str(name), str(pattern))]
        if not found:
            raise InvalidValueError("patterns", f"no column is {pattern!r} or matches it; there are {_listed(names)}")
        chosen |= dict.fromkeys(found)
    return frame[list(chosen)]


def column_of(frame: Any, name: str, argument: str) -> Any:
    """Return the column of a data frame that an argument names."""
    if name not in frame.columns:
        raise InvalidValueError(argument, f"there is no column {name!r}; there are {_listed(frame.columns)}")
    return frame[name]


def dimensions_of(argument: str, frame: Any, others: list[str]) -> tuple[Any, int | None]:
    """Return the columns that are dimensions, all numbers, or the one of lists, and their number if it is known."""
    if is_column(frame):
        return frame, None
    kept = frame[[name for name in frame.columns if name not in others]] if others else frame
    words = [name for name, dtype in kept.dtypes.items() if getattr(dtype, "kind", "O") not in "iuf"]
    if len(kept.columns) == 1 and words:
        return kept[kept.columns[0]], None
    if words:
        raise InvalidTypeError(
            argument,
            f"expected columns of numbers, each a dimension; got others, {_listed(words)}. Choose the dimensions, by "
            "frame[[...]] or isoscore_star.distributed_arrays.select_columns(frame, 'emb_*'); name those of labels "
            "and mask as groups= and mask=",
        )
    return kept, len(kept.columns)


def _listed(names: Any) -> str:
    names = list(map(repr, names))
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
