"""The chart of claims 15 and 16: what each estimator makes of a batch, by the number of its sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.figure import Figure

from paper_checks.claims._token_models import SENTENCES, Model


def chart(
    models: Sequence[Model], names: Sequence[str], point: Callable[[str, str], tuple[float, float]], what: str
) -> Any:
    """Draw mean and standard deviation of each name in each cell, a row for each model; wanted is 1."""
    figure: Any = Figure(figsize=(9, 0.6 + 2.9 * len(models)), layout="constrained")
    panels = figure.subplots(len(models), 2, squeeze=False)
    for row, model in zip(panels, models, strict=True):
        for axes, place in zip(row, model.places, strict=True):
            for name in names:
                values = [point(model.cell(place, count), name) for count in SENTENCES]
                means, widths = zip(*values, strict=True)
                axes.errorbar(SENTENCES, means, widths, marker="o", capsize=3, label=name)
            axes.axhline(1, color="0.5", linewidth=1)
            axes.set(title=f"{model.name}, {place}", xscale="log")
            axes.set_xticks(SENTENCES, [str(count) for count in SENTENCES])
            axes.minorticks_off()
        row[0].set_ylabel(what)
    for axes in panels[-1]:
        axes.set_xlabel("sentences in the batch")
    figure.legend(handles=panels[0][0].get_legend_handles_labels()[0], loc="outside lower center", ncols=3)
    return figure
