"""Rows of clouds in blocks, so that what is centred or converted of the points is never more than a block at a time.

On a GPU small clouds, such as the layers of a model, are put together, since there each operation has a price of its
own. A block may then be a copy, so that whoever goes through blocks deletes each before the next is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from isoscore_star.backends.torch.points import on_cpu

_ENTRIES = {"cpu": 2**18, "device": 2**24}
"""Entries of a block of rows that make its product worthwhile."""


class Block(NamedTuple):
    """Rows that are multiplied at once: some of a cloud, or on a GPU several small clouds put together."""

    places: list[tuple[int, slice]]
    """The clouds that the rows come from, by number, and which of their rows."""

    rows: Tensor
    keep: Tensor | None


def row_blocks(
    clouds: Sequence[Tensor], masks: Sequence[Tensor | None], *, whole: bool, n_parts: int = 2
) -> Iterator[Block]:
    """Return blocks of rows and their masks: 1/n_parts of a d × d matrix, or what makes a product worthwhile."""
    dim, slow = clouds[0].shape[1], not on_cpu(clouds[0])
    step = max(dim // n_parts, _ENTRIES["device" if slow else "cpu"] // dim)
    together: list[tuple[int, slice]] = []
    waiting = 0
    for index, cloud in enumerate(clouds):
        if not (rows := len(cloud)):
            continue
        if waiting and (whole or not slow or waiting + rows > step):
            yield _block(clouds, masks, together)
            together, waiting = [], 0
        if whole or rows <= step:
            together.append((index, slice(None)))  # no number, which would tie compiled code to this length
            waiting += rows
            continue
        for start in range(0, rows, step):
            yield _block(clouds, masks, [(index, slice(start, start + step))])
    if waiting:
        yield _block(clouds, masks, together)


def _block(clouds: Sequence[Tensor], masks: Sequence[Tensor | None], places: list[tuple[int, slice]]) -> Block:
    parts = [clouds[index][part] for index, part in places]
    kept = [masks[index] for index, _ in places]
    keep = all_kept(parts, [None if mask is None else mask[part] for mask, (_, part) in zip(kept, places, strict=True)])
    return Block(places, put_together(parts), keep)


def put_together(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate rows, without a copy where there is one part."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def all_kept(clouds: Sequence[Tensor], masks: Sequence[Tensor | None]) -> Tensor | None:
    """Return one mask for all clouds together, or None."""
    if all(mask is None for mask in masks):
        return None
    pairs = zip(clouds, masks, strict=True)
    return put_together([c.new_ones(len(c), dtype=torch.bool) if m is None else m for c, m in pairs])


def rows_of_clouds(
    clouds: Sequence[Tensor], blocks: Iterable[Block], compute: Callable[[Tensor, Tensor | None], Tensor]
) -> list[Tensor]:
    """Return each cloud its rows, in its dtype, of what is computed of blocks of rows and their masks."""
    found: list[Tensor | None] = [None] * len(clouds)
    for block in blocks:
        result = compute(block.rows, block.keep)
        lengths = [len(clouds[index][part]) for index, part in block.places]
        pieces = torch.split(result, lengths) if len(lengths) > 1 else [result]
        for (index, part), piece in zip(block.places, pieces, strict=True):
            cloud, rows = clouds[index], found[index]
            if len(piece) == len(cloud):
                # Copied where others have a share: a gradient with memory of its own may be changed in place, or kept.
                found[index] = piece.to(cloud.dtype, copy=len(lengths) > 1)
                continue
            if rows is None:  # like the result, which vmap may have given a further axis
                rows = found[index] = result.new_empty(cloud.shape, dtype=cloud.dtype)
            rows[part] = piece
        del block, result, pieces, piece, rows  # before the next block is made
    return [torch.zeros_like(c) if rows is None else rows for c, rows in zip(clouds, found, strict=True)]
