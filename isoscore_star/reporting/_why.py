"""What pulls a score down: directions, coordinates, kinds of tokens, differences between groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from isoscore_star.reporting import _cells as cells
from isoscore_star.reporting import _numbers as write
from isoscore_star.reporting._content import Content, Layer
from isoscore_star.reporting._html import Cell, Column, Html, element, joined, table
from isoscore_star.reporting._profile import score_of
from isoscore_star.reporting._section import Section, paragraph

_DIRECTIONS, _COORDINATES = 8, 8
_FEW = 4
_MOST_LAYERS = 200
_LARGE_MEAN = 0.5

INTRODUCTION = (
    "The score is low where a few things hold most of the variance. Each table divides the same whole, what pulls the "
    "score down (the sum of the squared shares of variance, 1/effective dimensions), in another way; so the tables "
    "overlap, and do not add up with each other. Of kinds of tokens a table says what goes with them, which does not "
    "add up."
)


def why(content: Content) -> list[Section]:
    """Write the account of the headline in full, and of each other layer in short."""
    first = content.headline
    if first is None:
        return []
    others = content.clouds[1 : 1 + _MOST_LAYERS]
    body = [paragraph(INTRODUCTION), paragraph(f"Of {first.name}:", "of"), account(first, _DIRECTIONS, _COORDINATES)]
    if others:
        title = element("summary", f"The same of each of the {len(others)} others")
        body.append(element("details", joined([title, *map(_folded, others)]), class_="others"))
    return [Section("why", "What pulls the score down", joined(body))]


def account(layer: Layer, directions: int, coordinates: int) -> Html:
    """Write the tables of one layer."""
    explanation = layer.explanation
    tables = [
        _directions(explanation, directions),
        _coordinates(explanation, coordinates),
        _parts(explanation),
        _longest(layer),
        _between(explanation),
        _mean(explanation),
    ]
    return joined(tables)


def _folded(layer: Layer) -> Html:
    sentences = list(layer.explanation.sentences)
    title = element(
        "summary",
        joined(
            [
                element("span", layer.name, class_="name"),
                " ",
                element("span", write.score(score_of(layer.measurement)), class_="value"),
            ]
        ),
    )
    return element("details", joined([title, *map(paragraph, sentences), account(layer, _FEW, _FEW)]), class_="layer")


def _directions(explanation: Any, most: int) -> Html:
    shown = [one for one in explanation.directions if one.index is not None][:most]
    rows: list[Sequence[Any]] = [
        [
            f"direction {number}",
            cells.percent(one.variance_share),
            Cell(write.times(one.variance_share * explanation.dim), one.variance_share),
            cells.percent_bar(one.share),
        ]
        for number, one in enumerate(shown, 1)
    ]
    left = explanation.dim - len(shown)
    if rows and left > 0:
        share, variance = 1 - sum(one.share for one in shown), 1 - sum(one.variance_share for one in shown)
        rows.append(
            [
                f"the other {left:,}",
                cells.percent(max(variance, 0)),
                "",
                cells.percent_bar(max(share, 0)),
            ]
        )
    columns = [
        Column("direction"),
        Column("of the variance", True),
        Column("times its even share", True, True),
        Column("of what pulls the score down", True),
    ]
    return table("Single directions (principal components), largest first", columns, rows)


def _coordinates(explanation: Any, most: int) -> Html:
    found = [one for one in explanation.coordinates if one.dimension is not None]
    rows: list[Sequence[Any]] = [
        [
            f"dimension {one.dimension}",
            cells.percent(one.variance_share),
            Cell(write.times(one.variance_share * explanation.dim), one.variance_share),
            cells.percent_bar(one.share),
        ]
        for one in found[:most]
    ]
    columns = [
        Column("coordinate"),
        Column("of the variance", True),
        Column("times its even share", True, True),
        Column("of what pulls the score down", True),
    ]
    more = f" {len(found) - most} more stand out less." if len(found) > most else ""
    none = "" if found else "No coordinate holds five times its even share of the variance. "
    text = (
        f"{none}All coordinates' own variances together make up {write.percent(explanation.diagonal_share)} of what "
        f"pulls the score down; the rest lies in directions that mix coordinates.{more}"
    )
    return joined(
        [
            table("Coordinates that stand out (at least five times their even share)", columns, rows),
            paragraph(text, "aside"),
        ]
    )


def _parts(explanation: Any) -> Html:
    rows: list[Sequence[Any]] = [
        [
            one.name,
            cells.count(one.count),
            cells.percent(one.variance_share),
            cells.percent_bar(one.share),
            cells.score_bar(one.score_without),
        ]
        for one in explanation.parts
        if 2 * one.count < explanation.count  # what goes with most of the points says nothing
    ]
    columns = [
        Column("points"),
        Column("number", True, True),
        Column("of the variance", True),
        Column("of what pulls the score down", True),
        Column("plug-in score without them", True),
    ]
    return table("Kinds of tokens, and the points farthest from the mean", columns, rows)


def _longest(layer: Layer) -> Html:
    rows: list[Sequence[Any]] = [
        [element("code", one.token), cells.count(one.text), cells.count(one.position),
         cells.percent_bar(one.variance_share)]
        for one in layer.longest
    ]  # fmt: skip
    columns = [
        Column("token"),
        Column("of text number", True),
        Column("place in it", True),
        Column("of the variance", True),
    ]
    return table("Tokens farthest from the mean (texts and places counted from 0)", columns, rows)


def _between(explanation: Any) -> Html:
    rows: list[Sequence[Any]] = [
        [
            one.name,
            cells.count(one.group_count),
            cells.percent(one.variance_share),
            *map(cells.percent, one.shares),
            cells.score_bar(one.score_within),
        ]
        for one in explanation.between
    ]
    columns = [
        Column("groups"),
        Column("number", True, True),
        Column("of the variance lies between them", True),
        Column("pull from within", True, True),
        Column("from both", True, True),
        Column("from between", True),
        Column("plug-in score within", True),
    ]
    return table("Between groups: what would be left if each had the same mean", columns, rows)


def _mean(explanation: Any) -> Html:
    cosine = explanation.average_cosine
    about = "" if cosine is None else f" Two points have a cosine of {write.score(cosine)} on average."
    high = " High cosines that come from the mean go away by centring." if explanation.mean_share >= _LARGE_MEAN else ""
    text = (
        f"What the score does not see: the common mean is {write.percent(explanation.mean_share)} of the points' mean "
        f"square.{about}{high}"
    )
    return paragraph(text, "aside")
