"""Points that a task reads itself, block by block, such as a range of rows of a file: larger than memory, too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core import checks
from isoscore_star.core.moments import Moments
from isoscore_star.core.neighbours import Neighbours
from isoscore_star.core.second_pass import Elsewhere, SecondPass, Taken
from isoscore_star.distributed_arrays._chunk import Summed, all_summed, all_taken, summed
from isoscore_star.distributed_arrays._clouds import Place
from isoscore_star.distributed_arrays._passes import Reduced, first_pass, sample_share
from isoscore_star.distributed_arrays._tree import merged, named, together


class Block(NamedTuple):
    """Some rows of a piece.

    Attributes
    ----------
    start : int
        The place of the first row in its cloud, for messages and for the sample.
    rows : ndarray of shape (n, d)
        All rows.
    mask : ndarray of shape (n,), bool, or None
        Which of them count.
    numbers : ndarray of shape (n,), int64, or None
        The number of each row's group; None if points are independent.
    """

    start: int
    rows: NDArray[Any]
    mask: NDArray[np.bool_] | None
    numbers: NDArray[np.int64] | None


class Piece(Protocol):
    """A part of a cloud, which a task can read as often as it needs to; it is sent to the task by `pickle`.

    Attributes
    ----------
    name : str
        Its file, for messages.
    cloud : int
        The number of its cloud, to which its rows belong.
    """

    @property
    def name(self) -> str: ...
    @property
    def cloud(self) -> int: ...

    def count(self) -> int:
        """Return the number of rows, masked ones included."""

    def blocks(self) -> Iterator[Block]:
        """Return the rows in order."""


def measured_pieces(pieces: Sequence[Piece], dim: int, taken: str | None) -> Reduced:
    """Return what `isoscore_star.measure` makes of the points of all pieces, each of which one task reads.

    Parameters
    ----------
    pieces : sequence of Piece
        Of one or several clouds, in order.
    dim : int
        Dimensions.
    taken : str or None
        What was taken for groups; None if points are independent.
    """
    if taken is not None:
        found = first_pass("isoscore-moments", _summed, ((piece, 0, 0.0) for piece in pieces))
        again = partial(_second_pass, pieces, found[0])
        return Reduced(found[1].moments, Elsewhere(again), found[1].neighbours, taken)
    counts = together(named("isoscore-count", _count, ((piece,) for piece in pieces)))
    clouds = [piece.cloud for piece in pieces]
    before = [sum(n for n, cloud in zip(counts, clouds, strict=True) if cloud < own) for own in clouds]
    share = sample_share(dim, sum(counts))
    calls = ((piece, first, share) for piece, first in zip(pieces, before, strict=True))
    whole = first_pass("isoscore-moments", _summed, calls)[1]
    return Reduced(whole.moments, whole.sample, whole.neighbours, None)


def _second_pass(pieces: Sequence[Piece], task: Any, _: Moments, unbiased: float | None) -> Taken:
    tasks = named("isoscore-errors", _taken, ((piece, task, unbiased) for piece in pieces))
    found: Taken = merged(tasks, all_taken).compute()
    return found


def _count(piece: Piece) -> int:
    return piece.count()


def _summed(piece: Piece, before: int, share: float) -> Summed:
    whole = Summed(Moments(), Neighbours(), np.empty((0, 0)))
    for block in piece.blocks():
        stop = block.start + len(block.rows)
        place = Place(piece.name, (block.start,), (stop,), before)
        whole = all_summed([whole, summed(block.rows, block.mask, block.numbers, None, place, None, share)])
    return whole


def _taken(piece: Piece, whole: Summed, unbiased: float | None) -> Taken:
    second = SecondPass(whole.moments, unbiased)
    for block in piece.blocks():
        keep: Any = slice(None) if block.mask is None else block.mask
        second.take(checks.points(block.rows[keep]).rows()[0], None if block.numbers is None else block.numbers[keep])
    return second.taken()
