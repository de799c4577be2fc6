"""The report's beginning: the score, the verdict in words, what can be done, and what to mind."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from isoscore_star.reporting import _numbers as write
from isoscore_star.reporting._content import Content, Layer
from isoscore_star.reporting._html import Cell, Column, Html, element, joined, listed, table, with_bar
from isoscore_star.reporting._profile import score_of
from isoscore_star.reporting._section import Section, paragraph

MEANING = "1: every direction is used evenly. 0: all points lie on one line."
_CLEAR = 1.25
"""A what-if that raises the score by less than a quarter is not worth naming."""
_FROM_MEAN = 0.5


def verdict(content: Content) -> list[Section]:
    """Write the headline, what can be done, and the warnings."""
    first = content.headline
    sections = []
    if first is not None:
        body = element("div", joined([_headline(first), _words(content, first)]), class_="verdict")
        sections.append(Section("verdict", "Verdict", joined([body, _others(content, first)])))
        sections.append(Section("what-to-do", "What can be done", _advice(content, first)))
    if content.warnings or content.notes:
        found = listed([*content.warnings, *content.notes], class_="warnings")
        sections.append(Section("warnings", "Mind this", found))
    return sections


def _headline(layer: Layer) -> Html:
    measurement = layer.measurement
    value, pair = score_of(measurement), measurement.interval
    ends = write.interval(pair)
    start, end = pair if pair is not None else (value, value)
    shown = [
        element("p", "IsoScore of " + layer.name, class_="of"),
        element("p", write.score(value), class_="score"),
        element("p", f"95 % interval {ends}" if ends else "no interval: it needs the points themselves", class_="interval"),
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
    sentences = list(getattr(first.explanation, "sentences", ())) or [_plain(first.measurement)]
    rest = [*sentences[1:], *_across(content.layers)]
    return element("div", joined([paragraph(sentences[0], "lead"), listed(rest)]), class_="words")


def _plain(measurement: Any) -> str:
    effective = write.dimensions(measurement.effective_dimensions)
    return f"The points spread as evenly as {effective} of {measurement.dim:,} dimensions would."


def _across(layers: Sequence[Layer]) -> Iterator[str]:
    """Say where the score is lowest and highest, and where it hangs on some tokens most."""
    if len(layers) < 2:
        return
    lowest, highest = (choose(layers, key=lambda one: score_of(one.measurement)) for choose in (min, max))
    yield (
        f"Among the {len(layers)} layers, {lowest.name} is the least even ({write.score(score_of(lowest.measurement))}), "
        f"{highest.name} the most ({write.score(score_of(highest.measurement))})."
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


def _advice(content: Content, first: Layer) -> Html:
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
            yield joined([
                element("strong", f"Leave out the {part.name}. "),
                f"These {part.count:,} points hold {write.percent(part.variance_share)} of the variance; without them "
                f"the score is {write.score(part.score_without)} in place of {write.score(before)}. Pool, compare and "
                "measure the others.",
            ])  # fmt: skip
    what_ifs = [one for one in explanation.what_ifs if one.score >= _CLEAR * before and one.score - before >= 0.01]
    gentle = [one for one in what_ifs if _removed(one.name)]
    strong = [one for one in what_ifs if not _removed(one.name)]
    for found in (min(gentle, key=_order, default=None), max(strong, key=lambda one: one.score, default=None)):
        if found is not None:
            how = action(found.name)
            yield joined([
                element("strong", f"{_title(found.name)}. "),
                f"The score would be {write.score(found.score)} in place of {write.score(before)}. ",
                *([how] if how else []),
            ])  # fmt: skip
    cosine, share = explanation.average_cosine, explanation.mean_share
    if share is not None and share >= _FROM_MEAN:
        about = "" if cosine is None else f", and two points have a cosine of {write.score(cosine)} on average"
        yield joined([
            element("strong", "Centre the points. "),
            f"Their common mean is {write.percent(share)} of their mean square{about}: this is why similarities look "
            "high. The score does not see the mean. ",
            _command("isoscore-star transform FILE -o centred.npy"),
        ])  # fmt: skip


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
        return joined(["Divide each coordinate by its standard deviation (scikit-learn: ", element("code", "StandardScaler"), ")."])
    return Html("")


def _command(text: str) -> Html:
    return element("code", text)


def _what_ifs(layer: Layer) -> Html:
    explanation = layer.explanation
    rows: list[Sequence[Any]] = [
        ["as it is", with_bar(write.score(explanation.score), explanation.score),
         Cell(write.dimensions(explanation.effective_dimensions), explanation.effective_dimensions), ""]
    ]  # fmt: skip
    rows += [
        [one.name, with_bar(write.score(one.score), one.score),
         Cell(write.dimensions(one.effective_dimensions), one.effective_dimensions), action(one.name)]
        for one in explanation.what_ifs
    ]  # fmt: skip
    columns = [Column("what if"), Column("score", True), Column("effective dimensions", True), Column("how", minor=True)]
    return table("What the score would be (computed from the moments, not tried on a task)", columns, rows)
