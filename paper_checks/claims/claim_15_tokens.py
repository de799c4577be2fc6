"""Claim 15: tokens of a sentence are not independent points; two halves of the sentences are, and give the right score.

This library's own claim. MiniLM's states of SST-2 sentences: batches of 8, 16 and 64, the last layer and the
union of all, a batch's score as a share of the score of all sentences. The authors' IsoScore and IsoScore*, and the
U-statistic that is unbiased for independent points, are far too low; the score of two halves is not.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import isoscore_star as iso
from paper_checks._claim import Claim, Findings, Run, Table
from paper_checks.claims._token_states import PLACES, SENTENCES, cell, chart, minilm_states

NEAR = 0.05


def scores(cov: np.ndarray) -> dict[str, Callable[[np.ndarray, np.ndarray], float]]:
    """Give each estimator, as a function of points and their sentences."""
    return {
        "IsoScore": lambda points, groups: iso.isoscore(points),
        "IsoScore*, ζ = 0.2": lambda points, groups: iso.isoscore_star(points, cov, 0.2),
        "U-statistic": lambda points, groups: iso.isoscore_unbiased(points, groups=None),
        "halves": lambda points, groups: iso.isoscore_unbiased(points, groups=groups),
    }


def check(run: Run) -> Findings:
    """Measure batches by each estimator, and compare their means with the score of all sentences."""
    found = Findings()
    states = minilm_states(run.pick(300, 1600))
    everything, draws = np.arange(len(states.ends)), run.pick(8, 60)
    rows = []
    for place, layers in PLACES.items():
        points, groups = states.batch(everything, layers)
        truth, cov = iso.isoscore_unbiased(points, groups=groups), iso.Moments().update(points).cov
        for count in SENTENCES:
            rng = run.rng(15, count, len(layers))
            batches = [states.batch(rng.choice(everything, count, replace=False), layers) for _ in range(draws)]
            shares = {
                name: np.array([score(*batch) for batch in batches]) / truth for name, score in scores(cov).items()
            }
            found.data[cell(place, count)] = {name: values.tolist() for name, values in shares.items()}
            rows.append([place, str(count), *(f"{v.mean():.2f} ± {v.std(ddof=1):.2f}" for v in shares.values())])
            if count == 16:
                _expect(found, place, shares, draws)
    found.tables.append(
        Table(
            f"Score of a batch, as a share of that of {len(everything):,} sentences: mean ± standard deviation over "
            f"{draws} batches",
            ["states", "sentences", *scores(np.eye(2))],
            rows,
        )
    )
    found.notes.append(
        "A batch's score is a ratio, and skewed where few sentences are many dimensions' only sample; training takes "
        "means of numerator and denominator apart."
    )

    def shares_of(where: str, name: str) -> tuple[float, float]:
        values = np.asarray(found.data[where][name])
        return float(values.mean()), float(values.std(ddof=1))

    found.figures[""] = chart(scores(np.eye(2)), shares_of, "share of the score of all sentences")
    return found


def _expect(found: Findings, place: str, shares: dict[str, np.ndarray], draws: int) -> None:
    means = {name: float(values.mean()) for name, values in shares.items()}
    errors = {name: 2 * float(values.std(ddof=1)) / np.sqrt(draws) for name, values in shares.items()}
    halves = means["halves"]
    found.expect(
        f"{place}: 16 sentences, two halves",
        expected="the score of all sentences",
        obtained=f"{halves:.3f} of it",
        tolerance=f"{NEAR:.0%}, and two standard errors of the mean over {draws} batches ({errors['halves']:.3f})",
        holds=abs(halves - 1) <= NEAR + errors["halves"],
    )
    for name in ("IsoScore*, ζ = 0.2", "U-statistic"):
        found.expect(
            f"{place}: 16 sentences, {name}",
            expected="less than that",
            obtained=f"{means[name]:.3f} of it",
            tolerance=f"below 1 by more than two standard errors of the mean ({errors[name]:.3f})",
            holds=means[name] + errors[name] < 1,
        )


CLAIM = Claim(
    15,
    "tokens",
    "two halves of the sentences give the right score of token states, which no estimator for independent points does",
    "this library's own",
    check,
)
