"""What can be done: only steps that a measured number supports."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from isoscore_star.reporting import _cells as cells
from isoscore_star.reporting import _numbers as write
from isoscore_star.reporting._content import Layer
from isoscore_star.reporting._html import Column, Html, element, joined, listed, table
from isoscore_star.reporting._section import paragraph

_CLEAR = 1.25
"""A what-if that raises the score by less than a quarter is not worth naming."""

_FROM_MEAN = 0.5
"""The mean's part of the mean square from which centring is worth naming."""


def advice(first: Layer) -> Html:
    """Write what the measured facts support, the commands that do it, and what the score would be."""
    explanation = first.explanation
    if explanation is None:
        return paragraph("The causes were not measured here, so there is nothing that a number supports.")
    steps = list(_steps(first))
    if not steps:
        steps = [
            "Nothing measured here would raise the score by a quarter or more: neither single directions, nor "
            "coordinates, nor a kind of token explains it."
        ]
    caution = (
        "A more even space is not by itself a better one: full whitening, say, can make search and similarity worse "
        "(docs/transforms.md shows where). Try a change on your own task before you keep it. To change the model "
        "instead of its output, fine-tune it with the penalty I-STAR: isoscore-star finetune (docs/finetune.md)."
    )
    return joined([listed(steps, "ol", class_="steps"), paragraph(caution, "aside"), _what_ifs(first)])


def _steps(layer: Layer) -> Iterator[Any]:
    explanation = layer.explanation
    before = explanation.score
    parts = [one for one in explanation.parts if one.score_without is not None]
    for part in sorted(parts, key=lambda one: -one.score_without)[:2]:
        if part.score_without >= 2 * before and part.score_without >= 0.01:
            yield joined(
                [
                    element("strong", f"Leave out the {part.name}. "),
                    f"These {part.count:,} points hold {write.percent(part.variance_share)} of the variance; "
                    f"without them the score is {write.score(part.score_without)} in place of {write.score(before)}. "
                    "Pool, compare and measure the others.",
                ]
            )
    what_ifs = [one for one in explanation.what_ifs if one.score >= _CLEAR * before and one.score - before >= 0.01]
    gentle = [one for one in what_ifs if _removed(one.name)]
    strong = [one for one in what_ifs if not _removed(one.name)]
    for found in (min(gentle, key=_order, default=None), max(strong, key=lambda one: one.score, default=None)):
        if found is not None:
            how = action(found.name)
            yield joined(
                [
                    element("strong", f"{_title(found.name)}. "),
                    f"The score would be {write.score(found.score)} in place of {write.score(before)}. ",
                    *([how] if how else []),
                ]
            )
    cosine, share = explanation.average_cosine, explanation.mean_share
    if share is not None and share >= _FROM_MEAN:
        about = "" if cosine is None else f", and two points have a cosine of {write.score(cosine)} on average"
        yield joined(
            [
                element("strong", "Centre the points. "),
                f"Their common mean is {write.percent(share)} of their mean square{about}: this is why similarities "
                "look high. The score does not see the mean. ",
                _command("isoscore-star transform FILE -o centred.npy"),
            ]
        )


def _order(what_if: Any) -> int:
    return int(_removed(what_if.name) or 0)


def _removed(name: str) -> int | None:
    """Return how many directions are left out by a what-if of this name."""
    found = re.fullmatch(r"without the (?:(\d+) )?largest directions?", name)
    return None if found is None else int(found[1] or 1)


def _title(name: str) -> str:
    number = _removed(name)
    if number is not None:
        return f"Remove the {'largest direction' if number == 1 else f'{number} largest directions'}"
    known = {"standardised": "Standardise the coordinates", "half whitened": "Whiten in part"}
    return known.get(name, name[:1].upper() + name[1:])


def action(name: str) -> Html:
    """Return the command that does what a what-if supposes; nothing where there is none."""
    number = _removed(name)
    if number is not None:
        return _command(f"isoscore-star transform FILE --remove {number} -o new.npy")
    if name == "half whitened":
        return _command("isoscore-star transform FILE --power 0.5 -o new.npy")
    if name == "standardised":
        return joined(
            [
                "Divide each coordinate by its standard deviation (scikit-learn: ",
                element("code", "StandardScaler"),
                ").",
            ]
        )
    return Html("")


def _command(text: str) -> Html:
    return element("code", text)


def _what_ifs(layer: Layer) -> Html:
    explanation = layer.explanation
    rows: list[Sequence[Any]] = [
        ["as it is", cells.score_bar(explanation.score), cells.dimensions(explanation.effective_dimensions), ""]
    ]
    rows += [
        [one.name, cells.score_bar(one.score), cells.dimensions(one.effective_dimensions), action(one.name)]
        for one in explanation.what_ifs
    ]
    columns = [
        Column("what if"),
        Column("score", True),
        Column("effective dimensions", True),
        Column("how", minor=True),
    ]
    return table(
        "What the score would be (plug-in scores, computed from the moments, not tried on a task)", columns, rows
    )
