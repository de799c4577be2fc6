"""`CosineRegularizer` against the m × m matrix of cosines, which torch itself computes."""

from __future__ import annotations

import copy
import pickle
import warnings

import pytest

import isoscore_star as iso

torch = pytest.importorskip("torch")

from isoscore_star.backends.torch.modules.cosine_regularizer import CosineRegularizer  # noqa: E402

MASK = (torch.arange(7) < torch.tensor([[7], [4], [2]])).long()


def brute_force(points: torch.Tensor) -> torch.Tensor:
    """Sum cos over all pairs i ≠ j, over m², by the whole matrix."""
    cosines = torch.nn.functional.cosine_similarity(points[:, None], points[None], dim=2)
    return (cosines.sum() - cosines.diagonal().sum()) / len(points) ** 2


@pytest.fixture
def layers() -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [(torch.randn(3, 7, 6, dtype=torch.float64) + i).requires_grad_() for i in range(4)]


@pytest.mark.parametrize("shape", [(2, 2), (5, 40), (60, 3)])
def test_value_and_gradient_of_the_whole_matrix(shape: tuple[int, int]) -> None:
    torch.manual_seed(1)
    points = (torch.randn(shape, dtype=torch.float64) + 0.3).requires_grad_()
    loss, expected = CosineRegularizer(lam=-0.7)(points), -0.7 * brute_force(points)
    assert (loss - expected).abs() < 1e-14
    (gradient,) = torch.autograd.grad(loss, points)
    (truth,) = torch.autograd.grad(expected, points)
    assert (gradient - truth).abs().max() < 1e-14


def test_scikit_learn_agrees() -> None:
    pairwise = pytest.importorskip("sklearn.metrics.pairwise")
    torch.manual_seed(2)
    points = torch.randn(50, 8, dtype=torch.float64) + 1
    cosines = pairwise.cosine_similarity(points.numpy())
    assert abs(float(CosineRegularizer()(points)) - (cosines.sum() - 50) / 50**2) < 1e-14


def test_layers_masks_and_reductions(layers: list[torch.Tensor]) -> None:
    kept = [layer[MASK.bool()] for layer in layers]
    assert torch.allclose(CosineRegularizer()(tuple(layers), MASK), brute_force(torch.cat(kept)), atol=1e-14)
    singles = torch.stack([brute_force(points) for points in kept])
    assert torch.allclose(CosineRegularizer(2.0, "none")(layers, MASK), 2 * singles, atol=1e-14)
    assert torch.allclose(CosineRegularizer(2.0, "mean")(layers, MASK), 2 * singles.mean(), atol=1e-14)
    assert torch.allclose(CosineRegularizer(layers=[-1])(layers, MASK), singles[3], atol=1e-14)
    skipping = CosineRegularizer(skip_embeddings=True)([layers[0], None, *layers[2:]], MASK)
    assert torch.allclose(skipping, brute_force(torch.cat(kept[2:])), atol=1e-14)


def test_what_is_behind_a_mask_does_not_reach_value_or_gradient(layers: list[torch.Tensor]) -> None:
    states = layers[1].detach().clone()
    states[MASK == 0] = torch.nan
    states.requires_grad_()
    loss = CosineRegularizer()(states, MASK)
    (gradient,) = torch.autograd.grad(loss, states)
    assert torch.equal(loss, CosineRegularizer()(layers[1], MASK))
    assert torch.equal(gradient[MASK == 0], torch.zeros_like(gradient[MASK == 0]))
    assert gradient[MASK == 1].isfinite().all()


def test_zero_vectors_have_cosine_zero_and_no_gradient() -> None:
    torch.manual_seed(3)
    points = torch.randn(9, 5, dtype=torch.float64)
    points[[2, 6]] = 0
    points.requires_grad_()
    loss = CosineRegularizer()(points)
    assert (loss - brute_force(points.detach())).abs() < 1e-14
    (gradient,) = torch.autograd.grad(loss, points)
    assert gradient.isfinite().all()
    assert not gradient[[2, 6]].any()
    assert gradient[0].any()


@pytest.mark.parametrize("points", [torch.ones(1, 4), torch.empty(0, 4), torch.zeros(5, 4)])
def test_no_pair_means_zero_and_zero_gradient(points: torch.Tensor) -> None:
    points = (points * torch.tensor([0.3, 0.7, 1.1, 0.1])).requires_grad_()
    loss = CosineRegularizer()(points)
    loss.backward()
    assert loss == 0
    assert not points.grad.any()
    masked = torch.randn(4, 4, requires_grad=True)
    CosineRegularizer()(masked, torch.tensor([0, 0, 1, 0])).backward()
    assert not masked.grad.any()


