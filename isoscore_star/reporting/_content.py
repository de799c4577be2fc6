"""What a report is of: one form for a measurement, a scan, a comparison and a folder of fine-tunings.

The things are known by what they have, not by their class: the layers above this one make them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

from isoscore_star.core.errors import InvalidTypeError


@dataclass(frozen=True)
class Layer:
    """A cloud that the report shows: a layer, the union of all, or a model's embeddings.

    Attributes
    ----------
    name : str
    measurement : Measurement
    explanation : Explanation or None
    without : mapping of str to Measurement
        Without some of its tokens, by their kind.
    stability : tuple of (int, float or None, float)
        Sequences, the score of halves and the plug-in score of that many.
    longest : sequence of LongToken
        The tokens farthest from the mean.
    """

    name: str
    measurement: Any
    explanation: Any = None
    without: Mapping[str, Any] = field(default_factory=dict)
    stability: Sequence[tuple[int, float | None, float]] = ()
    longest: Sequence[Any] = ()


@dataclass(frozen=True)
class Content:
    """All that a report shows.

    Attributes
    ----------
    title : str
    layers : tuple of Layer
        In the model's order; empty for a single cloud.
    union, embeddings : Layer or None
        A single cloud is the union.
    comparison : Comparison or None
    runs : tuple of dict
        Of a folder of fine-tunings.
    warnings, notes : tuple of str
    provenance : mapping of str to Any
    has_file : bool
        Whether the points are in a file, which a command can transform.
    """

    title: str
    layers: tuple[Layer, ...] = ()
    union: Layer | None = None
    embeddings: Layer | None = None
    comparison: Any = None
    runs: tuple[Mapping[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    has_file: bool = True

    @property
    def headline(self) -> Layer | None:
        """What the verdict is of: what a model gives to its user, or else all that was measured."""
        return self.embeddings or self.union or (self.layers[-1] if self.layers else None)

    @property
    def clouds(self) -> tuple[Layer, ...]:
        """The headline first, then the layers, then the union."""
        first = self.headline
        others = [*self.layers, self.union, self.embeddings]
        found = [] if first is None else [first]
        return tuple(found + [one for one in others if one is not None and one is not first])


def content_of(thing: Any, name: str | None = None, *, explained: bool = True) -> Content:
    """Give a report's content.

    Parameters
    ----------
    thing : Measurement, mapping of str to Measurement, Scan, Comparison, or the content of a results.json
        Of a mapping, the entries are layers, and one called ``"union"`` is the union of all.
    name : str, optional
        What it is called, such as a file's name.
    explained : bool, default True
        Whether measurements are explained, which takes the eigenvectors of each.

    Returns
    -------
    Content

    Raises
    ------
    InvalidTypeError
        If it is none of these.
    """
    if isinstance(thing, Content):
        return thing
    if isinstance(thing, Mapping):
        return _of_runs(thing, name) if "runs" in thing else _of_layers(thing, name, explained)
    if hasattr(thing, "spectrum"):
        return _of_layers({"union": thing}, name, explained)
    if hasattr(thing, "layers"):
        return _of_scan(thing, name, explained)
    if hasattr(thing, "rows") and hasattr(thing, "a"):
        return _of_comparison(thing, name)
    raise InvalidTypeError(
        "thing", f"expected a Measurement, a Scan, a Comparison or a fine-tuning's results; got {type(thing).__name__}"
    )


def _of_layers(measurements: Mapping[str, Any], name: str | None, explained: bool) -> Content:
    layers = {key: Layer(key, one, one.explain() if explained else None) for key, one in measurements.items()}
    union = layers.pop("union", None)
    if union is not None and not layers:
        union = replace(union, name=name or "these points")
    elif union is not None:
        union = replace(union, name="all layers together")
    shown = tuple(layers.values())
    warnings = _warnings([*shown, union])
    return Content(name or "these points", shown, union, warnings=warnings)


def _of_scan(scan: Any, name: str | None, explained: bool) -> Content:
    layers = tuple(_scanned(one, one.name, explained) for one in scan.layers)
    union = None if scan.union is None else _scanned(scan.union, "all layers together", explained)
    embeddings = None if scan.embeddings is None else _scanned(scan.embeddings, "sentence embeddings", explained)
    return Content(
        name or _short(str(scan.model)),
        layers,
        union,
        embeddings,
        warnings=tuple(scan.warnings),
        notes=tuple(scan.notes),
        provenance=scan.provenance,
        has_file=False,
    )


def _short(model: str) -> str:
    """Keep the end of a path: of a folder that is called "model", the one above says more."""
    parts = PurePath(model).parts
    return "/".join(parts[-2:]) if len(parts) > 2 else model


def _scanned(one: Any, name: str, explained: bool) -> Layer:
    explanation = one.measurement.explain() if one.explanation is None and explained else one.explanation
    return Layer(name, one.measurement, explanation, one.without, one.stability, getattr(one, "longest_tokens", ()))


def _of_comparison(comparison: Any, name: str | None) -> Content:
    return Content(
        name or f"{comparison.a} and {comparison.b}",
        comparison=comparison,
        warnings=tuple(comparison.warnings),
    )


def _of_runs(results: Mapping[str, Any], name: str | None) -> Content:
    runs = tuple(results["runs"])
    settings = {key: value for key, value in results.get("settings", {}).items() if value is not None}
    return Content(
        name or "fine-tuning",
        runs=runs,
        notes=tuple(dict.fromkeys(note for run in runs for note in run.get("notes", ()))),
        provenance={**settings, "versions": results.get("versions", {})},
    )


def _warnings(layers: Sequence[Layer | None]) -> tuple[str, ...]:
    """Name the layers that a warning is of, and of many the first."""
    found: dict[str, list[str]] = {}
    known = [layer for layer in layers if layer is not None]
    for layer in known:
        for text in layer.measurement.warnings:
            found.setdefault(text, []).append(layer.name)
    if len(known) == 1:
        return tuple(found)
    return tuple(f"{_listed(names)}: {text}" for text, names in found.items())


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
