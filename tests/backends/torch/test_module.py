"""`IStarLoss`, compilation, autocast and memory: what is particular to torch."""

from __future__ import annotations

import copy
import pickle
import shutil
import warnings

import numpy as np
import pytest

import isoscore_star as iso

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch_memory import Peak  # noqa: E402

from isoscore_star.backends.torch import (  # noqa: E402
    CosineRegularizer,
    IStarLoss,
    ShrinkageCovariance,
    backend,
    frame,
    target,
)


@pytest.fixture
def layers() -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [(torch.randn(3, 7, 6) * (i + 1)).requires_grad_() for i in range(4)]


MASK = (torch.arange(7) < torch.tensor([[7], [4], [2]])).long()
COV = torch.diag(torch.arange(1.0, 7))


def test_union_of_all_layers(layers: list[torch.Tensor]) -> None:
    points = torch.cat([layer[MASK.bool()] for layer in layers])
    loss = IStarLoss(6, lam=2.0, zeta=0.3, shrinkage_cov=COV)(tuple(layers), MASK)
    assert torch.allclose(loss, 2 * (1 - iso.isoscore_star(points, COV, 0.3)), atol=1e-6)
    unbiased = IStarLoss(6, estimator="unbiased")(layers, MASK, groups=None)
    assert torch.allclose(unbiased, 1 - iso.isoscore_unbiased(points), atol=1e-6)


def test_none_slots_and_embeddings_are_left_out(layers: list[torch.Tensor]) -> None:
    skipping = IStarLoss(6, zeta=0.0, skip_embeddings=True)
    given = IStarLoss(6, zeta=0.0)
    assert torch.equal(skipping([layers[0], None, layers[2], layers[3]], MASK), given(layers[2:], MASK))
    assert torch.equal(skipping([None, *layers[1:]], MASK), given(layers[1:], MASK))
    assert torch.equal(given(layers[0], MASK), given([layers[0]], [MASK]))


def test_reductions(layers: list[torch.Tensor]) -> None:
    each = IStarLoss(6, zeta=0.0, reduction="none")(layers, MASK)
    singles = torch.stack([iso.istar_loss(layer, zeta=0.0, mask=MASK) for layer in layers])
    assert torch.equal(each, singles)
    assert torch.equal(IStarLoss(6, zeta=0.0, reduction="mean")(layers, MASK), singles.mean())


def test_shrinkage_cov_is_a_buffer() -> None:
    module = IStarLoss(6, shrinkage_cov=COV.numpy())
    assert not list(module.parameters())
    assert module.double().shrinkage_cov.dtype == torch.float64
    assert module.to("meta").shrinkage_cov.device.type == "meta"
    saved = IStarLoss(6, shrinkage_cov=COV).state_dict()
    fresh = IStarLoss(6)
    fresh.load_state_dict(saved)
    assert torch.equal(fresh.shrinkage_cov, COV)
    inside = torch.nn.ModuleDict({"penalty": IStarLoss(6)})
    inside.load_state_dict({"penalty.shrinkage_cov": COV})
    assert torch.equal(inside["penalty"].shrinkage_cov, COV)
    for clone in (copy.deepcopy(fresh), pickle.loads(pickle.dumps(fresh))):
        assert torch.equal(clone.shrinkage_cov, COV)
    assert IStarLoss(6, estimator="unbiased").state_dict() == {}


def test_errors(layers: list[torch.Tensor]) -> None:
    with pytest.raises(iso.InvalidValueError, match="Give one"):
        IStarLoss(6)(layers)
    with pytest.raises(iso.InvalidValueError, match=r"dim=5.*last axis is 6"):
        IStarLoss(5, zeta=0.0)(layers)
    with pytest.raises(iso.InvalidValueError, match="no layer is left"):
        IStarLoss(6, zeta=0.0, skip_embeddings=True)([layers[0], None])
    with pytest.raises(iso.InvalidValueError, match="4 entries of hidden_states; got 2"):
        IStarLoss(6, zeta=0.0)(layers, [MASK, MASK])
    with pytest.raises(iso.InvalidValueError, match="'union', 'mean', 'none'"):
        IStarLoss(6, reduction="sum")
    for bad, message in (
        (torch.eye(5), r"\(6, 6\)"),
        (COV + torch.ones(6, 6).triu(1), "mirror image"),
        (-COV, "negative"),
    ):
        with pytest.raises(iso.InvalidValueError, match=message):
            IStarLoss(6, shrinkage_cov=bad)
    checking = IStarLoss(6, zeta=0.0, check_values=True)
    with pytest.raises(iso.InvalidValueError, match="finite"):
        checking(torch.full((4, 6), torch.nan))
    with pytest.raises(iso.DegenerateDataError, match="identical"):
        checking(torch.ones(4, 6))


