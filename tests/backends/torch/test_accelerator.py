"""The steps that torch takes on a GPU, tried on a CPU: small clouds multiplied together, scores without a look at them.

`tests/backends/torch/test_cuda.py` is for what only a GPU can show.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import isoscore_star as iso
from isoscore_star import reference
from isoscore_star.core import formulas

torch = pytest.importorskip("torch")

from torch_memory import Peak  # noqa: E402

from isoscore_star.backends.torch import backend, blocks, frame, gram, points, score, target  # noqa: E402

DIM = 7
LENGTHS = {"small": (5, 3, 0, 9, 4), "one large": (40, 3, 90, 2), "fewer than dimensions": (2, 3)}


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise AssertionError("a value was looked at")

    monkeypatch.setitem(blocks._ENTRIES, "device", 16 * DIM)  # as if 16 rows were many
    for module in (gram, points, blocks, score, frame, target):
        monkeypatch.setattr(module, "on_cpu", lambda tensor: False)
    for module in (backend, score, frame, target):
        monkeypatch.setattr(module, "concrete", refuse)


def _clouds(lengths: tuple[int, ...], dtypes: tuple[Any, ...] = (torch.float64,)) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(rows, DIM, generator=generator, dtype=torch.float64) * torch.arange(1, DIM + 1) + 3)
        .to(dtypes[index % len(dtypes)])
        .requires_grad_()
        for index, rows in enumerate(lengths)
    ]


def _value_and_gradients(clouds: list[torch.Tensor], masks: Any, **given: Any) -> tuple[float, list[torch.Tensor]]:
    loss = iso.istar_loss(clouds, mask=masks, **given)
    return loss.item(), list(torch.autograd.grad(loss, clouds))


ARGUMENTS = [
    {"zeta": 0.0},
    {"shrinkage_cov": np.diag(np.arange(1.0, DIM + 1)), "zeta": 0.3},
    {"estimator": "unbiased"},
    {"shrinkage_cov": np.diag(np.arange(1.0, DIM + 1)), "estimator": "anchored"},
]


@pytest.mark.parametrize("most", [0, 2**26])  # entries that are put together
@pytest.mark.parametrize("given", ARGUMENTS, ids=["zeta 0", "zeta 0.3", "unbiased", "anchored"])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("masked", ["none", "own", "some"])
def test_as_the_clouds_stacked(
    as_on_a_gpu: None, monkeypatch: pytest.MonkeyPatch, given: Any, lengths: tuple[int, ...], masked: str, most: int
) -> None:
    monkeypatch.setattr(blocks, "_JOINED", most)
    clouds = _clouds(lengths)
    generator = torch.Generator().manual_seed(2)
    masks: Any = [torch.rand(rows, generator=generator) < 0.7 for rows in lengths]
    if masked == "some":
        masks = [mask if index % 2 else None for index, mask in enumerate(masks)]
    masks = None if masked == "none" else masks
    each = masks or [None] * len(lengths)
    keep = [torch.ones(n, dtype=torch.bool) if m is None else m for n, m in zip(lengths, each, strict=True)]
    stacked = torch.cat([cloud.detach()[k] for cloud, k in zip(clouds, keep, strict=True)])

    value, gradients = _value_and_gradients(clouds, masks, **given)
    if "estimator" not in given:
        expected = 1 - reference.isoscore_star(stacked.numpy(), given.get("shrinkage_cov"), given["zeta"])
        assert value == pytest.approx(expected, abs=1e-12)
    assert value == pytest.approx(_loss(stacked.numpy(), given), abs=1e-12)
    slopes = _by_complex_steps(stacked.numpy(), given)
    got = torch.cat([gradient[k] for gradient, k in zip(gradients, keep, strict=True)]).numpy()
    assert np.abs(got - slopes).max() <= 1e-11 * np.abs(slopes).max()
    assert all((gradient[~k] == 0).all() for gradient, k in zip(gradients, keep, strict=True))


@pytest.mark.parametrize("given", ARGUMENTS, ids=["zeta 0", "zeta 0.3", "unbiased", "anchored"])
def test_gradients_of_the_gradient(as_on_a_gpu: None, given: Any) -> None:
    clouds = _clouds((4, 9, 3))  # by finite differences
    assert torch.autograd.gradgradcheck(lambda *parts: iso.istar_loss(list(parts), **given), clouds)


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_at_the_floor_as_by_autograd_through_every_operation(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    if device == "gpu":
        request.getfixturevalue("as_on_a_gpu")
    simplex = torch.eye(DIM, dtype=torch.float64)[:5] + 0.01 * torch.arange(5 * DIM).reshape(5, DIM).sin()
    value, (gradient,) = _value_and_gradients([simplex.requires_grad_()], None, estimator="unbiased")
    centred = (simplex - simplex.mean(0)).detach().numpy()
    S = centred.T @ centred / 4
    f, q = (S * S).sum(), ((centred**2).sum(1) ** 2).sum() / 4
    assert formulas.unbiased_squares(np.trace(S), f, q, 5)[1] < formulas.unbiased_floor(f, 5, DIM)
    monkeypatch.setattr(score, "_may_be_one_step", lambda *_: False)
    expected, (truth,) = _value_and_gradients([simplex], None, estimator="unbiased")
    assert value == pytest.approx(expected, abs=1e-12)
    assert (gradient - truth).abs().max() <= 1e-12 * truth.abs().max()


@pytest.mark.parametrize("given", ARGUMENTS, ids=["zeta 0", "zeta 0.3", "unbiased", "anchored"])
def test_vmap(as_on_a_gpu: None, given: Any) -> None:
    batch = torch.stack([cloud.detach() for cloud in _clouds((12, 12, 12))])

    def gradient(points: torch.Tensor) -> torch.Tensor:
        return torch.func.grad(lambda x: iso.istar_loss(x, **given))(points)

    together = torch.vmap(gradient)(batch)
    assert torch.allclose(together, torch.stack([gradient(points) for points in batch]), rtol=0, atol=1e-14)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("estimator", ["shrinkage", "unbiased"])
def test_few_blocks_at_a_time(
    as_on_a_gpu: None, monkeypatch: pytest.MonkeyPatch, estimator: str, joined: bool, masked: bool
) -> None:
    rows, dim = 4000, 128  # of fewer dimensions float32 blocks are computed in float64
    monkeypatch.setitem(blocks._ENTRIES, "device", rows * dim)
    monkeypatch.setattr(blocks, "_JOINED", 0)  # as if the clouds were large
    clouds = [
        torch.randn(rows // 4 if joined else 3 * rows, dim, requires_grad=True) for _ in range(12 if joined else 1)
    ]
    masks = [torch.ones(len(cloud), dtype=torch.bool) for cloud in clouds] if masked else None
    cov = torch.eye(dim) if estimator == "shrinkage" else None
    with Peak() as memory:
        iso.istar_loss(clouds, cov, 0.2, mask=masks, estimator=estimator).backward()
    gradients = sum(cloud.nbytes for cloud in clouds)
    # The block that is computed from and the one that is computed into, for the unbiased score in two steps; a fifth
    # is room for d × d matrices and columns.
    assert memory.peak - gradients <= (2.2 if estimator == "shrinkage" else 3.2) * rows * dim * 4


@pytest.mark.parametrize("slow", [False, True])
def test_empty_clouds_cost_no_copy_of_their_neighbours(monkeypatch: pytest.MonkeyPatch, slow: bool) -> None:
    monkeypatch.setattr(blocks, "on_cpu", lambda tensor: not slow)
    clouds = [torch.empty(0, DIM), torch.randn(9, DIM), torch.empty(0, DIM)]
    (block,) = blocks.row_blocks(clouds, [None] * 3, whole=False)
    assert block.rows.data_ptr() == clouds[1].data_ptr()


@pytest.mark.parametrize("given", ARGUMENTS, ids=["zeta 0", "zeta 0.3", "unbiased", "anchored"])
@pytest.mark.parametrize("most", [0, 2**26])
def test_a_gradient_that_is_changed_in_place_changes_no_other(
    as_on_a_gpu: None, monkeypatch: pytest.MonkeyPatch, given: Any, most: int
) -> None:
    monkeypatch.setattr(blocks, "_JOINED", most)
    _, gradients = _value_and_gradients(_clouds((6, 5, 20, 7)), None, **given)
    before = [gradient.clone() for gradient in gradients]
    for index, gradient in enumerate(gradients):
        gradient.zero_()
        assert all(map(torch.equal, gradients[index + 1 :], before[index + 1 :]))


def test_one_mask_for_all_layers_is_as_many_masks(as_on_a_gpu: None) -> None:
    layers = _clouds((6, 6, 6))
    mask = torch.tensor([True, False, True, True, False, True])
    value, gradients = _value_and_gradients(layers, mask, estimator="unbiased")
    expected, truth = _value_and_gradients(layers, [mask.clone() for _ in layers], estimator="unbiased")
    assert value == expected
    assert all(map(torch.equal, gradients, truth))


@pytest.mark.parametrize("given", ARGUMENTS, ids=["zeta 0", "zeta 0.3", "unbiased", "anchored"])
def test_each_gradient_has_the_dtype_of_its_points(as_on_a_gpu: None, given: Any) -> None:
    clouds = _clouds((6, 5, 20, 7), (torch.float32, torch.bfloat16))
    _, gradients = _value_and_gradients(clouds, None, **given)
    wide = [cloud.detach().double().requires_grad_() for cloud in clouds]
    _, expected = _value_and_gradients(wide, None, **given)
    for cloud, gradient, truth in zip(clouds, gradients, expected, strict=True):
        assert gradient.dtype == cloud.dtype
        # float32's products, and half of the last of bfloat16's eight digits: 2⁻⁸ of the entry itself.
        assert ((gradient - truth).abs() <= truth.abs() * 2**-8 + 1e-5 * truth.abs().max()).all()


@pytest.mark.parametrize("given", ARGUMENTS, ids=["zeta 0", "zeta 0.3", "unbiased", "anchored"])
@pytest.mark.parametrize("rows", [0, 1, 3, 20])
def test_points_without_spread_have_a_score_of_zero_and_no_gradient(as_on_a_gpu: None, given: Any, rows: int) -> None:
    cloud = torch.full((rows, DIM), 0.1, dtype=torch.float64).requires_grad_()
    value, (gradient,) = _value_and_gradients([cloud], None, **given)
    score = reference.isoscore_star(np.eye(2, DIM), given["shrinkage_cov"], 1.0) if "shrinkage_cov" in given else 0
    assert value == pytest.approx(1 - score, abs=1e-12)
    assert (gradient == 0).all()


def _by_complex_steps(points: np.ndarray, given: dict[str, Any]) -> np.ndarray:
    """Differentiate the definitions in NumPy, entry by entry, by a step into the imaginary: exact to rounding."""
    slopes = np.empty_like(points)
    for place in np.ndindex(points.shape):
        moved = points.astype(complex)
        moved[place] += 1e-30j
        slopes[place] = _loss(moved, given).imag / 1e-30
    return slopes


def _loss(points: np.ndarray, given: dict[str, Any]) -> Any:
    m, d = points.shape
    centred = points - points.mean(0)
    cov = centred.T @ centred / (m - 1)
    if given.get("estimator") == "anchored":
        anchor = given["shrinkage_cov"]
        ratio = 2 * np.trace(cov) * np.trace(anchor) / (cov * anchor).sum() - np.trace(anchor) ** 2 / (anchor**2).sum()
        return 1 - (ratio - 1) / (d - 1)
    if given.get("estimator") != "unbiased":
        zeta = given["zeta"]
        cov = (1 - zeta) * cov + zeta * given["shrinkage_cov"] if zeta else cov
        return 1 - (np.trace(cov) ** 2 / (cov * cov).sum() - 1) / (d - 1)
    gram = points @ points.T  # the U-statistics by sums over pairs, triples and quadruples of different points
    own = np.diag(gram)
    off = gram - np.diag(own)
    pairs, triples = (off**2).sum(), (off.sum(0) ** 2).sum() - (off**2).sum()
    quadruples = off.sum() ** 2 - 4 * triples - 2 * pairs
    square = pairs / (m * (m - 1)) - 2 * triples / (m * (m - 1) * (m - 2))
    square += quadruples / (m * (m - 1) * (m - 2) * (m - 3))
    norms = own.sum() ** 2 - (own**2).sum()
    mixed = 2 * ((own.sum() * off.sum()) - 2 * (own @ off.sum(0)))
    trace = norms / (m * (m - 1)) - mixed / (m * (m - 1) * (m - 2))
    trace += quadruples / (m * (m - 1) * (m - 2) * (m - 3))
    return 1 - (trace / square - 1) / (d - 1)


def _through_the_shrinkage_target(second: bool) -> Any:
    X = _clouds((20,))[0].detach()

    def value(cov: torch.Tensor) -> torch.Tensor:
        gradient, loss = torch.func.grad_and_value(lambda x: iso.istar_loss(x, cov, 0.3))(X)
        return gradient.square().sum() if second else loss

    return value


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_nested_transformations_see_the_shrinkage_target(
    request: pytest.FixtureRequest, device: str, second: bool
) -> None:
    if device == "gpu":
        request.getfixturevalue("as_on_a_gpu")
    value, cov = _through_the_shrinkage_target(second), torch.diag(torch.arange(1.0, DIM + 1, dtype=torch.float64))
    direction = torch.randn(DIM, DIM, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    direction = direction + direction.T
    # Central differences: the error falls with the step's square, rounding rises with its inverse, 1e-9 of the value.
    expected = (value(cov + 1e-5 * direction) - value(cov - 1e-5 * direction)) / 2e-5
    got = (torch.func.grad(value)(cov) * direction).sum()
    assert got.item() == pytest.approx(expected.item(), rel=1e-5)
