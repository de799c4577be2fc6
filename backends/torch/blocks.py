"""Rows of clouds in blocks, so that no centred or converted copy of all points is made.

On a GPU, where each operation has a launch cost, small clouds such as a model's layers are concatenated. As a block may
be a copy, loops delete each before the next is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from isoscore_star.backends.torch.points import on_cpu

_ENTRIES = {"cpu": 2**18, "device": 2**25}
"""Entries of a block that make its product efficient."""

_JOINED = 2**26
"""Entries up to which clouds are put together: in half precision a copy of 128 MB, kept for the backward pass."""


class Block(NamedTuple):
    """Rows that are multiplied at once, their mask, and their places: clouds by number, and slices of these."""

    places: list[tuple[int, slice]]
    rows: Tensor
    keep: Tensor | None


def row_blocks(
    clouds: Sequence[Tensor], masks: Sequence[Tensor | None], *, whole: bool, n_parts: int = 2
) -> Iterator[Block]:
    """Yield blocks of 1/n_parts of a d × d matrix, or of `_ENTRIES` if that is more."""
    slow, step = not on_cpu(clouds[0]), step_of(clouds[0], n_parts)
    together: list[tuple[int, slice]] = []
    waiting = 0
    for index, cloud in enumerate(clouds):
        if not (rows := len(cloud)):
            continue
        if waiting and (whole or not slow or waiting + rows > step):
            yield _block(clouds, masks, together)
            together, waiting = [], 0
        if whole or rows <= step:
            together.append((index, slice(None)))  # without a length, to which compiled code would be specialised
            waiting += rows
            continue
        for start in range(0, rows, step):
            yield _block(clouds, masks, [(index, slice(start, start + step))])
    if waiting:
        yield _block(clouds, masks, together)


def step_of(cloud: Tensor, n_parts: int = 2) -> int:
    """Return the rows of a block."""
    dim: int = cloud.shape[1]
    return max(dim // n_parts, _ENTRIES["cpu" if on_cpu(cloud) else "device"] // dim)


def _block(clouds: Sequence[Tensor], masks: Sequence[Tensor | None], places: list[tuple[int, slice]]) -> Block:
    parts = [clouds[index][part] for index, part in places]
    kept = [masks[index] for index, _ in places]
    keep = all_kept(parts, [None if mask is None else mask[part] for mask, (_, part) in zip(kept, places, strict=True)])
    return Block(places, put_together(parts), keep)


def joined(
    clouds: Sequence[Tensor], masks: Sequence[Tensor | None]
) -> tuple[Sequence[Tensor], Sequence[Tensor | None]]:
    """Return small clouds as one, where each operation has a launch cost; their gradients are views of one, then."""
    fast = on_cpu(clouds[0]) or torch.compiler.is_compiling()
    large = sum(cloud.numel() for cloud in clouds) > _JOINED
    if fast or large or len(clouds) == 1 or len({cloud.dtype for cloud in clouds}) > 1:
        return clouds, masks
    return [put_together(clouds)], [all_kept(clouds, masks)]


def put_together(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate rows, without a copy of a single part."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def all_kept(clouds: Sequence[Tensor], masks: Sequence[Tensor | None]) -> Tensor | None:
    """Return one mask for the union of the clouds, or None."""
    if all(mask is None for mask in masks):
        return None
    pairs = zip(clouds, masks, strict=True)
    return put_together([c.new_ones(len(c), dtype=torch.bool) if m is None else m for c, m in pairs])


def rows_of_clouds(
    clouds: Sequence[Tensor], blocks: Iterable[Block], compute: Callable[[Tensor, Tensor | None], Tensor]
) -> list[Tensor]:
    """Compute rows block by block, and return those of each cloud, in its dtype."""
    results: list[Tensor | None] = [None] * len(clouds)
    for block in blocks:
        result = compute(block.rows, block.keep)
        lengths = [len(clouds[index][part]) for index, part in block.places]
        pieces = torch.split(result, lengths) if len(lengths) > 1 else [result]
        for (index, part), piece in zip(block.places, pieces, strict=True):
            cloud, rows = clouds[index], results[index]
            if len(piece) == len(cloud):
                # Not a view of the result, since gradients may be changed in place.
                results[index] = piece.to(cloud.dtype, copy=len(lengths) > 1)
                continue
            if rows is None:  # made from the result, to which vmap may have added an axis
                rows = results[index] = result.new_empty(cloud.shape, dtype=cloud.dtype)
            rows[part] = piece
        del block, result, pieces, piece, rows  # before the next block is made
    return [torch.zeros_like(c) if rows is None else rows for c, rows in zip(clouds, results, strict=True)]
