"""Claim 15: tokens of a sentence are not independent points; two halves of the sentences are, and give the right score.

This library's own claim. States of SST-2 sentences in a MiniLM and two decoders: batches of 8, 16 and 64, a layer and
the union of all (of the larger decoder, two layers), a batch's score as a share of the score of all sentences. In
MiniLM the authors' IsoScore and IsoScore*, and the U-statistic that is unbiased for independent points, are far too
low; the score of two halves is not.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import isoscore_star as iso
from paper_checks._claim import Claim, Findings, Run, Table
from paper_checks.claims._batch_chart import chart
from paper_checks.claims._token_models import MINILM, SENTENCES, STORIES, Model, models_here
from paper_checks.claims._token_states import TokenStates

NEAR = 0.05
LOW = ("IsoScore*, ζ = 0.2", "U-statistic")


def scores(cov: np.ndarray) -> dict[str, Callable[[np.ndarray, np.ndarray], float]]:
    """Give each estimator, as a function of points and their sentences."""
    return {
        "IsoScore": lambda points, groups: iso.isoscore(points),
        "IsoScore*, ζ = 0.2": lambda points, groups: iso.isoscore_star(points, cov, 0.2),
        "U-statistic": lambda points, groups: iso.isoscore_unbiased(points, groups=None),
        "halves": lambda points, groups: iso.isoscore_unbiased(points, groups=groups),
    }


def check(run: Run) -> Findings:
    """Measure batches of each model by each estimator, and compare their means with the score of all sentences."""
    found = Findings()
    found.notes.append(
        "A batch's score is a ratio, and skewed where few sentences are many dimensions' only sample; training takes "
        "means of numerator and denominator apart."
    )
    models = []
    for model, states in models_here(run, found):
        models.append(model)
        found.tables.append(_measured(run, found, model, states))

    def shares_of(where: str, name: str) -> tuple[float, float]:
        values = np.asarray(found.data[where][name])
        return float(values.mean()), float(values.std(ddof=1))

    found.figures[""] = chart(models, list(scores(np.eye(2))), shares_of, "share of the score of all")
    return found


def _measured(run: Run, found: Findings, model: Model, states: TokenStates) -> Table:
    """Measure a model's batches, and hold them against what has to come out."""
    rows = []
    for place, layers in model.places.items():
        points, groups = states.batch(states.sentences, layers)
        truth, cov = iso.isoscore_unbiased(points, groups=groups), iso.Moments().update(points).cov
        for count in SENTENCES:
            rng = run.rng(15, count, len(layers), *model.seed)
            batches = [
                states.batch(rng.choice(states.sentences, count, replace=False), layers) for _ in range(model.batches)
            ]
            shares = {
                name: np.array([score(*batch) for batch in batches]) / truth for name, score in scores(cov).items()
            }
            found.data[model.cell(place, count)] = {name: values.tolist() for name, values in shares.items()}
            rows.append([place, str(count), *(f"{v.mean():.2f} ± {v.std(ddof=1):.2f}" for v in shares.values())])
            if count == 16:
                _expect(found, model, place, shares)
    return Table(
        f"{model.name} ({model.dim} dimensions), score of a batch, as a share of that of {len(states.sentences):,} "
        f"sentences: mean ± standard deviation over {model.batches} batches",
        ["states", "sentences", *scores(np.eye(2))],
        rows,
    )


def _expect(found: Findings, model: Model, place: str, shares: dict[str, np.ndarray]) -> None:
    means = {name: float(values.mean()) for name, values in shares.items()}
    errors = {name: 2 * float(values.std(ddof=1)) / np.sqrt(model.batches) for name, values in shares.items()}
    what, halves = f"{model.name}, {place}: 16 sentences", means["halves"]
    why = model.why_reported.get(place, "")
    reported = f"; reported: {why}" if why else ""
    found.expect(
        f"{what}, two halves",
        expected="the score of all sentences",
        obtained=f"{halves:.3f} of it",
        tolerance=f"{NEAR:.0%}, and two standard errors of the mean over {model.batches} batches "
        f"({errors['halves']:.3f}){reported}",
        holds=abs(halves - 1) <= NEAR + errors["halves"],
        required=not reported,
    )
    if model.name == STORIES:
        reported = f"; reported: sixteen sentences have many times more states than {model.dim} dimensions"
    for name in LOW:
        found.expect(
            f"{what}, {name}",
            expected="less than that",
            obtained=f"{means[name]:.3f} of it",
            tolerance=f"below 1 by more than two standard errors of the mean ({errors[name]:.3f}){reported}",
            holds=means[name] + errors[name] < 1,
            required=model.name == MINILM,
        )


CLAIM = Claim(
    15,
    "tokens",
    "two halves of the sentences give the right score of token states, which no estimator for independent points does",
    "this library's own",
    check,
)
