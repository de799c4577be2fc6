"""The demonstration's picture: isotropy of each layer, and isotropy during training (matplotlib)."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from isoscore_star.demonstration._comparison import LAMS, Comparison

if TYPE_CHECKING:
    from isoscore_star.demonstration import Demonstration

# Without dates and random ids, equal results are equal files.
_METADATA: dict[str, dict[str, Any]] = {"png": {"Software": None}, "svg": {"Date": None}}
KINDS = tuple(_METADATA)


def picture(results: Demonstration) -> Figure:
    """Draw the layers and, if there was any, the training."""
    figure = Figure(figsize=(9, 3.8) if results.comparison else (4.8, 3.8), layout="constrained")
    panels = figure.subplots(1, 2 if results.comparison else 1, squeeze=False)[0]
    _draw_layers(panels[0], results)
    if results.comparison is not None:
        _draw_training(panels[1], results.comparison)
    return figure


def write_picture(figure: Figure, path: Path, kind: str) -> None:
    """Write a figure as one of `KINDS`."""
    with rc_context({"svg.hashsalt": "isoscore-star"}):
        figure.savefig(path, format=kind, dpi=150, metadata=_METADATA[kind])


def _draw_layers(axes: Axes, results: Demonstration) -> None:
    numbers = range(len(results.layers))
    scores = [_estimate(layer) for layer in results.layers]
    errors = [layer.standard_error or 0.0 for layer in results.layers]
    axes.errorbar(numbers, scores, errors, fmt="o-", capsize=3, label="layer (± standard error)")
    axes.axhline(_estimate(results.union), ls="--", color="tab:gray", label=f"union of 1 to {numbers[-1]}")
    axes.set(
        xlabel="layer (0: embeddings)",
        ylabel="unbiased IsoScore",
        ylim=(0, None),
        title="Isotropy of token states",
    )
    axes.legend(frameon=False)


def _estimate(layer: Any) -> float:
    return float(layer.score if layer.unbiased_score is None else layer.unbiased_score)


def _draw_training(axes: Axes, comparison: Comparison) -> None:
    for lam in LAMS:
        by_epoch = list(zip(*(run.scores for run in comparison.of(lam)), strict=True))
        epochs = range(len(by_epoch))
        (line,) = axes.plot(epochs, [median(values) for values in by_epoch], label=f"λ = {lam:g}")
        lowest, highest = [min(values) for values in by_epoch], [max(values) for values in by_epoch]
        axes.fill_between(epochs, lowest, highest, color=line.get_color(), alpha=0.2, lw=0)
    axes.set(
        xlabel="epoch",
        ylabel="unbiased IsoScore, held-out tokens",
        ylim=(0, None),
        title="Isotropy during training (median, range)",
    )
    axes.legend(frameon=False)
