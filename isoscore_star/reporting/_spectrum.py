"""Charts of a chosen layer: how its variance is spread over the directions, and whether the score has settled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from isoscore_star.reporting._charts import (
    SERIES,
    Chart,
    Data,
    Spec,
    chart_spec,
    coloured,
    dashed,
    line,
    quantitative,
    told,
)
from isoscore_star.reporting._content import Layer
from isoscore_star.reporting._numbers import rounded

_FIRST, _MORE = 20, 80
"""Ranks of a spectrum that the page holds: the first ones, and others at equal ratios."""

_CHOSEN = {"params": [{"name": "chosen", "value": 0}], "transform": [{"filter": "datum.layer === chosen"}]}
_TOLD = told(
    ("rank", "direction"),
    ("share", "share of variance"),
    ("times", "times the even share"),
    ("total", "up to here"),
    form={"share": ".3~%", "times": ".3~g", "total": ".3~%"},
)


def ranks(dim: int) -> list[int]:
    """Choose the ranks that are shown, from 1 to `dim`."""
    if dim <= _FIRST + _MORE:
        return list(range(1, dim + 1))
    found = np.unique(np.round(np.geomspace(1, dim, _MORE)).astype(int))
    return sorted({*range(1, min(_FIRST, dim) + 1), *map(int, found)})


def shares(measurement: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return each direction's share of the variance, largest first, shape (d,)."""
    spectrum = np.maximum(np.asarray(measurement.spectrum, dtype=np.float64), 0)  # rounding leaves some below zero
    largest = spectrum.max(initial=0)
    return spectrum / largest / (spectrum / largest).sum() if largest > 0 else spectrum


def spectrum_charts(layers: Sequence[Layer]) -> list[Chart]:
    """Draw the spectrum three ways: as it is, on logarithmic axes, and summed up."""
    rows = []
    for number, layer in enumerate(layers):
        share = shares(layer.measurement)
        total, dim = np.cumsum(share), len(share)
        rows += [
            [
                number,
                rank,
                rounded(share[rank - 1]),
                rounded(1 / dim),
                rounded(share[rank - 1] * dim, 3),
                rounded(total[rank - 1]),
                rounded(rank / dim),
            ]
            for rank in ranks(dim)
        ]
    data = {"spectrum": Data(("layer", "rank", "share", "even", "times", "total", "even_total"), rows)}
    plain, log = (
        {"scale": {"nice": False}},
        {"scale": {"type": "log", "nice": False}, "axis": {"tickCount": 4, "format": "~s"}},
    )
    percent = {"axis": {"format": "~%"}}
    powers = {"scale": {"type": "log"}, "axis": {"format": "~%", "values": [10.0**power for power in range(-12, 1)]}}
    return [
        Chart(
            "spectrum-linear",
            "As it is",
            _alt("each direction's share of the variance"),
            _spectrum("share", "even", "share of variance", plain, percent),
            data,
            follows=True,
        ),
        Chart(
            "spectrum-log",
            "Logarithmic",
            _alt("each direction's share of the variance, on logarithmic axes"),
            _spectrum("share", "even", "share of variance", log, powers, positive=True),
            data,
            follows=True,
        ),
        Chart(
            "spectrum-cumulative",
            "Summed up",
            _alt("the share that the leading directions hold together"),
            _spectrum("total", "even_total", "share of variance up to here", plain, percent),
            data,
            follows=True,
        ),
    ]


def _alt(what: str) -> str:
    return f"Line chart of {what}, largest first, beside a dashed line for a space that uses all directions evenly."


def _spectrum(name: str, even: str, title: str, x: Spec, y: Spec, positive: bool = False) -> Spec:
    spec = chart_spec("spectrum", 220, **_CHOSEN)
    if positive:
        spec["transform"] = [*spec["transform"], {"filter": "datum.share > 0"}]
    axis = quantitative("rank", "direction", **x)
    even_line = {"type": "line", "strokeDash": [5, 4], "strokeWidth": 1.5, "color": "var(--muted)"}
    drawn = line(_TOLD, color=SERIES[0])
    drawn["encoding"] |= {"x": axis, "y": quantitative(name, title, **y)}
    spec["layer"] = [{"mark": even_line, "encoding": {"x": axis, "y": quantitative(even, title, **y)}}, drawn]
    return spec


def stability_charts(layers: Sequence[Layer]) -> list[Chart]:
    """Draw the score by the number of sequences, where a scan has counted it."""
    kinds = ("score of halves", "plug-in score")
    rows = [
        [number, int(sequences), kind, rounded(value)]
        for number, layer in enumerate(layers)
        for sequences, halves, plug_in in layer.stability
        for kind, value in zip(kinds, (halves, plug_in), strict=True)
        if value is not None
    ]
    if not rows:
        return []
    data = Data(("layer", "sequences", "kind", "score"), rows)
    spec = chart_spec("stability", 220, **_CHOSEN)
    drawn = line(told(("kind", "kind"), ("sequences", "sequences"), ("score", "score"), form={"score": ".3~g"}))
    drawn["mark"]["point"] = {"filled": True, "size": 45}
    spec |= drawn
    spec["encoding"] |= {
        "x": quantitative(
            "sequences", "sequences", scale={"type": "log", "nice": False}, axis={"format": "~s", "tickCount": 4}
        ),
        "y": quantitative("score", "score"),
        "color": coloured("kind", kinds),
        "strokeDash": dashed("kind", kinds),
    }
    alt = "Line chart of the score of halves and of the plug-in score by the number of sequences."
    caption = "Where both lines are flat and meet, more text would change little."
    return [
        Chart(
            "stability", "Has it settled?", alt, spec, {"stability": data}, follows=True, caption=caption, legend=kinds
        )
    ]
