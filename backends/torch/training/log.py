"""Means of a loss's values over steps, summed on the device."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

LOGGER = logging.getLogger("isoscore_star")

COLLAPSE = 0.1
"""Fraction of its first value below which a score has collapsed."""


class TrainingLog(nn.Module):
    """Sums of the values recorded since the last `collect`, on the device, and the watched score's first value.

    Parameters
    ----------
    watched : str, optional
        Name of the value of whose fall below a tenth of its start is warned, once.

    Attributes
    ----------
    start : Tensor of shape () or None
        The first watched value in training mode, a buffer. One that is not above 0 (such as NaN) is replaced by the
        next.
    """

    start: Tensor | None

    def __init__(self, watched: str | None = None) -> None:
        super().__init__()
        self.watched = watched
        self.register_buffer("start", None)
        self.label = watched
        """What a warning calls it."""
        self._warned = False
        self._sums: dict[str, Tensor] = {}

    def record(self, values: Mapping[str, Tensor | tuple[Tensor, Tensor]]) -> None:
        """Add 0-d tensors by name; nothing in compiled code or under `torch.func`, where values are not known.

        Of a numerator and a denominator both are added, and the mean is the ratio of their sums.
        """
        pairs = {name: value if isinstance(value, tuple) else (value, None) for name, value in values.items()}
        if torch.compiler.is_compiling() or not all(_is_real(value) for value, _ in pairs.values()):
            return
        for name, (value, weight) in pairs.items():
            added = torch.stack([value.detach(), torch.ones_like(value) if weight is None else weight.detach()])
            self._sums[name] = self._sums[name] + added if name in self._sums else added
        if self.training and self.start is None and self.watched is not None and self.watched in pairs:
            value, weight = pairs[self.watched]
            self.start = value.detach().clone() if weight is None else (value / weight).detach()

    def collect(self) -> dict[str, float]:
        """Return the means since the last call and reset them; waits for the device.

        Returns
        -------
        dict of str to float
            Empty if nothing was recorded; without a name whose denominators were all zero.
        """
        names, sums = list(self._sums), list(self._sums.values())
        if not names:
            return {}
        totals = torch.stack([total.to(sums[0]) for total in sums]).tolist()
        pairs = zip(names, totals, strict=True)
        means = {name: total / weight for name, (total, weight) in pairs if weight}
        self._sums = {}
        self._warn(means)
        return means

    def _warn(self, means: Mapping[str, float]) -> None:
        if self._warned or self.start is None or self.watched is None or self.watched not in means:
            return
        start, now = float(self.start), means[self.watched]
        if not 0 < start < math.inf:
            self.start = None  # nothing can be compared with it
        elif now < COLLAPSE * start:
            self._warned = True
            LOGGER.warning(
                "%s fell from %.3g at the start to %.3g: the states are collapsing into few directions. Take a smaller "
                "|lam|, a schedule, a floor, or a target (see IStarLoss)",
                self.label,
                start,
                now,
            )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        if prefix + "start" not in state_dict:
            self.start = None  # saved before the first step
        load_optional_buffer(self, "start", state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def load_optional_buffer(
    module: nn.Module, name: str, state_dict: Mapping[str, Any], prefix: str, shape: tuple[int, ...] = ()
) -> None:
    """Create a buffer that is still None, into which torch would load nothing."""
    saved = state_dict.get(prefix + name)
    if saved is not None and getattr(module, name) is None:
        setattr(module, name, saved.new_zeros(shape))


def _is_real(value: Tensor) -> bool:
    try:
        value.data_ptr()
    except RuntimeError:  # of a tensor inside torch.func's transformations, which must not outlive them
        return False
    return True
