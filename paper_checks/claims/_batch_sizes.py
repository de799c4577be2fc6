"""Fine-tuning with several losses, goals and batch sizes, and what is said of it: for claims 17 and 18."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from paper_checks._claim import Findings, Table
from paper_checks._statistics import spread
from paper_checks.training import Method, Recipe

RUNNING = {"estimator": "anchored", "shrinkage": "running", "batch_states": 512, "decay": 0.5}
PAPER, ANCHORED, NONE = "ζ = 0.2 (the paper)", "anchored, β = 0.5, 512 states", "none"
GOALS: dict[str, dict[str, float]] = {
    "λ = -0.1": {"lam": -0.1},
    "λ = 0.1": {"lam": 0.1},
    "λ = 1": {"lam": 1.0},
    "target 0.3": {"lam": 1.0, "target": 0.3},
}
BATCHES = (4, 16, 64)

Means = dict[str, dict[int, list[dict[str, Any]]]]
"""Records by method and batch size, one for each seed."""


def with_seeds(recipe: Recipe, seeds: range) -> list[Recipe]:
    """Return a recipe for each seed."""
    return [recipe.but(seed=seed) for seed in seeds]


def with_loss(plain: Recipe, changes: dict[str, Any], aim: dict[str, float]) -> Recipe:
    """Return a recipe with a loss and a goal; `stronger` multiplies λ."""
    own = {name: value for name, value in changes.items() if name != "stronger"}
    return plain.but(method=Method.istar, **own, **{**aim, "lam": aim["lam"] * changes.get("stronger", 1.0)})


def scores(records: list[dict[str, Any]]) -> list[float]:
    """Return the held-out score of each run; 0 for one that diverged."""
    return [0.0 if record["diverged"] else record["score"] for record in records]


def tabulate(found: Findings, goal: str, reached: Means, batches: tuple[int, ...]) -> None:
    """Add the table of a goal, and its numbers."""
    rows = []
    for name, by_batch in reached.items():
        means = [float(np.mean(scores(records))) for records in by_batch.values()]
        found.data.setdefault(goal, {})[name] = {
            str(batch): {"score": scores(records), "test": [one["test"] for one in records]}
            for batch, records in by_batch.items()
        }
        cells = [spread(scores(by_batch[batch])) if batch in by_batch else "" for batch in batches]
        tests = [
            f"{np.mean([one['test'] for one in by_batch[batch]]):.3f}" if batch in by_batch else "" for batch in batches
        ]
        rows.append([name, *cells, f"{max(means) - min(means):.3f}", *tests])
    metric = next(iter(reached[NONE].values()))[0]["metric"]
    found.tables.append(
        Table(
            f"{goal}: held-out score of all layers together by batch size, the largest difference, and the task",
            ["loss", *(f"batch {batch}" for batch in batches), "difference", *(f"{metric}, {b}" for b in batches)],
            rows,
        )
    )


def figure_of(data: dict[str, Any], batches: tuple[int, ...], shown: tuple[str, ...]) -> Any:
    """Draw mean and standard deviation over seeds by the batch size, in a panel for each goal."""
    figure: Any = Figure(figsize=(11, 3.5), layout="constrained")
    for axes, (goal, methods) in zip(figure.subplots(1, len(data)), data.items(), strict=True):
        for name in shown:
            reached = [methods[name][str(batch)]["score"] for batch in batches]
            width = [np.std(values, ddof=1) if len(values) > 1 else 0.0 for values in reached]
            axes.errorbar(batches, [np.mean(values) for values in reached], width, marker="o", capsize=3, label=name)
        axes.set(title=goal, xlabel="sentences in a batch", xscale="log")
        axes.set_xticks(batches, [str(batch) for batch in batches])
        axes.minorticks_off()
    figure.axes[0].set_ylabel("held-out score, all layers")
    figure.axes[0].legend(fontsize="x-small")
    return figure
