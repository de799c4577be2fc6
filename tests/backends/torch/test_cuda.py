"""torch on a GPU, against NumPy in float64: what a CPU cannot show, and skipped where there is no CUDA device.

The core's own tests run there too: ``ISOSCORE_TORCH_DEVICE=cuda pytest``.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import isoscore_star as iso
from isoscore_star.validation import TOLERANCES

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("there is no CUDA device here", allow_module_level=True)

from torch import nn  # noqa: E402

from isoscore_star.backends.torch import HiddenStates, IStarLoss, ShrinkageCovariance, StreamingMoments  # noqa: E402

DIM, ZETA = 768, 0.2
SIZES = [32, 256, 1024, 25_000]  # the Gram form twice, the scatter form in one block and in several


def _cloud(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Give points of unequal variance with a mean, in float32's values, and a covariance."""
    rng = np.random.default_rng(rows)
    scales = np.geomspace(3, 0.3, DIM)
    points = (rng.normal(size=(rows, DIM)) * scales + rng.normal(size=DIM)).astype(np.float32).astype(np.float64)
    return points, np.cov((rng.normal(size=(3 * DIM, DIM)) * scales[::-1]).T)


def _value_and_gradient(points: Any, cov: Any, estimator: str) -> tuple[float, np.ndarray]:
    leaf = points.detach().requires_grad_()
    given = {"zeta": 0.0, "estimator": estimator} if estimator == "unbiased" else {"shrinkage_cov": cov, "zeta": ZETA}
    loss = iso.istar_loss(leaf, **given)
    loss.backward()
    return loss.item(), leaf.grad.double().cpu().numpy()


@pytest.fixture
def matmul_precision() -> Iterator[Any]:
    before = torch.get_float32_matmul_precision()
    yield torch.set_float32_matmul_precision
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("rows", SIZES)
@pytest.mark.parametrize("estimator", ["shrinkage", "unbiased"])
def test_values_and_gradients_as_in_float64_on_a_cpu(rows: int, estimator: str) -> None:
    points, cov = _cloud(rows)
    value, gradient = _value_and_gradient(torch.tensor(points), cov, estimator)
    for dtype, allowed in TOLERANCES.items():
        cloud = torch.tensor(points, dtype=getattr(torch, dtype))
        if dtype not in ("float64", "float32"):  # other points, once they are rounded
            value, gradient = _value_and_gradient(cloud.double(), cov, estimator)
        got, slope = _value_and_gradient(cloud.cuda(), cov, estimator)
        assert abs(got - value) <= allowed.value, dtype
        # A gradient below 2⁻¹⁴ is returned in steps of 2⁻²⁴ if the points are float16; loss scaling is for that.
        least = 2.0**-25 if dtype == "float16" else 0.0
        assert np.abs(slope - gradient).max() <= allowed.gradient * np.abs(gradient).max() + least, dtype


@pytest.mark.parametrize("rows", SIZES)
def test_products_in_tf32_cost_digits_but_no_more_than_their_own(rows: int, matmul_precision: Any) -> None:
    points, cov = _cloud(rows)
    value, _ = _value_and_gradient(torch.tensor(points), cov, "shrinkage")
    matmul_precision("high")
    got, _ = _value_and_gradient(torch.tensor(points, dtype=torch.float32).cuda(), cov, "shrinkage")
    # TF32 has ten binary digits: each factor is off by 2⁻¹⁰ at the most (where it is cut off), a product by 2⁻⁹. Trace
    # and norm come from the same products, so a common factor cancels; 1 - score, below 1, has what is left.
    assert abs(got - value) <= 2**-9


def test_autocast_and_loss_scaling_leave_the_penalty_alone() -> None:
    points, cov = _cloud(256)
    states = torch.tensor(points, dtype=torch.float16, device="cuda").requires_grad_()
    module = IStarLoss(DIM, zeta=ZETA, shrinkage_cov=cov).cuda()
    scaler = torch.amp.GradScaler("cuda", init_scale=2.0**10)
    with torch.autocast("cuda", torch.float16):
        loss = module(states)
    scaler.scale(loss).backward()
    value, gradient = _value_and_gradient(states.detach().double().cpu(), cov, "shrinkage")
    allowed = TOLERANCES["float16"]
    assert loss.item() == pytest.approx(value, abs=allowed.value)
    error = np.abs(states.grad.double().cpu().numpy() / 2**10 - gradient).max()
    assert error <= allowed.gradient * np.abs(gradient).max()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_mixed_precision_training_loop_raises_the_score(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.Tanh(), nn.Linear(128, 32)).cuda()
    inputs = torch.randn(512, 64, device="cuda") * torch.linspace(0.05, 3, 64, device="cuda")
    penalty = IStarLoss(32, estimator="unbiased")
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    scaler = torch.amp.GradScaler("cuda", enabled=dtype == torch.float16)

    def score() -> float:
        with torch.no_grad():
            return float(iso.isoscore_unbiased(model(inputs)))

    before = score()
    for step in range(60):
        optimizer.zero_grad()
        with torch.autocast("cuda", dtype):
            loss = penalty(model(inputs[step % 4 :: 4]))
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    assert score() > before + 0.1