def test_derivatives_of_first_and_second_order() -> None:
    torch.manual_seed(4)
    points = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([1, 1, 0, 1, 1, 1])
    assert torch.autograd.gradcheck(CosineRegularizer(), (points, mask))
    assert torch.autograd.gradgradcheck(CosineRegularizer(), (points, mask))
    batch = points.detach().expand(2, -1, -1) * torch.tensor([1.0, 2.0]).reshape(2, 1, 1)
    by_vmap = torch.func.vmap(torch.func.grad(CosineRegularizer()))(batch)
    assert torch.allclose(by_vmap[0], torch.func.grad(CosineRegularizer())(batch[0]), atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(dtype: torch.dtype) -> None:
    # 3000 unit vectors, all nearly alike: a half-precision sum would stand still, or its square overflow.
    torch.manual_seed(5)
    points = (torch.randn(3000, 32) + 4).to(dtype).requires_grad_()
    exact = points.detach().double().requires_grad_()
    loss = CosineRegularizer()(points)
    assert loss.dtype == torch.float32
    truth = CosineRegularizer()(exact)
    assert (loss - truth).abs() < 1e-5
    loss.backward()
    truth.backward()
    assert points.grad.dtype == dtype
    # fp16 gradients of order 1/m are subnormal: spaced by 2⁻²⁴, so half of that and half an ulp may be lost.
    allowed = 2**-25 + torch.finfo(dtype).eps * exact.grad.abs()
    assert ((points.grad.double() - exact.grad).abs() <= allowed).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(dtype: torch.dtype) -> None:
    torch.manual_seed(6)
    points = (torch.randn(40, 16) * 50 + 20).requires_grad_()
    plain = CosineRegularizer()(points)
    (expected,) = torch.autograd.grad(plain, points)
    with torch.autocast("cpu", dtype=dtype):
        loss = CosineRegularizer()(points)
        (gradient,) = torch.autograd.grad(loss, points)
    assert torch.equal(loss, plain)
    assert torch.equal(gradient, expected)


def test_scale_does_not_matter() -> None:
    torch.manual_seed(7)
    points = torch.randn(20, 8)
    expected = CosineRegularizer()(points)
    for factor in (1e-15, 1e15):
        assert torch.allclose(CosineRegularizer()(points * factor), expected, atol=1e-6)
    wide = CosineRegularizer()(points.double() * 1e150)
    assert torch.allclose(wide, expected.double(), atol=1e-6)


@pytest.mark.sampled
@pytest.mark.parametrize("reduction", ["union", "none"])
def test_compile_without_breaks_or_warnings(layers: list[torch.Tensor], reduction: str) -> None:
    module = CosineRegularizer(reduction=reduction)
    expected = torch.autograd.grad(module(layers, MASK).sum(), layers)
    torch._dynamo.reset()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
        loss = compiled(layers, MASK).sum()
        gradients = torch.autograd.grad(loss, layers)
    assert not [str(w.message) for w in caught]
    for got, want in zip(gradients, expected, strict=True):
        assert torch.allclose(got, want, atol=1e-15)


@pytest.mark.slow
def test_compile_takes_the_all_reduce_in() -> None:
    torch.manual_seed(9)
    points = torch.randn(10, 4, dtype=torch.float64, requires_grad=True)
    penalty = CosineRegularizer(sync=True)
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            compiled = torch.compile(penalty, fullgraph=True, backend="aot_eager")
            (gradient,) = torch.autograd.grad(compiled(points), points)
    finally:
        torch.distributed.destroy_process_group()
    assert not [str(w.message) for w in caught]
    (expected,) = torch.autograd.grad(brute_force(points), points)
    assert (gradient - expected).abs().max() < 1e-14


def test_collect_gives_means_once(layers: list[torch.Tensor]) -> None:
    penalty = CosineRegularizer(lam=3.0)
    for layer in layers[:2]:
        penalty(layer, MASK)
    kept = [brute_force(layer[MASK.bool()]) for layer in layers[:2]]
    mean = float(sum(kept).detach()) / 2
    assert penalty.collect() == pytest.approx({"cosine_similarity": mean, "cosine_loss": 3 * mean}, abs=1e-14)
    assert penalty.collect() == {}
    assert penalty.state_dict() == {}
    for clone in (copy.deepcopy(penalty), pickle.loads(pickle.dumps(penalty))):
        assert clone.lam == 3.0


def test_errors(layers: list[torch.Tensor]) -> None:
    with pytest.raises(iso.InvalidValueError, match="'union', 'mean', 'none'"):
        CosineRegularizer(reduction="sum")
    with pytest.raises(iso.InvalidTypeError, match="lam"):
        CosineRegularizer(lam="1")
    with pytest.raises(iso.InvalidValueError, match="there is no entry 4"):
        CosineRegularizer(layers=[4])(layers)
    with pytest.raises(iso.InvalidValueError, match="mask"):
        CosineRegularizer()(layers, MASK[:, :3])
    with pytest.raises(iso.InvalidValueError, match="not initialised"):
        CosineRegularizer(sync=True)(layers)


def test_training_spreads_directions() -> None:
    torch.manual_seed(8)
    points = (torch.randn(32, 8) + 2).requires_grad_()
    start = float(brute_force(points.detach()))
    optimizer = torch.optim.Adam([points], lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        CosineRegularizer()(points).backward()
        optimizer.step()
    # The least value of the sum over i ≠ j is −m, where the unit vectors sum to zero.
    assert start > 0.5
    assert float(brute_force(points.detach())) == pytest.approx(-1 / 32, abs=1e-3)
