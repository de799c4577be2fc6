# pyright: strict
"""A user's script, which mypy (strict) and pyright (strict) check and which tests/packaging/test_types.py runs.

Each value has the type that the type checkers take it for: an ndarray gives a float, a tensor a tensor.
"""

from __future__ import annotations

import jax
import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import assert_type

import isoscore_star as iso
from isoscore_star.backends.torch import IStarLoss


def numpy_gives_float(points: NDArray[np.float32], cov: NDArray[np.float64], mask: NDArray[np.bool_]) -> list[float]:
    score = assert_type(iso.isoscore(points, mask=mask), float)
    union = assert_type(iso.isoscore([points, points]), float)
    shrunk = assert_type(iso.isoscore_star(points, cov, 0.3), float)
    unbiased = assert_type(iso.isoscore_unbiased(points), float)
    penalty = assert_type(iso.istar_loss(points, cov, 0.3, 1.0), float)
    known = assert_type(iso.isoscore_from_cov(cov), float)
    spectrum = assert_type(iso.isoscore_from_spectrum([1.0, 1.0, 0.0]), float)
    ratio = assert_type(iso.participation_ratio(score, 4), float)
    back = assert_type(iso.score_from_participation_ratio(ratio, 4), float)
    return [score, union, shrunk, unbiased, penalty, known, spectrum, ratio, back]


def torch_gives_tensors(points: torch.Tensor, cov: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
    score = assert_type(iso.isoscore(points, mask=mask), torch.Tensor)
    union = assert_type(iso.isoscore((points, points)), torch.Tensor)
    shrunk = assert_type(iso.isoscore_star(points, cov, 0.3), torch.Tensor)
    unbiased = assert_type(iso.isoscore_unbiased(points), torch.Tensor)
    penalty = assert_type(iso.istar_loss(points, cov.numpy(), 0.3, lam=torch.tensor(1.0)), torch.Tensor)
    known = assert_type(iso.isoscore_from_cov(cov), torch.Tensor)
    module = IStarLoss(4, lam=1.0, estimator="unbiased")
    regularized = assert_type(module([points, points], attention_mask=mask), torch.Tensor)
    return [score, union, shrunk, unbiased, penalty, known, regularized]


def jax_gives_arrays(points: jax.Array, cov: jax.Array) -> list[jax.Array]:
    score = assert_type(iso.isoscore(points), jax.Array)
    shrunk = assert_type(iso.isoscore_star(points, cov, 0.3), jax.Array)
    unbiased = assert_type(iso.isoscore_unbiased([points, points]), jax.Array)
    penalty = assert_type(iso.istar_loss(points, estimator="unbiased"), jax.Array)
    known = assert_type(iso.isoscore_from_cov(cov), jax.Array)
    return [score, shrunk, unbiased, penalty, known]


def measuring(points: NDArray[np.float64]) -> list[float]:
    measured = assert_type(iso.measure(points), iso.Measurement)
    moments = assert_type(iso.Moments().update(points), iso.Moments)
    lam = assert_type(iso.LambdaSchedule(1.0, total_steps=10)(3), float)
    return [measured.score, measured.effective_dimensions, moments.isoscore(), moments.isoscore_unbiased(), lam]


points = np.random.default_rng(0).normal(size=(20, 4))
mask = np.ones(20, dtype=np.bool_)
floats = numpy_gives_float(points.astype(np.float32), np.eye(4), mask) + measuring(points)
tensors = torch_gives_tensors(torch.tensor(points, dtype=torch.float32), torch.eye(4), torch.tensor(mask))
draws = jax.random.normal(jax.random.key(0), (20, 4))
arrays = jax_gives_arrays(draws, draws.T @ draws)
