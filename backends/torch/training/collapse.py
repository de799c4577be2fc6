"""Lines in the log when layers collapse, once for each layer and way."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

from isoscore_star.backends.torch.training.layer_stream import MonitoredLayer
from isoscore_star.backends.torch.training.log import COLLAPSE

LOGGER = logging.getLogger("isoscore_star")

NEARLY_ALL = 0.9
"""Fraction of the variance with which one coordinate, or few points, hold nearly all of it."""

_SHOWN = 4


class CollapseWatch:
    """Compares each measurement with the first one.

    Attributes
    ----------
    first : dict of str to float
        The first score above 0 of each layer.
    """

    def __init__(self) -> None:
        self.first: dict[str, float] = {}
        self._told: set[tuple[str, str]] = set()

    def look(self, layers: Sequence[MonitoredLayer], step: int, *, telling: bool = True) -> None:
        """Log a line for each way in which layers collapsed since the last look."""
        for layer in layers:
            if layer.score is not None and layer.score > 0:
                self.first.setdefault(layer.name, layer.score)
        found = dict(_ways(layers, self.first))
        for way, parts in found.items():
            new = [part for name, part in parts.items() if (way, name) not in self._told]
            self._told |= {(way, name) for name in parts}
            if new and telling:
                LOGGER.warning(way, step, _listed(new))


def _ways(layers: Iterable[MonitoredLayer], first: Mapping[str, float]) -> Iterable[tuple[str, dict[str, str]]]:
    layers = list(layers)
    yield (
        "Step %d: IsoScore* fell below a tenth of its first value, the states are collapsing into few directions: %s",
        {
            layer.name: f"{layer.name} from {first[layer.name]:.3g} to {layer.score:.3g}"
            for layer in layers
            if layer.score is not None and layer.name in first and layer.score < COLLAPSE * first[layer.name]
        },
    )
    own = [layer for layer in layers if layer.module]  # what a layer does shows in the union, too
    yield (
        "Step %d: one coordinate holds nearly all of the variance: %s",
        {
            layer.name: f"{layer.name} ({layer.coordinate_share:.0%} in coordinate {layer.coordinate})"
            for layer in own
            if layer.coordinate_share >= NEARLY_ALL
        },
    )
    yield (
        "Step %d: one state in a hundred holds nearly all of the variance, as massive activations of first tokens do: "
        "%s",
        {
            layer.name: f"{layer.name} ({layer.few_points_share:.0%})"
            for layer in own
            if layer.few_points_share >= NEARLY_ALL
        },
    )
    yield (
        "Step %d: states are not finite: %s",
        {layer.name: layer.name for layer in own if not layer.finite},
    )
    yield (
        "Step %d: too few sequences for a score, which needs four; give a larger window or batch: %s",
        {
            layer.name: f"{layer.name} ({layer.group_count or layer.count})"
            for layer in own
            if layer.finite and layer.score is None
        },
    )


def _listed(parts: Sequence[str]) -> str:
    return ", ".join(parts[:_SHOWN]) + (f" and {len(parts) - _SHOWN} more" if len(parts) > _SHOWN else "")
