"""Claim 11: the intrinsic dimension of a model's states (TwoNN) follows isotropy.

The runs of claim 8: for each layer, the score of its token states against the TwoNN dimension, over every λ and seed.
The paper takes sentence embeddings; here that is the mean of a sentence's states, which encoder and decoder both have.
The dimension of the token states themselves stands beside it. A correlation's interval is by bootstrap over runs, λ and
seed together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from paper_checks._claim import Claim, Findings, Run, Table
from paper_checks._statistics import rank_correlation
from paper_checks.claims.claim_08_direction import recipes
from paper_checks.training import trained

POINTS = {"sentence means": "two_nn_sentences", "token states": "two_nn"}


def check(run: Run) -> Findings:
    """Correlate isotropy and dimension layer by layer; figure by model and λ."""
    found = Findings()
    draws = run.pick(200, 2000)
    wanted = recipes(run)
    records = trained(run, [one for some in wanted.values() for one in some])
    for place, (model, some) in enumerate(wanted.items()):
        good = [one for one in some if not records[one]["diverged"]]
        layers = range(1, len(records[good[0]]["layers"]))
        numbers: dict[str, dict[int, tuple[float, float, float]]] = {}
        for points, key in POINTS.items():
            numbers[points] = {}
            for layer in layers:
                pairs = [
                    (records[one]["layers"][layer]["isoscore"], records[one]["layers"][layer][key])
                    for one in good
                    if records[one]["layers"][layer][key] is not None
                ]
                numbers[points][layer] = _correlation(np.array(pairs), run.rng(11, place, layer), draws)
        last = numbers["sentence means"][layers[-1]]
        found.expect(
            f"{model}: rank correlation of IsoScore* and TwoNN, last layer, sentence means, {len(good)} runs",
            expected="positive: dimension follows isotropy",
            obtained=_shown(last),
            tolerance="reported: 95 % bootstrap interval above 0 or not",
            holds=last[1] > 0,
            required=False,
        )
        table = [[str(layer), *(_shown(numbers[points][layer]) for points in POINTS)] for layer in layers]
        found.tables.append(
            Table(
                f"{model}: rank correlation of IsoScore* and TwoNN by layer [95 % interval]", ["layer", *POINTS], table
            )
        )
        lambdas = sorted({one.lam for one in good})
        found.data[model] = {
            "correlation": numbers,
            "dimension": {f"{lam:g}": _by_layer(records, good, lam, "two_nn_sentences") for lam in lambdas},
            "isoscore_star": {f"{lam:g}": _by_layer(records, good, lam, "isoscore") for lam in lambdas},
        }
    found.figures[""] = _figure(found.data)
    return found


def _correlation(pairs: np.ndarray, rng: np.random.Generator, draws: int) -> tuple[float, float, float]:
    def statistic(rows: np.ndarray) -> float:
        return rank_correlation(*pairs[rows].T)

    rows = np.arange(len(pairs))
    ends = stats.bootstrap(
        (rows,), statistic, n_resamples=draws, vectorized=False, method="percentile", rng=rng
    ).confidence_interval
    return statistic(rows), float(ends.low), float(ends.high)


def _shown(interval: tuple[float, float, float]) -> str:
    return f"{interval[0]:+.2f} [{interval[1]:+.2f}, {interval[2]:+.2f}]"


def _by_layer(records: Any, good: Any, lam: float, key: str) -> list[float]:
    some = [records[one]["layers"] for one in good if one.lam == lam]
    known = [[np.nan if layer[key] is None else layer[key] for layer in layers] for layers in some]
    mean: list[float] = np.mean(known, axis=0).tolist()
    return mean


def _figure(data: dict[str, Any]) -> Any:
    figure: Any = Figure(figsize=(4.5 * len(data), 7), layout="constrained")
    panels = figure.subplots(2, len(data), squeeze=False)
    for column, (model, numbers) in zip(panels.T, data.items(), strict=True):
        for axes, what, label in (
            (column[0], "isoscore_star", "IsoScore*"),
            (column[1], "dimension", "TwoNN dimension of sentence means"),
        ):
            for lam, line in numbers[what].items():
                strength = 0.25 + 0.75 * min(1.0, abs(float(lam)) ** 0.3 / 1.6)
                color = "k" if float(lam) == 0 else "C2" if float(lam) > 0 else "C3"
                axes.plot(
                    line, "o-", markersize=3, color=color, alpha=strength if color != "k" else 1, label=f"λ = {lam}"
                )
            axes.set(xlabel="layer (0: embedding)", ylabel=label)
        column[0].set_title(model)
    panels[0][-1].legend(fontsize="xx-small", ncols=2)
    return figure


CLAIM = Claim(
    11,
    "intrinsic-dimension",
    "The intrinsic dimension of the states follows isotropy",
    "I-STAR, figure 5",
    check,
)
