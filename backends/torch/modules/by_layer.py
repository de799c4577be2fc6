"""A loss for each layer, each with a memory of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from isoscore_star.backends.torch.training.layers import Layers
from isoscore_star.core.errors import InvalidValueError


class LayerLosses(nn.ModuleList):
    """Losses of λ = 1 by the place of their layer, made as soon as it is known how many layers there are.

    Parameters
    ----------
    make : callable
        Makes the loss of one layer.
    layers : sequence of int, optional
        The layers, if they are known already.
    """

    def __init__(self, make: Callable[[], nn.Module], layers: Sequence[int] | None) -> None:
        super().__init__()
        self._make = make
        self._names: list[str] = []
        self._grow(0 if layers is None else len(layers))

    def scores(self, chosen: Layers, groups: Iterable[Any], **settings: Any) -> list[Tensor]:
        """Return each layer's score, with the gradient of its loss; `settings` are assigned to each loss."""
        if not len(self):
            self._grow(len(chosen.states))
            self.train(self.training)
        if len(chosen.states) != len(self):
            raise InvalidValueError(
                "hidden_states",
                f"expected {len(self)} layers, as before, each of which has a covariance; got {len(chosen.states)}",
            )
        self._names = [f"isoscore_star/layer_{index:02d}" for index in chosen.indices]
        found = []
        for loss, state, mask, own in zip(self, chosen.states, chosen.masks, groups, strict=True):
            for name, value in settings.items():
                if getattr(loss, name) != value:
                    setattr(loss, name, value)
            found.append(1 - loss(state, mask, own))
        return found

    def collect(self) -> dict[str, float]:
        """Return the logged score of each layer that has one, and their mean."""
        collected = [loss.collect() for loss in self]  # type: ignore[operator]
        pairs = zip(self._names, collected, strict=False)
        by_layer = {name: logged["isoscore_star"] for name, logged in pairs if "isoscore_star" in logged}
        mean = {"isoscore_star": sum(by_layer.values()) / len(by_layer)} if by_layer else {}
        return mean | by_layer

    def _grow(self, count: int) -> None:
        for _ in range(len(self), count):
            self.append(self._make())

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        own = (key.removeprefix(prefix) for key in state_dict if key.startswith(prefix))
        self._grow(1 + max((int(key.split(".")[0]) for key in own), default=-1))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def groups_by_layer(groups: Any, chosen: Layers) -> list[Any]:
    """Return the groups of each layer: labels of its own, or those of all."""
    own = isinstance(groups, list) and len(groups) == len(chosen.states)
    return groups if own else [groups] * len(chosen.states)
