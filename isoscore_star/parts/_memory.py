"""How many blocks of moments a memory budget holds."""

from __future__ import annotations

from typing import NamedTuple

from isoscore_star import InvalidValueError
from isoscore_star.byte_sizes import figure

BLOCKS, LEAST = 20, 8
"""Blocks that are left out one after another for a standard error, and the fewest that give one."""

_BESIDE = 6
"""Matrices of d² numbers beside the blocks: their union with its halves, and one block's subtraction."""

_COLUMNS = (512, 256, 128, 64)
"""Of sketches, the best first."""

_USUAL = 10**9


class Plan(NamedTuple):
    """How points are kept.

    Attributes
    ----------
    blocks : int
        Blocks of whole groups; 1 for independent points, or without a standard error.
    sketch : int or None
        Columns of a sketch in place of d² numbers.
    note : str
        What the user should know of it, if anything.
    """

    blocks: int
    sketch: int | None = None
    note: str = ""


def plan(dim: int, clouds: int, grouped: bool, budget: int | None) -> Plan:
    """Return how to keep points in a budget.

    Parameters
    ----------
    dim : int
        Dimensions d.
    clouds : int
        Clouds that are kept at a time, such as layers.
    grouped : bool
        Whether points come in groups, whose standard error needs blocks.
    budget : int, optional
        Bytes; 1 GB by default, which independent points and groups without a standard error may exceed.

    Raises
    ------
    InvalidValueError
        If not even a sketch fits.
    """
    limit = _USUAL if budget is None else budget
    halves = 2 if grouped else 1

    def needed(blocks: int, width: int) -> int:
        return 8 * dim * width * (halves * blocks * clouds + _BESIDE)

    if grouped:
        fitting = [blocks for blocks in range(BLOCKS, LEAST - 1, -1) if needed(blocks, dim) <= limit]
        if fitting:
            few = f"{fitting[0]} blocks instead of {BLOCKS} fit into {figure(limit)}" if fitting[0] < BLOCKS else ""
            return Plan(fitting[0], None, few)
    if budget is None or needed(1, dim) <= limit:
        note = f"no standard error in one pass: {LEAST} blocks need {figure(needed(LEAST, dim))} (--memory)"
        return Plan(1, None, note if grouped else "")
    for columns in (columns for columns in _COLUMNS if columns < dim):
        blocks = BLOCKS if grouped else 1
        if needed(blocks, columns) <= limit:
            return Plan(blocks, columns, f"a sketch of {columns} columns, since {figure(limit)} do not hold d² numbers")
    raise InvalidValueError(
        "memory",
        f"the moments of {dim:,} dimensions take {figure(needed(1, dim))}; {figure(limit)} may be used, which a sketch "
        f"of {_COLUMNS[-1]} columns exceeds, too",
    )
