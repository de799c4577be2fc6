"""The authors' own package (PyPI IsoScore 2.0.1): the same numbers where it is right, and where it is not."""

from __future__ import annotations

import numpy as np
import pytest
from adapters import REAL_DATA, random_cov

import isoscore_star as iso
from isoscore_star import reference

torch = pytest.importorskip("torch")
authors = pytest.importorskip("IsoScore.IsoScore")

# They take √d in float32 whatever the input, so their float64 value is only good to some 1e-8 (4e-8 was seen).
THEIR_PRECISION = 1e-7


# They copy tensors by torch.tensor(tensor), about which torch warns.
pytestmark = pytest.mark.filterwarnings("ignore:To copy construct from a tensor")


@pytest.mark.parametrize("shape", [(50, 12), (12, 50), (400, 100)])
@pytest.mark.parametrize("zeta", [0.0, 0.2, 0.8])
def test_same_values_and_gradients(rng: np.random.Generator, shape: tuple[int, int], zeta: float) -> None:
    points = torch.tensor(rng.normal(size=shape) * np.linspace(0.3, 2, shape[1]) + 1)
    cov = torch.tensor(random_cov(rng, shape[1]))
    assert abs(float(authors.IsoScore_star(points, cov, zeta)) - float(iso.isoscore_star(points, cov, zeta))) < (
        THEIR_PRECISION
    )
    theirs, ours = points.clone().requires_grad_(), points.clone().requires_grad_()
    authors.istar().IsoScore_star(theirs, cov, zeta, is_eval=False, gpu_id="cpu").backward()
    iso.isoscore_star(ours, cov, zeta).backward()
    assert (theirs.grad - ours.grad).abs().max() < 1e-6 * theirs.grad.abs().max()


def test_same_value_from_a_covariance(rng: np.random.Generator) -> None:
    cov = random_cov(rng, 30)
    assert abs(float(authors.IsoScore_cov(cov)) - iso.isoscore_from_cov(cov)) < THEIR_PRECISION


def test_their_float64_value_has_the_precision_of_float32(rng: np.random.Generator) -> None:
    # Their square roots of d are float32 numbers, off by up to 6e-8 of their value, which the score is off by, too.
    points = torch.tensor(rng.normal(size=(50, 768)) * np.linspace(0.3, 2, 768))
    cov = torch.tensor(random_cov(rng, 768))
    expected = reference.isoscore_star(points.numpy(), cov.numpy(), 0.8)
    assert 1e-9 < abs(float(authors.IsoScore_star(points, cov, 0.8)) - expected) < THEIR_PRECISION
    assert abs(float(iso.isoscore_star(points, cov, 0.8)) - expected) < 1e-12


def test_identical_points_are_nan_there_and_an_error_here() -> None:
    points = torch.ones(10, 4)
    assert authors.IsoScore(points).isnan()
    with pytest.raises(iso.DegenerateDataError):
        iso.isoscore(points)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_fails_there_and_works_here(rng: np.random.Generator, dtype: torch.dtype) -> None:
    points = torch.tensor(rng.normal(size=(100, 8))).to(dtype)
    with pytest.raises(RuntimeError):
        authors.IsoScore(points)
    assert abs(float(iso.isoscore(points)) - iso.isoscore(points.double().numpy())) < 1e-3


def test_padding_counts_there_and_not_here(rng: np.random.Generator) -> None:
    states = torch.tensor(rng.normal(size=(4, 10, 6)) + 3)
    mask = torch.arange(10) < torch.tensor([[10], [6], [3], [8]])
    states[~mask] = 0
    truth = float(iso.isoscore(states[mask]))
    assert abs(float(authors.IsoScore(states.reshape(-1, 6))) - truth) > 0.01
    assert abs(float(iso.isoscore(states, mask=mask)) - truth) < 1e-13


def real_matrix(file: str) -> np.ndarray:
    path = REAL_DATA / file
    if not path.exists():
        pytest.skip(f"real data {file} is not here (set ISOSCORE_DATA to its folder)")
    with np.load(path) as archive:
        return next(archive[k] for k in archive.files if archive[k].ndim == 2 and archive[k].dtype.kind == "f")


@pytest.mark.parametrize(
    "file",
    [
        "glove_twitter_25d/glove_twitter_25d.npz",
        "word2vec_googlenews_1000/wordvecs1000.npz",
        "voyage2_cookbook/classification.npz",
    ],
)
def test_real_embeddings(file: str) -> None:
    points = real_matrix(file).astype(np.float64)
    assert abs(float(authors.IsoScore(points)) - iso.isoscore(points)) < THEIR_PRECISION
