"""What every kind of model is brought into: the states of a batch of sequences, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]

PARTS = ("first", "first special", "special", "rest")
"""A sequence's first token, if it is not special; if it is; other special tokens; all others."""


class Selection(NamedTuple):
    """Places of the tokens of a part.

    `places` of shape (b, s) says where each sequence has them, and `mask`, of the same shape, which of these places
    count; None instead of places means all of them, with a mask of shape (b, t).
    """

    places: NDArray[np.int64] | None
    mask: BoolArray


@dataclass(frozen=True, eq=False)
class Tokens:
    """The tokens of a batch that one stream of a model reads, such as its decoder.

    Parameters
    ----------
    mask : ndarray of shape (b, t), bool
        False for padding.
    special : ndarray of shape (b, t), bool, optional
        True for special tokens.
    label : callable
        Returns the token at a sequence of the batch and a place in it, as a word.
    in_order : bool, default True
        False where the first token is like all others, or there is only one.
    """

    mask: BoolArray
    special: BoolArray | None = None
    label: Callable[[int, int], str] = lambda row, place: f"#{place}"
    in_order: bool = True

    @cached_property
    def first(self) -> BoolArray:
        """True for each sequence's first token, special or not."""
        first = np.zeros_like(self.mask)
        if self.in_order and self.mask.shape[1] > 1:
            first[np.arange(len(first)), self.mask.argmax(axis=1)] = True
            first &= self.mask
        return first

    @cached_property
    def parts(self) -> dict[str, Selection]:
        """The disjoint parts, of which every one has as many sequences as the batch."""
        special = np.zeros_like(self.mask) if self.special is None else self.special & self.mask
        first = self.first
        found = (first & ~special, first & special, special & ~first, self.mask & ~special & ~first)
        return {
            name: Selection(None, chosen) if name == "rest" else _gathered(chosen)
            for name, chosen in zip(PARTS, found, strict=True)
        }


def _gathered(chosen: BoolArray) -> Selection:
    width = max(1, int(chosen.sum(axis=1).max(initial=0)))
    places = np.argsort(~chosen, axis=1, kind="stable")[:, :width]
    return Selection(places, np.take_along_axis(chosen, places, axis=1))


class Layer(NamedTuple):
    """A layer's states, of shape (b, t, d), an array of NumPy or a tensor, and the stream whose tokens they are of."""

    name: str
    states: Any
    tokens: Tokens


class Batch(NamedTuple):
    """States of all layers of the same sequences, and the embeddings that the model returns for them, (b, d).

    `first` is the number of the first sequence among all.
    """

    first: int
    sequences: int
    layers: list[Layer]
    embeddings: Any = None


class Source(Protocol):
    """A model with what it reads.

    Attributes
    ----------
    count : int or None
        Number of batches, if known.
    sequences : int or None
        Number of sequences, if known.
    provenance : dict
        What identifies model and data, for the scan's record; a resumed scan needs the same.
    notes : list of str
        What the reader of the result should know.
    noticed : dict of str to int
        Counts of what was noticed on the way.
    seen : list of str
        A hash of each batch read so far, where all are not known beforehand.
    """

    count: int | None
    sequences: int | None
    provenance: dict[str, Any]
    notes: list[str]
    noticed: dict[str, int]
    seen: list[str]

    def batches(self, wanted: Callable[[int], bool]) -> Iterable[tuple[int, Batch | None]]:
        """Yield each batch with its number from 0; None in place of those that are not wanted."""

    def place_of(self, sequence: int) -> int:
        """Return the place of a sequence among the texts or images that were given."""

    def estimated_tokens(self) -> int | None:
        """Return about how many tokens there are, if that is known."""

    def finished(self) -> list[str]:
        """Free what the source holds, and return notes on what was noticed."""
