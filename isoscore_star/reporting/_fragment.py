"""What a notebook shows of a measurement, a scan or a comparison: a small table, without script or style sheet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from isoscore_star.core.errors import InvalidTypeError
from isoscore_star.reporting import _numbers as write
from isoscore_star.reporting._html import Html, element, joined
from isoscore_star.reporting._profile import score_of

_BAR = "display:inline-block;width:8em;height:.7em;background:rgba(128,128,128,.25);margin-left:.6em"
_FILLED = "display:block;height:100%;background:#4a90c4;width:"
_SHOWN = 5


def fragment(thing: Any) -> str:
    """Write a fragment of HTML that stands for itself in a notebook.

    Parameters
    ----------
    thing : Measurement, Scan, Comparison or GroupedMeasurement

    Returns
    -------
    str
        Without a script; names are escaped.

    Raises
    ------
    InvalidTypeError
        If it is none of these.

    Examples
    --------
    >>> import numpy as np
    >>> import isoscore_star as iso
    >>> from isoscore_star import reporting
    >>> html = reporting.fragment(iso.measure(np.random.default_rng(0).normal(size=(100, 8))))
    >>> html[:5], "<script" in html
    ('<div>', False)
    """
    if hasattr(thing, "spectrum"):
        return element("div", _of_measurement(thing))
    if hasattr(thing, "layers"):
        return element("div", _of_scan(thing))
    if hasattr(thing, "rows") and hasattr(thing, "a"):
        return element("div", _of_comparison(thing))
    if hasattr(thing, "unbiased_scores"):
        return element("div", _of_classes(thing))
    raise InvalidTypeError("thing", f"expected a Measurement, a Scan or a Comparison; got {type(thing).__name__}")


def _of_measurement(measurement: Any) -> Html:
    outliers = [f"{i} ({write.percent(share)})" for i, share in measurement.outlier_dimensions]
    more = f" and {len(outliers) - _SHOWN} more" if len(outliers) > _SHOWN else ""
    rows: list[Sequence[Any]] = [
        ["score (1: all directions used evenly)", _with_bar(score_of(measurement))],
        ["95 % interval", write.interval(measurement.interval) or "none"],
        ["effective dimensions", f"{write.dimensions(measurement.effective_dimensions)} of {measurement.dim:,}"],
        ["outlier dimensions", ", ".join(outliers[:_SHOWN]) + more or "none"],
        ["points", f"{measurement.count:,}"],
    ]
    return joined([_table([], rows), _warnings(measurement.warnings)])


def _of_scan(scan: Any) -> Html:
    layers = [one for one in (*scan.layers, scan.union, scan.embeddings) if one is not None]
    kinds = list(dict.fromkeys(kind for layer in layers for kind in layer.without))
    rows = [
        [
            layer.name,
            _with_bar(score_of(layer.measurement)),
            write.interval(layer.measurement.interval),
            write.dimensions(layer.measurement.effective_dimensions),
            *(write.score(score_of(layer.without[kind])) if kind in layer.without else "" for kind in kinds),
        ]
        for layer in layers
    ]
    heads = ["layer", "score", "95 % interval", "effective dimensions", *(f"without {kind}" for kind in kinds)]
    return joined([element("strong", scan.model), _table(heads, rows), _warnings(scan.warnings)])


def _of_comparison(comparison: Any) -> Html:
    rows = [
        [
            row.name,
            write.score(score_of(row.a)),
            write.score(score_of(row.b)),
            write.score(row.difference),
            write.interval(row.interval),
        ]
        for row in comparison.rows
    ]
    heads = ["layer", comparison.a, comparison.b, "difference", "95 % interval"]
    return joined([_table(heads, rows), _warnings(comparison.warnings)])


def _of_classes(measured: Any) -> Html:
    """Show the classes of the lowest and of the highest scores."""
    ranked = list(measured.ranked)
    shown = ranked if len(ranked) <= 2 * _SHOWN else [*ranked[:_SHOWN], *ranked[-_SHOWN:]]
    rows = []
    for one in map(measured.at, shown):
        bar, error = _with_bar(score_of(one)), write.score(one.standard_error)
        rows.append([str(one.label), bar, error, f"{one.count:,}"])
    left_out = len(measured) - len(shown)
    head = f"{len(measured):,} classes of {measured.whole.count:,} points in {measured.dim:,} dimensions"
    more = [element("p", f"{left_out:,} classes are not shown.")] if left_out else []
    table = _table(["class", "score", "standard error", "points"], rows)
    return joined([element("strong", head), table, *more, _warnings(measured.warnings)])


def _with_bar(value: float) -> Html:
    width = 100 * min(max(value, 0.0), 1.0)
    filled = element("span", "", style=f"{_FILLED}{width:.1f}%")
    return joined([write.score(value), element("span", filled, style=_BAR)])


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> Html:
    head = element("tr", joined(element("th", name, scope="col") for name in heads)) if heads else Html("")
    body = (
        element("tr", joined([element("th", row[0], scope="row"), *(element("td", cell) for cell in row[1:])]))
        for row in rows
    )
    return element("table", joined([head, *body]))


def _warnings(warnings: Sequence[str]) -> Html:
    return joined(element("p", f"Mind: {text}") for text in warnings)
