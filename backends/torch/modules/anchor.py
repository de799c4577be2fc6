"""The anchored score with its trust test: whether Σ_S is still near the covariance of the batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from isoscore_star.backends.torch._compat import transformed
from isoscore_star.backends.torch.backend import BACKEND
from isoscore_star.backends.torch.low_rank import LeadingDirections
from isoscore_star.backends.torch.points import on_cpu
from isoscore_star.core import checks, formulas
from isoscore_star.core.checks import Points
from isoscore_star.core.protocol import Invariants
from isoscore_star.core.sampling import Fraction, fraction_of_halves
from isoscore_star.core.score import anchored_score, following_score, shrunk_score
from isoscore_star.core.trust import averaged_sides, is_near

_LAG = 4
"""Steps after which a device's answer is read, which then is there without waiting; the same on all ranks."""


class TrustTest(nn.Module):
    """Averages both sides of tr A·‖B‖² = tr B·⟨A, B⟩, which holds at A = B, over the last steps.

    Attributes
    ----------
    sides : Tensor of shape (2,)
        The averages, in units in which neither scale matters; a buffer. Zero before the first step.
    """

    sides: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("sides", torch.zeros(2))
        self._answers: deque[tuple[Tensor, Any]] = deque()
        self._trusted = True

    def extra_repr(self) -> str:
        """Show the answer."""
        return f"trusted={self.trusted}"

    @property
    def trusted(self) -> bool:
        """Whether Σ_S was near when the host last knew."""
        return self._trusted

    def reset(self) -> None:
        """Begin anew, with another Σ_S."""
        self.sides = torch.zeros_like(self.sides)
        self._answers.clear()
        self._trusted = True

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._answers.clear()
        self._trusted = bool(is_near(*self.sides.tolist()))

    @torch.no_grad()
    def observe(self, invariants: Invariants) -> Tensor:
        """Take in a batch, and return whether Σ_S is near, a tensor; the host learns of it some steps later."""
        before = self.sides.to(invariants.t.device)
        left, right = averaged_sides((before[0], before[1]), invariants, torch.where)
        near: Tensor = is_near(left, right)
        if transformed():  # nothing may outlive a transformation of torch.func
            return near
        self.sides = torch.stack([left, right]).to(self.sides)
        if not torch.compiler.is_compiling():
            self._remember(near)
        return near

    def _remember(self, near: Tensor) -> None:
        if on_cpu(near):
            self._trusted = bool(near)
            return
        copied = near.to("cpu", non_blocking=True)
        event = getattr(torch, near.device.type).Event()  # of torch.cuda, torch.xpu, torch.mps
        event.record()
        self._answers.append((copied, event))
        if len(self._answers) > _LAG:
            answer, event = self._answers.popleft()
            event.synchronize()  # only a device that is four steps behind is waited for
            self._trusted = bool(answer)


def anchored_or_shrunk(
    cloud: Points,
    cov: Any,
    zeta: float,
    trust: TrustTest | None,
    across: Any,
    *,
    directions: LeadingDirections | None = None,
    observe: bool,
) -> Scored:
    """Compute the anchored score of a batch or, where Σ_S is known to be far, IsoScore* with ζ.

    Without a trust test Σ_S follows the batches, and the score is one to log, too. Compiled code cannot choose: its
    score has no gradient where Σ_S is far.
    """
    matrix = checks.square_matrix("shrinkage_cov", cov, BACKEND, cloud.dim)
    target = BACKEND.constant(matrix, cloud.clouds[0])
    if trust is None or trust.trusted or torch.compiler.is_compiling():
        invariants = BACKEND.anchored(cloud.clouds, cloud.masks, target, across=across, directions=directions)
        if trust is None:
            score: Tensor = following_score(invariants, cloud.dim, torch.where, torch.Tensor.detach)
            if directions is not None:  # ⟨A, B⟩ is approximate
                return Scored(score, None)
            return Scored(score, _fraction(invariants.t, invariants.t0, invariants.cross, cloud.dim))
        score = anchored_score(invariants, cloud.dim, torch.where)
    else:
        invariants = BACKEND.invariants(cloud.clouds, cloud.masks, target, fourth_order=False, across=across)
        score = shrunk_score(invariants, zeta, cloud.dim, torch.where)
    if observe:
        near = trust.observe(invariants)
        if torch.compiler.is_compiling():
            score = torch.where(near, score, score.detach())
    return Scored(score, None)


class Scored(NamedTuple):
    """The score that is trained, and the true one as a fraction where it came with it."""

    score: Tensor
    true: Fraction | None


def _fraction(t_a: Any, t_b: Any, inner: Any, dim: int) -> Fraction:
    numerator, denominator = formulas.score_fraction(t_a, t_b, inner, dim)
    return Fraction(torch.as_tensor(numerator).detach(), torch.as_tensor(denominator).detach())


@torch.no_grad()
def fraction_of_sample(states: Sequence[Tensor], masks: Sequence[Any], groups: Any, across: Any) -> Fraction:
    """Compute the score of two halves of the groups from a sample of the states; 0/0 below four groups."""
    numerator, denominator = fraction_of_halves(states, masks, groups, BACKEND, across)
    return Fraction(torch.as_tensor(numerator), torch.as_tensor(denominator))
