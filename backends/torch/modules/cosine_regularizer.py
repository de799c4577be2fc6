"""`CosineRegularizer`, the mean cosine similarity of hidden states as a penalty: I-STAR's baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from isoscore_star.backends.torch.distributed import all_sum, process_group
from isoscore_star.backends.torch.training.layers import checked_layers, select_layers
from isoscore_star.backends.torch.training.log import TrainingLog
from isoscore_star.backends.torch.training.sync import checked_sync, is_distributed
from isoscore_star.core import checks, parameters


class CosineRegularizer(nn.Module):
    """CosReg: λ times the mean cosine similarity of all pairs of hidden states, to be added to a task loss.

    The mean is (‖Σᵢ x̂ᵢ‖² − m)/m², with x̂ᵢ = xᵢ/‖xᵢ‖ and m points: the sum of cosᵢⱼ over i ≠ j, divided by m² as in
    the paper [1]_ and by the authors of I-STAR [2]_; the mean over the m(m − 1) pairs is larger by m/(m − 1). It takes
    O(m·d) time, without the m × m matrix of similarities.

    Parameters
    ----------
    lam : float, default 1.0
        λ. Above 0 drives directions apart, below 0 together.
    reduction : {"union", "mean", "none"}, default "union"
        For several layers: the loss of the union of their states, the mean of the layers' losses, or all of these,
        shape (layers,).
    skip_embeddings : bool, default False
        Without `layers`, leave out the first entry of `hidden_states`, the embedding layer of transformers.
    layers : sequence of int, optional
        Distinct indices of the layers in `hidden_states`; negative ones count from the end. All by default; the
        authors of I-STAR take the last one, ``layers=[-1]``.
    sync : {"auto", True, False}, default "auto"
        Compute the mean over the pairs of the global batch, all ranks' states together, whenever `torch.distributed`
        is initialised (True requires that); False computes each rank's own. Ranks exchange d + 2 numbers.

    Attributes
    ----------
    lam : float
        May be assigned while training; `isoscore_star.LambdaSchedule` computes λ for each step.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        For a parameter out of range.

    Notes
    -----
    A zero vector has cosine 0 with every other, and no gradient. For one point or none the penalty is 0 with zero
    gradient. Sums are taken in float32 or better, also under autocast.

    Gao et al. apply the penalty to word embeddings: ``CosineRegularizer()(model.get_input_embeddings().weight)``. It is
    no measure of isotropy: a cloud on one line through the origin can have mean cosine 0.

    References
    ----------
    .. [1] Gao, He, Tan, Qin, Wang, Liu. *Representation Degeneration Problem in Training Natural Language Generation
       Models.* ICLR 2019. arXiv 1907.12009.
    .. [2] Rudman, Eickhoff. *Stable Anisotropic Regularization.* ICLR 2024. arXiv 2305.19358.

    Examples
    --------
    >>> import torch
    >>> from isoscore_star.backends.torch import CosineRegularizer
    >>> states = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]], requires_grad=True)
    >>> penalty = CosineRegularizer(lam=1.0)
    >>> loss = penalty(states)  # of the 9 entries of the similarity matrix, two off its diagonal are 1
    >>> loss.backward()
    >>> round(loss.item(), 4)
    0.2222
    >>> sorted(penalty.collect())
    ['cosine_loss', 'cosine_similarity']
    """

    def __init__(
        self,
        lam: float = 1.0,
        reduction: str = "union",
        skip_embeddings: bool = False,
        *,
        layers: Sequence[int] | None = None,
        sync: str | bool = "auto",
    ) -> None:
        super().__init__()
        self.lam = parameters.number("lam", lam)
        self.reduction = parameters.choice("reduction", reduction, ("union", "mean", "none"))
        self.skip_embeddings = skip_embeddings
        self.layers = checked_layers(layers)
        self.sync = checked_sync(sync)
        self.log = TrainingLog()

    def forward(self, hidden_states: Any, attention_mask: Any = None) -> Tensor:
        """Compute the penalty.

        Parameters
        ----------
        hidden_states : Tensor of shape (batch, tokens, d) or (..., d), or a sequence of such tensors
            One layer, or a model's ``hidden_states``; entries that are None are skipped.
        attention_mask : Tensor of shape (batch, tokens), optional
            1 for tokens, 0 for padding; for all layers, or a sequence with one for each entry.

        Returns
        -------
        Tensor
            0-d, or of shape (layers,) with ``reduction="none"``; float64 for float64 states, else float32.

        Raises
        ------
        InvalidValueError, InvalidTypeError
            For wrong types, dtypes and shapes, or if no layer is left.
        """
        _, states, masks = select_layers(
            hidden_states, attention_mask, layers=self.layers, skip_embeddings=self.skip_embeddings
        )
        if self.reduction == "union":
            similarity = self._similarity(states, masks)
            losses = self.lam * similarity
        else:
            pairs = zip(states, masks, strict=True)
            similarities = torch.stack([self._similarity([state], [mask]) for state, mask in pairs])
            similarity, losses = similarities.mean(), self.lam * similarities
        loss = losses.mean()
        self.log.record({"cosine_similarity": similarity, "cosine_loss": loss})
        return losses if self.reduction == "none" else loss

    def collect(self) -> dict[str, float]:
        """Return the means of similarity and loss since the last call, for a log; waits for the device.

        Returns
        -------
        dict of str to float
            ``"cosine_similarity"`` and ``"cosine_loss"``. Empty if the loss was not called.
        """
        return self.log.collect()

    def extra_repr(self) -> str:
        """Show the parameters."""
        chosen = "" if self.layers is None else f", layers={self.layers}"
        return f"lam={self.lam:g}, reduction={self.reduction!r}{chosen}"

    def _similarity(self, states: list[Tensor], masks: list[Any]) -> Tensor:
        cloud = checks.points(states, masks)
        parts = [_summed(points, mask) for points, mask in zip(cloud.clouds, cloud.masks, strict=True)]
        sums = parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)
        if is_distributed(self.sync):
            sums = _SumOverRanks.apply(sums, process_group("world"))  # type: ignore[no-untyped-call]
        direction, directed, count = sums[:-2], sums[-2], sums[-1]
        off_diagonal = direction.square().sum() - directed
        # For a single point the difference is rounding.
        return torch.where(count > 1, off_diagonal / count.clamp(min=1).square(), 0)


def _summed(points: Tensor, mask: Tensor | None) -> Tensor:
    """Return Σ x̂, the number of points that are not zero, and the number of points, in one vector."""
    direction, directed = _UnitVectors.apply(points, mask)  # type: ignore[no-untyped-call]
    count = direction.new_full((), len(points)) if mask is None else mask.sum(dtype=direction.dtype)
    return torch.cat([direction, torch.stack([directed, count])])


def _units(points: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return x̂ and 1/‖x‖, both zero for zero vectors and masked points."""
    rows = points if points.dtype == torch.float64 else points.float()
    if mask is not None:
        rows = torch.where(mask[:, None], rows, 0)
    norms = rows.square().sum(1, keepdim=True).sqrt()
    directed = norms > 0
    inverse = directed / torch.where(directed, norms, 1)
    return rows * inverse, inverse


class _UnitVectors(torch.autograd.Function):
    """Σ x̂ and its number of terms, keeping only the points; without matrix products, which autocast would lower."""

    generate_vmap_rule = True

    @staticmethod
    def forward(points: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        units, inverse = _units(points, mask)
        return units.sum(0), (inverse > 0).sum(dtype=units.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(*inputs)
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor, None]:
        points, mask = ctx.saved_tensors
        units, inverse = _units(points, mask)
        along = (units * gradient).sum(1, keepdim=True)
        return (inverse * (gradient - units * along)).to(points.dtype), None


class _SumOverRanks(torch.autograd.Function):
    """All-reduce with the gradient of the sum of all ranks' losses, as for `IStarLoss`."""

    @staticmethod
    def forward(sums: Tensor, group: Any) -> Tensor:
        # Cloned twice, since torch.compile (2.11) returns another output for a tensor that was written in place.
        return all_sum(sums.clone(), group).clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.group = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _SumOverRanks.apply(gradient.contiguous(), ctx.group), None  # type: ignore[no-untyped-call]
