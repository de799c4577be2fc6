"""`isoscore_star.compat` against the package whose names it has (PyPI IsoScore 2.0.1)."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import numpy as np
import pytest
from adapters import random_cov

import isoscore_star as iso

torch = pytest.importorskip("torch")
authors = pytest.importorskip("IsoScore.IsoScore")

from isoscore_star import compat  # noqa: E402

# They take √d in float32 whatever the input, so their float64 value is only good to about 3e-8. In float32 their steps
# add a rounding each, of numbers up to d (here 12) where the score has 1: a few times d times 6e-8.
ALLOWED = {torch.float64: 1e-7, torch.float32: 1e-5}

KINDS = {
    "numpy float64": lambda array: array,
    "numpy float32": lambda array: array.astype(np.float32),
    "tensor float64": torch.tensor,
    "tensor float32": lambda array: torch.tensor(array, dtype=torch.float32),
    "list": lambda array: array.tolist(),
}


def theirs(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Call the original, which warns of its own copies of tensors and of NumPy's arrays among them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **kwargs)


@pytest.fixture
def points(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(30, 12)) * np.linspace(0.3, 2, 12) + 1


@pytest.fixture
def cov(rng: np.random.Generator) -> np.ndarray:
    return random_cov(rng, 12)


def same(ours: Any, original: Any) -> None:
    assert type(ours) is type(original) is torch.Tensor
    assert ours.dtype == original.dtype
    assert ours.shape == original.shape == ()
    assert ours.requires_grad == original.requires_grad
    assert abs(ours.item() - original.item()) < ALLOWED[ours.dtype]


@pytest.mark.parametrize("kind", KINDS)
def test_same_values_kinds_and_dtypes(kind: str, points: np.ndarray, cov: np.ndarray) -> None:
    given = KINDS[kind](points)
    same(compat.IsoScore(given), theirs(authors.IsoScore, given))
    same(compat.IsoScore_cov(KINDS[kind](cov)), theirs(authors.IsoScore_cov, KINDS[kind](cov)))
    for other in KINDS:
        if other == "list":
            continue  # zeta * list is an error of theirs
        shrinkage = KINDS[other](cov)
        for zeta in (0.0, 0.2, 1.0):
            expected = theirs(authors.IsoScore_star, given, shrinkage, zeta)
            same(compat.IsoScore_star(given, shrinkage, zeta), expected)
            same(compat.istar().IsoScore_star(given, shrinkage, zeta), expected)


@pytest.mark.parametrize("points_dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("cov_dtype", [torch.float32, torch.float64])
def test_same_gradients(points: np.ndarray, cov: np.ndarray, points_dtype: torch.dtype, cov_dtype: torch.dtype) -> None:
    ours, original = (torch.tensor(points, dtype=points_dtype) for _ in range(2))
    shrinkage = torch.tensor(cov, dtype=cov_dtype)
    # Neither tensor asks for a gradient: both functions make the leaf they are given do so.
    score = compat.istar().IsoScore_star(ours, shrinkage, 0.3, is_eval=False, gpu_id=None)
    expected = theirs(authors.istar().IsoScore_star, original, shrinkage, 0.3, is_eval=False, gpu_id="cpu")
    same(score, expected)
    score.backward()
    expected.backward()
    assert ours.grad.dtype == original.grad.dtype
    exact = points_dtype == cov_dtype == torch.float64
    assert (ours.grad - original.grad).abs().max() < (1e-6 if exact else 1e-4) * original.grad.abs().max()


def test_points_inside_a_network_get_their_gradient(points: np.ndarray, cov: np.ndarray) -> None:
    gradients = []
    for module in (compat.istar(), authors.istar()):
        weight = torch.eye(12, dtype=torch.float64).requires_grad_()
        states = torch.tanh(torch.tensor(points) @ weight)
        module.IsoScore_star(states, torch.tensor(cov), 0.2, is_eval=False, gpu_id="cpu").backward()
        gradients.append(weight.grad)
    assert (gradients[0] - gradients[1]).abs().max() < 1e-6 * gradients[1].abs().max()


@pytest.mark.parametrize("name", ["IsoScore", "IsoScore_star", "IsoScore_cov"])
def test_same_signatures(name: str) -> None:
    assert list(inspect.signature(getattr(compat, name)).parameters) == list(
        inspect.signature(getattr(authors, name)).parameters
    )
    assert "New name" in getattr(compat, name).__doc__


def test_same_signature_of_the_module() -> None:
    ours, original = (inspect.signature(module.istar.IsoScore_star) for module in (compat, authors))
    assert {k: p.default for k, p in ours.parameters.items()} == {k: p.default for k, p in original.parameters.items()}
    assert issubclass(compat.istar, torch.nn.Module)
    assert not compat.istar().state_dict()


def test_no_warning_whatever_comes(points: np.ndarray, cov: np.ndarray) -> None:
    frozen = points.copy()
    frozen.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for given in (points, frozen, torch.tensor(points), torch.tensor(points, requires_grad=True)):
            assert not compat.IsoScore(given).requires_grad
            assert not compat.IsoScore_star(given, cov, 0.2).requires_grad
        compat.IsoScore_cov(torch.tensor(cov, requires_grad=True))


def test_names_of_their_training_code(points: np.ndarray, cov: np.ndarray) -> None:
    ours = torch.tensor(points)
    score = compat.istar().isoscore_star(ours, torch.tensor(cov), zeta=0.2, gpu_id=None)
    assert score.requires_grad
    assert abs(score.item() - theirs(authors.IsoScore_star, points, torch.tensor(cov), 0.2).item()) < 1e-7
    known = torch.tensor(cov, requires_grad=True)
    from_cov = compat.istar().isoscore_cov(known)
    from_cov.backward()
    assert abs(from_cov.item() - authors.IsoScore_cov(cov).item()) < 1e-7
    assert known.grad.any()
    # Their regularizer, in words: all cosines but each point's with itself, summed and divided by the squared count.
    directions = torch.nn.functional.normalize(ours.detach(), dim=1)
    cosines = (directions @ directions.T).fill_diagonal_(0)
    assert abs(compat.cosine_regularizer()(ours).item() - cosines.sum().item() / 30**2) < 1e-14


def test_where_it_differs_on_purpose(points: np.ndarray) -> None:
    half = torch.tensor(points).half()
    with pytest.raises(RuntimeError):
        theirs(authors.IsoScore, half)
    assert abs(compat.IsoScore(half).item() - iso.isoscore(half.double().numpy())) < 1e-3
    constant = torch.ones(10, 4)
    assert theirs(authors.IsoScore, constant).isnan()
    with pytest.raises(iso.DegenerateDataError, match="identical"):
        compat.IsoScore(constant)
    with pytest.raises(RuntimeError):
        theirs(authors.istar().IsoScore_star, torch.ones(1, 4), torch.eye(4), 0.2, is_eval=False)
    alone = torch.ones(1, 4)
    score = compat.istar().IsoScore_star(alone, torch.eye(4), 0.2, is_eval=False)
    score.backward()
    assert score.item() == pytest.approx(1.0, abs=1e-6)
    assert not alone.grad.any()
    with pytest.raises(iso.InvalidValueError, match="zeta"):
        compat.IsoScore_star(points, np.eye(12), 1.5)
    with pytest.raises(iso.InvalidTypeError, match="is_eval=False"):
        compat.istar().IsoScore_star(points, np.eye(12), 0.2, is_eval=False)
    zero = torch.zeros(3, 4)
    assert compat.cosine_regularizer()(zero).item() == 0.0
