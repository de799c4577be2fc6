"""What can be done: only steps that a measured number supports."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from isoscore_star.reporting import _cells as cells
from isoscore_star.reporting import _numbers as write
from isoscore_star.reporting._content import Layer
from isoscore_star.reporting._html import Cell, Column, Html, element, joined, listed, table
from isoscore_star.reporting._profile import score_of
from isoscore_star.reporting._section import paragraph

_CLEAR = 2.0
"""Factor in effective dimensions from which on the verdict names a cause, too."""

_LEAST = 0.01
"""Gain in score below which a layer is as collapsed as before."""

_FROM_MEAN = 0.5
"""The mean's part of the mean square from which centring is worth naming."""

_EVEN = 0.5
"""Score from which on a space is called close to isotropic, as in the verdict."""

_SINK = (
    " In decoders a first token of huge length is known as an attention sink (Xiao et al., ICLR 2024; Sun et al., COLM "
    "2024): attention makes use of it, and it is no fault of the model."
)

_CAUTION = (
    "A more even space is not by itself a better one: full whitening, say, can make search and similarity worse "
    "(docs/transforms.md shows where). Try a change on your own task before you keep it. docs/transforms.md also shows "
    "how to make it part of a model. To change the model instead, fine-tune it with the penalty I-STAR: "
    "isoscore-star finetune (docs/finetune.md)."
)


def advice(first: Layer, layers: Sequence[Layer], *, has_file: bool) -> Html:
    """Write what the measured facts support, how it is done, to a file or in Python, and what the score would be."""
    explanation = first.explanation
    steps = list(_steps(explanation, layers, has_file))
    if steps:
        shown = listed(steps, "ol", class_="steps")
    elif score_of(first.measurement) >= _EVEN:
        shown = paragraph("Nothing has to be done: the directions are used about evenly.")
    else:
        shown = paragraph(
            "There is no single cause that could be left out: nothing in this table doubles the number of dimensions "
            "in use."
        )
    return joined([shown, paragraph(_CAUTION, "aside"), _what_ifs(explanation, has_file)])


def _steps(explanation: Any, layers: Sequence[Layer], has_file: bool) -> Iterator[Html]:
    of_parts = list(_of_parts(explanation))
    yield from of_parts or _of_layers(layers)
    yield from _of_changes(explanation, has_file)
    yield from _of_mean(explanation, has_file)


def _of_layers(layers: Sequence[Layer]) -> Iterator[Html]:
    """Name the tokens that make layers look collapsed, where these are not what the headline is of."""
    found: dict[str, list[tuple[float, float, str]]] = {}
    for layer in layers:
        before = score_of(layer.measurement)
        for kind, one in layer.without.items():
            after = score_of(one)
            if after >= _CLEAR * before and after - before >= _LEAST:
                found.setdefault(kind, []).append((after, before, layer.name))
    if found:
        kind, gains = max(found.items(), key=lambda one: (len(one[1]), max(one[1])))
        after, before, name = max(gains)
        yield _step(
            f"Leave the {kind} out of hidden states",
            f"{len(gains)} of the {len(layers)} layers score at least twice as high without them: {name} "
            f"{write.score(after)} in place of {write.score(before)}. Pool, compare and measure the others."
            + (_SINK if kind == "first tokens" else ""),
        )


def _of_parts(explanation: Any) -> Iterator[Html]:
    found = []
    for part in explanation.parts:
        before, after = _pair(explanation, part.unbiased_without, part.score_without)
        few = 2 * part.count <= explanation.count
        if few and after is not None and _gain(explanation, before, after) >= _CLEAR:
            found.append((after, before, part))
    for after, before, part in sorted(found, key=lambda one: -one[0])[:1]:
        yield _step(
            f"Leave out the {part.name}",
            f"These {part.count:,} points hold {write.percent(part.variance_share)} of the variance; without them the "
            f"score is {write.score(after)} in place of {write.score(before)}. Pool, compare and measure the others."
            + (_SINK if part.name == "first tokens" else ""),
        )


