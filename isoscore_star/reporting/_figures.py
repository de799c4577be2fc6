"""Static figures, by matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from isoscore_star.core.errors import MissingDependencyError
from isoscore_star.reporting._content import Content, Layer, content_of
from isoscore_star.reporting._escaping import visible
from isoscore_star.reporting._profile import ALL_TOKENS, score_of, short_names, standing_out, times_even
from isoscore_star.reporting._runs import groups_of, isotropy, known, metric_of
from isoscore_star.reporting._spectrum import shares

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#c8500a", "#007a5a", "#9b4d8b", "#7a6a00", "#4a5560")
_MARKERS = "os^DPv"
_MOST_TICKS = 16


def plot(thing: Any, ax: Axes | None = None) -> Axes:
    """Draw what is most telling: a measurement's spectrum, a scan's layers, a comparison's differences.

    Parameters
    ----------
    thing : Measurement, Scan or Comparison
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> import isoscore_star as iso
    >>> from isoscore_star import reporting
    >>> from matplotlib.figure import Figure
    >>> measurement = iso.measure(np.random.default_rng(0).normal(size=(100, 8)))
    >>> reporting.plot(measurement, Figure().subplots()).get_xlabel()
    'direction'
    """
    _require_matplotlib()
    if ax is None:
        from matplotlib import pyplot

        ax = pyplot.subplots(layout="constrained")[1]
    content = content_of(thing, explained=False)
    _drawing(content)(ax)
    return ax


def figures(thing: Any, name: str | None = None) -> dict[str, Figure]:
    """Draw all figures of a report.

    Parameters
    ----------
    thing, name :
        As of `isoscore_star.reporting.to_html`.

    Returns
    -------
    dict of str to matplotlib.figure.Figure
        By names for files, such as ``"spectrum"``.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> import isoscore_star as iso
    >>> from isoscore_star import reporting
    >>> list(reporting.figures(iso.measure(np.random.default_rng(0).normal(size=(100, 8)))))
    ['spectrum', 'cumulative']
    """
    _require_matplotlib()
    from matplotlib.figure import Figure

    content = content_of(thing, name, explained=False)
    found = {}
    for title, draw in _drawings(content).items():
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        draw(figure.subplots())
        found[title] = figure
    return found


def _require_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingDependencyError('figures need matplotlib: pip install "isoscore-star[plot]"') from error


def _drawing(content: Content) -> Callable[[Axes], None]:
    return next(iter(_drawings(content).values()))


def _drawings(content: Content) -> dict[str, Callable[[Axes], None]]:
    """Return what there is to draw, the most telling first."""
    found: dict[str, Callable[[Axes], None]] = {}
    first, layers = content.headline, content.layers
    if len(layers) > 1:
        found["profile"] = lambda ax: _profile(ax, layers)
    if first is not None:
        found["spectrum"] = lambda ax: _spectrum(ax, first)
        found["cumulative"] = lambda ax: _cumulative(ax, first)
        if first.stability:
            found["stability"] = lambda ax: _stability(ax, first)
    if len(layers) > 1 and standing_out(layers)[0]:
        found["coordinates"] = lambda ax: _heat(ax, layers)
    if content.comparison is not None:
        found["differences"] = lambda ax: _differences(ax, content.comparison)
    if content.runs:
        groups = groups_of(content.runs)
        metric = str(content.runs[0]["metric"]["name"])
        found["metric"] = lambda ax: _sweep(ax, groups, metric_of, metric)
        found["isotropy"] = lambda ax: _sweep(ax, groups, isotropy, "score of all layers")
    return found


def _profile(ax: Axes, layers: Sequence[Layer]) -> None:
    names, title = short_names([layer.name for layer in layers])
    places = np.arange(len(layers))
    kinds = list(dict.fromkeys(kind for layer in layers for kind in layer.without))
    scores = [score_of(layer.measurement) for layer in layers]
    ends = [layer.measurement.interval or (score, score) for layer, score in zip(layers, scores, strict=True)]
    ax.vlines(places, [low for low, _ in ends], [high for _, high in ends], color=COLOURS[0], lw=1, alpha=0.6)
    ax.plot(places, scores, "o-", color=COLOURS[0], label=ALL_TOKENS, ms=4)
    for kind, colour, marker in zip(kinds, COLOURS[1:], _MARKERS[1:], strict=False):
        values = [score_of(layer.without[kind]) if kind in layer.without else np.nan for layer in layers]
        ax.plot(places, values, ls="--", marker=marker, color=colour, label=f"without {_plain(kind)}", ms=4)
    _name_ticks(ax, names)
    ax.set(xlabel=_plain(title), ylabel="score (1: all directions used evenly)", ylim=(0, None))
    if kinds:
        ax.legend(frameon=False)


def _spectrum(ax: Axes, layer: Layer) -> None:
    share = shares(layer.measurement)
    kept = share > 0
    ax.loglog(np.flatnonzero(kept) + 1, share[kept], color=COLOURS[0], label=_plain(layer.name))
    ax.axhline(1 / len(share), color="gray", ls="--", label="all directions used evenly")
    ax.set(xlabel="direction", ylabel="share of variance")
    ax.legend(frameon=False)


def _cumulative(ax: Axes, layer: Layer) -> None:
    share = shares(layer.measurement)
    ranks = np.arange(1, len(share) + 1)
    ax.plot(ranks, np.cumsum(share), color=COLOURS[0], label=_plain(layer.name))
    ax.plot(ranks, ranks / len(share), color="gray", ls="--", label="all directions used evenly")
    ax.set(xlabel="direction", ylabel="share of variance up to here", ylim=(0, 1.02))
    ax.legend(frameon=False)


def _stability(ax: Axes, layer: Layer) -> None:
    sequences = [step[0] for step in layer.stability]
    ax.plot(sequences, [_or_nan(step[1]) for step in layer.stability], "o-", color=COLOURS[0], label="score of halves")
    ax.plot(sequences, [step[2] for step in layer.stability], "s--", color=COLOURS[1], label="plug-in score")
    ax.set(xlabel="sequences", ylabel="score", xscale="log", ylim=(0, None))
    ax.xaxis.set_minor_formatter("")
    ax.set_xticks(sequences, list(map(str, sequences)))
    ax.legend(frameon=False)


def _heat(ax: Axes, layers: Sequence[Layer]) -> None:
    from matplotlib.colors import LogNorm

    chosen, _ = standing_out(layers)
    times = np.stack([times_even(layer.measurement)[chosen] for layer in layers])
    names, title = short_names([layer.name for layer in layers])
    image = ax.imshow(np.maximum(times, 1), aspect="auto", cmap="Blues", norm=LogNorm(1, max(times.max(), 10)))
    ax.figure.colorbar(image, ax=ax, label="times the even share of the variance")
    _name_ticks(ax, [str(i) for i in chosen], turned=True)
    places = range(0, len(names), max(1, len(names) // _MOST_TICKS))
    ax.set_yticks(list(places), [_plain(names[i]) for i in places])
    ax.set(xlabel="dimension", ylabel=_plain(title))


def _differences(ax: Axes, comparison: Any) -> None:
    places = np.arange(len(comparison.rows))
    for place, row in zip(places, comparison.rows, strict=True):
        low, high = row.interval or (row.difference, row.difference)
        ax.plot([low, high], [place, place], color=COLOURS[0], lw=2)
    ax.plot([row.difference for row in comparison.rows], places, "o", color=COLOURS[0])
    ax.axvline(0, color="gray", ls="--")
    ax.set_yticks(places, [_plain(row.name) for row in comparison.rows])
    ax.invert_yaxis()
    ax.set(xlabel=f"score of {_plain(comparison.b)} less that of {_plain(comparison.a)}")


def _sweep(ax: Axes, groups: Any, value: Callable[[Any], float | None], title: str) -> None:
    for other, colour, marker in zip(dict.fromkeys(other for _, other in groups), COLOURS, _MARKERS, strict=False):
        values = {lam: known([value(run) for run in runs]) for (lam, own), runs in groups.items() if own == other}
        points = [(lam, one) for lam, several in values.items() for one in several]
        means = [(lam, fmean(several)) for lam, several in values.items() if several]
        if means:
            ax.plot(*zip(*points, strict=True), marker, color=colour, alpha=0.5, ms=5)
            ax.plot(*zip(*means, strict=True), color=colour, label=_plain(other) or None)
    ax.set(xlabel="λ", ylabel=_plain(title))
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False)


def _name_ticks(ax: Axes, names: Sequence[str], turned: bool = False) -> None:
    places = list(range(0, len(names), max(1, -(-len(names) // _MOST_TICKS))))
    turned = turned or any(len(names[i]) > 4 for i in places)
    ax.set_xticks(places, [_plain(names[i]) for i in places], rotation=60 if turned else 0)


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value


def _plain(text: str) -> str:
    r"""Keep a name from being read as mathematics: ``$`` begins it in matplotlib."""
    return visible(text).replace("$", r"\$")
