"""`Scan`: what state each layer of a model is in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from isoscore_star import Measurement, Moments
from isoscore_star.reporting import Reported

_HANGS = "longest point"
"""Of a measurement's warnings only that of few far points has these words."""


class LongToken(NamedTuple):
    """A token that lies far from the mean.

    Attributes
    ----------
    text : int
        Place of its text among those that were given, from 0.
    position : int
        Its place in the text, from 0.
    token : str
        As the tokenizer writes it.
    variance_share : float
        Its part of the layer's total variance Σ‖x − μ‖².

    Examples
    --------
    >>> import isoscore_star as iso
    >>> iso.LongToken(3, 0, "<s>", 0.25).variance_share
    0.25
    """

    text: int
    position: int
    token: str
    variance_share: float


class Stability(NamedTuple):
    """The scores of the first sequences."""

    sequences: int
    unbiased_score: float | None
    score: float


@dataclass(frozen=True, eq=False, repr=False)
class ScannedLayer:
    """A layer of a scanned model.

    Attributes
    ----------
    name : str
        As in ``"layer 3"``, ``"decoder embeddings"`` or ``"union"``.
    measurement : Measurement
        Of all tokens without padding. The unbiased score is that of halves of the sequences, its standard error leaves
        out blocks of sequences.
    without : dict of str to Measurement
        The same without ``"first tokens"``, ``"special tokens"`` and ``"first and special tokens"``, of which those
        are left out that change nothing, or leave too few tokens.
    explanation : Explanation or None
        What the score is made of.
    stability : tuple of Stability
        The scores of more and more of the sequences.
    longest_tokens : tuple of LongToken
        The ten tokens farthest from the mean, the farthest first.
    """

    name: str
    measurement: Measurement
    without: Mapping[str, Measurement]
    explanation: Any = None
    stability: tuple[Stability, ...] = ()
    longest_tokens: tuple[LongToken, ...] = ()
    _blocks: Mapping[str, list[Moments]] = field(default_factory=dict)

    def blocks(self) -> dict[str, list[Moments]]:
        """Return the moments of each disjoint part, ``"first"``, ``"first special"``, ``"special"`` and ``"rest"``.

        Returns
        -------
        dict of str to list of Moments
            One for each block of sequences, the same blocks in all parts and layers; without points where a block has
            none of the part. In a block a sequence has the same number in all parts and layers, so that
            ``merge(..., same_groups=True)`` adds them up.
        """
        return {part: list(of) for part, of in self._blocks.items()}

    def __repr__(self) -> str:
        return f"ScannedLayer(name={self.name!r}, measurement={self.measurement!r})"

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and lists, for JSON."""
        return {
            "name": self.name,
            **self.measurement.to_dict(),
            "without": {name: of.to_dict() for name, of in self.without.items()},
            "explanation": None if self.explanation is None else self.explanation.to_dict(),
            "stability": [step._asdict() for step in self.stability],
            "longest_tokens": [token._asdict() for token in self.longest_tokens],
        }


@dataclass(frozen=True, eq=False, repr=False)
class Scan(Reported):
    """Result of `scan`.

    Attributes
    ----------
    model : str
        Its name or folder.
    layers : tuple of ScannedLayer
        In the model's order, the embedding layer first.
    union : ScannedLayer or None
        All layers but the embedding layer as one cloud; None if their widths differ, or there is only one.
    embeddings : ScannedLayer or None
        The embeddings that a sentence-transformer returns for the texts, as independent points.
    notes : tuple of str
        What was decided or noticed on the way.
    provenance : dict
        Versions, model, dtype, device, hash of the texts, numbers of sequences and tokens, seconds.
    """

    model: str
    layers: tuple[ScannedLayer, ...]
    union: ScannedLayer | None
    embeddings: ScannedLayer | None
    notes: tuple[str, ...]
    provenance: Mapping[str, Any]
    _stored: Any = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to mind in these numbers, in sentences that start with the layers they are about."""
        found: dict[str, list[str]] = {}
        for layer in self._all():
            measured = {layer.name: layer.measurement}
            measured |= {f"{layer.name} without {kind}": left for kind, left in layer.without.items()}
            for name, of in measured.items():
                # Of what is left, only that it hangs on few points: the rest is said of the layer.
                for warning in of.warnings:
                    if name == layer.name or _HANGS in warning:
                        found.setdefault(warning, []).append(name)
        return tuple(f"{_named(names)}: {warning}" for warning, names in found.items())

    def save(self, folder: str | Path) -> None:
        """Write the moments and ``scan.json`` into a folder, for `load_scan`.

        Raises
        ------
        InvalidValueError
            If the folder cannot be written, or holds another scan.
        """
        self._stored(Path(folder), self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and lists, for JSON."""
        return {
            "model": self.model,
            "layers": [layer.to_dict() for layer in self.layers],
            "union": None if self.union is None else self.union.to_dict(),
            "embeddings": None if self.embeddings is None else self.embeddings.to_dict(),
            "notes": list(self.notes),
            "warnings": list(self.warnings),
            "provenance": dict(self.provenance),
        }

    def __repr__(self) -> str:
        scores = ", ".join(f"{layer.name}: {_headline(layer.measurement):.4f}" for layer in self._all())
        return f"Scan(model={self.model!r}, {scores})"

    def _all(self) -> list[ScannedLayer]:
        return [*self.layers, *filter(None, (self.union, self.embeddings))]


def hangs_on_few(measurement: Measurement) -> bool:
    """Return whether a score is one of a few far points, so that other texts may give quite another."""
    longest = measurement.longest_points
    return longest is not None and any(_HANGS in warning for warning in measurement.warnings)


def _headline(measurement: Measurement) -> float:
    return measurement.score if measurement.unbiased_score is None else measurement.unbiased_score


def _named(names: list[str]) -> str:
    return ", ".join(names) if len(names) < 5 else f"{', '.join(names[:3])} and {len(names) - 3} more"
