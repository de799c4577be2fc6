"""A loss for each layer, each with a memory of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from isoscore_star.backends.torch.training.layers import Layers
from isoscore_star.core.errors import InvalidValueError


class LayerLosses(nn.Module):
    """Losses of λ = 1 by the place of their layer, made as soon as it is known which layers there are.

    Parameters
    ----------
    make : callable
        Makes the loss of one layer.
    layers : sequence of int, optional
        The layers, if they are known already.

    Attributes
    ----------
    losses : ModuleList of IStarLoss
        One for each layer; empty before the first step.
    """

    def __init__(self, make: Callable[[], nn.Module], layers: Sequence[int] | None) -> None:
        super().__init__()
        self._make = make
        self._known = layers is not None
        self._indices: list[int] | None = None
        self.losses = nn.ModuleList()
        self._resize(0 if layers is None else len(layers))

    def scores(self, chosen: Layers, groups: Iterable[Any], **settings: Any) -> list[Tensor]:
        """Return each layer's score, with the gradient of its loss; `settings` are assigned to each loss."""
        self._require_same(chosen)
        found = []
        for loss, index, state, mask, own in zip(
            self.losses, chosen.indices, chosen.states, chosen.masks, groups, strict=True
        ):
            for name, value in settings.items():
                if getattr(loss, name) != value:
                    setattr(loss, name, value)
            loss.log.label = _name(index)  # type: ignore[union-attr]
            found.append(1 - loss(state, mask, own))
        self._indices = chosen.indices
        return found

    def collect(self) -> dict[str, float]:
        """Return the logged score of each layer that has one, and their mean."""
        losses: Iterable[Any] = self.losses
        pairs = [(_name(index), loss.collect()) for index, loss in zip(self._indices or (), losses, strict=False)]
        by_layer = {name: logged["isoscore_star"] for name, logged in pairs if "isoscore_star" in logged}
        mean = {"isoscore_star": sum(by_layer.values()) / len(by_layer)} if by_layer else {}
        return mean | by_layer

    def _require_same(self, chosen: Layers) -> None:
        """Require the layers of the last call, or as many as were loaded, if any has learned a covariance."""
        before, count = self._indices, len(chosen.indices)
        learned = any(loss.shrinkage.cov is not None for loss in self.losses)
        if learned and (chosen.indices != before if before else count != len(self.losses)):
            raise InvalidValueError(
                "hidden_states",
                "expected the same layers as before, each of which has a covariance, "
                f"{before or f'{len(self.losses)} of them'}; got {chosen.indices}",
            )
        if not learned and not self._known:
            self._resize(count)
            self.to(chosen.states[0].device)

    def _resize(self, count: int) -> None:
        del self.losses[count:]
        for _ in range(len(self.losses), count):
            self.losses.append(self._make().train(self.training))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        if not self._known:
            start = prefix + "losses."
            places = [int(key.removeprefix(start).split(".")[0]) for key in state_dict if key.startswith(start)]
            self._indices = None
            self._resize(1 + max(places, default=-1))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def groups_by_layer(groups: Any, chosen: Layers) -> list[Any]:
    """Return the groups of each layer: labels of its own, or those of all."""
    own = isinstance(groups, list) and len(groups) == len(chosen.states)
    return groups if own else [groups] * len(chosen.states)


def _name(index: int) -> str:
    return f"isoscore_star/layer_{index:02d}"
