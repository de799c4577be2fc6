"""Claim 6: IsoScore* can be followed uphill to 1 and downhill to 0; IsoScore, through its eigenvectors, cannot.

A free cloud of points follows the gradient of ±IsoScore (by Adam, so that the flow's speed does not hang on the size
of the gradient). It starts generic, with eigenvalues that are repeated exactly, or up to rounding, or with fewer points
than dimensions, by five routes to the same number: the closed form, the eigenvalues of the covariance (I-STAR's
Algorithm 1), the authors' package, and the principal components that IsoScore as first published turns the points by.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.linalg import hadamard

import isoscore_star as iso
from paper_checks._claim import Claim, Findings, NoDataError, Run, Table

DIM = 12
CLOSED, EIGENVALUES, COMPONENTS = "closed form", "eigenvalues", "principal components"
PACKAGE, PACKAGE_FUNCTION = "package IsoScore, istar", "package IsoScore, IsoScore()"
EXACT, ROUNDED, FEW = "exactly repeated", "repeated up to rounding", "8 points"
WAYS = ("up", "down")
RATE = 0.1  # of Adam, for coordinates of size 1
NEAR = 1e-3  # Adam's last steps tremble by some 1e-4 of the score
EVERY = 10  # steps of which one is kept and drawn


def starts(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Clouds to start from.

    The largest eigenvalue is single, since between equal largest ones the way down is undecided: a saddle of the score,
    where a right gradient leads nowhere. Columns of a Hadamard matrix have a covariance without any rounding.
    """
    generic = rng.normal(size=(64, DIM)) * np.linspace(0.3, 2, DIM)
    scales = np.r_[3.0, np.full(5, 2.0), np.ones(DIM - 6)]
    left, _, right = np.linalg.svd(generic - generic.mean(axis=0), full_matrices=False)
    exact = hadamard(64)[:, 1 + rng.permutation(63)[:DIM]] * scales
    return {"generic": generic, EXACT: exact, ROUNDED: 8 * (left * scales) @ right, FEW: generic[:8]}


def highest(points: np.ndarray) -> float:
    """Give the highest score of so many points: m − 1 equal variances, if that is less than d."""
    return (min(len(points) - 1, DIM) - 1) / (DIM - 1)


def routes(torch: Any) -> dict[str, Callable[[Any], Any]]:
    """Five ways to the same number."""

    def printed_steps(spread: Any) -> Any:
        normalised = DIM**0.5 * spread / torch.linalg.vector_norm(spread)
        squared_defect = torch.sum((normalised - 1) ** 2) / (2 * (DIM - DIM**0.5))
        phi = (DIM - squared_defect * (DIM - DIM**0.5)) ** 2 / DIM**2
        return (DIM * phi - 1) / (DIM - 1)

    def components(X: Any) -> Any:
        _, vectors = torch.linalg.eigh(torch.cov(X.T))
        return printed_steps(torch.diagonal(torch.cov((X @ vectors).T)))

    found: dict[str, Callable[[Any], Any]] = {
        CLOSED: iso.isoscore_star,
        EIGENVALUES: lambda X: printed_steps(torch.linalg.eigvalsh(torch.cov(X.T))),
        COMPONENTS: components,
    }
    try:
        from IsoScore.IsoScore import IsoScore, istar
    except ImportError:
        return found
    nothing = torch.zeros((DIM, DIM), dtype=torch.float64)
    found[PACKAGE] = lambda X: istar().IsoScore_star(X, nothing, 0.0, is_eval=False)
    found[PACKAGE_FUNCTION] = IsoScore
    return found


def flow(torch: Any, score: Callable[[Any], Any], points: np.ndarray, sign: int, steps: int) -> dict[str, Any]:
    """Follow the gradient; stop where it is not finite, or where there is none."""
    X = torch.tensor(points, requires_grad=True)
    optimizer = torch.optim.Adam([X], lr=RATE)
    scores, done, ending = [iso.isoscore(points)], 0, "done"
    for step in range(steps):
        # Slower towards the end, so that it comes to rest.
        optimizer.param_groups[0]["lr"] = RATE * (1 + math.cos(math.pi * step / steps)) / 2
        optimizer.zero_grad()
        try:
            (-sign * score(X)).backward()
        except RuntimeError:
            ending = "has no gradient"
            break
        if not torch.isfinite(X.grad).all():
            ending = f"not finite at step {step}"
            break
        optimizer.step()
        done += 1
        if done % EVERY == 0:
            scores.append(iso.isoscore(X.detach().numpy()))
    return {"scores": scores, "steps": done, "ending": ending, "end": iso.isoscore(X.detach().numpy())}