def test_a_layer_counts_once_however_it_is_named(layers: list[torch.Tensor]) -> None:
    for module in (IStarLoss(6, zeta=0.0, layers=[-1, 1]), CosineRegularizer(layers=[1, -1])):
        with pytest.raises(iso.InvalidValueError, match=r"layers: (-1 and 1|1 and -1) are the same entry 1"):
            module(layers[:2], MASK)
        assert torch.isfinite(module(layers, MASK))  # two layers of four


@pytest.mark.parametrize("sync", [1, 0, 1.0, None, "true", np.True_])
def test_sync_is_a_bool_or_auto(sync: object) -> None:
    for module in (lambda: IStarLoss(6, sync=sync), lambda: ShrinkageCovariance(6, sync=sync)):
        with pytest.raises(iso.InvalidValueError, match=r'sync: expected "auto", True or False'):
            module()


def test_setting_the_covariance_of_a_loss_that_has_a_shrinkage_covariance(layers: list[torch.Tensor]) -> None:
    penalty = IStarLoss(6, zeta=0.3, shrinkage_cov=ShrinkageCovariance(6, "fixed"))
    penalty.set_shrinkage_cov(COV)
    assert torch.equal(penalty.shrinkage.current(), COV)
    assert torch.equal(penalty(layers, MASK), IStarLoss(6, zeta=0.3, shrinkage_cov=COV)(layers, MASK))
    with pytest.raises(iso.InvalidValueError, match="mirror image"):
        penalty.set_shrinkage_cov(torch.ones(6, 6).triu())
    penalty.shrinkage_cov = torch.eye(6)
    with pytest.raises(iso.InvalidValueError, match=r"assigned.*set_shrinkage_cov"):
        penalty(layers, MASK)


def test_training_raises_and_lowers_isotropy() -> None:
    results = {}
    for lam in (1.0, -1.0):
        torch.manual_seed(0)
        X = (torch.randn(64, 8) * torch.linspace(0.2, 2, 8)).requires_grad_()
        start = float(iso.isoscore(X.detach()))
        penalty, optimizer = IStarLoss(8, lam, zeta=0.0), torch.optim.Adam([X], lr=0.02)
        for _ in range(200):
            optimizer.zero_grad()
            penalty(X).backward()
            optimizer.step()
        results[lam] = float(iso.isoscore(X.detach()))
    assert results[-1.0] < start / 2 < start < results[1.0]
    assert results[1.0] > 0.99


@pytest.mark.parametrize("rows", [5, 40])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_computes_in_float32(rows: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    X = (torch.randn(rows, 16) * 50 + 200).requires_grad_()
    plain = iso.istar_loss(X, torch.eye(16), 0.2)
    (expected,) = torch.autograd.grad(plain, X)
    with torch.autocast("cpu", dtype=dtype):
        loss = iso.istar_loss(X, torch.eye(16), 0.2)
        (gradient,) = torch.autograd.grad(loss, X)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, plain)
    assert torch.equal(gradient, expected)


def test_half_precision_gradient_comes_back_in_half_precision() -> None:
    torch.manual_seed(0)
    for rows in (5, 40):
        X = torch.randn(rows, 16).bfloat16().requires_grad_()
        iso.istar_loss(X, zeta=0.0).backward()
        exact = X.detach().float().requires_grad_()
        iso.istar_loss(exact, zeta=0.0).backward()
        assert X.grad.dtype == torch.bfloat16
        assert torch.equal(X.grad, exact.grad.bfloat16())


@pytest.mark.sampled
@pytest.mark.parametrize("tokens", [3, 20])
@pytest.mark.parametrize("estimator", ["shrinkage", "unbiased"])
@pytest.mark.parametrize("masked", [False, True])
def test_compile_without_breaks_or_warnings(tokens: int, estimator: str, masked: bool) -> None:
    torch.manual_seed(0)
    module = IStarLoss(16, zeta=0.2, shrinkage_cov=torch.eye(16), estimator=estimator)
    layers = [torch.randn(2, tokens, 16, requires_grad=True) for _ in range(2)]
    mask = torch.arange(tokens).expand(2, -1) != 1 if masked else None
    expected = torch.autograd.grad(module(layers, mask), layers)
    torch._dynamo.reset()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
        loss = compiled(layers, mask)
        gradients = torch.autograd.grad(loss, layers)
    assert not [str(w.message) for w in caught]
    assert torch.allclose(loss, module(layers, mask), atol=1e-6)
    for got, want in zip(gradients, expected, strict=True):
        assert torch.allclose(got, want, atol=1e-6 * float(want.abs().max()))