def _of_changes(explanation: Any, has_file: bool) -> Iterator[Html]:
    """Name the outlier coordinates or, where these explain less, the fewest directions that count; else whitening."""
    removed = [one for one in explanation.what_ifs if removed_directions(one.name)]
    outliers = [one for one in explanation.what_ifs if one.name.startswith("without outlier")]
    others = [one for one in explanation.what_ifs if one not in removed + outliers]
    for views in (outliers + removed[:1], removed[1:], others):
        worth = [one for one in views if _gain(explanation, *_scores(explanation, one)) >= _CLEAR]
        if worth:
            # The first of equals: what names coordinates is easier to do than what names a direction.
            best = max(worth, key=lambda one: round(_gain(explanation, *_scores(explanation, one)), 1))
            before, after = _scores(explanation, best)
            about = f"The score would be {write.score(after)} in place of {write.score(before)}. "
            if best in outliers:
                about += "(As a fraction of all dimensions, those that are left out too.) "
            yield _step(_title(best.name), joined([about, action(best.name, has_file)]))
            return


def _of_mean(explanation: Any, has_file: bool) -> Iterator[Html]:
    cosine, share = explanation.average_cosine, explanation.mean_share
    if share >= _FROM_MEAN:
        about = "" if cosine is None else f", and two points have a cosine of {write.score(cosine)} on average"
        text = (
            f"The common mean is {write.percent(share)} of the points' mean square{about}: this is why similarities "
            "look high. The score does not see the mean. "
        )
        yield _step("Centre the points", joined([text, _transform("", has_file)]))


def _step(title: str, text: Any) -> Html:
    return joined([element("strong", f"{title}."), " ", text])


def _scores(explanation: Any, what_if: Any) -> tuple[float, float]:
    before, after = _pair(explanation, what_if.unbiased_score, what_if.score)
    return before, what_if.score if after is None else after


def _pair(explanation: Any, unbiased: float | None, plug_in: float | None) -> tuple[float, float | None]:
    """Return the score before and after by the same estimator, the unbiased one where both have it."""
    if unbiased is None or explanation.unbiased_score is None:
        return explanation.score, plug_in
    return explanation.unbiased_score, unbiased


def _gain(explanation: Any, before: float, after: float) -> float:
    """Return the factor between the effective dimensions 1 + score·(d − 1)."""
    others: int = explanation.dim - 1
    return (1 + after * others) / (1 + before * others)


def removed_directions(name: str) -> int | None:
    """Return how many directions a what-if of this name leaves out.

    Examples
    --------
    >>> removed_directions("without the 3 largest directions"), removed_directions("half whitened")
    (3, None)
    """
    found = re.fullmatch(r"without the (?:(\d+) )?largest directions?", name)
    return None if found is None else int(found[1] or 1)


def _title(name: str) -> str:
    number = removed_directions(name)
    if number is not None:
        return f"Remove the {'largest direction' if number == 1 else f'{number} largest directions'}"
    if name.startswith("without outlier"):
        return f"Leave out {name.removeprefix('without ')}"
    if "standardised" in name:
        return "Standardise each coordinate"
    return "Whiten in part" if name.startswith("half whitened") else name[:1].upper() + name[1:]


def action(name: str, has_file: bool) -> Html:
    """Return the command that does what a what-if supposes, in Python where there is no file; or nothing."""
    number = removed_directions(name)
    if number is not None:
        option = f"--remove {number}" if has_file else f"remove={number}"
    elif name.startswith("half whitened"):
        option = "--power 0.5" if has_file else "power=0.5"
    else:
        option = ""
    if option:
        return _transform(option, has_file)
    if "standardised" in name:
        return joined(
            ["Divide each coordinate by its standard deviation: ", _command("StandardScaler"), " of scikit-learn."]
        )
    return Html("")


def _transform(option: str, has_file: bool) -> Html:
    if has_file:
        return _command(f"isoscore-star transform FILE {option} -o new.npy".replace("  ", " "))
    return _command(f"SpectralTransform({option}).fit_transform(embeddings)")


def _command(text: str) -> Html:
    return element("code", text)


def _what_ifs(explanation: Any, has_file: bool) -> Html:
    has_unbiased = any(one.unbiased_score is not None for one in explanation.what_ifs)
    rows = []
    for name, unbiased, plug_in in (
        ("as it is", explanation.unbiased_score, explanation.score),
        *((one.name, one.unbiased_score, one.score) for one in explanation.what_ifs),
    ):
        scores = [_of_halves(unbiased)] if has_unbiased else []
        rows.append([name, *scores, cells.score_bar(plug_in), action(name, has_file)])
    names = ["score", "plug-in score"] if has_unbiased else ["plug-in score"]
    columns = [Column("what if"), *(Column(name, True) for name in names), Column("how")]
    return table("What the score would be (computed from the moments, not tried on a task)", columns, rows)


def _of_halves(value: float | None) -> Cell:
    return Cell("") if value is None else cells.score_bar(value)
