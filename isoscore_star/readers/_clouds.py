"""Clouds to measure, from files, keys and a mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoscore_star import InvalidTypeError, InvalidValueError, arguments
from isoscore_star.readers._errors import SelectionError, SeveralArraysError
from isoscore_star.readers._groups import AUTO, NONE, RowGroups, groups_along_axis, groups_by_labels, read_labels
from isoscore_star.readers._names import listed
from isoscore_star.readers._opening import is_table, open_array
from isoscore_star.readers._places import is_place
from isoscore_star.readers._shards import require_parallel
from isoscore_star.readers._source import ArraySource, DenseSource, require_axes


@dataclass(frozen=True)
class Cloud:
    """Points of one source, and which of them count.

    Attributes
    ----------
    label : str
        Its file, its key, or the number of its layer.
    source : ArraySource
        An array of at least two axes.
    mask : ndarray of bool or None
        True for points that count; its shape is that of the leading axes.
    labels : ndarray or None
        A label of each point's group, of the same shape.
    groups : RowGroups or None
        The groups; None if points are independent.
    """

    label: str
    source: ArraySource
    mask: NDArray[np.bool_] | None = None
    labels: NDArray[Any] | None = None
    groups: RowGroups | None = None

    @property
    def rows(self) -> int | None:
        """Number of points, masked ones included; None if only reading the file shows it."""
        lengths = [length for length in self.source.shape[:-1] if length is not None]
        return prod(lengths) if len(lengths) == len(self.source.shape) - 1 else None


def open_clouds(
    files: Sequence[str | Path],
    keys: Sequence[str] = (),
    mask: str | None = None,
    *,
    groups: str = NONE,
    by_layer: bool = False,
    columns: Sequence[str] = (),
) -> list[Cloud]:
    """Open every key of every file.

    Parameters
    ----------
    files : sequence of Path or str
        Files of one or several formats, folders, and patterns of names; see `open_array`.
    keys : sequence of str, optional
        Names or patterns of arrays, or of columns of lists, in each of the files; without any, the only array.
    mask : str, optional
        A file or, if there is none of that name, the key of an array in each of the files. Its shape is that
        of the points' leading axes, or of all but the first of them if it is the same for every layer.
    groups : str, default "none"
        ``"auto"``: the first axis of arrays of three; the same index is the same group in every array. ``"none"``: all
        points are independent. Otherwise a file or, if there is none of that name, an array or column in each of the
        files, with a label for each point, of a shape as the mask's.
    by_layer : bool, default False
        Split a single array along its first axis. Of several files or keys each is a layer.
    columns : sequence of str, optional
        Names or patterns of the columns of tables that are dimensions; see `open_array`.

    Returns
    -------
    list of Cloud
        All of the same number of dimensions.

    Raises
    ------
    SelectionError
        If a file, key or layer is missing, or the choice is open.
    InvalidValueError, InvalidTypeError
        If an array has too few axes, widths or the order of columns differ, or the mask or labels do not fit.
    """
    clouds, has_labels = [], groups not in (AUTO, NONE)
    for file in files:
        for key, source in chain.from_iterable(_opened(file, key, columns) for key in keys or (None,)):
            require_axes(source)
            label = str(file) if key is None else key if len(files) == 1 else f"{file}:{key}"
            cloud = Cloud(label, source, None if mask is None else _mask(mask, file, source))
            if has_labels:
                cloud = replace(cloud, labels=_fitted("labels", read_labels(groups, file, source), groups, source))
            clouds.append(cloud)
    widths = {cloud.source.shape[-1]: cloud.source.name for cloud in clouds}
    if len(widths) > 1:
        got = ", ".join(f"{width} ({name})" for width, name in widths.items())
        raise InvalidValueError(f"all points need the same number of dimensions (last axis); got {got}")
    _require_order([cloud.source for cloud in clouds])
    if by_layer and len(clouds) == 1:
        clouds = _layers(clouds[0])
    if groups == NONE:
        return clouds
    labels = [cloud.labels for cloud in clouds if cloud.labels is not None]
    found = groups_by_labels(labels) if has_labels else groups_along_axis([cloud.source for cloud in clouds])
    return [replace(cloud, groups=part) for cloud, part in zip(clouds, found, strict=True)]


def _opened(file: str | Path, key: str | None, columns: Sequence[str]) -> list[tuple[str | None, ArraySource]]:
    try:
        return [(key, open_array(file, key, columns))]
    except SeveralArraysError as error:
        return [(name, open_array(file, name, columns)) for name in error.names]


def _require_order(sources: list[ArraySource]) -> None:
    """Require that tables with the same columns have them in the same order."""
    first = sources[0]
    for source in sources[1:]:
        if source.columns != first.columns and sorted(source.columns) == sorted(first.columns):
            raise InvalidValueError(
                source.name,
                f"has the columns of {first.name} in another order, {listed(source.columns)} for "
                f"{listed(first.columns)}; name them in one order (--columns)",
            )


def _layers(cloud: Cloud) -> list[Cloud]:
    source = cloud.source
    if not isinstance(source, DenseSource) or len(source.shape) < 3 or not source.shape[0]:
        raise SelectionError(
            source.name,
            f"layers are the first of at least 3 axes of a file, or several files or keys; got one array of shape "
            f"{source.shape}",
        )
    nothing = [None] * source.shape[0]
    masks: Any = nothing if cloud.mask is None else cloud.mask
    labels: Any = nothing if cloud.labels is None else cloud.labels
    return [Cloud(str(i), layer, masks[i], labels[i]) for i, layer in enumerate(source.layers())]


def _mask(mask: str, file: str | Path, source: ArraySource) -> NDArray[np.bool_]:
    array = open_array(mask) if is_place(mask) else _mask_in(mask, file)
    require_parallel("mask", array, source)
    values = array.whole()
    if values.dtype.kind not in "biuf":
        raise InvalidTypeError(array.name, f"a mask holds booleans or zeros and ones; got dtype {values.dtype}")
    try:
        arguments.mask_values(values)
    except InvalidValueError as error:
        raise InvalidValueError(array.name, str(error)) from error
    if mask in source.columns:
        raise SelectionError(source.name, f"the mask {mask!r} counts as a dimension; name the others (--columns)")
    return _fitted("mask", values != 0, array.name, source)


def _fitted(what: str, values: NDArray[Any], name: str, source: ArraySource) -> NDArray[Any]:
    """Require one entry for each point, or the same ones for every layer."""
    leading = source.shape[:-1]
    if values.ndim > len(leading) and values.shape[-1] == 1:
        values = values[..., 0]  # saved as the one column of a table
    if source.columns and len(leading) > 1 and values.ndim == 1:  # an entry for each row, which holds a sequence
        lengths = source.lengths()
        if lengths is not None and len(lengths) == len(values):
            return np.repeat(values, lengths)
        if lengths is None and values.shape == leading[:1]:
            return np.broadcast_to(values.reshape(-1, *[1] * (len(leading) - 1)), tuple(map(int, leading)))  # type: ignore[arg-type]
    if (leading == (None,) and values.ndim == 1) or values.shape == leading:
        return np.asarray(values)
    if len(leading) > 1 and values.shape == leading[1:]:
        return np.broadcast_to(values, tuple(map(int, leading)))  # type: ignore[arg-type]
    raise InvalidValueError(
        name,
        f"the {what} need{'s' if what == 'mask' else ''} shape {leading}, one entry for each point of {source.name} "
        f"(shape {source.shape}){f', or {leading[1:]}' if len(leading) > 1 else ''}; got {values.shape}",
    )


def _mask_in(key: str, file: str | Path) -> ArraySource:
    try:
        return open_array(file, columns=(key,)) if is_table(file) else open_array(file, key)
    except SelectionError as error:
        raise SelectionError(f"mask {key!r}", f"there is no such file, nor such an array in {error}") from error
