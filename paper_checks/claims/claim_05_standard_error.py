"""Claim 5: the unbiased score ± 1.96 standard errors of `iso.measure` covers the truth in 93–97 % of samples.

Drawn again and again, Gaussian and heavy-tailed (Student t with 5 degrees of freedom), of independent points and of
clusters (tokens of a sentence: half of the variance lies between clusters of four, left out together by the jackknife),
with m/d from 1/8 on. Where intervals do not cover, the table says from which m/d on they do, and `measure` has to warn.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

import isoscore_star as iso
from paper_checks._claim import Claim, Findings, Run, Table

DIM, FREEDOM, CLUSTER = 48, 5, 4
LOW, HIGH = 0.93, 0.97
SPECTRA = {"10, 6, 4, 4, 1, …": np.r_[10.0, 6.0, 4.0, 4.0, np.ones(DIM - 4)], "1/k": 1 / np.arange(1.0, DIM + 1)}
RATIOS = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)
MORE = (16, 32)  # for clusters, whose bias goes with the number of clusters
DOUBT = "no 95 % interval"


def draw(tails: str, clustered: bool, m: int, spectrum: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw m points whose covariance has this spectrum."""

    def independent(count: int) -> np.ndarray:
        points = rng.standard_normal((count, DIM))
        if tails == "Student t":  # elliptical: one χ² for all coordinates of a point
            points *= np.sqrt((FREEDOM - 2) / rng.chisquare(FREEDOM, size=(count, 1)))
        return points

    points = independent(m)
    if clustered:
        centres = np.repeat(independent(-(-m // CLUSTER)), CLUSTER, axis=0)[:m]
        points = np.sqrt(0.5) * (points + centres)
    return np.asarray(points * np.sqrt(spectrum))


def coverage(run: Run, tails: str, clustered: bool, name: str, ratio: float, draws: int) -> dict[str, float]:
    """Draw, measure, count: how often the interval covers, and how often `measure` warns that it may not."""
    spectrum, m = SPECTRA[name], int(ratio * DIM)
    truth = iso.isoscore_from_spectrum(spectrum)
    rng = run.rng(5, 2, list(SPECTRA).index(name), len(tails), int(clustered), int(8 * ratio))
    groups = np.arange(m) // CLUSTER if clustered else None
    scores, errors, warned = np.full(draws, np.nan), np.full(draws, np.nan), np.zeros(draws, bool)
    for i in range(draws):
        found = iso.measure(draw(tails, clustered, m, spectrum, rng), groups=groups)
        warned[i] = any(DOUBT in warning for warning in found.warnings)
        if found.unbiased_score is not None and found.standard_error is not None:
            scores[i], errors[i] = found.unbiased_score, found.standard_error
    covered = np.abs(scores - truth) <= 1.96 * errors  # a sample without a standard error covers nothing
    known = ~np.isnan(errors)
    if not known.any():
        return {"points": m, "draws": draws, "coverage": 0.0, "undefined": 1.0, "warned": 0.0}
    silent = covered[~warned]
    return {
        "points": m,
        "draws": draws,
        "coverage": float(covered.mean()),
        "undefined": float(1 - known.mean()),
        "bias": float(scores[known].mean() - truth),
        "deviation": float(scores[known].std(ddof=1)),
        "error": float(np.median(errors[known])),
        "warned": float(warned.mean()),
        "silent": len(silent),
        "silent_coverage": float(silent.mean()) if len(silent) else float("nan"),
    }


def near(cell: dict[str, float]) -> bool:
    """Whether coverage is in [93 %, 97 %], but for what so many draws leave uncertain (two standard errors)."""
    slack = 2 * np.sqrt(0.95 * 0.05 / cell["draws"])
    return bool(LOW - slack <= cell["coverage"] <= HIGH + slack)


def from_which(row: dict[float, dict[str, float]]) -> float:
    """Give the least m/d from which on every coverage is near 95 %."""
    good = float("inf")
    for ratio in sorted(row, reverse=True):
        if not near(row[ratio]):
            break
        good = ratio
    return good


def check(run: Run) -> Findings:
    """Measure coverage for each kind of points, find from where it holds, and whether `measure` warns below."""
    found = Findings()
    draws = run.pick(150, 2000)
    table: dict[str, dict[float, dict[str, float]]] = {}
    for clustered in (False, True):
        for tails in ("Gaussian", "Student t"):
            for name in list(SPECTRA)[: run.pick(1, 1 if clustered else 2)]:
                label = f"{tails}, {'clustered' if clustered else 'independent'}, spectrum {name}"
                ratios = run.pick(RATIOS[1::2] + RATIOS[-1:], RATIOS + (MORE if clustered else ()))
                table[label] = {
                    ratio: coverage(run, tails, clustered, name, ratio, draws if ratio <= 8 else draws // 4)
                    for ratio in sorted(set(ratios))
                }
    starts = {label: from_which(row) for label, row in table.items()}
    found.data = {"dim": DIM, "draws": draws, "coverage": table, "holds_from": starts}
    slack = 2 * np.sqrt(0.95 * 0.05 / draws)
    uncertain = f"93-97 %, ± {slack:.1%} for what {draws:,} draws leave uncertain"

    asked = {label: start <= 1 / 4 for label, start in starts.items()}
    found.expect(
        "coverage from m = d/4 on, in all kinds of points",
        expected="93-97 %",
        obtained="; ".join(
            f"{label.rsplit(', spectrum', 1)[0]} ({label.rsplit('spectrum ', 1)[1]}): "
            + ("not up to the largest m/d" if start == float("inf") else f"from m/d = {start:g} on")
            for label, start in starts.items()
        ),
        tolerance=f"{uncertain}; reported: where it does not hold, `measure` has to warn (next rows)",
        holds=all(asked.values()),
        required=False,
    )

    silent = [
        (label, ratio, cell)
        for label, row in table.items()
        if "independent" in label
        for ratio, cell in row.items()
        if cell["warned"] == 0
    ]
    worst = max(silent, key=lambda item: abs(item[2]["coverage"] - 0.95))
    shares = [cell["coverage"] for *_, cell in silent]
    found.expect(
        "independent points, wherever `measure` does not warn",
        expected="93-97 %",
        obtained=f"{min(shares):.1%} to {max(shares):.1%} in {len(silent)} settings, "
        f"m/d from {min(r for _, r, _ in silent):g} to 8 (farthest from 95 %: {worst[0]}, m/d = {worst[1]:g})",
        tolerance=uncertain,
        holds=all(near(cell) for *_, cell in silent),
    )
    bad = [
        (label, ratio)
        for label, row in table.items()
        if "independent" in label
        for ratio, cell in row.items()
        if not near(cell) and cell["warned"] < 1
    ]
    found.expect(
        "independent points, wherever coverage is not near 95 %",
        expected="`measure` warns",
        obtained="in every sample" if not bad else f"not in {bad}",
        tolerance="every sample: its rule is m < d/4, which the sample cannot blur",
        holds=not bad,
    )
    misses = [
        (label, ratio, cell["warned"])
        for label, row in table.items()
        if "clustered" in label
        for ratio, cell in row.items()
        if not near(cell) and cell["undefined"] < 1
    ]
    found.expect(
        "clustered points, wherever there is a standard error and coverage is not near 95 %",
        expected="`measure` warns",
        obtained=f"in {min((w for *_, w in misses), default=1.0):.0%} of samples or more, in {len(misses)} settings",
        tolerance="at least half of the samples: the bias that it warns of is itself an estimate from the sample",
        holds=all(w >= 0.5 for *_, w in misses),
    )

    for label, row in table.items():
        found.tables.append(
            Table(
                f"{label} (d = {DIM}, {draws:,} draws, a quarter of them beyond m/d = 8)",
                ["m/d", "points", "coverage", "bias", "standard deviation", "median standard error", "warned"],
                [[f"{ratio:g}", str(cell["points"]), *_numbers(cell)] for ratio, cell in row.items()],
            )
        )
    found.notes.append(
        "For independent points the jackknife is right within some percent from d/4 on; what little it lacks for heavy "
        "tails is skewness. For clusters it is the unbiased score that is off, not its standard error: pairs within a "
        "cluster are counted as independent, and the interval lies about the wrong place. An estimate from pairs "
        "of different clusters alone would mend it; `measure` estimates the bias by its jackknife and warns."
    )
    found.figures[""] = _figure(table)
    return found


def _numbers(cell: dict[str, float]) -> list[str]:
    if cell["undefined"] == 1:
        return ["no standard error", "", "", "", ""]
    share = f"{cell['coverage']:.1%}" + (f" ({cell['undefined']:.1%} undefined)" if cell["undefined"] else "")
    return [share, *(f"{cell[name]:.4f}" for name in ("bias", "deviation", "error")), f"{cell['warned']:.0%}"]


def _figure(table: dict[str, dict[float, dict[str, float]]]) -> Any:
    figure: Any = Figure(figsize=(9, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, kind in zip(panels, ("independent", "clustered"), strict=True):
        axes.axhspan(LOW, HIGH, color="C2", alpha=0.15, linewidth=0)
        for label, row in table.items():
            if kind in label:
                known = {ratio: cell["coverage"] for ratio, cell in row.items() if cell["undefined"] < 1}
                axes.plot(list(known), list(known.values()), "o-", label=label.replace(f"{kind}, ", ""))
        axes.axvline(1 / 4, color="0.5", linestyle=":")
        axes.set_xscale("log", base=2)
        axes.set(xlabel="points per dimension, m/d", title=f"{kind} points", ylim=(0, 1.02))
        axes.legend(fontsize="x-small", loc="lower right")
    panels[0].set_ylabel("coverage of ±1.96 standard errors")
    return figure


CLAIM = Claim(
    5,
    "standard-error",
    "95 % intervals from `iso.measure` cover the population value, or `measure` says that they may not",
    "this library (beyond the paper)",
    check,
)
