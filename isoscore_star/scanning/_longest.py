"""The tokens that lie farthest from the mean, kept while states stream by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoscore_star import InvalidValueError
from isoscore_star.scanning._batches import Tokens

KEPT = 10


class Farthest:
    """Keeps the rows of the points farthest from the mean of all points so far: of first tokens, and of all others.

    The mean moves while points arrive, so that a point may be missed that lies about as far as those that are kept;
    one that holds a visible share of the variance is not.
    """

    def __init__(self) -> None:
        self.count = 0
        self._sum: NDArray[np.float64] = np.zeros(0)
        self.rows: NDArray[Any] = np.zeros((0, 0), np.float32)
        self.sequences: NDArray[np.int64] = np.zeros(0, np.int64)
        self.places: NDArray[np.int64] = np.zeros(0, np.int64)
        self.first: NDArray[np.bool_] = np.zeros(0, bool)
        self.words: list[str] = []

    def take(self, name: str, states: Any, tokens: Tokens, first_sequence: int) -> None:
        """Take in the states of a batch, of shape (b, t, d)."""
        mask = tokens.mask
        count = int(mask.sum())
        if not count:
            return
        total, lengths_about = _measuring(states, mask)
        self._sum = total if not self.count else self._sum + total
        self.count += count
        lengths = lengths_about(self._sum / self.count)
        if not np.isfinite(lengths[mask]).all():
            raise InvalidValueError(
                name,
                "its states hold NaN or inf. Try a wider --dtype (float32), and see whether the model's weights are "
                "whole",
            )
        first = tokens.first
        best = np.concatenate([_largest(np.where(of, lengths, -1.0), int(of.sum())) for of in (first, mask & ~first)])
        sequences, places = np.unravel_index(best, mask.shape)
        rows = _picked(states, sequences, places)
        words = [tokens.label(int(i), int(j)) for i, j in zip(sequences, places, strict=True)]
        self._keep(rows, sequences + first_sequence, places, first[sequences, places], words)

    def _keep(self, rows: NDArray[Any], sequences: Any, places: Any, first: Any, words: list[str]) -> None:
        if self.words:
            rows = np.concatenate([self.rows, rows])
            sequences = np.concatenate([self.sequences, sequences])
            places = np.concatenate([self.places, places])
            first, words = np.concatenate([self.first, first]), [*self.words, *words]
        away = rows.astype(np.float64) - self._sum / self.count
        lengths = np.einsum("ij,ij->i", away, away)
        order = np.concatenate([_largest(np.where(of, lengths, -1.0), int(of.sum())) for of in (first, ~first)])
        self.rows, self.sequences, self.places = rows[order], sequences[order], places[order]
        self.first, self.words = first[order], [words[index] for index in order]

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return all that is kept; see `from_arrays`."""
        if not self.count:
            return {}
        # Words as bytes, each closed by one that no UTF-8 text has.
        words = b"".join(word.encode("utf-8", "replace") + b"\xff" for word in self.words)
        return {
            "count": np.asarray(self.count),
            "sum": self._sum,
            "rows": self.rows,
            "sequences": self.sequences,
            "places": self.places,
            "first": self.first,
            "words": np.frombuffer(words, np.uint8),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Farthest:
        """Return what `to_arrays` took apart."""
        kept = cls()
        if arrays:
            kept.count, kept._sum, kept.rows = int(arrays["count"]), arrays["sum"], arrays["rows"]
            kept.sequences, kept.places, kept.first = arrays["sequences"], arrays["places"], arrays["first"]
            kept.words = [word.decode() for word in arrays["words"].tobytes().split(b"\xff")[:-1]]
        return kept


def _largest(lengths: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Return the flat places of the ten largest of `count` lengths."""
    return np.argsort(-lengths, axis=None, kind="stable")[: min(KEPT, count)]


class _Measured(NamedTuple):
    total: NDArray[np.float64]
    lengths_about: Any


def _measuring(states: Any, mask: NDArray[np.bool_]) -> _Measured:
    """Return the sum of the points, and a function that returns squared distances from a mean, of shape (b, t)."""
    if isinstance(states, np.ndarray):
        flat, chosen = states.reshape(-1, states.shape[-1]), mask.reshape(-1)

        def lengths(mean: NDArray[np.float64]) -> NDArray[np.float64]:
            with np.errstate(invalid="ignore", over="ignore"):
                away = flat - mean.astype(flat.dtype)
                return np.asarray(np.einsum("ij,ij->i", away, away), np.float64).reshape(mask.shape)

        with np.errstate(invalid="ignore", over="ignore"):
            return _Measured(flat[chosen].sum(axis=0, dtype=np.float64), lengths)
    import torch

    kept = torch.as_tensor(mask, device=states.device)

    def lengths_there(mean: NDArray[np.float64]) -> NDArray[np.float64]:
        away = states - torch.as_tensor(mean, dtype=states.dtype, device=states.device)
        return np.asarray(away.square().sum(-1).double().cpu().numpy())

    total = torch.where(kept[..., None], states, 0).sum((0, 1), dtype=torch.float64)
    return _Measured(total.cpu().numpy(), lengths_there)


def _picked(states: Any, sequences: Any, places: Any) -> NDArray[Any]:
    if isinstance(states, np.ndarray):
        return np.asarray(states[sequences, places])
    import torch

    chosen = states[torch.as_tensor(sequences), torch.as_tensor(places)]
    return np.asarray(chosen.cpu().numpy())
