"""Charts as specifications of Vega-Lite. Colours are variables of the page's style sheet, which has two schemes.

Names of layers and files are values of data and of domains, never parts of an expression.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from isoscore_star.reporting._escaping import visible

Spec = dict[str, Any]
SERIES = [f"var(--series-{number})" for number in range(1, 7)]
HEAT = [f"var(--heat-{number})" for number in range(5)]
SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down"]
DASHES = [[1, 0], [6, 4], [2, 3], [9, 3, 2, 3], [4, 2], [1, 2]]
_TAKEN = {
    "__defineGetter__",
    "__defineSetter__",
    "__lookupGetter__",
    "__lookupSetter__",
    "__proto__",
    "constructor",
    "hasOwnProperty",
    "isPrototypeOf",
    "propertyIsEnumerable",
    "toLocaleString",
    "toString",
    "valueOf",
}
_HOVER = {"filled": True, "size": 90, "opacity": 0}  # what a pointer meets on a line

CONFIG: Spec = {
    "background": "transparent",
    "font": "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif",
    "aria": False,  # the figure around it says in words what it shows
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--muted)",
        "titleColor": "var(--muted)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "gridColor": "var(--grid)",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 8,
        "labelLimit": 130,
        "labelOverlap": "greedy",
        "labelSeparation": 4,
    },
    "axisX": {"grid": False},
    "axisXQuantitative": {"tickCount": 6, "labelFlush": False},
    "axisY": {"domain": False, "ticks": False, "labelPadding": 6, "tickCount": 5},
    "legend": {
        "orient": "top",
        "direction": "horizontal",
        "titleColor": "var(--muted)",
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "labelColor": "var(--ink)",
        "labelFontSize": 12,
        "labelLimit": 260,
        "symbolSize": 90,
        "symbolStrokeWidth": 0,
        "columnPadding": 18,
        "offset": 6,
    },
}


@dataclass(frozen=True)
class Data:
    """Rows of values under the names of their columns."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        rows = [[charted(one) if isinstance(one, str) else one for one in row] for row in self.rows]
        return {"columns": list(self.columns), "rows": rows}


@dataclass(frozen=True)
class Chart:
    """A chart: its place in the page, its title, what it shows in words, its specification and its data.

    Attributes
    ----------
    follows : bool
        Whether it shows the layer that the reader has chosen.
    legend : sequence of str
        The words of its legend, which the page sets in as many columns as there is room for.
    """

    id: str
    title: str
    alt: str
    spec: Spec
    data: Mapping[str, Data] = field(default_factory=dict)
    follows: bool = False
    caption: str = ""
    legend: Sequence[str] = ()


def quantitative(name: str, title: str, **more: Any) -> Spec:
    """Encode numbers on an axis."""
    return {"field": name, "type": "quantitative", "title": charted(title), **more}


def ordered(name: str, title: str | None, domain: Sequence[str], **more: Any) -> Spec:
    """Encode names on an axis, in their own order."""
    shown = None if title is None else charted(title)
    return {"field": name, "type": "ordinal", "title": shown, "scale": {"domain": _shown(domain)}, **more}


def coloured(name: str, domain: Sequence[str], colours: Sequence[str] = SERIES) -> Spec:
    """Encode names by colour."""
    scale = {"domain": _shown(domain), "range": list(colours[: len(domain)])}
    return {"field": name, "type": "nominal", "scale": scale, "legend": {"title": None} if len(domain) > 1 else None}


def shaped(name: str, domain: Sequence[str]) -> Spec:
    """Encode names by the shape of points, for those who do not tell the colours apart."""
    scale = {"domain": _shown(domain), "range": SHAPES[: len(domain)]}
    return {"field": name, "type": "nominal", "scale": scale, "legend": {"title": None} if len(domain) > 1 else None}


def dashed(name: str, domain: Sequence[str]) -> Spec:
    """Encode names by dashes, so that a line below another one is seen."""
    scale = {"domain": _shown(domain), "range": DASHES[: len(domain)]}
    return {"field": name, "type": "nominal", "scale": scale, "legend": {"title": None} if len(domain) > 1 else None}


def told(*pairs: tuple[str, str], form: Mapping[str, str] | None = None) -> list[Spec]:
    """List what a pointer is told: pairs of a column and its name, which is ours: it gets into an expression."""
    forms = form or {}
    return [
        {"field": name, "title": title, **({"format": forms[name]} if name in forms else {})} for name, title in pairs
    ]


def line(tooltip: list[Spec], **more: Any) -> Spec:
    """Mark a line whose points tell their values."""
    return {"mark": {"type": "line", "strokeWidth": 2, "point": _HOVER, **more}, "encoding": {"tooltip": tooltip}}


def chart_spec(data: str, height: Any, **more: Any) -> Spec:
    """Begin a specification that is as wide as its place."""
    return {
        "data": {"name": data},
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        **more,
    }


def _shown(names: Sequence[str]) -> list[str]:
    return [charted(name) for name in names]


def charted(name: str) -> str:
    """Return a name that Vega can look up: it keeps groups in objects, which have some names already.

    Examples
    --------
    >>> charted("layer 1"), charted("constructor")
    ('layer 1', '"constructor"')
    """
    shown = visible(name)
    return f'"{shown}"' if shown in _TAKEN else shown
