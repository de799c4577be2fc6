"""Cells of tables with a number each: what it shows, and what its column is sorted by."""

from __future__ import annotations

from isoscore_star.reporting import _numbers as write
from isoscore_star.reporting._html import Cell, bar, element, joined

ABSENT = "none"


def score(value: float | None) -> Cell:
    """Show a score, or that there is none."""
    return Cell(ABSENT if value is None else write.score(value), value)


def score_bar(value: float | None) -> Cell:
    """Show a score and its bar."""
    return _with_bar(write.score(value), value)


def percent(value: float | None) -> Cell:
    """Show a fraction as a percentage."""
    return Cell(write.percent(value), value)


def percent_bar(value: float | None) -> Cell:
    """Show a fraction as a percentage and its bar."""
    return _with_bar(write.percent(value), value)


def dimensions(value: float) -> Cell:
    """Show effective dimensions."""
    return Cell(write.dimensions(value), value)


def count(value: int) -> Cell:
    """Show a number of things."""
    return Cell(f"{value:,}", value)


def interval(pair: tuple[float, float] | None) -> Cell:
    """Show an interval, sorted by its lower end."""
    return Cell(write.interval(pair), None if pair is None else pair[0])


def _with_bar(text: str, value: float | None) -> Cell:
    return Cell(joined([element("span", text, class_="figure"), bar(value)]), value)
