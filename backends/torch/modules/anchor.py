"""The anchored score with its trust test: whether Σ_S is still near the covariance of the batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from isoscore_star.backends.torch._compat import transformed
from isoscore_star.backends.torch.backend import BACKEND
from isoscore_star.backends.torch.low_rank import LeadingDirections
from isoscore_star.backends.torch.points import on_cpu
from isoscore_star.backends.torch.training.layers import sample_of
from isoscore_star.core import checks, formulas
from isoscore_star.core.checks import Points
from isoscore_star.core.groups import groups_of, halves_of
from isoscore_star.core.protocol import Invariants
from isoscore_star.core.score import anchored_score, shrunk_score

FARTHEST = 1.2
"""tr A·‖B‖²/(tr B·⟨A, B⟩) between this and its inverse: A points where B does, within a fifth."""

_DECAY = 0.8
"""Of the averages of both sides of the ratio: a small batch alone swings by a fifth."""

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

    @property
    def trusted(self) -> bool:
        """Whether Σ_S was near when the host last knew."""
        return self._trusted

    def reset(self) -> None:
        """Begin anew, with another Σ_S."""
        self.sides = torch.zeros_like(self.sides)
        self._answers.clear()
        self._trusted = True

    @torch.no_grad()
    def observe(self, invariants: Invariants) -> Tensor:
        """Take in a batch, and return whether Σ_S is near, a tensor; the host learns of it some steps later."""
        t, cross, t0, f0 = cast(tuple[Any, ...], invariants[2:3] + invariants[5:8])
        ones = torch.ones_like(t)
        sides = torch.stack([t * f0 / (t0 * t0) * ones, cross / t0 * ones]).to(self.sides)
        usable = torch.isfinite(sides).all() & (t > 0)
        start = self.sides.sum() == 0
        averaged = torch.where(start, sides, _DECAY * self.sides + (1 - _DECAY) * sides)
        averaged = torch.where(usable, averaged, self.sides)
        left, right = averaged
        near: Tensor = (left <= FARTHEST * right) & (right <= FARTHEST * left)
        if transformed():  # nothing may outlive a transformation of torch.func
            return near
        self.sides = averaged
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
    trust: TrustTest,
    across: Any,
    *,
    directions: LeadingDirections | None = None,
    observe: bool,
) -> Tensor:
    """Compute the anchored score of a batch or, where Σ_S is known to be far, IsoScore* with ζ.

    Compiled code cannot choose: its score has no gradient where Σ_S is far.
    """
    matrix = checks.square_matrix("shrinkage_cov", cov, BACKEND, cloud.dim)
    target = BACKEND.constant(matrix, cloud.clouds[0])
    if trust.trusted or torch.compiler.is_compiling():
        invariants = BACKEND.anchored(cloud.clouds, cloud.masks, target, across=across, directions=directions)
        score: Tensor = anchored_score(invariants, cloud.dim, torch.where)
    else:
        invariants = BACKEND.invariants(cloud.clouds, cloud.masks, target, fourth_order=False, across=across)
        score = shrunk_score(invariants, zeta, cloud.dim, torch.where)
    if observe:
        near = trust.observe(invariants)
        if torch.compiler.is_compiling():
            score = torch.where(near, score, score.detach())
    return score


class Fraction(NamedTuple):
    """A score as numerator and denominator, whose means over steps are taken apart: a ratio of few points is skewed."""

    numerator: Tensor
    denominator: Tensor


_SAMPLE = 512
"""Token states that are enough for a logged score."""


@torch.no_grad()
def fraction_of_sample(states: Sequence[Tensor], masks: Sequence[Any], groups: Any, across: Any) -> Fraction:
    """Compute the score of two halves of the groups from a sample of the states; 0/0 below four groups.

    Rows of one index are a group where nothing else is said, whatever the number of axes.
    """
    part = sample_of(states, _SAMPLE)
    sampled = [None if mask is None else mask[part] for mask in masks]
    cloud = checks.points([state[part] for state in states], sampled, BACKEND)
    found = groups_of(cloud, _groups_of_sample(states, groups, part), waiting=False)
    assert found is not None
    halves = halves_of(cloud, found, across)
    first, second = halves.first, halves.second
    pair = BACKEND.pair(first.clouds, first.masks, second.clouds, second.masks, across=across)
    numerator, denominator = formulas.score_fraction(pair.t_a, pair.t_b, pair.inner, cloud.dim)
    enough: Any = 1.0 if halves.count is None else halves.count >= 4
    return Fraction(enough * torch.as_tensor(numerator), enough * torch.as_tensor(denominator))


def _groups_of_sample(states: Sequence[Tensor], groups: Any, part: tuple[slice, ...]) -> Any:
    """Return the axis of the groups, if it is one of all states, or labels of the sample."""
    given = isinstance(groups, (list, tuple)) and len(groups) == len(states)
    labels = list(groups) if given else [groups] * len(states)
    if all(np.ndim(label) > 0 for label in labels):
        return [label[part] for label in labels]
    axis = groups if isinstance(groups, int) else 0  # a word or None names no axis
    if len({(state.ndim, state.shape[axis]) for state in states}) == 1:
        return axis
    return [BACKEND.numbers_along(state, axis).reshape(state.shape[:-1])[part] for state in states]
