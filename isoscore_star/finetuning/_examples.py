"""Examples to train on and to evaluate on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from isoscore_star import InvalidValueError

# Which examples are held out or left out is the same for every run, whatever its seed.
_SEED = 0
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
        """Return all, or as many of them by chance."""
        if count is None or count >= len(self.texts):
            return self
        return self.pick(sorted(np.random.default_rng(_SEED).permutation(len(self.texts))[:count].tolist()))


class TaskData(NamedTuple):
    """A task's examples.

    Attributes
    ----------
    train, evaluation : Examples
        Apart from each other.
    names : list of str or None
        Names of the classes; None for regression.
    metric : str
        By which the best state of a run is chosen.
    """

    train: Examples
    evaluation: Examples
    names: list[str] | None
    metric: str


def split(examples: Examples, file: str) -> tuple[Examples, Examples]:
    """Hold out some examples, the same ones every time.

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
