"""Examples to train on and to evaluate on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from isoscore_star import InvalidValueError

_SEED = 0  # every run holds out, or leaves out, the same examples
HELD_OUT = 0.1
"""Fraction of the training file that is evaluated on where no other file is given."""


class Examples(NamedTuple):
    """Texts, or pairs of texts, and their labels: class numbers, or values for regression."""

    texts: list[str]
    pairs: list[str] | None
    labels: list[Any]

    def pick(self, indices: Sequence[int]) -> Examples:
        """Return some of the examples."""
        pairs = None if self.pairs is None else [self.pairs[i] for i in indices]
        return Examples([self.texts[i] for i in indices], pairs, [self.labels[i] for i in indices])

    def at_most(self, count: int | None) -> Examples:
        """Return all examples, or `count` of them chosen at random."""
        if count is None or count >= len(self.texts):
            return self
        return self.pick(sorted(np.random.default_rng(_SEED).permutation(len(self.texts))[:count].tolist()))


class TaskData(NamedTuple):
    """A task's examples, apart from each other, its classes and its metric."""

    train: Examples
    evaluation: Examples
    names: list[str] | None  # None for regression
    metric: str  # by which the best state of a run is chosen


def split(examples: Examples, file: str) -> tuple[Examples, Examples]:
    """Return examples to train on, and a tenth held out: the same ones every time.

    Raises
    ------
    InvalidValueError
        If there is only one.
    """
    count = len(examples.texts)
    held_out = max(1, round(HELD_OUT * count))
    if count < 2:
        raise InvalidValueError(file, "one row cannot be both trained and evaluated on. Give an --eval-file")
    order = np.random.default_rng(_SEED).permutation(count)
    return examples.pick(sorted(order[held_out:].tolist())), examples.pick(sorted(order[:held_out].tolist()))