def check(run: Run) -> Findings:
    """Let every start flow by every route, up and down."""
    try:
        import torch
    except ModuleNotFoundError as error:
        raise NoDataError('needs torch: pip install "isoscore-star[torch]"') from error
    import warnings

    found = Findings()
    steps, seeds = run.pick(250, 1000), range(run.pick(1, 3))
    known = routes(torch)
    flows: dict[str, dict[str, dict[str, list[dict[str, Any]]]]] = {}
    goals: dict[str, float] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package copies a tensor in a way that torch advises against
        for seed in seeds:
            for start, points in starts(run.rng(6, seed)).items():
                goals[start] = highest(points)
                for name, score in known.items():
                    for direction, sign in (("up", 1), ("down", -1)):
                        ends = flows.setdefault(start, {}).setdefault(name, {}).setdefault(direction, [])
                        ends.append(flow(torch, score, points, sign, steps))

    def arrived(start: str, name: str) -> int:
        whole = {way: [one for one in ends if one["ending"] == "done"] for way, ends in flows[start][name].items()}
        ups = sum(bool(one["end"] >= goals[start] - NEAR) for one in whole["up"])
        return ups + sum(bool(one["end"] <= NEAR) for one in whole["down"])

    total = 2 * len(seeds)
    everywhere = total * len(goals)
    found.data = {"flows": flows, "goals": goals}
    closed = sum(arrived(start, CLOSED) for start in goals)
    lowest = min(one["end"] for start in goals if goals[start] == 1 for one in flows[start][CLOSED]["up"])
    deepest = max(one["end"] for start in goals for one in flows[start][CLOSED]["down"])
    found.expect(
        f"IsoScore*, closed form: {everywhere} flows, up and down, {len(seeds)} seeds",
        expected="reach 1 (or what so few points can reach) and 0",
        obtained=f"{closed} of {everywhere} arrive; up to {lowest:.5f} at least, down to {deepest:.5f} at most",
        tolerance=f"within {NEAR:g}: what Adam's last steps leave",
        holds=closed == everywhere,
    )
    lost = {start: total - arrived(start, COMPONENTS) for start in goals}
    endings = {one["ending"] for way in flows[EXACT][COMPONENTS].values() for one in way}
    found.expect(
        "IsoScore through principal components, from exactly repeated eigenvalues",
        expected="breaks",
        obtained=f"{lost[EXACT]} of {total} flows do not get to the end ({', '.join(sorted(endings))})",
        tolerance="all: the derivative of eigenvectors has the factor 1/(λᵢ - λⱼ)",
        holds=lost[EXACT] == total,
    )
    elsewhere = {
        way: [one for start in goals if start != EXACT for one in flows[start][COMPONENTS][way]] for way in WAYS
    }
    broken = {way: sum(one["ending"] != "done" for one in ends) for way, ends in elsewhere.items()}
    found.expect(
        "the same from all other starts",
        expected="breaks where eigenvalues become equal: on the way up to 1",
        obtained=", ".join(f"{way}: {broken[way]} of {len(ends)} end in NaN" for way, ends in elsewhere.items()),
        tolerance="reported: it hangs on when two eigenvalues are equal to the last bit, which short flows do not meet",
        holds=broken["up"] == len(elsewhere["up"]),
        required=False,
    )
    plain = sum(arrived(start, EIGENVALUES) for start in goals)
    found.expect(
        "IsoScore* through eigenvalues alone (Algorithm 1), by automatic differentiation",
        expected="stalls or breaks at repeated eigenvalues",
        obtained=f"{plain} of {everywhere} flows arrive",
        tolerance="reported: in torch the gradient of eigvalsh is Σgₖvₖvₖᵀ, which for a symmetric function is right at "
        "repeated eigenvalues too",
        holds=plain < everywhere,
        required=False,
    )
    if PACKAGE in known:
        package = sum(arrived(start, PACKAGE) for start in goals)
        function = {one["ending"] for start in goals for one in flows[start][PACKAGE_FUNCTION]["up"]}
        found.notes.append(
            f"The authors' package 2.0.1: the module `istar` (singular values) arrives in {package} of {everywhere} "
            f"flows; the function `IsoScore()` {', '.join(sorted(function))}, since it copies its input."
        )
    if plain == everywhere:
        found.notes.append(
            "Not reproduced: that eigenvalues as such break the gradient. Through eigvalsh (or svdvals) in torch it is "
            "right at repeated eigenvalues, only dearer. It is principal components, IsoScore's own first step, that "
            "break it: with NaN where eigenvalues are equal to the last bit, as in a cloud that gets isotropic."
        )
    rows = []
    for start in goals:
        for name in known:
            for direction in ("up", "down"):
                ends = flows[start][name][direction]
                values = np.array([one["end"] for one in ends])
                how = ", ".join(sorted({one["ending"] for one in ends}))
                rows.append([start, name, direction, f"{values.min():.5f} to {values.max():.5f}", how])
    found.tables.append(Table("Where flows end", ["start", "route", "direction", "score at the end", "ending"], rows))
    found.figures[""] = _figure(flows, goals)
    return found


def _figure(flows: dict[str, Any], goals: dict[str, float]) -> Any:
    figure: Any = Figure(figsize=(12, 3.4), layout="constrained")
    panels = figure.subplots(1, 4, sharey=True)
    styles = {CLOSED: ("C0", "-"), EIGENVALUES: ("C1", "--"), COMPONENTS: ("C3", "-")}
    for axes, start in zip(panels, goals, strict=True):
        for name, (colour, line) in styles.items():
            for direction in ("up", "down"):
                one = flows[start][name][direction][0]
                label = name if direction == "up" else None
                axes.plot(
                    EVERY * np.arange(len(one["scores"])), one["scores"], color=colour, linestyle=line, label=label
                )
                if one["ending"] != "done":
                    axes.plot(one["steps"], one["end"], "x", color=colour, markersize=9)
        axes.axhline(goals[start], color="0.5", linestyle=":")
        axes.set(xlabel="step", title=start)
    panels[0].set_ylabel("IsoScore")
    panels[0].legend(fontsize="small", title="x: gradient not finite", title_fontsize="small")
    return figure


CLAIM = Claim(
    6,
    "gradient-flow",
    "Following the gradient of ±IsoScore* leads to 1 and to 0; IsoScore's own route breaks",
    "I-STAR, section 3 (IsoScore* is differentiable)",
    check,
)
