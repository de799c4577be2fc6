"""Open a file, a folder, or all files that fit a pattern."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from isoscore_star.readers._formats import cells_of_file, is_table_file, open_file
from isoscore_star.readers._partitions import partitions_of
from isoscore_star.readers._places import Place, located
from isoscore_star.readers._shards import sharded
from isoscore_star.readers._source import ArraySource


def is_table(path: str | Path) -> bool:
    """Return whether a file, or the files of a folder or of a pattern, have columns."""
    return is_table_file(located(path).shards[0])


def open_array(path: str | Path, key: str | None = None, columns: Sequence[str] = ()) -> ArraySource:
    """Open points, or a matrix or a mask; values are read when they are used.

    Parameters
    ----------
    path : str or Path
        A file with one of the suffixes in `SUFFIXES`; or a folder of files of one format, or a pattern of names
        (``*``, ``?``, ``[0-9]``, ``**``), whose files are one array, their rows in the natural order of their names.
    key : str, optional
        Which array of an archive, or which column of lists of a table, to take: its name or a pattern (``*``,
        ``?``, ``[0-9]``) that fits it alone. Without it, the only array, or the only one of floating-point
        numbers with at least two axes.
    columns : sequence of str, optional
        Names or patterns of the columns of a table that are the dimensions of its points, in their order. Without
        it, those that are numbered under one name if they are most of the columns of numbers, otherwise all of
        floating-point numbers, otherwise all of integers; ``notes`` lists what was left out.

    Returns
    -------
    ArraySource
        Its shape, and its points in blocks.

    Raises
    ------
    SelectionError
        If there is no such file, format or key, or more than one array matches.
    FileContentError
        If a file is damaged, or not of the format of its suffix, or differs from the others.
    MissingDependencyError
        If the package that reads this format is not installed.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from isoscore_star.readers import open_array
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for shard in range(2):
    ...         np.save(Path(folder, f"points_{shard}.npy"), np.zeros((5, 3)))
    ...     open_array(Path(folder, "points_0.npy")).shape, open_array(folder).shape
    ((5, 3), (10, 3))
    """
    place = located(path)
    if not place.is_several:
        return open_file(place.shards[0], key, columns)
    keys = _partitions(place)
    sources = [open_file(shard, key, columns, its) for shard, its in zip(place.shards, keys, strict=True)]
    part = sources[0].name.removeprefix(str(place.shards[0]))  # the key, in messages after a colon
    return sharded(f"{place.name}{part}", sources, place.notes)


def open_column(path: str | Path, name: str | None) -> list[tuple[Path, list[Any]]]:
    """Read the cells of a table's column of any kind, by its name or, without one, of its only column, file by file."""
    place = located(path)
    return [
        (shard, cells_of_file(shard, name, its)) for shard, its in zip(place.shards, _partitions(place), strict=True)
    ]


def _partitions(place: Place) -> Sequence[Mapping[str, Any]]:
    return partitions_of(Path(place.name), place.shards) if place.is_partitioned else [{}] * len(place.shards)
