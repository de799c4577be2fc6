"""λ as a function of the training step."""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any

from isoscore_star.core import parameters
from isoscore_star.core.errors import InvalidTypeError, InvalidValueError
from isoscore_star.core.messages import shown


class LambdaSchedule:
    """λ of each training step: a linear warm-up from 0, then constant, or a decay to a final value.

    It has no state, so nothing has to be saved in a checkpoint.

    Parameters
    ----------
    lam : float
        λ after the warm-up, of either sign.
    total_steps : int
        Optimizer steps of the whole training, at least 1. From then on λ stays at its last value.
    warmup_steps : int, default 0
        Steps over which λ rises from 0 to `lam`; not more than `total_steps`.
    shape : {"constant", "linear", "cosine"}, default "constant"
        What λ does after the warm-up.
    final : float, default 0.0
        λ at the end of a linear or cosine decay.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        For a parameter out of range.

    Examples
    --------
    >>> import isoscore_star as iso
    >>> lam = iso.LambdaSchedule(-1.0, total_steps=100, warmup_steps=10, shape="linear")
    >>> [lam(step) for step in (5, 10, 55, 100)]
    [-0.5, -1.0, -0.5, 0.0]

    In a loop: ``penalty.lam = lam(step)``. A weight of Keras takes it by ``layer.lam.assign(lam(step))``.
    """

    SHAPES = ("constant", "linear", "cosine")

    def __init__(
        self, lam: float, total_steps: int, *, warmup_steps: int = 0, shape: str = "constant", final: float = 0.0
    ) -> None:
        self.lam = parameters.number("lam", lam)
        self.total_steps = _steps("total_steps", total_steps, 1)
        self.warmup_steps = _steps("warmup_steps", warmup_steps, 0)
        self.shape = parameters.choice("shape", shape, self.SHAPES)
        self.final = parameters.number("final", final)
        if self.warmup_steps > self.total_steps:
            raise InvalidValueError(
                "warmup_steps", f"expected at most total_steps={self.total_steps}; got {self.warmup_steps}"
            )

    def __call__(self, step: int) -> float:
        """Return λ of a step, counted from 0."""
        step = _steps("step", step, 0)
        if step < self.warmup_steps:
            return self.lam * step / self.warmup_steps
        if self.shape == "constant":
            return self.lam
        decaying = self.total_steps - self.warmup_steps
        done = min((step - self.warmup_steps) / decaying, 1.0) if decaying else 1.0
        if self.shape == "cosine":
            done = (1 - math.cos(math.pi * done)) / 2
        return self.lam + (self.final - self.lam) * done

    def __repr__(self) -> str:
        return (
            f"LambdaSchedule({self.lam:g}, total_steps={self.total_steps}, warmup_steps={self.warmup_steps}, "
            f"shape={self.shape!r}, final={self.final:g})"
        )


def _steps(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        got = f"{shown(value)} of type {type(value).__name__}"
        raise InvalidTypeError(name, f"expected a number of steps; got {got}")
    if value < least:
        raise InvalidValueError(name, f"expected at least {least}; got {shown(value)}")
    return int(value)
