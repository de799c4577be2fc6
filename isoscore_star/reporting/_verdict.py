"""The report's beginning: the score, the verdict in words, what can be done, and what to mind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from isoscore_star.reporting import _numbers as write
from isoscore_star.reporting._advice import advice
from isoscore_star.reporting._content import Content, Layer
from isoscore_star.reporting._html import Html, element, joined, listed
from isoscore_star.reporting._profile import score_of
from isoscore_star.reporting._section import Section, paragraph

MEANING = "1: every direction is used evenly. 0: all points lie on one line."


def verdict(content: Content) -> list[Section]:
    """Write the headline, and what can be done."""
    first = content.headline
    sections = []
    if first is not None:
        body = element("div", joined([_headline(first), _words(content, first)]), class_="verdict")
        sections.append(Section("verdict", "Verdict", joined([body, _others(content, first)])))
        sections.append(
            Section("what-to-do", "What can be done", advice(first, content.layers, has_file=content.has_file))
        )
    return sections


def warnings(content: Content) -> list[Section]:
    """Write what to mind in the numbers."""
    found = [*content.warnings, *content.notes]
    return [Section("warnings", "Mind this", listed(found, class_="warnings"))] if found else []


def _headline(layer: Layer) -> Html:
    measurement = layer.measurement
    value, pair = score_of(measurement), measurement.interval
    ends = write.interval(pair)
    start, end = pair if pair is not None else (value, value)
    shown = [
        element("p", "IsoScore of " + layer.name, class_="of"),
        element("p", write.score(value), class_="score"),
        element(
            "p", f"95 % interval {ends}" if ends else "no interval: it needs the points themselves", class_="interval"
        ),
        gauge(value, start, end),
        element("p", MEANING, class_="meaning"),
        element(
            "p",
            f"As even as a space of {write.dimensions(measurement.effective_dimensions)} dimensions would be, "
            f"of {measurement.dim:,} that there are. {measurement.count:,} points.",
            class_="meaning",
        ),
    ]
    return element("div", joined(shown), class_="headline")


def gauge(value: float, low: float, high: float) -> Html:
    """Draw a score from 0 to 1; the numbers stand beside it."""
    place, start, end = (100 * min(max(one, 0.0), 1.0) for one in (value, low, high))
    width = max(end - start, 0.0)
    return Html(
        '<div class="gauge" aria-hidden="true"><div class="track">'
        f'<span class="filled" style="width:{place:.2f}%"></span>'
        f'<span class="within" style="left:{start:.2f}%;width:{width:.2f}%"></span>'
        f'<span class="needle" style="left:{place:.2f}%"></span></div>'
        '<div class="ends"><span>0</span><span>1</span></div></div>'
    )


def _words(content: Content, first: Layer) -> Html:
    sentences = list(first.explanation.sentences)
    rest = [*sentences[1:], *_across(content.layers)]
    return element("div", joined([paragraph(sentences[0], "lead"), listed(rest)]), class_="words")


def _across(layers: Sequence[Layer]) -> Iterator[str]:
    """Say where the score is lowest and highest, and where it hangs on some tokens most."""
    if len(layers) < 2:
        return
    scores = {layer.name: score_of(layer.measurement) for layer in layers}
    lowest, highest = min(scores, key=lambda name: scores[name]), max(scores, key=lambda name: scores[name])
    yield (
        f"Among the {len(layers)} layers, {lowest} is the least even ({write.score(scores[lowest])}), "
        f"{highest} the most ({write.score(scores[highest])})."
    )
    gains = [
        (score_of(one) - score_of(layer.measurement), kind, layer, one)
        for layer in layers
        for kind, one in layer.without.items()
    ]
    if not gains:
        return
    gain, kind, layer, one = max(gains, key=lambda found: found[0])
    before, after = score_of(layer.measurement), score_of(one)
    if gain > 0 and after >= 2 * before:
        share = (layer.measurement.count - one.count) / layer.measurement.count
        yield (
            f"{layer.name} scores {write.score(before)}, but {write.score(after)} without {kind}: "
            f"{write.percent(share)} of the tokens make it look collapsed."
        )


def _others(content: Content, first: Layer) -> Html:
    """Write the other clouds that have a score of their own beside the layers."""
    others = [one for one in (content.embeddings, content.union) if one is not None and one is not first]
    if not others:
        return Html("")
    shown = []
    for one in others:
        pair = write.interval(one.measurement.interval)
        about = f" ({pair})" if pair else ""
        shown.append(f"{one.name}: {write.score(score_of(one.measurement))}{about}")
    return paragraph("Beside it, " + "; ".join(shown) + ".", "beside-it")
