"""Claim 16: the anchored loss has a gradient of the right size at any batch size, for half the products.

This library's own claim. MiniLM's states of SST-2 sentences: the gradient of a batch's score at each state, against the
one that the covariance of all sentences gives there. Its size, ⟨g, g*⟩/‖g*‖², should be 1, or λ means another thing at
every batch size; its error is ‖g − g*‖/‖g*‖.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import isoscore_star as iso
from paper_checks._claim import Claim, Findings, NoDataError, Run, Table
from paper_checks.claims._token_states import PLACES, SENTENCES, cell, chart, minilm_states

ESTIMATORS: dict[str, dict[str, Any]] = {
    "ζ = 0.2 (the paper)": {"zeta": 0.2},
    "ζ = 0.8 and 5λ": {"zeta": 0.8, "lam": 5.0},
    "U-statistic": {"estimator": "unbiased", "groups": None},
    "halves": {"estimator": "unbiased"},
    "anchored": {"estimator": "anchored"},
}


def gradient(points: np.ndarray, groups: np.ndarray, cov: np.ndarray, arguments: dict[str, Any]) -> np.ndarray:
    """Return the gradient of a batch's loss, times its points, so that its size does not hang on their number."""
    import torch

    X = torch.tensor(points, dtype=torch.float64, requires_grad=True)
    given = {"groups": groups, **arguments}
    needs_cov = given.get("estimator") != "unbiased"
    iso.istar_loss(X, cov if needs_cov else None, **given).backward()
    assert X.grad is not None
    return np.asarray(X.grad.numpy() * len(points))


def true_gradient(points: np.ndarray, mean: np.ndarray, cov: np.ndarray) -> np.ndarray:
    """∂(1 − s)/∂x times the number of points, for the covariance Σ of all: −4/(d − 1)·(r·x − r²·x·Σ), r = T/F."""
    r = np.trace(cov) / np.sum(cov * cov)
    centred = points - mean
    return np.asarray(-4 / (cov.shape[0] - 1) * (r * centred - r * r * centred @ cov))


def check(run: Run) -> Findings:
    """Measure size and error of each estimator's gradient."""
    try:
        import torch  # noqa: F401
    except ImportError as missing:
        raise NoDataError('gradients need torch: pip install "isoscore-star[torch]"') from missing
    found = Findings()
    states = minilm_states(run.pick(300, 1600))
    everything, draws = np.arange(len(states.ends)), run.pick(6, 30)
    rows = []
    for place, layers in PLACES.items():
        moments = iso.Moments().update(states.batch(everything, layers)[0])
        mean, cov = moments.mean, moments.cov
        for count in SENTENCES:
            rng = run.rng(16, count, len(layers))
            sizes: dict[str, list[float]] = {name: [] for name in ESTIMATORS}
            errors: dict[str, list[float]] = {name: [] for name in ESTIMATORS}
            for _ in range(draws):
                points, groups = states.batch(rng.choice(everything, count, replace=False), layers)
                truth = true_gradient(points.astype(np.float64), mean, cov)
                square = float(np.sum(truth * truth))
                for name, arguments in ESTIMATORS.items():
                    got = gradient(points, groups, cov, arguments)
                    sizes[name].append(float(np.sum(got * truth)) / square)
                    errors[name].append(float(np.sqrt(np.sum((got - truth) ** 2) / square)))
            size = {name: float(np.mean(values)) for name, values in sizes.items()}
            error = {name: float(np.mean(values)) for name, values in errors.items()}
            doubt = {name: 2 * float(np.std(values, ddof=1)) / np.sqrt(draws) for name, values in sizes.items()}
            found.data[cell(place, count)] = {"size": size, "error": error, "doubt": doubt}
            rows.append([place, str(count), *(f"{size[name]:.2f}, {error[name]:.2f}" for name in ESTIMATORS)])
    _expect(found)
    found.tables.append(
        Table(
            f"Size and error of a batch's gradient, means over {draws} batches (wanted: 1 and 0)",
            ["states", "sentences", *ESTIMATORS],
            rows,
        )
    )
    found.notes.append(
        "Σ_S is the covariance of all sentences here, as if it were never stale; what a running average does is shown "
        "by training. A gradient by halves has the right size in the mean, and much noise in a small batch."
    )
    sizes_of = {where: found.data[where]["size"] for where in found.data}
    found.figures[""] = chart(ESTIMATORS, lambda where, name: (sizes_of[where][name], 0.0), "size of the gradient")
    return found


def _expect(found: Findings) -> None:
    for place in PLACES:
        cells = {count: found.data[cell(place, count)] for count in SENTENCES}
        sizes = {count: cells[count]["size"]["anchored"] for count in SENTENCES}
        doubts = {count: cells[count]["doubt"]["anchored"] for count in SENTENCES}
        found.expect(
            f"{place}: size of the anchored gradient at {', '.join(map(str, SENTENCES))} sentences",
            expected="1 at each",
            obtained=", ".join(f"{sizes[count]:.2f} ± {doubts[count]:.2f}" for count in SENTENCES),
            tolerance="0.05, and two standard errors of the mean: one batch swings by a fifth",
            holds=all(abs(sizes[count] - 1) <= 0.05 + doubts[count] for count in SENTENCES),
        )
        errors = {count: cells[count]["error"] for count in SENTENCES}
        found.expect(
            f"{place}: error of the anchored gradient, against the paper's",
            expected="less at each number of sentences",
            obtained=", ".join(f"{e['anchored']:.2f} ({e['ζ = 0.2 (the paper)']:.2f})" for e in errors.values()),
            tolerance="none: it is a fraction",
            holds=all(e["anchored"] < e["ζ = 0.2 (the paper)"] for e in errors.values()),
        )


CLAIM = Claim(
    16,
    "batch-gradients",
    "the anchored loss has the right gradient at any batch size, which the paper's loss has not",
    "this library's own",
    check,
)
