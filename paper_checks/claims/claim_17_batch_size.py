"""Claim 17: with the anchored loss λ does the same at every batch size, and no less than with the paper's.

This library's own claim, and the evidence behind its defaults. MiniLM is fine-tuned for as many steps with batches of
4, 16 and 64 sentences, and the isotropy of all layers together is measured on held-out sentences, by two halves of
them. The paper's loss has the factor 1 − ζ in its gradient, so it is also taken with λ/(1 − ζ), at equal strength.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from paper_checks._claim import Claim, Findings, Run
from paper_checks.claims._batch_sizes import (
    ANCHORED,
    BATCHES,
    GOALS,
    NONE,
    PAPER,
    RUNNING,
    Means,
    figure_of,
    scores,
    tabulate,
    with_loss,
    with_seeds,
)
from paper_checks.training import MINILM, SMALL_BERT, Recipe, cost, size_of, trained

METHODS: dict[str, dict[str, Any]] = {
    PAPER: {"zeta": 0.2},
    "ζ = 0.8": {"zeta": 0.8},
    "ζ = 0.2, λ/(1 - ζ)": {"zeta": 0.2, "stronger": 1 / 0.8},
    "ζ = 0.8, λ/(1 - ζ)": {"zeta": 0.8, "stronger": 5.0},
    "U-statistic": {"estimator": "unbiased", "independent": True},
    "halves": {"estimator": "unbiased"},
    "anchored, Σ_S of a pass": {"estimator": "anchored", "shrinkage": "epoch"},
    ANCHORED: RUNNING,
}
SCREENED: dict[str, dict[str, Any]] = {
    "anchored, β = 0": {**RUNNING, "decay": 0.0},
    "anchored, β = 0.8": {**RUNNING, "decay": 0.8},
    "anchored, β = 0.9": {**RUNNING, "decay": 0.9},
    "anchored, β = 0.5, all states": {**RUNNING, "batch_states": None},
    "anchored, β = 0.5, rank 64": {**RUNNING, "rank": 64},
}
"""With one seed, for two of the goals, at the smallest batch."""

ONE_SEED = ((ANCHORED, 64),)
"""Made on two cores, after the others had been made on a GPU."""

SHOWN = (NONE, PAPER, "ζ = 0.8, λ/(1 - ζ)", "U-statistic", "halves", ANCHORED)
"""In the figure."""

SEEDS = 3


def check(run: Run) -> Findings:
    """Fine-tune with every loss, goal and batch size; compare what is reached, and how it hangs on the batch."""
    model, task = (*run.models, run.pick(SMALL_BERT, MINILM))[0], (*run.tasks, "sst2")[0]
    steps, batches = run.pick(20, 100), run.pick(BATCHES[:2], BATCHES)
    names = [PAPER, "halves", ANCHORED] if run.quick else list(METHODS)
    goals = {"λ = 1": GOALS["λ = 1"]} if run.quick else GOALS
    seeds = range(run.pick(1, SEEDS))
    plain = Recipe(model, task, 0, replace(size_of(run), train=steps * max(batches)), brief=True, steps=steps)
    wanted = {
        (goal, name, batch): with_seeds(
            with_loss(plain.but(batch=batch), METHODS[name], aim), seeds[:1] if (name, batch) in ONE_SEED else seeds
        )
        for goal, aim in goals.items()
        for name in names
        for batch in batches
    }
    wanted |= {("", NONE, batch): with_seeds(plain.but(batch=batch), seeds) for batch in batches}
    if not run.quick:
        wanted |= {
            (goal, name, batch): [with_loss(plain.but(batch=batch), changes, GOALS[goal])]
            for goal in ("λ = 1", "target 0.3")
            for name, changes in SCREENED.items()
            for batch in batches[:1]
        }
    records = trained(run, [recipe for recipes in wanted.values() for recipe in recipes])
    found = Findings(notes=[f"{model}, {task}, {steps} steps: {cost(records)}"])
    made = {place: [records[recipe] for recipe in recipes] for place, recipes in wanted.items()}
    for goal in goals:
        reached: Means = {NONE: {batch: made["", NONE, batch] for batch in batches}}
        for place_goal, name, batch in made:
            if place_goal == goal:
                reached.setdefault(name, {})[batch] = made[goal, name, batch]
        tabulate(found, goal, reached, batches)
        _expect(found, goal, reached, batches)
    if not run.quick:
        found.figures[""] = figure_of(found.data, batches, SHOWN)
    return found


def _expect(found: Findings, goal: str, reached: Means, batches: tuple[int, ...]) -> None:
    ours, papers = ([np.mean(scores(reached[name][batch])) for batch in batches] for name in (ANCHORED, PAPER))
    sign = -1 if goal.startswith("λ = -") else 1
    if "target" not in goal:
        found.expect(
            f"{goal}: the anchored loss against the paper's, at batches of {', '.join(map(str, batches))}",
            expected="as far in the direction of λ, or farther",
            obtained=", ".join(f"{a:.3f} against {b:.3f}" for a, b in zip(ours, papers, strict=True)),
            tolerance="0.02, which is the spread over seeds",
            holds=all(sign * (a - b) > -0.02 for a, b in zip(ours, papers, strict=True)),
            required=goal == "λ = 1" and len(batches) == len(BATCHES),
        )
    gaps = [max(means) - min(means) for means in (ours, papers)]
    found.expect(
        f"{goal}: what the batch size changes, anchored against the paper's",
        expected="less",
        obtained=f"{gaps[0]:.3f} against {gaps[1]:.3f}",
        tolerance="reported: without a penalty, too, more sentences in as many steps are more training",
        holds=gaps[0] <= gaps[1],
        required=False,
    )


CLAIM = Claim(
    17,
    "batch-size",
    "λ does the same at every batch size with the anchored loss, and no less than with the paper's",
    "this library",
    check,
)