@pytest.mark.sampled
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
@pytest.mark.parametrize("rows", [8, 40])
@pytest.mark.parametrize("estimator", ["shrinkage", "unbiased"])
def test_inductor_gives_the_same_gradient(rows: int, estimator: str) -> None:
    torch.manual_seed(0)
    X = torch.randn(rows, 16, requires_grad=True)
    module = IStarLoss(16, zeta=0.2, shrinkage_cov=torch.eye(16), estimator=estimator)
    (expected,) = torch.autograd.grad(module(X), X)
    torch._dynamo.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own deprecations, when inductor is first loaded
        (gradient,) = torch.autograd.grad(torch.compile(module, fullgraph=True)(X), X)
    assert torch.allclose(gradient, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


class _NoWaiting(TorchDispatchMode):
    """Refuse what only the host can do with a value, which it has to wait for."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func not in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        return func(*args, **(kwargs or {}))


on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device, which itself tells of every wait")


def _refuse(*_: object) -> float:
    raise AssertionError("the training path looks at a value")


@pytest.mark.parametrize("device", ["meta", pytest.param("cuda", marks=on_cuda)])
@pytest.mark.parametrize("rows", [5, 40])
@pytest.mark.parametrize(("estimator", "zeta"), [("shrinkage", 0.0), ("shrinkage", 0.3), ("unbiased", 0.0)])
@pytest.mark.parametrize("masked", [False, True])
def test_the_training_path_never_waits_for_the_device(
    monkeypatch: pytest.MonkeyPatch, device: str, rows: int, estimator: str, zeta: float, masked: bool
) -> None:
    layers = [torch.randn(rows - 3, 16), torch.randn(3, 16)]
    layers = [layer.to(device).requires_grad_() for layer in layers]
    masks = [torch.ones(len(layer), device=device) for layer in layers] if masked else None
    cov = torch.eye(16, device=device) if estimator == "shrinkage" else None
    module = IStarLoss(16, zeta=zeta, shrinkage_cov=torch.eye(16), estimator=estimator).to(device)

    def step() -> None:
        iso.istar_loss(layers, cov, zeta, mask=masks, estimator=estimator).backward()
        module(layers, masks).backward()

    step()  # whatever a device does once only
    # Of a tensor without a value `concrete` says so without looking, so that a meta tensor alone would not notice it.
    for file in (backend, frame, target):
        monkeypatch.setattr(file, "concrete", _refuse)
    previous = torch.cuda.get_sync_debug_mode() if device == "cuda" else 0
    try:
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("error")
        with _NoWaiting():
            step()
    finally:
        if device == "cuda":
            torch.cuda.set_sync_debug_mode(previous)
    assert all(layer.grad.shape == layer.shape for layer in layers)


@pytest.mark.parametrize("estimator", ["unbiased", "anchored"])
def test_labels_on_a_device_are_not_waited_for(monkeypatch: pytest.MonkeyPatch, estimator: str) -> None:
    monkeypatch.setattr(backend.BACKEND, "waits_for", lambda labels: True)
    monkeypatch.setattr(backend.BACKEND, "to_numpy", _refuse)
    module, states = IStarLoss(4, estimator=estimator), torch.randn(1, 40, 4, requires_grad=True)
    for _ in range(2):  # the first one sees to Σ_S
        module(states, None, torch.arange(40)[None] // 5).backward()
    assert states.grad.abs().max() > 0


def test_compile_of_the_measuring_functions() -> None:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        for rows in (5, 40):
            X = torch.randn(rows, 16)
            for function in (iso.isoscore, iso.isoscore_unbiased):
                torch._dynamo.reset()
                compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
                assert torch.allclose(compiled(X), function(X), atol=1e-6)


@pytest.mark.parametrize("estimator", ["shrinkage", "unbiased"])
def test_no_more_than_three_matrices_beyond_the_points_and_their_gradient(estimator: str) -> None:
    torch.manual_seed(0)
    dim = 1024
    X = torch.randn(6 * dim, dim, requires_grad=True)
    cov = torch.eye(dim)
    with Peak() as memory:
        loss = iso.istar_loss(X, cov if estimator == "shrinkage" else None, 0.2, estimator=estimator)
        loss.backward()
    matrices = (memory.peak - X.nbytes) / (dim * dim * 4)
    assert matrices < 3.1  # vectors and scalars are the rest


def test_gradient_flow_through_a_network_matches_the_gram_and_scatter_forms() -> None:
    # The two forms meet at m = d: the same points, once with a masked row more (m = d) and once without (m < d).
    torch.manual_seed(0)
    points = torch.randn(7, 8, dtype=torch.float64)
    gram = points.clone().requires_grad_()
    scatter = torch.cat([points, torch.zeros(1, 8, dtype=torch.float64)]).requires_grad_()
    mask = torch.arange(8) < 7
    for estimator in ("shrinkage", "unbiased"):
        (first,) = torch.autograd.grad(iso.istar_loss(gram, zeta=0.0, estimator=estimator), gram)
        (second,) = torch.autograd.grad(iso.istar_loss(scatter, zeta=0.0, mask=mask, estimator=estimator), scatter)
        assert np.allclose(first, second[:7], rtol=0, atol=1e-14)
