"""Claim 14: what a model that was fine-tuned with I-STAR keeps of sentence similarity, which it was not trained for.

Cosines of sentence means of the last layer against the human similarities of STS-B (Spearman), for the runs of claim 8,
and CosReg. Zero-shot: no model saw STS-B in this training. The same with the mean of all sentences taken off, which a
cosine depends on and isotropy does not. What others found of isotropic embeddings says that it should help.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from paper_checks._claim import Claim, Findings, NoDataError, Run, Table
from paper_checks._statistics import Interval, paired, rank_correlation, spread
from paper_checks.claims.claim_08_direction import recipes
from paper_checks.training import Method, trained

COSREG = 1.0


def check(run: Run) -> Findings:
    """Compare sentence similarity with that of no regularizer; table and figure by model and λ."""
    found = Findings()
    wanted = recipes(run)
    rivals = {
        model: [one.but(method=Method.cosreg, lam=COSREG) for one in some if one.lam == 0]
        for model, some in wanted.items()
    }
    starts = {model: some[0].before for model, some in wanted.items()}
    records = trained(run, [*starts.values(), *(one for some in (*wanted.values(), *rivals.values()) for one in some)])
    if records[next(iter(starts.values()))]["pairs"] is None:
        raise NoDataError(
            "STS-B is not here: put glue/STS-B/{train,dev}.tsv into the folder that ISOSCORE_DATA names, or install "
            "datasets where there is a network; then empty the cache of runs"
        )
    for model, some in wanted.items():
        by_lam = {lam: [records[one] for one in some if one.lam == lam] for lam in sorted({one.lam for one in some})}
        settings = {f"λ = {lam:g}": group for lam, group in by_lam.items()}
        settings[f"CosReg, λ = {COSREG:g}"] = [records[one] for one in rivals[model]]
        none = settings["λ = 0"]
        before = records[starts[model]]["pairs"]
        rows = [["before training", "", *(f"{before[form]:.3f}" for form in ("plain", "centred")), ""]]
        gains: dict[str, Interval] = {}
        for name, group in settings.items():
            if any(one["diverged"] for one in group):
                rows.append([name, "diverged", "", "", ""])
                continue
            plain, centred = ([one["pairs"][form] for one in group] for form in ("plain", "centred"))
            gains[name] = paired(plain, [one["pairs"]["plain"] for one in none])
            score = spread([one["union"]["isoscore"] for one in group])
            rows.append([name, score, spread(plain), spread(centred), "" if group is none else str(gains[name])])
        good = [one for group in by_lam.values() for one in group if not one["diverged"]]
        follows = rank_correlation([one["union"]["isoscore"] for one in good], [one["pairs"]["plain"] for one in good])
        found.expect(
            f"{model}: STS-B against isotropy, all runs of I-STAR",
            expected="the more isotropic, the better: rank correlation above 0",
            obtained=f"{follows:+.2f} over {len(good)} runs",
            tolerance="reported: what λ < 0 destroys counts as well",
            holds=follows > 0,
            required=False,
        )
        if "λ = 1" in gains:
            found.expect(
                f"{model}: STS-B with λ = 1 against no regularizer",
                expected="better",
                obtained=", ".join(
                    f"{name}: {gains[name]}" for name in ("λ = 1", f"CosReg, λ = {COSREG:g}", "λ = -1") if name in gains
                ),
                tolerance="reported, whatever it is: 95 % interval clear of 0",
                holds=gains["λ = 1"].sign > 0,
                required=False,
            )
        columns = ["", "IsoScore*, all layers", "STS-B", "STS-B, centred", "against λ = 0 [95 % interval]"]
        seeds = len(none)
        found.tables.append(Table(f"{model}: mean ± standard deviation over {seeds} seeds", columns, rows))
        found.data[model] = {
            "before": before,
            "runs": {
                name: [
                    {"isoscore_star": one["union"]["isoscore"], **one["pairs"]} for one in group if not one["diverged"]
                ]
                for name, group in settings.items()
            },
        }
    found.figures[""] = _figure(found.data)
    return found


def _figure(data: dict[str, Any]) -> Any:
    figure: Any = Figure(figsize=(5 * len(data), 4), layout="constrained")
    for axes, (model, numbers) in zip(figure.subplots(1, len(data), squeeze=False)[0], data.items(), strict=True):
        for name, runs in numbers["runs"].items():
            cosreg = name.startswith("CosReg")
            lam = 0.0 if cosreg else float(name.removeprefix("λ = "))
            color = "C1" if cosreg else "k" if lam == 0 else "C2" if lam > 0 else "C3"
            points = np.array([(one["isoscore_star"], one["plain"]) for one in runs]).reshape(-1, 2)
            axes.plot(*points.T, "s" if cosreg else "o", color=color, markersize=4, alpha=0.8)
        axes.axhline(numbers["before"]["plain"], color="0.4", linestyle=":")
        axes.set(title=model, xlabel="IsoScore* of all layers' states", ylabel="STS-B, Spearman (dotted: before)")
    return figure


CLAIM = Claim(
    14,
    "transfer",
    "More isotropic states are better at sentence similarity, zero-shot",
    "I-STAR, discussion; reviews",
    check,
)
