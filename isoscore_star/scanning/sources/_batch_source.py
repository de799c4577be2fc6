"""What the sources of prepared batches have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Any

from isoscore_star.scanning._batches import Batch
from isoscore_star.scanning.sources._fingerprint import HashedBatches, described


class BatchSource:
    """Batches of inputs to a model; see `isoscore_star.scanning._batches.Source`. `_batch` runs the model over one."""

    def __init__(self, model: Any, name: str, weights: str, batches: Iterable[Any], mask: Any) -> None:
        self.count: int | None = len(batches) if isinstance(batches, Sized) else None
        self.sequences: int | None = None
        self.notes: list[str] = []
        self.noticed: dict[str, int] = {}
        self._batches = HashedBatches(batches)
        self.seen = self._batches.seen
        self.provenance: dict[str, Any] = {
            "model": name,
            "class": type(model).__name__,
            "weights": weights,
            "texts": "batches",
            "fingerprint": self._batches.fingerprint,
            "mask": described(mask),
        }

    def place_of(self, sequence: int) -> int:
        """Return a sequence's place in the batches."""
        return sequence

    def estimated_tokens(self) -> int | None:
        """Return None: batches do not tell."""
        return None

    def finished(self) -> list[str]:
        """Return what was noticed on the way."""
        return []

    def batches(self, wanted: Callable[[int], bool]) -> Iterator[tuple[int, Batch | None]]:
        """Yield each batch with its number; None in place of those that are not wanted."""
        first = 0
        for number, batch in enumerate(self._batches):
            found = self._batch(first, batch) if wanted(number) else None
            first += found.sequences if found else rows_of(batch)
            yield number, found

    def _batch(self, first: int, batch: Any) -> Batch:
        raise NotImplementedError


def rows_of(batch: Any) -> int:
    """Return the number of sequences in a batch of inputs."""
    if isinstance(batch, Mapping):
        return rows_of(next(iter(batch.values())))
    if isinstance(batch, (tuple, list)):
        return rows_of(batch[0])
    return len(batch)
