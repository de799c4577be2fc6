"""Charts over the layers: the score with and without some tokens, and which coordinates stand out where."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from isoscore_star.reporting._charts import (
    HEAT,
    SERIES,
    Chart,
    Data,
    chart_spec,
    coloured,
    dashed,
    line,
    ordered,
    quantitative,
    shaped,
    told,
)
from isoscore_star.reporting._content import Layer
from isoscore_star.reporting._numbers import rounded

ALL_TOKENS = "all tokens"
_MOST_COORDINATES = 40
_STANDING_OUT = 5.0
_UPRIGHT = 12
BINS = ((2, "under 2"), (5, "2 to 5"), (20, "5 to 20"), (100, "20 to 100"), (np.inf, "over 100"))


def short_names(names: Sequence[str]) -> tuple[list[str], str]:
    """Return the names without the word that those with a number share, and this word.

    Examples
    --------
    >>> short_names(["layer 9", "layer 10"])
    (['9', '10'], 'layer')
    >>> short_names(["embeddings", "h.1", "h.2"])
    (['embeddings', '1', '2'], 'h')
    >>> short_names(["first.npy", "second.npy"])
    (['first.npy', 'second.npy'], 'layer')
    """
    matches = [re.fullmatch(r"(.*?)[ ._]?(\d+)", name) for name in names]
    heads = {match[1] for match in matches if match}
    found = [match[2] if match else name for match, name in zip(matches, names, strict=True)]
    if len(heads) == 1 and len(set(found)) == len(found):
        return found, heads.pop() or "layer"
    return unique(names), "layer"


def unique(names: Sequence[str]) -> list[str]:
    """Tell equal names apart by a number.

    Examples
    --------
    >>> unique(["a", "b", "a"])
    ['a', 'b', 'a (2)']
    """
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found


def score_of(measurement: Any) -> float:
    """Return the unbiased score, or the plug-in one where that is not defined."""
    return float(measurement.score if measurement.unbiased_score is None else measurement.unbiased_score)


def profile_charts(layers: Sequence[Layer]) -> list[Chart]:
    """Draw each layer's score."""
    if len(layers) < 2:
        return []
    names, title = short_names([layer.name for layer in layers])
    kinds = list(dict.fromkeys([ALL_TOKENS, *(f"without {kind}" for layer in layers for kind in layer.without)]))
    rows = []
    for name, layer in zip(names, layers, strict=True):
        measured = {ALL_TOKENS: layer.measurement} | {f"without {kind}": one for kind, one in layer.without.items()}
        for kind, one in measured.items():
            low, high = one.interval if one.interval is not None else (None, None)
            # Intervals of four lines in one chart cover each other.
            shown = (low, high) if kind == ALL_TOKENS else (None, None)
            rows.append(
                [
                    name,
                    layer.name,
                    kind,
                    rounded(score_of(one)),
                    *map(rounded, shown),
                    rounded(one.effective_dimensions),
                ]
            )
    data = Data(("short", "layer", "kind", "score", "low", "high", "effective"), rows)
    tooltip = told(
        ("layer", "layer"),
        ("kind", "of"),
        ("score", "score"),
        ("effective", "effective dimensions"),
        form={"score": ".3~g", "effective": ".4~g"},
    )
    drawn = line(tooltip)
    drawn["mark"]["point"] = {"filled": True, "size": 50}
    y = quantitative("score", "score", scale={"domainMin": 0})
    drawn["encoding"] |= {
        "y": y,
        "color": coloured("kind", kinds),
        "shape": shaped("kind", kinds),
        "strokeDash": dashed("kind", kinds),
    }
    error = {
        "transform": [{"filter": "isValid(datum.low)"}],
        "mark": {"type": "rule", "strokeWidth": 1.5, "color": SERIES[0], "opacity": 0.6},
        "encoding": {"y": {"field": "low", "type": "quantitative", "title": "score"}, "y2": {"field": "high"}},
    }
    x = ordered("short", title, names, axis={"labelAngle": 0 if _are_short(names) else -40})
    spec = chart_spec("profile", 300, encoding={"x": x}, layer=[error, drawn])
    alt = f"Line chart of the score of {len(layers)} layers, {', '.join(kinds)}; the table below has its numbers."
    return [Chart("profile", "Score of each layer", alt, spec, {"profile": data}, legend=kinds)]


def _are_short(names: Sequence[str]) -> bool:
    return sum(len(name) > 3 for name in names) <= 1  # such as "embeddings" before the numbers


def heat_charts(layers: Sequence[Layer]) -> list[Chart]:
    """Draw the coordinates that stand out somewhere, at most forty, in each layer."""
    dims = {int(layer.measurement.dim) for layer in layers}
    if len(layers) < 2 or len(dims) != 1:
        return []
    dim = dims.pop()
    chosen, standing = standing_out(layers)
    if not chosen:
        return []
    times = [times_even(layer.measurement) for layer in layers]
    names, title = short_names([layer.name for layer in layers])
    labels = [label for _, label in BINS]
    rows = [
        [name, layer.name, str(i), rounded(times[row][i], 3), rounded(times[row][i] / dim, 3), _bin(times[row][i])]
        for row, (name, layer) in enumerate(zip(names, layers, strict=True))
        for i in chosen
    ]
    data = Data(("short", "layer", "dimension", "times", "share", "bin"), rows)
    spec = chart_spec("heat", len(layers) * max(7, min(20, 640 // len(layers))))
    spec |= {
        "mark": {"type": "rect", "stroke": "var(--paper)", "strokeWidth": 1},
        "encoding": {
            "x": ordered(
                "dimension",
                "dimension",
                [str(i) for i in chosen],
                axis={"labelAngle": 0 if len(chosen) <= _UPRIGHT else -90},
            ),
            "y": ordered("short", title, names),
            "color": coloured("bin", labels, HEAT),
            "tooltip": told(
                ("layer", "layer"),
                ("dimension", "dimension"),
                ("share", "share of variance"),
                ("times", "times the even share"),
                form={"share": ".3~%", "times": ".3~g"},
            ),
        },
    }
    spec["encoding"]["color"]["legend"] = {
        "title": "times the even share",
        "symbolType": "square",
        "symbolStrokeColor": "var(--line)",
        "symbolStrokeWidth": 1,
    }
    shown = f"{len(chosen)} of {dim:,} dimensions"
    caption = (
        f"Shown: the {shown} that hold at least five times their even share, 1/{dim:,}, of some layer's variance"
        + (f", of {standing} such the largest." if standing > len(chosen) else ".")
    )
    alt = f"Heat map of {shown} by {len(layers)} layers; darker means a larger part of the layer's variance."
    return [Chart("heat", "Coordinates that stand out", alt, spec, {"heat": data}, caption=caption, legend=labels)]


def standing_out(layers: Sequence[Layer]) -> tuple[list[int], int]:
    """Return the coordinates, at most forty, that hold five times their even share in a layer, and how many do."""
    if len({int(layer.measurement.dim) for layer in layers}) != 1:
        return [], 0
    highest = np.max([times_even(layer.measurement) for layer in layers], axis=0)
    standing = [int(i) for i in np.argsort(-highest, kind="stable") if highest[i] >= _STANDING_OUT]
    return sorted(standing[:_MOST_COORDINATES]), len(standing)


def times_even(measurement: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return each coordinate's variance by the average one, shape (d,)."""
    variances = np.asarray(measurement.variances, dtype=np.float64)
    total = variances.sum()
    return variances / total * len(variances) if total > 0 else variances


def _bin(times: float) -> str:
    return next(label for bound, label in BINS if times < bound)
