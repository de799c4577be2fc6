"""The layers of what is compared, and which belong together."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from isoscore_star.comparison._streams import Stream, stream_of
from isoscore_star.core.errors import InvalidTypeError, InvalidValueError
from isoscore_star.core.moments import Moments
from isoscore_star.measurement import Measurement

ONE = "all points"

Cloud = Callable[[], Any]


class Layers(NamedTuple):
    """Clouds by name, each made when it is needed; `by` says how they are known: "name", "place" or "" for one."""

    clouds: dict[str, Cloud]
    by: str


def layers_of(which: str, given: Any, mask: Any, groups: Any) -> Layers:
    """Return the layers of one of the two, `which` is its argument."""
    if _is_scan(given):
        return Layers({layer.name: partial(_merged, layer) for layer in _layers_of_scan(given)}, "name")
    if isinstance(given, Mapping):
        names, by = {str(name): cloud for name, cloud in given.items()}, "name"
    elif isinstance(given, (list, tuple)) and not is_blocks(given):
        names, by = {str(i): cloud for i, cloud in enumerate(given)}, "place"
    else:
        return Layers({ONE: partial(_cloud, which, given, mask, groups)}, "")
    if not names:
        raise InvalidValueError(which, "expected at least one layer; got none")
    clouds: dict[str, Cloud] = {}
    for place, (name, cloud) in enumerate(names.items()):
        own = _of_layer(f"mask_{which}", mask, name, place)
        labels = _of_layer("groups", groups, name, place) if isinstance(groups, Mapping) else groups
        clouds[name] = partial(_cloud, f"{which}[{place if by == 'place' else repr(name)}]", cloud, own, labels)
    return Layers(clouds, by)


def matched(ours: Layers, its: Layers) -> tuple[list[tuple[str, Cloud, Cloud]], tuple[str, ...]]:
    """Return pairs of layers in our order, and what has no counterpart.

    Raises
    ------
    InvalidValueError
        If nothing corresponds.
    """
    if (ours.by == "") != (its.by == ""):
        raise InvalidValueError("one of both is a single cloud and the other has layers. Give two clouds, or both by layer")
    common = [name for name in ours.clouds if name in its.clouds]
    if "place" in (ours.by, its.by) and len(ours.clouds) != len(its.clouds):
        raise InvalidValueError(
            f"layers without names are matched by place, for which there have to be as many; got {len(ours.clouds)} "
            f"and {len(its.clouds)}. Give dicts with names"
        )
    if "place" in (ours.by, its.by):
        names = ours.clouds if ours.by == "name" else its.clouds
        both = zip(names, ours.clouds.values(), its.clouds.values(), strict=True)
        return list(both), ()
    if not common:
        raise InvalidValueError(
            f"no layer has the same name in both: {_some(ours.clouds)} in A, {_some(its.clouds)} in B. Rename them"
        )
    notes = [
        f"only {which} has {_some(alone)}"
        for which, alone in (
            ("A", [name for name in ours.clouds if name not in its.clouds]),
            ("B", [name for name in its.clouds if name not in ours.clouds]),
        )
        if alone
    ]
    return [(name, ours.clouds[name], its.clouds[name]) for name in common], tuple(notes)


def is_blocks(given: Any) -> bool:
    """Return whether this is a list of Moments: the blocks of one cloud."""
    return isinstance(given, (list, tuple)) and bool(given) and all(isinstance(one, Moments) for one in given)


def _cloud(name: str, given: Any, mask: Any, groups: Any) -> Any:
    measured = isinstance(given, (Stream, Moments, Measurement)) or is_blocks(given)
    if measured and mask is not None:
        raise InvalidValueError(name, "expected no mask with what was measured or streamed already. Leave it out")
    return given if measured else stream_of(name, given, mask, groups)


def _of_layer(argument: str, given: Any, name: str, place: int) -> Any:
    """Return the part for a layer of what may be given by layer."""
    if isinstance(given, Mapping):
        if name not in given:
            raise InvalidValueError(argument, f"expected an entry for each layer; got none for {name!r}")
        return given[name]
    if isinstance(given, (list, tuple)):
        if place >= len(given):
            raise InvalidValueError(argument, f"expected an entry for each layer; got {len(given)}")
        return given[place]
    return given


def _is_scan(given: Any) -> bool:
    layers = getattr(given, "layers", None)
    return isinstance(layers, Sequence) and bool(layers) and all(hasattr(layer, "blocks") for layer in layers)


def _layers_of_scan(scan: Any) -> list[Any]:
    others = (getattr(scan, "union", None), getattr(scan, "embeddings", None))
    return [*scan.layers, *(layer for layer in others if layer is not None)]


def _merged(layer: Any) -> Any:
    """Return the blocks of all tokens, each of the blocks of its parts, such as first and special tokens."""
    parts: list[Sequence[Moments]] = list(layer.blocks().values())
    if len({len(part) for part in parts}) != 1:
        raise InvalidTypeError(f"the layer {layer.name} of the scan has no blocks to leave out, or parts of other numbers")
    merged = [copy.copy(block) for block in parts[0]]
    for part in parts[1:]:
        for block, other in zip(merged, part, strict=True):
            block.merge(other, same_groups=True)
    return merged


def _some(names: Iterable[str]) -> str:
    shown = list(names)
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")
