"""Claim 18: what claim 17 chose by SST-2 holds on another task, with five seeds.

This library's own claim. The losses of claim 17 were screened on one task; the two that matter, the paper's and the
anchored one, are compared here on CoLA, whose sentences are shorter and of another kind, in batches of 4 and of 32,
with seeds that had no part in the choice. Differences are paired by seed, with Student's intervals.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from paper_checks._claim import Claim, Findings, Run
from paper_checks._statistics import paired
from paper_checks.claims._batch_sizes import (
    ANCHORED,
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

METHODS: dict[str, dict[str, Any]] = {PAPER: {"zeta": 0.2}, ANCHORED: RUNNING}
TARGET = "target 0.3"
AIMS = ("λ = 1", TARGET)
SEEDS = {4: range(10, 15), 32: range(10, 13)}
"""By batch size: a small one, and the paper's, whose runs take three times as long."""


def check(run: Run) -> Findings:
    """Fine-tune with both losses towards each goal at each batch size, and compare."""
    model, task = (*run.models, run.pick(SMALL_BERT, MINILM))[0], (*run.tasks, "cola")[0]
    steps, batches = run.pick(20, 100), tuple(SEEDS)
    seeds = {batch: its[: run.pick(2, len(its))] for batch, its in SEEDS.items()}
    plain = Recipe(model, task, 0, replace(size_of(run), train=steps * max(batches)), brief=True, steps=steps)
    wanted = {("", NONE, batch): with_seeds(plain.but(batch=batch), seeds[batch]) for batch in batches}
    wanted |= {
        (goal, name, batch): with_seeds(with_loss(plain.but(batch=batch), METHODS[name], GOALS[goal]), seeds[batch])
        for goal in run.pick(AIMS[:1], AIMS)
        for name in METHODS
        for batch in batches
    }
    records = trained(run, [recipe for recipes in wanted.values() for recipe in recipes])
    found = Findings(notes=[f"{model}, {task}, {steps} steps: {cost(records)}"])
    made = {place: [records[recipe] for recipe in recipes] for place, recipes in wanted.items()}
    for goal in run.pick(AIMS[:1], AIMS):
        reached: Means = {NONE: {batch: made["", NONE, batch] for batch in batches}}
        reached |= {name: {batch: made[goal, name, batch] for batch in batches} for name in METHODS}
        tabulate(found, goal, reached, batches)
        (_expect_target if goal == TARGET else _expect)(found, goal, reached, required=not run.quick)
    if not run.quick:
        found.figures[""] = figure_of(found.data, batches, (NONE, *METHODS))
    return found


def _expect(found: Findings, goal: str, reached: Means, *, required: bool) -> None:
    sign = -1 if goal.startswith("λ = -") else 1
    batches = list(reached[NONE])
    gain = paired(scores(reached[ANCHORED][batches[0]]), scores(reached[PAPER][batches[0]]))
    found.expect(
        f"{goal}: the anchored loss less the paper's at batches of {batches[0]}",
        expected="farther in the direction of λ",
        obtained=str(gain),
        tolerance="the 95 % interval over seeds is clear of 0",
        holds=gain.sign == sign,
        required=required,
    )
    both = len(reached[NONE][batches[-1]])
    changes = [
        paired(scores(reached[name][batches[-1]]), scores(reached[name][batches[0]])[:both])
        for name in (ANCHORED, PAPER)
    ]
    found.expect(
        f"{goal}: what batches of {batches[-1]} change against {batches[0]}, anchored and the paper's",
        expected="less with the anchored loss",
        obtained=f"{changes[0]}, {changes[1]}",
        tolerance="reported: more sentences in as many steps are more training, too",
        holds=abs(changes[0].mean) < abs(changes[1].mean),
        required=False,
    )


def _expect_target(found: Findings, goal: str, reached: Means, *, required: bool) -> None:
    target = GOALS[goal]["target"]
    misses = {
        name: {batch: float(np.mean(scores(records))) - target for batch, records in reached[name].items()}
        for name in METHODS
    }
    found.expect(
        f"{goal}: the mean less the target, anchored against the paper's, by batch size",
        expected="the largest miss is smaller",
        obtained="; ".join(", ".join(f"{miss:+.3f}" for miss in misses[name].values()) for name in (ANCHORED, PAPER)),
        tolerance="none: it is a comparison of two means of runs with the same seeds",
        holds=max(map(abs, misses[ANCHORED].values())) < max(map(abs, misses[PAPER].values())),
        required=required,
    )


CLAIM = Claim(
    18,
    "second-task",
    "on a second task, too, λ and a target do with the anchored loss what they say, in small batches",
    "this library's own",
    check,
)
