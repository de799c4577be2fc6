"""Claim 8: λ > 0 raises the isotropy of a model's states in training, λ < 0 lowers it, the more the larger |λ|.

A model is fine-tuned with each λ of the paper's search and some small ones, from the same start, on the same data in
the same order, and measured on held-out text: the score of the token states of all layers but the embedding layer.
Every run is held against that with the same seed and λ = 0. An encoder that was trained before, and an encoder and a
decoder from random weights.

Where training alone leaves hardly more than one effective dimension, a pull downwards has no room, and is reported
instead of required. (That condition was added when the decoder's runs had shown the need for it.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

import isoscore_star as iso
from paper_checks._claim import Claim, Findings, Run, Table
from paper_checks._statistics import paired, rank_correlation, spread
from paper_checks.training import MINILM, SMALL_BERT, SMALL_GPT2, Method, Recipe, cost, size_of, trained

LAMBDAS = (-5.0, -3.0, -1.0, -0.1, -0.03, 0.03, 0.1, 1.0, 3.0, 5.0)
SEEDS = 3
# Below this a pull is a few percent of what the task itself does to the states, and two runs with the same seed part.
CLEAR = 0.1
# Nor can a pull downwards show where training alone leaves fewer effective dimensions than this.
ROOM = 2.0


def recipes(run: Run) -> dict[str, list[Recipe]]:
    """Give the runs by model, ordered by λ; claims 11, 12 and 14 look at the same ones."""
    models = run.models or run.pick((SMALL_BERT, SMALL_GPT2), (MINILM, SMALL_BERT, SMALL_GPT2))
    lambdas = run.pick((-1.0, -0.1, 0.1, 1.0), LAMBDAS)
    size = size_of(run)
    return {
        model: [
            _recipe(Recipe(model, (*run.tasks, "sst2")[0], seed, size), lam)
            for lam in sorted((*lambdas, 0.0))
            for seed in range(min(SEEDS, size.seeds))
        ]
        for model in models
    }


def _recipe(plain: Recipe, lam: float) -> Recipe:
    return plain if lam == 0 else plain.but(method=Method.istar, lam=lam)


def check(run: Run) -> Findings:
    """Train with each λ, compare with λ = 0; table and figure by model."""
    wanted = recipes(run)
    before = {model: some[0].before for model, some in wanted.items()}
    records = trained(run, [*before.values(), *(one for some in wanted.values() for one in some)])
    found = Findings()
    found.data = {"models": {}}
    scores: dict[str, dict[float, list[float]]] = {}
    for model, some in wanted.items():
        every = sorted({one.lam for one in some})
        lambdas = [lam for lam in every if lam != 0]
        runs = {lam: [records[one] for one in some if one.lam == lam] for lam in every}
        seeds = runs[0.0]
        # States that are all alike have no score of their own; in the limit of a line it is 0.
        scores[model] = {
            lam: [0.0 if one["diverged"] else one["union"]["isoscore"] for one in group] for lam, group in runs.items()
        }
        start = records[before[model]]["union"]["isoscore"]
        found.notes.append(f"{model}: {cost({one: records[one] for one in some})}")
        moved = {lam: paired(scores[model][lam], scores[model][0.0]) for lam in lambdas}
        right = {lam: np.sign(moved[lam].mean) == np.sign(lam) for lam in lambdas}
        size = len(runs[0.0][0]["union_spectrum"])
        left = iso.participation_ratio(float(np.mean(scores[model][0.0])), size)
        large = [lam for lam in lambdas if abs(lam) >= CLEAR and (lam > 0 or left >= ROOM)]
        found.expect(
            f"{model}: mean score over {len(seeds)} seeds against λ = 0, for λ = {', '.join(f'{x:g}' for x in large)}",
            expected="higher for λ > 0, lower for λ < 0",
            obtained=f"{sum(right[lam] for lam in large)} of {len(large)} as expected: "
            + ", ".join(f"{spread(scores[model][lam])} (λ = {lam:g})" for lam in (every[0], 0.0, every[-1])),
            tolerance="all: the same start, data and order, so that λ alone differs",
            holds=all(right[lam] for lam in large),
        )
        small = [lam for lam in lambdas if lam not in large]
        if small:
            found.expect(
                f"{model}: the same for λ = {', '.join(f'{lam:g}' for lam in small)}",
                expected="higher for λ > 0, lower for λ < 0",
                obtained="; ".join(f"λ = {lam:g}: {moved[lam]}" for lam in small),
                tolerance="reported: the pull is small beside what seeds and the task do"
                + (
                    ""
                    if left >= ROOM
                    else f"; and λ = 0 leaves {left:.2f} effective dimensions of {size}, no room below"
                ),
                holds=all(right[lam] for lam in small),
                required=False,
            )
        order = rank_correlation(every, [float(np.mean(scores[model][lam])) for lam in every])
        found.expect(
            f"{model}: the more the larger |λ|",
            expected="mean scores in the order of λ: rank correlation 1",
            obtained=f"{order:.3f}",
            tolerance="reported: from some |λ| on the score has no room left, and its gradient dies at the end",
            holds=order > 1 - 1e-9,
            required=False,
        )
        found.tables.append(
            Table(
                f"{model}, {some[0].task}: score of the union of all layers ({start:.3g} before training), mean ± "
                f"standard deviation over {len(seeds)} seeds",
                ["λ", "IsoScore*", "against λ = 0 [95 % interval]", f"{records[before[model]]['metric']} (test)"],
                [
                    [
                        f"{lam:g}",
                        spread(scores[model][lam]),
                        "" if lam == 0 else str(moved[lam]),
                        spread([one["test"] for one in runs[lam]]),
                    ]
                    for lam in every
                ],
            )
        )
        found.data["models"][model] = {
            "task": some[0].task,
            "source": records[some[0]]["source"],
            "before": start,
            "scores": {f"{lam:g}": values for lam, values in scores[model].items()},
            "diverged": {f"{lam:g}": sum(bool(one["diverged"]) for one in group) for lam, group in runs.items()},
            "batch_scores": {f"{lam:g}": group[0].get("batch_scores", []) for lam, group in runs.items()},
        }
    found.notes.append(
        "Batches hold sentences of similar length: the waves of the batches' scores are those of lengths."
    )
    found.figures[""] = _figure(found.data["models"])
    return found


def _figure(models: dict[str, Any]) -> Any:
    figure: Any = Figure(figsize=(5 * len(models), 7), layout="constrained")
    panels = figure.subplots(2, len(models), squeeze=False)
    for (top, bottom), (model, numbers) in zip(panels.T, models.items(), strict=True):
        lambdas = [float(lam) for lam in numbers["scores"]]
        places = range(len(lambdas))
        values = np.array(list(numbers["scores"].values()))
        top.plot(places, values, ".", color="0.6")
        top.plot(places, values.mean(1), "o-", color="C0")
        top.axhline(numbers["before"], color="0.4", linestyle=":", label="before training")
        top.set_xticks(places, [f"{lam:g}" for lam in lambdas])
        top.set(title=model, xlabel="λ", ylabel="IsoScore* after training", ylim=(0, None))
        top.legend(fontsize="small")
        for lam, line in numbers["batch_scores"].items():
            if line:
                shade = 0.25 + 0.75 * min(1.0, (np.log10(abs(float(lam))) + 2) / 2.7)
                color = "C2" if float(lam) > 0 else "C3"
                bottom.plot(line, color=color, alpha=shade, linewidth=1, label=f"λ = {lam}")
        bottom.set(xlabel="step", ylabel="score of the batch (with Σ_S)", ylim=(0, None))
    panels[1][-1].legend(fontsize="xx-small", ncols=2)
    return figure


CLAIM = Claim(
    8,
    "direction",
    "λ > 0 raises isotropy in training and λ < 0 lowers it",
    "I-STAR, section 4 and figure 3",
    check,
)
