"""A section of the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from isoscore_star.reporting._charts import Chart
from isoscore_star.reporting._html import Html, element, joined, markup


@dataclass(frozen=True)
class Section:
    """A heading, what stands below it, and the charts that are in it."""

    id: str
    title: str
    body: Html
    charts: tuple[Chart, ...] = ()

    def html(self) -> Html:
        """Write the section."""
        heading = element("h2", self.title, id=f"{self.id}-heading")
        return element("section", joined([heading, self.body]), id=self.id, aria_labelledby=f"{self.id}-heading")


def paragraph(text: Any, class_: str = "") -> Html:
    """Write a paragraph."""
    return element("p", text, **({"class_": class_} if class_ else {}))


def drawn(chart: Chart) -> Html:
    """Write a chart's place; the script of the page draws into it."""
    place = element("div", "", class_="chart", id=f"chart-{chart.id}", role="img", aria_label=chart.alt)
    caption = element("figcaption", joined([element("h3", chart.title), markup(chart.caption)]))
    return element("figure", joined([caption, place]))


def beside(charts: tuple[Chart, ...] | list[Chart]) -> Html:
    """Write charts beside each other, below each other where there is no room."""
    return element("div", joined(map(drawn, charts)), class_="beside") if charts else Html("")
