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
    names = list(ours.clouds), list(its.clouds)
    if "place" in (ours.by, its.by) and "" not in (ours.by, its.by):
        if len(names[0]) != len(names[1]):
            raise InvalidValueError(
                "layers without names are matched by place, for which there have to be as many; got "
                f"{len(names[0])} and {len(names[1])}. Give dicts with names"
            )
        names = (names[0],) * 2 if ours.by == "name" else (names[1],) * 2
    pairs, notes = pairs_of_names(*names)
    clouds = list(ours.clouds.values()), list(its.clouds.values())
    return [(name, clouds[0][i], clouds[1][j]) for name, i, j in pairs], notes


def pairs_of_names(ours: Sequence[str], its: Sequence[str]) -> tuple[list[tuple[str, int, int]], tuple[str, ...]]:
    """Return the layers that both have, with their places in each, and notes on those that only one has.

    Raises
    ------
    InvalidValueError
        If there is none that both have.

    Examples
    --------
    >>> from isoscore_star.comparison import pairs_of_names
    >>> pairs_of_names(["0", "1"], ["1", "2"])
    ([('1', 1, 0)], ('only A has 0', 'only B has 2'))
    """
    if (list(ours) == [ONE]) != (list(its) == [ONE]):
        raise InvalidValueError("one is a single cloud and the other has layers. Give two clouds, or layers of both")
    places = {name: j for j, name in enumerate(its)}
    pairs = [(name, i, places[name]) for i, name in enumerate(ours) if name in places]
    if not pairs:
        raise InvalidValueError(f"no layer has the same name in both: A has {_some(ours)}, B {_some(its)}. Rename them")
    alone = (
        ("A", [name for name in ours if name not in places]),
        ("B", [name for name in its if name not in ours]),
    )
    return pairs, tuple(f"only {which} has {_some(names)}" for which, names in alone if names)


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
        raise InvalidTypeError(f"the scan's layer {layer.name} has no blocks to leave out, or parts of other numbers")
    merged = [copy.copy(block) for block in parts[0]]
    for part in parts[1:]:
        for block, other in zip(merged, part, strict=True):
            block.merge(other, same_groups=True)
    return merged


def _some(names: Iterable[str]) -> str:
    shown = list(names)
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")
