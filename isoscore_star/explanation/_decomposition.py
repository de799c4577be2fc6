"""1/PR = ‖S‖²/(tr S)² as a sum over directions, over coordinates, and over what lies within and between groups."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigvalsh

from isoscore_star.explanation._cloud import Cloud, score_of
from isoscore_star.explanation._terms import Between, Coordinate, Direction

FloatArray = NDArray[np.float64]

NAMED = 10
"""Directions and coordinates that are listed one by one."""

_LIDAR_RIDGE = 1e-4
"""Part of the mean variance within groups that LiDAR adds to W's diagonal, so that it can be inverted."""


def directions_of(cloud: Cloud) -> tuple[Direction, ...]:
    """Return the leading principal directions, and the others together."""
    p, pair = cloud.eigenvalues, cloud.halves
    shares = p * p / (p @ p)
    of_halves = None
    if pair is not None:
        # tr(AB) is a sum of uᵀABu over any orthonormal directions.
        terms = np.einsum("ij,ij->j", pair[0] @ cloud.eigenvectors, pair[1] @ cloud.eigenvectors)
        of_halves = terms / terms.sum() if terms.sum() > 0 else None
    named = min(NAMED, cloud.dim)
    found = [
        Direction(j, float(p[j]), float(shares[j]), None if of_halves is None else float(of_halves[j]))
        for j in range(named)
    ]
    if named < cloud.dim:
        rest = None if of_halves is None else float(of_halves[named:].sum())
        found.append(Direction(None, float(p[named:].sum()), float(shares[named:].sum()), rest))
    return tuple(found)


def coordinates_of(cloud: Cloud, factor: float) -> tuple[Coordinate, ...]:
    """Return the outlier coordinates, at most ten, and all others together."""
    fractions = cloud.cov.diagonal()
    squares = float(np.vdot(cloud.cov, cloud.cov))
    shares, of_halves = fractions**2 / squares, None
    if cloud.halves is not None:
        first, second = cloud.halves
        inner = float(np.vdot(first, second))
        of_halves = first.diagonal() * second.diagonal() / inner if inner > 0 else None
    return named_coordinates(fractions, shares, of_halves, factor)


def named_coordinates(
    fractions: FloatArray, shares: FloatArray, of_halves: FloatArray | None, factor: float
) -> tuple[Coordinate, ...]:
    """Return the outlier coordinates one by one, and all others together."""
    order = np.argsort(-fractions, kind="stable")
    named = [int(i) for i in order[:NAMED] if fractions[i] * len(fractions) >= factor]
    others = np.setdiff1d(np.arange(len(fractions)), named)
    found = [
        Coordinate(i, float(fractions[i]), float(shares[i]), None if of_halves is None else float(of_halves[i]))
        for i in named
    ]
    if len(others):
        rest = None if of_halves is None else float(of_halves[others].sum())
        found.append(Coordinate(None, float(fractions[others].sum()), float(shares[others].sum()), rest))
    return tuple(found)


def between_of(cloud: Cloud, name: str, group_count: int, scatter: FloatArray) -> Between:
    """Split a cloud into what lies between groups, a scatter in units of tr A, and within them."""
    return split_of(name, group_count, cloud.count, cloud.cov - scatter, scatter)


def split_of(name: str, group_count: int, count: int, within: FloatArray, between: FloatArray) -> Between:
    """Describe what of `count` points lies within groups and between them, scatters whose traces add up to 1."""
    parts = float(np.vdot(within, within)), 2 * float(np.vdot(within, between)), float(np.vdot(between, between))
    total = sum(parts)
    return Between(
        name,
        group_count,
        float(between.trace()),
        (parts[0] / total, parts[1] / total, parts[2] / total),
        score_of(float(within.trace()), parts[0], len(within)) if within.any() else None,
        _lidar(within, between, group_count, count),
    )


def _lidar(within: FloatArray, between: FloatArray, group_count: int, count: int) -> float | None:
    """Return exp of the entropy of the eigenvalues of W^(−½)BW^(−½), which are those of B against W."""
    trace = float(within.trace())
    if group_count < 2 or count <= group_count or trace <= 0:
        return None
    own = within / (count - group_count)
    ridge = _LIDAR_RIDGE * float(own.trace()) / len(own)
    values = np.maximum(eigvalsh(between / (group_count - 1), own + ridge * np.eye(len(own))), 0.0)
    fractions = values[values > 0] / values.sum()
    return float(np.exp(-np.sum(fractions * np.log(fractions))))
