"""True values and gradients, by code that shares nothing with the backends (NumPy, float64)."""

from __future__ import annotations

from itertools import permutations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoscore_star import reference

FloatArray = NDArray[np.float64]


class Truth(NamedTuple):
    """A score and its gradient with respect to the points."""

    value: float
    gradient: FloatArray


def shrunk(points: FloatArray, cov: FloatArray | None, zeta: float) -> Truth:
    """Compute Algorithm 1 as printed, and its derivative by the chain rule through eigenvalues and eigenvectors."""
    centred = points - points.mean(axis=0)
    sigma = centred.T @ centred / (len(points) - 1)
    if cov is not None:
        sigma = (1 - zeta) * sigma + zeta * cov
    eigenvalues, vectors = np.linalg.eigh(sigma)
    for_sigma = (vectors * _gradient_for_eigenvalues(eigenvalues)) @ vectors.T
    gradient = (1 - zeta) * 2 / (len(points) - 1) * centred @ for_sigma
    return Truth(reference.isoscore_star(points, cov, zeta), gradient - gradient.mean(axis=0))


def _gradient_for_eigenvalues(eigenvalues: FloatArray) -> FloatArray:
    """Differentiate steps 4 to 7 of Algorithm 1."""
    d = len(eigenvalues)
    unit = eigenvalues / eigenvalues.max()  # keeps squares in range; the score does not depend on scale
    norm = np.linalg.norm(unit)
    excess = np.sqrt(d) * unit / norm - 1
    spread = d - np.sqrt(d)
    squared_defect = excess @ excess / (2 * spread)
    score_for_phi = d / (d - 1)
    phi_for_squared_defect = -2 * spread * (d - squared_defect * spread) / d**2
    for_normalised = score_for_phi * phi_for_squared_defect * excess / spread
    for_unit = np.sqrt(d) * (for_normalised / norm - unit * (unit @ for_normalised) / norm**3)
    return np.asarray(for_unit / eigenvalues.max())


def unbiased(points: FloatArray) -> Truth:
    """Compute the unbiased score by its definition: means over all ordered quadruples of different points.

    For independent points E‖x₁ − x₂‖²‖x₃ − x₄‖² = 4(tr Σ)² and E((x₁ − x₂)·(x₃ − x₄))² = 4 tr Σ².
    """
    dim = points.shape[1]
    i, j, k, l = np.array(list(permutations(range(len(points)), 4))).T  # noqa: E741
    a, b = points[i] - points[j], points[k] - points[l]
    aa, bb, ab = (np.einsum("qd,qd->q", x, y) for x, y in ((a, a), (b, b), (a, b)))
    squared_trace, trace_of_square = (aa * bb).sum(), (ab * ab).sum()
    ratio = squared_trace / trace_of_square
    for_a = 2 * (bb[:, None] * a - ratio * ab[:, None] * b)
    for_b = 2 * (aa[:, None] * b - ratio * ab[:, None] * a)
    gradient = np.zeros_like(points)
    for index, part in ((i, for_a), (j, -for_a), (k, for_b), (l, -for_b)):
        np.add.at(gradient, index, part)
    return Truth(float((ratio - 1) / (dim - 1)), gradient / (trace_of_square * (dim - 1)))


def halves(states: FloatArray) -> Truth:
    """Compute s(A, B) of the sequences with even and with odd numbers, and ∂s/∂A and ∂s/∂B of each half's points."""
    rows = [states[half::2].reshape(-1, states.shape[-1]) for half in (0, 1)]
    covs = [np.cov(part.T) for part in rows]
    gradient = np.zeros_like(states)
    for half in (0, 1):
        slope = _slope_of_pair(covs[half], covs[1 - half])
        gradient[half::2] = _for_points(rows[half], slope).reshape(gradient[half::2].shape)
    return Truth(reference.isoscore_halves(*rows), gradient)


def anchored(points: FloatArray, cov: FloatArray) -> Truth:
    """Compute 2·s(S, Σ_S) − s(Σ_S, Σ_S) with Σ_S held constant."""
    slope = 2 * _slope_of_pair(np.cov(points.T), cov)
    return Truth(reference.isoscore_anchored(points, cov), _for_points(points, slope))


def _slope_of_pair(a: FloatArray, b: FloatArray) -> FloatArray:
    """Differentiate (tr A·tr B/⟨A, B⟩ − 1)/(d − 1) for A."""
    inner = float(np.sum(a * b))
    slope = np.trace(b) / inner * np.eye(len(a)) - np.trace(a) * np.trace(b) / inner**2 * b
    return np.asarray(slope / (len(a) - 1))


def _for_points(points: FloatArray, slope: FloatArray) -> FloatArray:
    """Return the gradient for points from that for their covariance."""
    return np.asarray(2 / (len(points) - 1) * (points - points.mean(axis=0)) @ slope)
