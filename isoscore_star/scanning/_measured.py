"""From the moments of blocks to what is told of each layer."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoscore_star import DegenerateDataError, Measurement, Moments
from isoscore_star.scanning._accumulated import Accumulated, LayerBlock
from isoscore_star.scanning._batches import PARTS
from isoscore_star.scanning._longest import KEPT, Farthest
from isoscore_star.scanning._result import LongToken, ScannedLayer, Stability
from isoscore_star.scanning.sources import EMBEDDINGS

Blocks = dict[str, list[Moments]]
"""Of each part that has points the moments of every block."""

WITHOUT = {
    "first tokens": ("special", "rest"),
    "special tokens": ("first", "rest"),
    "first and special tokens": ("rest",),
}

_STEPS = (1, 2, 3, 5, 8, 13, 20)
"""Numbers of blocks whose scores are told, besides those of all."""


def layers_of(found: Accumulated, place_of: Callable[[int], int]) -> tuple[list[ScannedLayer], ScannedLayer | None]:
    """Return what is told of each layer, and of their union."""
    numbers = sorted(found.blocks)
    layers, inner, union = [], 0, _Union()
    for name in found.names:
        # A matrix of fewer rows than blocks has none in some.
        cells = [found.blocks[number].get(name, LayerBlock()) for number in numbers]
        by_part = [cell.moments() for cell in cells]
        blocks = {
            part: [its.get(part, Moments()) for its in by_part] for part in PARTS if any(part in its for its in by_part)
        }
        layers.append(scanned(name, blocks, [cell.farthest for cell in cells], place_of))
        if not name.endswith(EMBEDDINGS):
            inner += 1
            union.add(name, blocks, [cell.farthest for cell in cells])
    return layers, union.scanned() if inner > 1 else None


def embeddings_of(found: Accumulated) -> ScannedLayer | None:
    """Return what is told of the embeddings that the model returns."""
    blocks = [found.embeddings[number] for number in sorted(found.embeddings)]
    if not blocks or sum(block.count for block in blocks) < 2:
        return None
    return scanned("embeddings of texts", {"rest": blocks}, [], int, with_errors=True)


def scanned(
    name: str,
    blocks: Blocks,
    farthest: list[Farthest],
    place_of: Callable[[int], int],
    between: Mapping[str, list[Moments]] | None = None,
    *,
    with_errors: bool = False,
) -> ScannedLayer:
    """Measure a layer; with standard errors of the other measures, which take some hundred eigenvalue problems."""
    whole, farthest = _merged(blocks, PARTS), [its for its in farthest if its.count]
    try:
        rows = np.concatenate([its.rows for its in farthest]) if farthest else None
        measurement = Measurement.from_blocks(whole, longest=rows)
    except DegenerateDataError as error:
        raise error.about(name) from error
    return ScannedLayer(
        name,
        measurement,
        _without(blocks, measurement.count, farthest),
        _explanation(measurement, blocks, between, whole if with_errors else None),
        stability_of(whole),
        tuple(_long_tokens(measurement, farthest, place_of)),
        blocks,
    )


class _Union:
    """Adds layers up, as long as they are of one width."""

    def __init__(self) -> None:
        self._blocks: Blocks | None = {}
        self._layers: list[Moments] = []
        self._farthest: list[Farthest] = []

    def add(self, name: str, blocks: Blocks, farthest: list[Farthest]) -> None:
        if self._blocks is None:
            return
        own = next(of.dim for part in blocks.values() for of in part if of.dim is not None)
        if any(of.dim not in (None, own) for part in self._blocks.values() for of in part):
            self._blocks = None
            return
        for part, its in blocks.items():
            if part not in self._blocks:
                self._blocks[part] = [Moments() for _ in its]
            for ours, theirs in zip(self._blocks[part], its, strict=True):
                ours.merge(theirs, same_groups=True)
        self._layers.append(_all(_merged(blocks, PARTS)))
        self._farthest += farthest

    def scanned(self) -> ScannedLayer | None:
        if not self._blocks:
            return None
        # Of a token's states in several layers only the layer tells which is meant, so none are named.
        # A sketch does not tell what lies between layers.
        between = None if any(layer.sketch for layer in self._layers) else {"layers": self._layers}
        found = scanned("union", self._blocks, self._farthest, int, between, with_errors=True)
        return replace(found, longest_tokens=())


def _merged(blocks: Blocks, parts: tuple[str, ...]) -> list[Moments]:
    """Return the moments of each block, of some parts together."""
    kept = [blocks[part] for part in parts if part in blocks]
    merged = []
    for of_block in zip(*kept, strict=True):
        first, *others = of_block
        block = first
        if others:
            block = copy.copy(first)
            for part in others:
                block.merge(part, same_groups=True)
        merged.append(block)
    return merged


def _all(blocks: list[Moments]) -> Moments:
    merged = Moments()
    for block in blocks:
        merged.merge(block)
    return merged


def _without(blocks: Blocks, count: int, farthest: list[Farthest]) -> dict[str, Measurement]:
    found, counts = {}, set[int]()
    later = np.concatenate([its.rows[~its.first] for its in farthest]) if farthest else None
    for name, parts in WITHOUT.items():
        left = _merged(blocks, parts)
        points = sum(block.count for block in left)
        # Where all first tokens are special, or none is, two of the kinds are the same tokens.
        if points in {0, count} or (points in counts and name.startswith("first and")):
            continue
        try:
            # Massive activations sit in a few other tokens too, on which all that is left may hang.
            measured = Measurement.from_blocks(left, longest=later if name == "first tokens" else None)
        except DegenerateDataError:
            continue
        counts.add(points)
        # The halves are for an explanation, of which there is one of all tokens.
        found[name] = replace(measured, _halves=None)
    return found


def _explanation(
    measurement: Measurement,
    blocks: Blocks,
    between: Mapping[str, list[Moments]] | None,
    whole: list[Moments] | None,
) -> Any:
    parts = {}
    first = [blocks[part] for part in ("first", "first special") if part in blocks]
    if first:
        parts["first tokens"] = _all(_merged(blocks, ("first", "first special")))
    if "special" in blocks:
        parts["other special tokens" if "first special" in blocks else "special tokens"] = _all(blocks["special"])
    if "rest" in blocks:
        parts["other tokens"] = _all(blocks["rest"])
    return measurement.explain(parts=parts if len(parts) > 1 else None, between=between, blocks=whole)


def stability_of(blocks: list[Moments]) -> tuple[Stability, ...]:
    """Return the scores of the first blocks, of more and more of them."""
    steps, merged = [], Moments()
    for number, block in enumerate(blocks, 1):
        merged.merge(block)
        if number not in _STEPS and number < len(blocks):
            continue
        plain = _defined(merged.isoscore)
        if plain is not None:
            steps.append(Stability(merged.group_count or merged.count, _defined(merged.isoscore_unbiased), plain))
    return tuple(steps)


def _defined(score: Callable[[], float]) -> float | None:
    try:
        return score()
    except DegenerateDataError:
        return None


def _long_tokens(
    measurement: Measurement, farthest: list[Farthest], place_of: Callable[[int], int]
) -> Iterator[LongToken]:
    if not farthest:
        return
    rows: NDArray[Any] = np.concatenate([its.rows for its in farthest])
    known = [
        (int(sequence), int(place), word)
        for its in farthest
        for sequence, place, word in zip(its.sequences, its.places, its.words, strict=True)
    ]
    away = rows.astype(np.float64) - measurement.mean
    lengths = np.einsum("ij,ij->i", away, away)
    total = float(measurement.variances.sum()) * (measurement.count - 1)
    for index in np.argsort(-lengths, kind="stable")[:KEPT]:
        sequence, place, word = known[index]
        yield LongToken(place_of(sequence), place, word, float(lengths[index] / total))
