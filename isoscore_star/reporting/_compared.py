"""Sections of a comparison: what changed in each layer, and how surely."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from isoscore_star.reporting import _cells as cells
from isoscore_star.reporting._charts import Chart, Data, Spec, chart_spec, coloured, ordered, quantitative, shaped, told
from isoscore_star.reporting._content import Content
from isoscore_star.reporting._html import Column, Html, element, joined, listed, table
from isoscore_star.reporting._numbers import rounded
from isoscore_star.reporting._profile import score_of, unique
from isoscore_star.reporting._section import Section, drawn, paragraph
from isoscore_star.reporting._verdict import MEANING

_ANGLES = 4


def compared(content: Content) -> list[Section]:
    """Write a comparison."""
    comparison = content.comparison
    if comparison is None or not comparison.rows:
        return []
    charts = tuple(_charts(comparison))
    first, *rest = comparison.sentences
    title = paragraph(f"A, before: {comparison.a}. B, after: {comparison.b}.", "of")
    head = [title, paragraph(first, "lead"), listed(rest), paragraph(MEANING, "aside")]
    body = [element("div", joined(head), class_="words"), *map(drawn, charts), _table(comparison)]
    return [Section("compared", "Before and after", joined(body), charts)]


def change(row: Any) -> str:
    """Say which way a layer's score went, if that is sure."""
    if row.interval is None:
        return "no interval"
    low, high = row.interval
    if low > 0:
        return "higher"
    return "lower" if high < 0 else "no clear change"


def _charts(comparison: Any) -> list[Chart]:
    rows, names = comparison.rows, unique([row.name for row in comparison.rows])
    sides = unique([f"A, before: {comparison.a}", f"B, after: {comparison.b}"])
    height = len(rows) * max(12, min(26, 900 // len(rows)))
    values = [
        [name, side, rounded(score_of(one)), rounded(score_of(row.a)), rounded(score_of(row.b))]
        for name, row in zip(names, rows, strict=True)
        for side, one in zip(sides, (row.a, row.b), strict=True)
    ]
    y = ordered("layer", "layer", names)
    both = chart_spec("compared", height, encoding={"y": y})
    points = {
        "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1},
        "encoding": {
            "x": quantitative("score", "score", scale={"domainMin": 0}),
            "color": coloured("side", sides),
            "shape": shaped("side", sides),
            "tooltip": told(("layer", "layer"), ("side", "side"), ("score", "score"), form={"score": ".3~g"}),
        },
    }
    between: Spec = {
        "mark": {"type": "rule", "color": "var(--muted)", "strokeWidth": 1.5},
        "encoding": {"x": {"field": "a", "type": "quantitative", "title": "score"}, "x2": {"field": "b"}},
    }
    both["layer"] = [between, points]
    data = {"compared": Data(("layer", "side", "score", "a", "b"), values)}
    charts = [
        Chart(
            "compared",
            "Scores before and after",
            f"Dot chart of {len(rows)} layers' scores, before and after.",
            both,
            data,
            legend=sides,
        )
    ]
    sure = [(name, row) for name, row in zip(names, rows, strict=True) if row.interval is not None]
    if not sure:
        return charts
    changed = [[name, rounded(row.difference), *map(rounded, row.interval), change(row)] for name, row in sure]
    words = ("higher", "no clear change", "lower")
    differences = chart_spec("differences", height, encoding={"y": y})
    interval = {"x": quantitative("low", "difference of the score, after minus before"), "x2": {"field": "high"}}
    point = {
        "x": quantitative("difference", "difference of the score, after minus before"),
        "shape": shaped("change", words),
        "tooltip": told(
            ("layer", "layer"),
            ("difference", "difference"),
            ("low", "from"),
            ("high", "to"),
            form=dict.fromkeys(("difference", "low", "high"), ".3~g"),
        ),
    }
    colour = coloured("change", words, ("var(--series-1)", "var(--muted)", "var(--series-2)"))
    differences["layer"] = [
        {
            "data": {"values": [{"zero": 0}]},
            "mark": {"type": "rule", "color": "var(--muted)", "strokeDash": [5, 4]},
            "encoding": {"x": {"field": "zero", "type": "quantitative"}, "y": None},
        },
        {"mark": {"type": "rule", "strokeWidth": 2}, "encoding": interval | {"color": colour}},
        {"mark": {"type": "point", "filled": True, "size": 80, "opacity": 1}, "encoding": point | {"color": colour}},
    ]
    charts.append(
        Chart(
            "differences",
            "Change, with its 95 % interval",
            f"Dot chart of the change of {len(sure)} layers' scores with their intervals, beside a line at no change.",
            differences,
            {"differences": Data(("layer", "difference", "low", "high", "change"), changed)},
            caption="An interval that does not touch the dashed line is a change that the sample shows.",
            legend=words,
        )
    )
    return charts


def _table(comparison: Any) -> Html:
    columns = [
        Column("layer"),
        Column("before", True),
        Column("after", True),
        Column("difference", True),
        Column("95 % interval", True, True),
        Column("change"),
        Column("CKA", True, True),
        Column("principal angles", minor=True),
    ]
    rows: list[Sequence[Any]] = [
        [
            row.name,
            cells.score(score_of(row.a)),
            cells.score(score_of(row.b)),
            cells.score(row.difference),
            cells.interval(row.interval),
            change(row),
            cells.score(row.cka),
            ", ".join(f"{angle:.0f}°" for angle in row.angles[:_ANGLES]) + (" …" if len(row.angles) > _ANGLES else ""),
        ]
        for row in comparison.rows
    ]
    return table("Every layer, before and after", columns, rows, sortable=True)
