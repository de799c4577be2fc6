"""Claim 12: I-STAR makes (λ < 0) or removes (λ > 0) outlier dimensions, on which a model may rely.

The runs of claim 8, last layer, held-out text. An outlier dimension has over five times the average variance. Their
number and share of the variance; and what the task loses when the three largest dimensions are held at their mean,
beside three others drawn by chance.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from paper_checks._claim import Claim, Findings, Run, Table
from paper_checks._statistics import spread
from paper_checks.claims.claim_08_direction import recipes
from paper_checks.training import trained

GROUPS = {"λ < 0": -1, "λ = 0": 0, "λ > 0": 1}


def check(run: Run) -> Findings:
    """Count outlier dimensions, sum their shares, ablate the largest; table by model and λ."""
    found = Findings()
    wanted = recipes(run)
    records = trained(run, [one for some in wanted.values() for one in some])
    for model, some in wanted.items():
        good = [one for one in some if not records[one]["diverged"]]
        outliers = {one: records[one]["outliers"] for one in good}
        by_group = {name: [outliers[one] for one in good if np.sign(one.lam) == sign] for name, sign in GROUPS.items()}
        largest = {name: float(np.mean([one["largest"] for one in group])) for name, group in by_group.items()}
        found.expect(
            f"{model}: share of the largest dimension in the variance of the last layer, mean over runs",
            expected="larger for λ < 0 than for λ = 0, and smaller for λ > 0",
            obtained=", ".join(f"{value:.4f} ({name})" for name, value in largest.items()),
            tolerance="reported: isotropy counts eigenvalues, and a large one need not lie along a dimension",
            holds=largest["λ < 0"] > largest["λ = 0"] > largest["λ > 0"],
            required=False,
        )
        lost = {name: [one["whole"] - one["ablated"] for one in group] for name, group in by_group.items()}
        others = {name: [one["whole"] - one["others"] for one in group] for name, group in by_group.items()}
        found.expect(
            f"{model}: what the task loses without the three largest dimensions, against three others",
            expected="more, the less isotropic the model is",
            obtained="; ".join(
                f"{name}: {np.mean(lost[name]):+.3f} against {np.mean(others[name]):+.3f}" for name in GROUPS
            ),
            tolerance="reported: it hangs on whether the head reads these dimensions",
            holds=float(np.mean(lost["λ < 0"])) > float(np.mean(lost["λ > 0"])),
            required=False,
        )
        rows = []
        for lam in sorted({one.lam for one in good}):
            group = [outliers[one] for one in good if one.lam == lam]
            values = {
                what: [one[what] for one in group]
                for what in ("count", "share", "largest", "whole", "ablated", "others")
            }
            rows.append(
                [
                    f"{lam:g}",
                    spread(values["count"], 1),
                    *(spread(values[what]) for what in ("share", "largest", "whole", "ablated", "others")),
                ]
            )
        columns = [
            "λ",
            "outlier dimensions",
            "their share",
            "largest dimension",
            "task",
            "largest 3 ablated",
            "3 others ablated",
        ]
        found.tables.append(Table(f"{model}: last layer, mean ± standard deviation over seeds", columns, rows))
        found.data[model] = [{"lam": one.lam, "seed": one.seed, **outliers[one]} for one in good]
    found.notes.append(
        "The largest dimensions are ablated whether they count as outliers or not, so that every λ has a number. An "
        "ablated dimension has the mean of held-out token states everywhere in the last layer; the head is not trained "
        "again."
    )
    found.figures[""] = _figure(found.data)
    return found


def _figure(data: dict[str, Any]) -> Any:
    figure: Any = Figure(figsize=(4.5 * len(data), 7), layout="constrained")
    panels = figure.subplots(2, len(data), squeeze=False)
    for (top, bottom), (model, runs) in zip(panels.T, data.items(), strict=True):
        lambdas = sorted({one["lam"] for one in runs})
        for one in runs:
            top.plot(lambdas.index(one["lam"]), one["largest"], "o", color="C0", markersize=4)
            bottom.plot(lambdas.index(one["lam"]), one["whole"] - one["ablated"], "o", color="C3", markersize=4)
            bottom.plot(lambdas.index(one["lam"]), one["whole"] - one["others"], "x", color="0.5", markersize=4)
        for axes in (top, bottom):
            axes.set_xticks(range(len(lambdas)), [f"{lam:g}" for lam in lambdas])
            axes.set_xlabel("λ")
        top.set(title=model, ylabel="share of the largest dimension", yscale="log")
        bottom.set_ylabel("loss of the task by ablation\n(o: largest three, x: three others)")
    return figure


CLAIM = Claim(
    12,
    "outliers",
    "λ < 0 makes outlier dimensions that the model relies on, λ > 0 removes them",
    "I-STAR, section 5 and appendix",
    check,
)
