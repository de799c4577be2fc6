"""How a form of the invariants (`gram`, `scatter`, `anchored`) is applied to clouds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from isoscore_star.core.scaling import Target


def apply(
    form: type[torch.autograd.Function],
    target: Target | None,
    clouds: Sequence[Tensor],
    masks: Sequence[Tensor | None],
    count: Any,
    setting: Any = None,
) -> Any:
    """Apply a form with Σ_S, the number of points and a setting of its own."""
    matrix, divisor = (None, 1.0) if target is None else (target.matrix, target.divisor)
    # torch.compile cannot trace an apply of variable length without gradients.
    tracked = torch.is_grad_enabled() and any(a is not None and a.requires_grad for a in (matrix, *clouds))
    run: Any = form.apply if tracked else form.forward
    return run(matrix, divisor, count, setting, len(clouds), *clouds, *masks)
