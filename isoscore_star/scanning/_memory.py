"""How many blocks of moments fit into memory."""

from __future__ import annotations

from typing import Any, NamedTuple

from isoscore_star import InvalidValueError
from isoscore_star.byte_sizes import figure
from isoscore_star.readers import free_memory
from isoscore_star.scanning._batches import Batch

LEAST_BLOCKS = 8
"""Of fewer there is no standard error."""

_MEASURED = 6
"""Matrices of d² numbers in a layer's result: three of all tokens, one without each of three kinds."""

_COLUMNS = (512, 256, 128, 64)
"""Of sketches, the best first: their errors fall with the number of columns (benchmarks/SKETCH.md)."""


class Plan(NamedTuple):
    """How many blocks there are, the device that keeps most of them, if it is not the host, and columns of a sketch."""

    blocks: int
    device: Any
    notes: list[str]
    sketch: int | None = None


def plan(batch: Batch, blocks: int, tokens: int | None, budget: int | None, *, sketch: int | None = None) -> Plan:
    """Return how many blocks fit, by the widths of a first batch.

    Parameters
    ----------
    batch : Batch
        The first one.
    blocks : int
        As many as are wanted.
    tokens : int, optional
        About how many tokens there are; few of them take less than d² numbers.
    budget : int, optional
        Bytes; by default half of what is free.
    sketch : int, optional
        Columns of a sketch in place of d² numbers; by default one is taken where exact moments do not fit.

    Raises
    ------
    InvalidValueError
        If neither fits.
    """
    free = free_memory()
    limit = budget if budget is not None else (None if free is None else free // 2)
    widths = [int(layer.states.shape[-1]) for layer in batch.layers]
    if sketch is not None:
        return _with_sketch(widths, blocks, sketch, limit)
    device = _device(batch, blocks, budget)

    def needed(count: int) -> int:
        moments = sum(_bytes(width, count, None if device is None else 0, tokens) for width in widths)
        return 2 * moments + sum(_MEASURED * 8 * width * width for width in widths)

    if limit is None or needed(blocks) <= limit:
        return Plan(blocks, device, [])
    least = min(LEAST_BLOCKS, blocks)
    fitting = next((count for count in range(blocks, least - 1, -1) if needed(count) <= limit), None)
    if fitting is not None:
        why = f"{fitting} blocks instead of {blocks}, since more moments do not fit into {figure(limit)} of memory"
        return Plan(fitting, device, [f"{why} (--memory)"])
    for columns in _COLUMNS:
        if columns < min(widths) and sum(_sketched(width, least, columns) for width in widths) <= limit:
            of_blocks = _counted(least, "block")
            why = f"a sketch of {columns} columns in {of_blocks}: exact moments take {figure(needed(least))}, and "
            return Plan(least, None, [f"{why}{figure(limit)} may be used (--memory)"], columns)
    # Fewer blocks give no error, but scores.
    fewest = next((count for count in range(least - 1, 0, -1) if needed(count) <= limit), None)
    advice = f"Choose fewer layers (--layers, {len(widths)} now), or give more (--memory)"
    if fewest is not None:
        advice += f", or take scores without standard errors (--blocks {fewest})"
    raise InvalidValueError(
        "memory",
        f"the moments of {_counted(len(widths), 'layer')} of {max(widths):,} dimensions take {figure(needed(least))} "
        f"in {_counted(least, 'block')}; {figure(limit)} may be used. {advice}",
    )


def _device(batch: Batch, blocks: int, budget: int | None) -> Any:
    """Return the accelerator that the states are on, if half of its free memory holds the moments."""
    place = getattr(batch.layers[0].states, "device", None)
    if getattr(place, "type", "cpu") != "cuda":
        return None
    import torch

    free = torch.cuda.mem_get_info(place)[0] // 2 if budget is None else budget
    needed = sum(16 * int(layer.states.shape[-1]) ** 2 * blocks for layer in batch.layers)
    return place if needed <= free else None


def _bytes(width: int, blocks: int, rest: int | None, tokens: int | None) -> int:
    """Return the bytes of a layer's moments: of halves of blocks of up to two parts with many tokens."""
    full = 8 * width * width
    if tokens is None:
        half = full
    else:
        rows = tokens / (2 * blocks)
        half = full + width * width if rows >= width else int(4 * rows * width)
    few = 2 * blocks * min(full, 4 * width * width)  # first and special tokens, while they are few
    return 2 * blocks * half * (rest is None) + (few if tokens is None else min(few, int(12 * tokens * width)))


def _with_sketch(widths: list[int], blocks: int, columns: int, limit: int | None) -> Plan:
    if columns >= min(widths):
        raise InvalidValueError(
            "sketch", f"expected fewer columns than the {min(widths)} dimensions; got {columns}. Leave it out"
        )
    needed = sum(_sketched(width, blocks, columns) for width in widths)
    if limit is not None and needed > limit:
        raise InvalidValueError(
            "memory",
            f"sketches in {_counted(blocks, 'block')} take {figure(needed)}; {figure(limit)} may be used. Choose "
            "fewer --blocks, fewer columns (--sketch), fewer layers (--layers), or give more (--memory)",
        )
    return Plan(blocks, None, [], columns)


def _sketched(width: int, blocks: int, columns: int) -> int:
    """Return the bytes of a layer's sketches: halves of blocks of up to three parts, twice as above, and results."""
    return 8 * width * columns * (2 * 2 * 3 * blocks + _MEASURED)


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"
