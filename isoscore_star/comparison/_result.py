"""What a comparison tells: a row for each layer, and sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from isoscore_star.comparison import _words
from isoscore_star.comparison._layer import ComparedLayer
from isoscore_star.reporting import Reported


@dataclass(frozen=True)
class Comparison(Reported):
    """Result of `compare`.

    Attributes
    ----------
    a, b : str
        What the two are called.
    rows : tuple of ComparedLayer
        One for each layer, in the order of `a`.
    notes : tuple of str
        What concerns all rows, such as layers that only one of both has.

    Examples
    --------
    >>> import numpy as np
    >>> import isoscore_star as iso
    >>> before = np.random.default_rng(0).normal(size=(2000, 8))
    >>> comparison = iso.compare(before, before * [3, 1, 1, 1, 1, 1, 1, 1])
    >>> print(comparison.sentences[0])
    B uses 62 % fewer dimensions than A (95 %: 61 to 64 %), paired over 2,000 points
    """

    a: str
    b: str
    rows: tuple[ComparedLayer, ...]
    notes: tuple[str, ...] = ()

    @property
    def sentences(self) -> tuple[str, ...]:
        """What was found, in words; the first is the headline."""
        return _words.sentences(self.rows)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to mind, each once."""
        if len(self.rows) == 1:
            return tuple(dict.fromkeys((*self.notes, *self.rows[0].warnings)))
        found: dict[str, list[str]] = {}
        for row in self.rows:
            for text in row.warnings:
                found.setdefault(text, []).append(row.name)
        common = [text for text, names in found.items() if len(names) == len(self.rows)]
        others = [f"{_words.listed(names)}: {text}" for text, names in found.items() if text not in common]
        return (*self.notes, *common, *others)

    def __str__(self) -> str:
        return ". ".join(self.sentences) + "."

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and lists, for JSON."""
        return {
            "a": self.a,
            "b": self.b,
            "sentences": list(self.sentences),
            "rows": [row.to_dict() for row in self.rows],
            "warnings": list(self.warnings),
        }
