"""Columns of Arrow: their kinds, by their types and first rows, and points from their values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import types

from isoscore_star.readers._arrow_tensors import axes_of, innermost, no_missing
from isoscore_star.readers._cells import counts, kind_of, number, numbers
from isoscore_star.readers._columns import LEAST_COUNTED, Column, Kind
from isoscore_star.readers._source import Block
from isoscore_star.readers._table import cells_of, lists_of, refuse, refusing


def column_of(position: int, field: Any, kind: Kind | None, sample: Any, is_index: bool) -> Column:
    as_text, length, counting = kind is None, 0, False
    inner: tuple[int | None, ...] = ()
    if kind is None:
        cells = [] if sample is None else sample.drop_null().to_pylist()
        kind, length = kind_of(cells)
        counting = len(cells) >= LEAST_COUNTED and counts(cells)
    elif kind is Kind.INTEGERS and sample is not None:
        counting = len(sample) >= LEAST_COUNTED and not sample.null_count and counts(list(map(str, sample.to_pylist())))
    elif kind is Kind.NESTED:
        inner, length = axes_of(field.type, sample)
    elif kind is not Kind.INTEGERS:
        length = _length(field.type, sample)
    return Column(position, field.name, kind, as_text, length, inner, is_index, counting)


def _length(kind: Any, sample: Any) -> int:
    """Return the length of a column's lists by their type, or of the first list."""
    kind = getattr(kind, "storage_type", kind)
    if types.is_fixed_size_list(kind):
        return int(kind.list_size)
    first = None if sample is None else next((row for row in sample if row.is_valid), None)
    return 0 if first is None else len(first)


def kind_of_type(kind: Any) -> Kind | None:
    """Return the kind of a type's values; None for text, whose cells decide."""
    if isinstance(kind, pa.BaseExtensionType):
        if len(getattr(kind, "shape", ())) > 1:
            value = innermost(kind.storage_type)
            return Kind.NESTED if types.is_floating(value) or types.is_integer(value) else Kind.OTHER
        kind = kind.storage_type
    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_floating(kind) or types.is_decimal(kind):
        return Kind.FRACTIONS
    if types.is_integer(kind):
        return Kind.INTEGERS
    if types.is_boolean(kind):
        return Kind.BOOLEANS
    if types.is_null(kind):
        return Kind.EMPTY
    if types.is_string(kind) or types.is_large_string(kind):
        return None
    if not (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)):
        return Kind.OTHER
    values = kind_of_type(kind.value_type)
    of_values = {Kind.FRACTIONS: Kind.LISTS, Kind.INTEGERS: Kind.INTEGER_LISTS}
    nested = {Kind.LISTS, Kind.INTEGER_LISTS, Kind.NESTED}
    return Kind.NESTED if values in nested else of_values.get(values, Kind.OTHER)  # type: ignore[arg-type]


def index_columns(schema: Any) -> set[str]:
    """Return the names of the columns in which pandas kept an index."""
    pandas = (schema.metadata or {}).get(b"pandas")
    names = json.loads(pandas).get("index_columns", []) if pandas else []
    return {name for name in names if isinstance(name, str)}


def points(path: Path, columns: list[Column], start: int, arrays: list[Any]) -> Block:
    """Return points whose dimensions are columns."""
    return np.column_stack([_values(path, column, start, array) for column, array in zip(columns, arrays, strict=True)])


def _values(path: Path, column: Column, start: int, array: Any) -> Block:
    no_missing(path, column, start, array)
    if column.as_text:
        with refusing(path, start, column):
            return np.array(list(cells_of(number, array.to_pylist())), dtype=np.float64)
    if types.is_decimal(array.type):
        array = array.cast(pa.float64())
    return np.asarray(array.to_numpy(zero_copy_only=False))


def lists(path: Path, column: Column, dim: int, start: int, arrays: list[Any]) -> Block:
    """Return the points that a column holds as lists."""
    (array,) = arrays
    no_missing(path, column, start, array)
    if column.as_text:
        with refusing(path, start, column):
            return lists_of(numbers, array.to_pylist(), dim)
    if not dim and len(array):
        refuse(path, start, column, "an empty list")
    if not types.is_fixed_size_list(array.type):
        lengths = array.value_lengths().to_numpy(zero_copy_only=False)
        if (lengths != dim).any():
            i = int(np.argmax(lengths != dim))
            refuse(path, start + i, column, f"a list of {lengths[i]} numbers, but the first has {dim}")
    values = array.flatten()
    no_missing(path, column, start, values, dim)
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(len(array), dim)