@pytest.mark.parametrize("rows", [40, 1500])
def test_compiled_by_inductor_without_a_break(rows: int) -> None:
    points, cov = _cloud(rows)
    cloud = torch.tensor(points, dtype=torch.float32, device="cuda").requires_grad_()
    module = IStarLoss(DIM, zeta=ZETA, shrinkage_cov=cov).cuda()
    (expected,) = torch.autograd.grad(module(cloud), cloud)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own deprecations, when inductor is first loaded
        torch._dynamo.reset()
        (gradient,) = torch.autograd.grad(torch.compile(module, fullgraph=True)(cloud), cloud)
    assert torch.allclose(gradient, expected, rtol=0, atol=TOLERANCES["float32"].gradient * float(expected.abs().max()))


@pytest.mark.parametrize("rows", [40, 1500])
@pytest.mark.parametrize("estimator", ["shrinkage", "unbiased"])
def test_a_captured_graph_gives_the_gradient_of_new_points(rows: int, estimator: str) -> None:
    points, cov = _cloud(2 * rows)
    first, second = torch.tensor(points, dtype=torch.float32, device="cuda").split(rows)
    given = {"shrinkage_cov": cov} if estimator == "shrinkage" else {}
    module = IStarLoss(DIM, zeta=ZETA, estimator=estimator, **given).cuda()
    leaf = first.clone().requires_grad_()
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # as torch asks for, before a capture
        for _ in range(3):
            module(leaf).backward()
    torch.cuda.current_stream().wait_stream(aside)
    leaf.grad = None
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        module(leaf).backward()
    with torch.no_grad():
        leaf.copy_(second)
    graph.replay()
    fresh = second.clone().requires_grad_()
    (expected,) = torch.autograd.grad(module(fresh), fresh)
    # The same arithmetic; the libraries may only choose another order of summation, 2⁻²⁴ times a few.
    assert torch.allclose(leaf.grad, expected, rtol=0, atol=1e-6 * float(expected.abs().max()))


def test_no_copy_of_the_points_is_ever_whole_in_memory() -> None:
    rows, block = 200_000, 2**24 * 4
    points = torch.randn(rows, DIM, device="cuda", dtype=torch.float16).requires_grad_()
    cov = torch.eye(DIM, device="cuda")
    iso.istar_loss(points[:2000], cov, ZETA).backward()  # workspaces of the libraries
    points.grad = None
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    iso.istar_loss(points, cov, ZETA).backward()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() - before - points.numel() * 2  # the gradient has to be there
    # Three blocks of 64 MiB at a time and a dozen d × d matrices; a copy in float32 would be 586 MiB. Other forms are
    # counted without a GPU, in test_torch_accelerator.py.
    assert peak <= 3 * block + 12 * 4 * DIM * DIM


def test_streaming_moments_and_the_pass_over_data() -> None:
    points, _ = _cloud(4096)
    cloud = torch.tensor(points, dtype=torch.float32, device="cuda")
    moments = StreamingMoments(DIM, "cuda")
    for part in cloud.split(1000):
        moments.update(part)
    assert moments.cov.is_cuda
    truth = np.cov(points.T)
    # Products in float32, each entry off by its own rounding: 2⁻²⁴ times a few, of the largest variance.
    assert np.abs(moments.cov.double().cpu().numpy() - truth).max() <= 1e-5 * np.abs(truth).max()

    model = nn.Sequential(nn.Linear(16, 8), nn.Tanh()).cuda()
    batches = list(torch.randn(10, 64, 16))  # on the host, as a loader gives them
    shrinkage = ShrinkageCovariance(dim=8).cuda()
    shrinkage.fit(model, batches, forward=lambda model, batch: (model(batch.cuda()), None))
    with torch.no_grad():
        states = model(torch.cat(batches).cuda()).double().cpu().numpy()
    assert shrinkage.current().is_cuda
    assert np.abs(shrinkage.current().double().cpu().numpy() - np.cov(states.T)).max() <= 1e-5
    with HiddenStates(model, ["0"]) as states_of:
        model(batches[0].cuda())
        loss = IStarLoss(8, shrinkage_cov=shrinkage)(states_of.take())
    loss.backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_nccl_gives_the_global_score(tmp_path: Path) -> None:
    dist = pytest.importorskip("torch.distributed")
    if not dist.is_nccl_available():
        pytest.skip("torch was built without NCCL")
    points, cov = _cloud(1024)
    cloud = torch.tensor(points, dtype=torch.float32, device="cuda")
    alone = _value_and_gradient(cloud, cov, "shrinkage")
    dist.init_process_group(
        "nccl", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1, device_id=torch.device("cuda", 0)
    )
    try:
        module = IStarLoss(DIM, zeta=ZETA, shrinkage_cov=cov, sync=True).cuda()
        wrapped = nn.parallel.DistributedDataParallel(nn.Linear(DIM, DIM).cuda())
        leaf = cloud.clone().requires_grad_()
        loss = module(leaf)
        (gradient,) = torch.autograd.grad(loss, leaf)
        module(wrapped(cloud)).backward()
        moments = StreamingMoments(DIM, "cuda").update(cloud).reduce()
    finally:
        dist.destroy_process_group()
    assert loss.item() == pytest.approx(alone[0], abs=TOLERANCES["float32"].value)
    error = np.abs(gradient.double().cpu().numpy() - alone[1]).max()
    assert error <= TOLERANCES["float32"].gradient * np.abs(alone[1]).max()
    assert moments.count == len(points)
    assert all(torch.isfinite(parameter.grad).all() for parameter in wrapped.parameters())
