"""torch.compile: one compilation for any number of tokens, in the penalty alone and inside a model."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from isoscore_star.backends.torch import IStarLoss  # noqa: E402

testing = pytest.importorskip("torch._dynamo.testing")

DIM = 16
# Below, at and above as many points as dimensions for one layer of four sequences, and for a half of them; 1 is a size
# of its own for torch.
LENGTHS = [9, 3, 12, 8, 1, 20, 5, 7, 31, 4, 17, 25]

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's own deprecations, when its compiler is first loaded


def penalty_of(estimator: str) -> IStarLoss:
    # To the identity every covariance is near, as the anchored loss has to be; compiled it would have no gradient.
    cov = torch.eye(DIM) if estimator == "anchored" else torch.diag(torch.arange(1.0, DIM + 1))
    return IStarLoss(DIM, zeta=0.2, shrinkage_cov=cov, estimator=estimator)


def mask_of(length: int) -> Any:
    return torch.arange(length) < torch.tensor([[length], [(length + 1) // 2], [length], [length]])


def batch(length: int, layers: int, masked: bool) -> tuple[Any, list[Any], Any]:
    generator = torch.Generator().manual_seed(length)
    states = [torch.randn(4, length, DIM, generator=generator).requires_grad_() for _ in range(layers)]
    mask = mask_of(length) if masked else None
    return states if layers > 1 else states[0], states, mask


# Each pair of settings once: all eight took as many compilations, when they were tried.
SETTINGS = [(None, 1, False), (None, 3, True), (True, 1, True), (True, 3, False)]


@pytest.mark.sampled("estimator")
@pytest.mark.parametrize(("dynamic", "layers", "masked"), SETTINGS)
@pytest.mark.parametrize("estimator", ["shrinkage", "unbiased", "anchored"])
def test_three_compilations_at_most_for_any_lengths(
    estimator: str, masked: bool, layers: int, dynamic: bool | None
) -> None:
    torch._dynamo.reset()
    counter, penalty = testing.CompileCounter(), penalty_of(estimator)
    compiled = torch.compile(penalty, backend=counter, fullgraph=True, dynamic=dynamic)
    for length in LENGTHS:
        given, states, mask = batch(length, layers, masked)
        loss = compiled(given, mask)
        gradients = torch.autograd.grad(loss, states)
        expected = penalty(given, mask)
        assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
        wanted = torch.autograd.grad(expected, states)
        # Four points, one of each sequence, may leave a half at its floor.
        assert length == 1 or all(want.any() for want in wanted)
        for got, want in zip(gradients, wanted, strict=True):
            assert (got - want).abs().max() <= 1e-5 * want.abs().max()
    assert counter.frame_count <= 3


class Model(nn.Module):
    """Embeddings, a layer, and the penalty of both among its outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.layer, self.head = nn.Embedding(50, DIM), nn.Linear(DIM, DIM), nn.Linear(DIM, 2)
        self.penalty = penalty_of("unbiased")

    def forward(self, tokens: Any, mask: Any) -> Any:
        states = [self.embedding(tokens)]
        states.append(torch.tanh(self.layer(states[0])))
        return self.head(states[1][:, 0]).square().mean() + self.penalty(states, mask)


@pytest.mark.slow
def test_a_whole_model_is_compiled_with_its_penalty() -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    model, counter = Model(), testing.CompileCounter()
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    for length in LENGTHS:
        tokens = torch.arange(4 * length).reshape(4, length) % 50
        mask = mask_of(length)
        expected = torch.autograd.grad(model(tokens, mask), list(model.parameters()))
        for got, want in zip(
            torch.autograd.grad(compiled(tokens, mask), list(model.parameters())), expected, strict=True
        ):
            assert torch.allclose(got, want, rtol=0, atol=1e-6)
    assert counter.frame_count <= 3
