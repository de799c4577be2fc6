"""Claim 19: the intervals of `iso.compare` cover the true difference of two clouds, or it says that they may not.

Drawn again and again, Gaussian and heavy-tailed (Student t with 5 degrees of freedom), independent points and groups of
eight points of which half of the variance lies between groups: two clouds of the same points, or groups, and two
samples of their own. The pairs are of three kinds: the same coordinates stretched to another spectrum; the same points
with noise added; and two clouds with as much in common as not, of one distribution, whose difference is 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import isoscore_star as iso
from paper_checks._claim import Claim, Findings, Run, Table
from paper_checks.claims.claim_05_standard_error import normal_or_t, slack

DIM, SIZE, NOISE = 32, 8, 0.2
LOW, DOUBT = 0.93, "no 95 % interval"
POINTS, GROUPS = (16, 64, 256), (16, 64, 128)
FLAT = np.ones(DIM)
HARMONIC = 1 / np.arange(1.0, DIM + 1)
LEADING = np.r_[10.0, 6.0, 4.0, 4.0, np.ones(DIM - 4)]
KINDS = {
    "independent": {
        "stretched: 10, 6, 4, 4, 1, … to 1/k": (LEADING, LEADING, HARMONIC, HARMONIC),
        "noise: 1/k": (HARMONIC, HARMONIC, None, None),
        "no difference: 1/k": (HARMONIC, HARMONIC, HARMONIC, HARMONIC),
    },
    "grouped": {
        "stretched: 1/k, flat within to 10, 6, 4, 4, 1, …": (HARMONIC, FLAT, LEADING, LEADING),
        "noise: 1/k², flat within": (HARMONIC**2, FLAT, None, None),
        "no difference: 1/k, flat within": (HARMONIC, FLAT, HARMONIC, FLAT),
    },
}
"""Spectra between and within groups of A and of B, each half of the variance; None for A with noise."""

Points = np.ndarray
Spectra = tuple[Points, Points, Points | None, Points | None]
Draw = Callable[[np.random.Generator], tuple[Points, Points]]
Cell = dict[str, float]


def spectra(given: Spectra) -> tuple[list[Points], Points, Points]:
    """Return spectra with a trace of 1/2, and the variances of A and of B."""
    ours, its = ([part / part.sum() / 2 for part in pair if part is not None] for pair in (given[:2], given[2:]))
    a = ours[0] + ours[1]
    return ours + its, a, its[0] + its[1] if its else a + NOISE / DIM


def drawing(kind: str, tails: str, given: Spectra, count: int, *, shared: bool, same: bool) -> Draw:
    """Return how to draw two clouds: of the same points or `shared` groups, or each on its own."""
    parts, _, _ = spectra(given)
    sizes = ((count, 1, DIM), (count, SIZE, DIM)) if kind == "grouped" else ((count, DIM),) * 2

    def raw(rng: np.random.Generator) -> list[Points]:
        return [normal_or_t(tails, size, rng) for size in sizes]

    def cloud(shocks: list[Points], between: Points, within: Points) -> Points:
        if kind == "grouped":
            return np.asarray(shocks[0] * np.sqrt(between) + shocks[1] * np.sqrt(within))
        return np.asarray(shocks[0] * np.sqrt(between + within))

    def draw(rng: np.random.Generator) -> tuple[Points, Points]:
        first, second = raw(rng), raw(rng)
        a = cloud(first, parts[0], parts[1])
        if len(parts) == 2:  # A, or another cloud like it, with noise
            base = a if shared else cloud(second, parts[0], parts[1])
            return a, base + rng.standard_normal(base.shape) * np.sqrt(NOISE / DIM)
        if same and shared:  # as much in common as not: groups with other points, or points with signs of their own
            second = [first[0], second[1]] if kind == "grouped" else [first[0] * rng.choice([-1.0, 1.0], sizes[0])]
        elif shared:
            second = first
        return a, cloud(second if kind == "grouped" else second[:1], parts[2], parts[3])

    return draw


def coverage(draw: Draw, truth: tuple[float, float], draws: int, rng: np.random.Generator, *, paired: bool) -> Cell:
    """Draw, compare, count how often the intervals of log PR and of the score cover, and what `compare` says."""
    covered = np.zeros((draws, 2), bool)
    warned, differs, gains = np.zeros(draws, bool), np.zeros(draws, bool), []
    for i in range(draws):
        row = iso.compare(*draw(rng), paired=paired).rows[0]
        warned[i] = any(DOUBT in text for text in row.notes)
        differs[i] = bool(row.differs)
        for j, (interval, true) in enumerate(zip((row.log_ratio_interval, row.interval), truth, strict=True)):
            covered[i, j] = interval is not None and interval[0] <= true <= interval[1]
        if row.gain is not None:
            gains.append(row.gain)
    cell = {"draws": draws, "log_ratio": float(covered[:, 0].mean()), "score": float(covered[:, 1].mean())}
    cell |= {"warned": float(warned.mean()), "differs": float(differs.mean()), "truth": truth[0]}
    return cell | ({"gain": float(np.median(gains))} if gains else {})


def true_difference(given: Spectra) -> tuple[float, float]:
    """Return that of log PR and of the score."""
    ratios = [float(part.sum() ** 2 / np.sum(part**2)) for part in spectra(given)[1:]]
    return float(np.log(ratios[1] / ratios[0])), (ratios[1] - ratios[0]) / (DIM - 1)


def check(run: Run) -> Findings:
    """Measure coverage of pairs and of two samples for each kind of clouds."""
    found, draws = Findings(), run.pick(60, 500)
    tables: dict[str, dict[str, dict[int, Cell]]] = {}
    for k, (kind, names) in enumerate(KINDS.items()):
        sizes = run.pick((64,), POINTS if kind == "independent" else GROUPS)
        for t, tails in enumerate(run.pick(("Student t",), ("Student t", "Gaussian"))):
            for n, (name, given) in enumerate(names.items()):
                for paired in (True, False):
                    label = f"{tails}, {name}, {'paired' if paired else 'two samples'}"
                    same = name.startswith("no difference")
                    tables.setdefault(kind, {})[label] = {
                        size: coverage(
                            drawing(kind, tails, given, size, shared=paired, same=same),
                            true_difference(given),
                            draws,
                            run.rng(19, k, t, n, int(paired), size),
                            paired=paired,
                        )
                        for size in sizes
                    }
    found.data = {"dim": DIM, "group_size": SIZE, "noise": NOISE, "draws": draws, "coverage": tables}
    cells = [
        (label, size, cell) for rows in tables.values() for label, row in rows.items() for size, cell in row.items()
    ]
    for kind, rows in tables.items():
        _expect_coverage(found, kind, [item for item in cells if item[0] in rows and item[2] in rows[item[0]].values()])
    _expect_no_false_differences(found, cells, draws)
    _expect_gain(found, cells)
    for kind, rows in tables.items():
        unit = "points" if kind == "independent" else "groups"
        columns = ["true log ratio", "coverage, log PR", "coverage, score", "differs", "without pairing", "warned"]
        found.tables.append(
            Table(
                f"{kind} (d = {DIM}, {draws:,} draws; two standard errors are {slack(draws):.1%})",
                ["", unit, *columns],
                [[label, f"{size}", *_numbers(cell)] for label, row in rows.items() for size, cell in row.items()],
            )
        )
    found.notes.append(
        "For groups the interval takes deviations of log PR for proportional to PR⁻², as that of one cloud does: a "
        "sample without some groups of much variance has a PR that is too high, with an error that is too small."
    )
    found.figures[""] = _figure(tables)
    return found


def _expect_coverage(found: Findings, kind: str, cells: list[tuple[str, int, Cell]]) -> None:
    uncertain = slack(int(cells[0][2]["draws"]))
    silent = [item for item in cells if item[2]["warned"] == 0]
    shares = [(cell[which], f"{label}, {size}") for label, size, cell in silent for which in ("log_ratio", "score")]
    least, where = min(shares)
    found.expect(
        f"{kind}: wherever `compare` does not warn, of log PR and of the score",
        expected="93 % or more",
        obtained=f"{least:.1%} ({where}) to {max(shares)[0]:.1%} in {len(silent)} settings",
        tolerance=f"- {uncertain:.1%} for what the draws leave uncertain; for heavy tails the Student t, with half of "
        "the degrees of freedom that the sample shows, may cover more than 97 %",
        holds=least >= LOW - uncertain,
    )
    warned = [cell["warned"] for *_, cell in cells if cell["warned"] > 0]
    if warned:
        found.expect(
            f"{kind}: wherever `compare` warns",
            expected="by the numbers of points or groups alone, in every sample",
            obtained=f"in {min(warned):.0%} or more, in {len(warned)} settings",
            tolerance="every sample, which the sample cannot blur",
            holds=min(warned) == 1,
        )


def _expect_no_false_differences(found: Findings, cells: list[tuple[str, int, Cell]], draws: int) -> None:
    cells = [item for item in cells if item[2]["truth"] == 0 and item[2]["warned"] == 0]
    label, size, cell = max(cells, key=lambda item: item[2]["differs"])
    found.expect(
        "clouds of one distribution said to differ",
        expected="7 % or fewer",
        obtained=f"{cell['differs']:.1%} at most ({label}, {size})",
        tolerance=f"+ {slack(draws):.1%} for what the draws leave uncertain; 7 % since coverage is 93 % or more",
        holds=cell["differs"] <= 1 - LOW + slack(draws),
    )


def _expect_gain(found: Findings, cells: list[tuple[str, int, Cell]]) -> None:
    noisy = [item for item in cells if "noise" in item[0] and "gain" in item[2]]
    gains = {f"{label}, {size}": cell["gain"] for label, size, cell in noisy if cell["warned"] == 0}
    warned = [cell["gain"] for *_, cell in noisy if cell["warned"] > 0]
    least = min(gains, key=lambda name: gains[name])
    few = f"; from {min(warned):.1f} times where `compare` warns" if warned else ""
    found.expect(
        "the same points with noise, wherever `compare` does not warn: how many times wider the interval is without "
        "pairing",
        expected="more than 1",
        obtained=f"{gains[least]:.1f} ({least}) to {max(gains.values()):.1f} times{few}",
        tolerance="medians; the noise is a fifth of the variance, so that nearly all of the error is shared",
        holds=gains[least] > 1,
    )


def _numbers(cell: Cell) -> list[str]:
    gain = f"{cell['gain']:.1f} times as wide" if "gain" in cell else ""
    shares = [f"{cell[name]:.1%}" for name in ("log_ratio", "score", "differs")]
    return [f"{cell['truth']:+.3f}", *shares, gain, f"{cell['warned']:.0%}"]


def _figure(tables: dict[str, dict[str, dict[int, Cell]]]) -> Any:
    figure: Any = Figure(figsize=(9, 6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (kind, table) in zip(panels, tables.items(), strict=True):
        axes.axhspan(LOW, 1, color="C2", alpha=0.15, linewidth=0)
        for label, row in table.items():
            line = "o-" if label.endswith("paired") else "s:"
            axes.plot(list(row), [cell["log_ratio"] for cell in row.values()], line, label=label)
        axes.axvline(DIM / 4 if kind == "independent" else 64, color="0.5", linestyle=":")
        axes.set_xscale("log", base=2)
        axes.set(xlabel="points" if kind == "independent" else "groups", title=f"{kind} points")
        axes.set_ylim(0.7, 1.02)
        axes.legend(fontsize="xx-small", loc="lower right")
    panels[0].set_ylabel("coverage of the 95 % interval of log PR")
    return figure


CLAIM = Claim(
    19,
    "compare",
    "95 % intervals from `iso.compare` cover the true difference of two clouds, or it says that they may not",
    "this library (beyond the paper)",
    check,
)
