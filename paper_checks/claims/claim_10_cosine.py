"""Claim 10: cosine regularization (CosReg) does not change isotropy; it moves the mean of the states.

The mean cosine of all pairs is about ‖E x̂‖²: it is lowered by bringing the mean direction to zero, whatever the
covariance is, and IsoScore* does not see the mean. So CosReg with λ = 1 is held against the same run without a
regularizer, and against I-STAR with λ = 1: last layer (which CosReg is taken of), held-out text. "Moves" is measured as
log-ratios, which make a change of the mean and one of isotropy comparable.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from paper_checks._claim import Claim, Findings, Run, Table
from paper_checks._statistics import paired, spread
from paper_checks.training import MINILM, SMALL_BERT, SMALL_GPT2, Method, Recipe, size_of, trained

LAM = 1.0
SEEDS = 3


def check(run: Run) -> Findings:
    """Compare isotropy, mean vector and average cosine of the last layer; by model."""
    models = run.models or run.pick((SMALL_BERT,), (MINILM, SMALL_BERT, SMALL_GPT2))
    size = size_of(run)
    seeds, task = range(min(SEEDS, size.seeds)), (*run.tasks, "sst2")[0]
    found = Findings()
    for model in models:
        plain = Recipe(model, task, 0, size)
        ways = {
            "no regularizer": plain,
            f"CosReg, λ = {LAM:g}": plain.but(method=Method.cosreg, lam=LAM),
            f"CosReg, λ = {-LAM:g}": plain.but(method=Method.cosreg, lam=-LAM),
            f"I-STAR, λ = {LAM:g}": plain.but(method=Method.istar, lam=LAM),
        }
        if run.quick:
            del ways[f"CosReg, λ = {-LAM:g}"]
        start = plain.before
        records = trained(run, [start, *(way.but(seed=seed) for way in ways.values() for seed in seeds)])
        rows = {"before training": [_last(records[start])]}
        rows |= {name: [_last(records[way.but(seed=seed)]) for seed in seeds] for name, way in ways.items()}
        none, cosreg, istar = rows["no regularizer"], rows[f"CosReg, λ = {LAM:g}"], rows[f"I-STAR, λ = {LAM:g}"]
        cosines = [[one["cosine"] for one in some] for some in (cosreg, none)]
        found.expect(
            f"{model}: average cosine similarity, CosReg λ = {LAM:g} against no regularizer",
            expected="lower",
            obtained=f"{spread(cosines[0])} against {spread(cosines[1])}",
            tolerance="lower for every seed: it is what CosReg minimises",
            holds=all(a < b for a, b in zip(*cosines, strict=True)),
        )
        means = [[one["share"] for one in some] for some in (cosreg, none)]
        found.expect(
            f"{model}: share of the mean vector in the squared length of states, the same runs",
            expected="smaller: CosReg moves the mean",
            obtained=f"{spread(means[0])} against {spread(means[1])}",
            tolerance="smaller for every seed",
            holds=all(a < b for a, b in zip(*means, strict=True)),
        )
        by_cosreg, by_istar = (
            [abs(np.log(a["isoscore"] / b["isoscore"])) for a, b in zip(some, none, strict=True)]
            for some in (cosreg, istar)
        )
        found.expect(
            f"{model}: change of IsoScore* of the last layer, |log-ratio to no regularizer|, CosReg against I-STAR",
            expected="CosReg hardly changes it",
            obtained=f"{spread(by_cosreg)} against {spread(by_istar)}; IsoScore* "
            + ", ".join(
                f"{spread([one['isoscore'] for one in some])} ({name})"
                for name, some in (("CosReg", cosreg), ("none", none), ("I-STAR", istar))
            ),
            tolerance="reported; 'hardly' is less than 10 % (0.095): nothing in CosReg holds the covariance fast",
            holds=float(np.mean(by_cosreg)) < np.log(1.1),
            required=False,
        )
        found.tables.append(
            Table(
                f"{model}, {task}: states of the last layer, mean ± standard deviation over {len(seeds)} seeds",
                ["", "IsoScore*", "average cosine", "‖μ‖²", "tr S", "‖μ‖²/(‖μ‖² + tr S)"],
                [
                    [
                        name,
                        *(
                            _cell([one[what] for one in some])
                            for what in ("isoscore", "cosine", "squared_mean", "variance", "share")
                        ),
                    ]
                    for name, some in rows.items()
                ],
            )
        )
        found.data[model] = {
            "runs": rows,
            "isotropy": tuple(paired([one["isoscore"] for one in cosreg], [one["isoscore"] for one in none])),
        }
    found.figures[""] = _figure(found.data)
    return found


def _last(record: dict[str, Any]) -> dict[str, float]:
    last = record["layers"][-1]
    share = last["squared_mean"] / (last["squared_mean"] + last["variance"])
    return {**{what: last[what] for what in ("isoscore", "cosine", "squared_mean", "variance")}, "share": share}


def _cell(values: list[float]) -> str:
    return spread(values) if len(values) > 1 else f"{values[0]:.3f}"


def _figure(data: dict[str, Any]) -> Any:
    figure: Any = Figure(figsize=(4.5 * len(data), 4), layout="constrained")
    panels = figure.subplots(1, len(data), squeeze=False)[0]
    for axes, (model, numbers) in zip(panels, data.items(), strict=True):
        for (name, some), color in zip(numbers["runs"].items(), ("0.2", "0.6", "C1", "C3", "C0"), strict=False):
            axes.plot([one["cosine"] for one in some], [one["isoscore"] for one in some], "o", label=name, color=color)
        axes.set(title=model, xlabel="average cosine, last layer", ylabel="IsoScore*, last layer", ylim=(0, None))
    panels[0].legend(fontsize="small")
    return figure


CLAIM = Claim(
    10,
    "cosine",
    "CosReg moves the mean of the states and leaves isotropy as it is",
    "I-STAR, figure 4",
    check,
)
