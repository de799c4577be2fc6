"""The spectral measures in use, from the eigenvalues of a covariance, centred and not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigvalsh

from isoscore_star.core.block_error import LEAST_BLOCKS, without_each
from isoscore_star.core.moments import Moments
from isoscore_star.explanation._cloud import Cloud
from isoscore_star.explanation._terms import Between, Measure

FloatArray = NDArray[np.float64]

_RANKS = (11, 100)
"""Ranks between which the power law of alpha-ReQ is fitted, from 1: without the leading directions, and the tail."""

_LEAST_RANKS = 10


def spectral_measures(cloud: Cloud, groups: tuple[Between, ...], blocks: Sequence[Moments] = ()) -> tuple[Measure, ...]:
    """Return the measures that are functions of the spectrum, each with its source, and its error from blocks."""
    dim = cloud.dim
    lidar = [
        Measure(
            f"LiDAR of {one.name}",
            one.lidar,
            str(min(dim, one.group_count - 1)),
            "Thilak et al., ICLR 2024",
            f"{one.group_count} groups",
        )
        for one in groups
        if one.lidar is not None
    ]
    found = _of_spectrum(cloud)
    if len(blocks) >= LEAST_BLOCKS:
        left_out = list(without_each(blocks, lambda moments: _of_spectrum(Cloud.of(moments.spread(), None))))
        found = [
            replace(measure, error=_jackknife([of_block[place].value for of_block in left_out]))
            for place, measure in enumerate(found)
        ]
    return (*found, *lidar)


def _of_spectrum(cloud: Cloud) -> list[Measure]:
    centred, raw = cloud.spectrum, _uncentred(cloud)
    full = str(min(cloud.dim, cloud.count - 1))
    rank, stable = "Roy & Vetterli, EUSIPCO 2007", "Rudelson & Vershynin, J. ACM 2007"
    return [
        Measure("effective rank, centred", _entropy_rank(centred), full, rank),
        Measure("RankMe (effective rank, not centred)", _entropy_rank(raw), full, "Garrido et al., ICML 2023"),
        Measure("stable rank, centred", float(centred.sum() / centred[0]), full, stable),
        Measure("stable rank, not centred", float(raw.sum() / raw[0]), full, stable),
        _power_law(centred, cloud.count),
        _condition(cloud),
    ]


def _jackknife(left_out: list[float | None]) -> float | None:
    """Return the standard error of a statistic from its values without each block."""
    values = np.array([math.nan if value is None else value for value in left_out])
    error = math.sqrt((len(values) - 1) * float(np.var(values))) if np.isfinite(values).all() else math.nan
    return error if math.isfinite(error) else None


def _uncentred(cloud: Cloud) -> FloatArray:
    """Return the eigenvalues of E xxᵀ, as fractions."""
    share, unit = cloud.mean_share, cloud.mean_direction
    if not share:
        return cloud.spectrum
    return np.asarray(np.maximum(eigvalsh(cloud.cov * (1 - share) + share * np.outer(unit, unit))[::-1], 0.0))


def _entropy_rank(eigenvalues: FloatArray) -> float:
    """Return exp(−Σ p·log p) of the singular values' fractions p.

    RankMe's authors add 1e-7 to each p; `diagnostics.rank_me` of points does so, too.
    """
    singular = np.sqrt(eigenvalues)
    fractions = singular[singular > 0] / singular.sum()
    return float(np.exp(-np.sum(fractions * np.log(fractions))))


def _power_law(eigenvalues: FloatArray, count: int) -> Measure:
    """Return α of λⱼ ∝ j^(−α), the slope of a line through log λⱼ over log j."""
    name, source = "alpha-ReQ (decay of eigenvalues)", "Agrawal et al., NeurIPS 2022"
    first, last = _RANKS[0], min(_RANKS[1], len(eigenvalues), count - 1)
    kept = eigenvalues[first - 1 : last]
    kept = kept[kept > eigenvalues[0] * len(eigenvalues) * np.finfo(np.float64).eps]
    if len(kept) < _LEAST_RANKS:
        return Measure(name, None, "0", source, f"fewer than {_LEAST_RANKS} eigenvalues from the {first}th on")
    ranks = np.log(np.arange(first, first + len(kept)))
    slope = float(np.polyfit(ranks, np.log(kept), 1)[0])
    return Measure(name, -slope, "0", source, f"fitted to ranks {first} to {first + len(kept) - 1}")


def _condition(cloud: Cloud) -> Measure:
    name, source = "condition number", "Golub & Van Loan, 4th ed., 2.6"
    p = cloud.spectrum
    if cloud.count <= cloud.dim:
        return Measure(name, math.inf, "1", source, "no more points than dimensions")
    if p[-1] <= p[0] * cloud.dim * cloud.precision:
        return Measure(name, math.inf, "1", source, "the least variance is lost in rounding")
    return Measure(name, float(p[0] / p[-1]), "1", source)
