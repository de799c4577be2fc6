"""`IStarLoss`, the I-STAR penalty as a module: stored arguments, one call of `isoscore_star.istar_loss`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from isoscore_star import _checks
from isoscore_star._errors import InvalidValueError
from isoscore_star._functions import istar_loss
from isoscore_star._registry import get_backend

REDUCTIONS = ("union", "mean", "none")


class IStarLoss(nn.Module):
    """I-STAR: λ·(1 − IsoScore*) of hidden states, to be added to a task loss.

    Parameters
    ----------
    dim : int
        Width d of the hidden states.
    lam : float, default 1.0
        λ. Above 0 pushes towards isotropy, below 0 away from it.
    zeta : float, default 0.2
        ζ in [0, 1], the share of Σ_S. Not used by the unbiased estimator.
    shrinkage_cov : array of shape (d, d), optional
        Σ_S, NumPy or torch; its values are checked here. It can be set later, by assignment to ``shrinkage_cov`` or by
        `load_state_dict`, but with ζ > 0 not after the first call.
    estimator : {"shrinkage", "unbiased"}, default "shrinkage"
        ``"unbiased"`` needs neither ζ nor Σ_S.
    reduction : {"union", "mean", "none"}, default "union"
        What several layers give: the loss of the union of their states (as in the paper), the mean of the layers'
        losses, or all of them, shape (layers,).
    skip_embeddings : bool, default False
        Leave out the first entry of `hidden_states`, which for transformers is the embedding layer's (as in the
        paper).
    check_values : bool, default False
        Check values too, at each call; see `isoscore_star.istar_loss`.

    Attributes
    ----------
    shrinkage_cov : Tensor of shape (d, d) or None
        Σ_S, a buffer: it moves and saves with the module, and is no parameter.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        For a parameter out of range, or a `shrinkage_cov` that is no covariance of d dimensions.

    Examples
    --------
    >>> import torch
    >>> from isoscore_star.backends.torch import IStarLoss
    >>> layers = [torch.randn(4, 10, 16, requires_grad=True) for _ in range(3)]
    >>> attention_mask = torch.ones(4, 10)
    >>> penalty = IStarLoss(dim=16, lam=1.0, estimator="unbiased")
    >>> loss = penalty(layers, attention_mask)
    >>> loss.backward()
    >>> loss.shape
    torch.Size([])
    """

    shrinkage_cov: Tensor | None

    def __init__(
        self,
        dim: int,
        lam: float = 1.0,
        zeta: float = 0.2,
        shrinkage_cov: Any = None,
        estimator: str = "shrinkage",
        reduction: str = "union",
        skip_embeddings: bool = False,
        *,
        check_values: bool = False,
    ) -> None:
        super().__init__()
        self.dim = _checks.dimensions(dim, "dim")
        self.lam = _checks.number("lam", lam)
        self.zeta = _checks.number("zeta", zeta, 0.0, 1.0)
        self.estimator = _checks.choice("estimator", estimator, _checks.ESTIMATORS)
        self.reduction = _checks.choice("reduction", reduction, REDUCTIONS)
        self.skip_embeddings = skip_embeddings
        self.check_values = check_values
        self.register_buffer("shrinkage_cov", None)
        if shrinkage_cov is not None:
            self.set_shrinkage_cov(shrinkage_cov)

    def set_shrinkage_cov(self, cov: Any) -> None:
        """Set Σ_S, checking its values.

        Parameters
        ----------
        cov : array of shape (d, d)
            NumPy or torch. Kept in its floating-point dtype (half precision as float32), on the device of the one it
            replaces, or else its own.
        """
        backend = get_backend("torch")
        matrix = _checks.square_matrix("shrinkage_cov", cov, backend, self.dim)
        _checks.covariance_values("shrinkage_cov", matrix, backend)
        tensor = torch.as_tensor(matrix).detach().clone()
        device = tensor.device if self.shrinkage_cov is None else self.shrinkage_cov.device
        self.shrinkage_cov = backend.constant(tensor, tensor).to(device)

    def forward(self, hidden_states: Any, attention_mask: Any = None) -> Tensor:
        """Compute the penalty.

        Parameters
        ----------
        hidden_states : Tensor of shape (batch, tokens, d) or (..., d), or a sequence of such tensors
            One layer, or what a model returns for ``output_hidden_states=True``; entries that are None are skipped.
        attention_mask : Tensor of shape (batch, tokens), optional
            1 for tokens, 0 for padding; for all layers alike, or a sequence with one for each entry.

        Returns
        -------
        Tensor
            0-d, or of shape (layers,) with ``reduction="none"``.

        Raises
        ------
        InvalidValueError
            If ζ > 0 and Σ_S was never set, or shapes do not fit.
        """
        layers, masks = self._layers(hidden_states, attention_mask)
        if self.reduction == "union":
            return self._loss(layers, masks)
        losses = torch.stack([self._loss([layer], [mask]) for layer, mask in zip(layers, masks, strict=True)])
        return losses.mean() if self.reduction == "mean" else losses

    def extra_repr(self) -> str:
        """Show the parameters."""
        shrinkage = f"zeta={self.zeta:g}, " if self.estimator == "shrinkage" else ""
        return (
            f"dim={self.dim}, lam={self.lam:g}, {shrinkage}estimator={self.estimator!r}, reduction={self.reduction!r}"
        )

    def _loss(self, layers: list[Tensor], masks: list[Any]) -> Tensor:
        loss: Tensor = istar_loss(
            layers,
            None if self.estimator == "unbiased" else self.shrinkage_cov,
            self.zeta,
            self.lam,
            mask=masks,
            estimator=self.estimator,
            check_values=self.check_values,
        )
        return loss

    def _layers(self, hidden_states: Any, attention_mask: Any) -> tuple[list[Tensor], list[Any]]:
        states = list(hidden_states) if isinstance(hidden_states, Sequence) else [hidden_states]
        masks = list(attention_mask) if isinstance(attention_mask, Sequence) else [attention_mask] * len(states)
        if len(masks) != len(states):
            raise InvalidValueError(
                f"attention_mask: expected one mask, or one for each of the {len(states)} entries of hidden_states; "
                f"got {len(masks)}"
            )
        first = 1 if self.skip_embeddings else 0
        pairs = [(s, m) for s, m in zip(states, masks, strict=True)][first:]
        pairs = [(s, m) for s, m in pairs if s is not None]
        if not pairs:
            raise InvalidValueError(
                "hidden_states: no layer is left to measure (None entries do not count"
                + (", nor does the first with skip_embeddings=True)" if self.skip_embeddings else ")")
            )
        for state, _ in pairs:
            _checks.width("hidden_states", state, self.dim)
        return [s for s, _ in pairs], [m for _, m in pairs]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        # A buffer that is still None takes part in no loading by itself, so it is given a place first.
        saved = state_dict.get(prefix + "shrinkage_cov")
        if saved is not None and self.shrinkage_cov is None:
            self.shrinkage_cov = torch.zeros_like(saved)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
