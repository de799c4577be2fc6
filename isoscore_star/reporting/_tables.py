"""Sections with the layers, a chosen layer's spectrum, all measures, and where the numbers come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from isoscore_star.reporting import _cells as cells
from isoscore_star.reporting import _numbers as write
from isoscore_star.reporting._content import Content, Layer
from isoscore_star.reporting._html import Cell, Column, Html, element, joined, table
from isoscore_star.reporting._profile import heat_charts, profile_charts, score_of
from isoscore_star.reporting._section import Section, beside, drawn, paragraph
from isoscore_star.reporting._spectrum import spectrum_charts, stability_charts

_CARRIED = 90
"""Layers whose spectra the page carries; 90 of them take half a megabyte."""


def layers(content: Content) -> list[Section]:
    """Write each layer's score, as a chart and as a table."""
    if len(content.layers) < 2:
        return []
    charts = (*profile_charts(content.layers), *heat_charts(content.layers))
    kinds = list(dict.fromkeys(kind for layer in content.layers for kind in layer.without))
    columns = [
        Column("layer"),
        Column("score", True),
        Column("95 % interval", True, True),
        Column("effective dimensions", True, True),
        *(Column(f"without {kind}", True) for kind in kinds),
        Column("outlier dimensions", True, True),
    ]
    rows = [_row(layer, kinds) for layer in content.layers]
    shown = table("Every layer", columns, rows, sortable=True)
    text = "The higher the more evenly a layer uses its directions."
    if kinds:
        text += (
            " Where a line without some tokens lies far above, these few tokens, not the words' states, make the layer "
            "look collapsed."
        )
    hint = paragraph(text)
    return [Section("layers", "Layer by layer", joined([hint, *map(drawn, charts), shown]), charts)]


def _row(layer: Layer, kinds: Sequence[str]) -> list[Any]:
    measurement = layer.measurement
    outliers = len(measurement.outlier_dimensions)
    without = [score_of(layer.without[kind]) if kind in layer.without else None for kind in kinds]
    return [
        layer.name,
        cells.score(score_of(measurement)),
        cells.interval(measurement.interval),
        cells.dimensions(measurement.effective_dimensions),
        *map(cells.score, without),
        cells.count(outliers),
    ]


def spectrum(content: Content) -> list[Section]:
    """Write the spectrum, and how far the score has settled, of a layer that the reader chooses."""
    shown = content.clouds[:_CARRIED]
    if not shown:
        return []
    charts, settled = spectrum_charts(shown), stability_charts(shown)
    hint = paragraph(
        "Directions (principal components) by their share of the variance. In a space that uses all directions evenly "
        "they lie on the dashed line; the steeper the curve, the fewer directions carry everything."
    )
    body = [hint, *([_choice(shown)] if len(shown) > 1 else []), beside(charts), *map(drawn, settled)]
    return [Section("spectrum", "The spectrum", joined(body), (*charts, *settled))]


def _choice(shown: Sequence[Layer]) -> Html:
    options = joined(element("option", layer.name, value=str(number)) for number, layer in enumerate(shown))
    label = element("label", "Shown:", for_="chosen-layer")
    return element("p", joined([label, " ", element("select", options, id="chosen-layer")]), class_="choice")


def measures(content: Content) -> list[Section]:
    """Write every measure of the headline, with its source."""
    first = content.headline
    found = () if first is None else first.explanation.measures
    if first is None or not found:
        return []
    has_errors = any(one.error is not None for one in found)
    rows = []
    for one in found:
        errors = [Cell("" if one.error is None else write.general(one.error), one.error)] if has_errors else []
        rows.append([one.name, Cell(write.general(one.value), one.value), *errors, one.isotropic, one.source, one.note])
    columns = [
        Column("measure"),
        Column("value", True),
        *([Column("standard error", True)] if has_errors else []),
        Column("of many isotropic points"),
        Column("source", minor=True),
        Column("note", minor=True),
    ]
    hint = paragraph("Others that are in use, for comparison. They ask different questions, and need not agree.")
    return [
        Section(
            "measures", "All measures", joined([hint, table(f"Measures of {first.name}", columns, rows, sortable=True)])
        )
    ]


def provenance(content: Content) -> list[Section]:
    """Write where the numbers come from, and what the words mean."""
    facts = [(key, value) for key, value in _flat(content.provenance) if value]
    listed = [element("dt", key.replace("_", " ")) + element("dd", value) for key, value in facts]
    body = [element("dl", Html("".join(listed)), class_="facts")] if listed else []
    words = "".join(element("dt", word) + element("dd", meaning) for word, meaning in _WORDS)
    body += [element("h3", "What the words mean"), element("dl", Html(words), class_="words-mean")]
    return [Section("provenance", "Where this comes from", joined(body))]


_WORDS = (
    (
        "IsoScore, IsoScore*",
        "How evenly a cloud of points uses its directions, from 0 to 1, whatever its mean and its "
        "scale (Rudman et al. 2022; IsoScore* with a shrinkage for small samples: Rudman & Eickhoff 2024).",
    ),
    (
        "score of halves, unbiased score",
        "The score without the bias that a small sample has; of two halves of the "
        "sentences, since a sentence's tokens are alike. It is what this page calls the score, where it is defined.",
    ),
    ("plug-in score", "The score of the sample's own covariance; too low for few points."),
    (
        "effective dimensions",
        "The participation ratio (Σλ)²/Σλ² of the variances λ of all directions: so many "
        "dimensions, used evenly, would be as even as this space.",
    ),
    (
        "linear CKA, principal angles",
        "How alike two spaces are: CKA is 1 where they differ by a rotation and a scale; "
        "an angle of 0° is a leading direction that both have, 90° one that the other has nothing of.",
    ),
    ("outlier dimension", "A coordinate that holds at least five times its even share of the variance."),
    (
        "first tokens, special tokens",
        "The first token of each sequence, in which decoders often keep states a "
        "thousand times as long as others; tokens such as [CLS], [SEP] and <s> that stand for no word.",
    ),
)


def _flat(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(key, _written(value)) for key, value in facts.items() if value is not None]


def _written(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_written(one)}" for key, one in value.items() if one is not None)
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_written, value))
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return write.general(value)
    return str(value)
