"""`IStarLoss`, the I-STAR penalty as a module."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from isoscore_star.backends.torch._compat import transformed
from isoscore_star.backends.torch.backend import BACKEND
from isoscore_star.backends.torch.low_rank import LeadingDirections
from isoscore_star.backends.torch.modules.anchor import Scored, TrustTest, anchored_or_shrunk, fraction_of_sample
from isoscore_star.backends.torch.modules.by_layer import LayerLosses, groups_by_layer
from isoscore_star.backends.torch.modules.shrinkage_covariance import (
    ShrinkageCovariance,
    constant_covariance,
    short_memory,
)
from isoscore_star.backends.torch.training.layers import Layers, checked_layers, select_layers
from isoscore_star.backends.torch.training.log import LOGGER, TrainingLog, load_optional_buffer
from isoscore_star.backends.torch.training.sync import checked_sync, is_distributed
from isoscore_star.core import checks, formulas, parameters, value_checks
from isoscore_star.core.checks import Points
from isoscore_star.core.errors import InvalidValueError
from isoscore_star.core.groups import groups_of
from isoscore_star.core.sampling import Fraction
from isoscore_star.core.trust import SHORT_MEMORY
from isoscore_star.functions import training_score

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
        ζ in [0, 1], the weight of Σ_S. Of the shrinkage estimator, and of the anchored one while Σ_S is far.
    shrinkage_cov : array of shape (d, d) or ShrinkageCovariance, optional
        Σ_S, NumPy or torch, whose values are checked; or what computes and refreshes it. With ζ > 0 it has to be set
        before the first call, here, by assignment or by `load_state_dict`. The anchored estimator makes its own, a
        running average of the batches with a short memory, if none is given.
    estimator : {"shrinkage", "unbiased", "anchored"}, default "shrinkage"
        ``"shrinkage"``: IsoScore*, as in the paper. ``"unbiased"``: the score of two halves of the sequences, which
        needs neither ζ nor Σ_S, but four sequences, better sixteen. ``"anchored"``: the batch against a Σ_S, whose
        gradient has the right size for any batch, for half the products; see Notes.
    reduction : {"union", "mean", "none"}, default "union"
        For several layers: the loss of the union of their states (as in the paper), the mean of the layers' losses, or
        all of these, shape (layers,). The anchored estimator then has a running Σ_S for each layer.
    skip_embeddings : bool, default False
        Without `layers`, leave out the first entry of `hidden_states`, the embedding layer of transformers (as in the
        paper).
    layers : sequence of int, optional
        Distinct indices of the layers in `hidden_states`; negative ones count from the end. All by default.
    target : float, optional
        A target score in [0, 1]. The loss is then λ·(log PR/PR*)², with PR the effective dimensions of the score and
        PR* those of the target: it has its minimum at the target. λ > 0.
    floor : float, optional
        For λ < 0, a score in [0, 1] below which the gradient is zero.
    sync : {"auto", True, False}, default "auto"
        Compute the score of the global batch, all ranks' states together, whenever `torch.distributed` is initialised
        (True requires that); False computes each rank's own.
    log_layers : bool, default False
        Also log each layer's score, at the cost of one product each; see `collect`.
    rank : int, optional
        Of the anchored estimator: take Σ_S by about its `rank` leading directions, for 2·rank/d of the products (64 of
        768 directions: a sixth). Value and gradient are approximate away from Σ_S: with a target take all.
    check_values : bool, default False
        Check values at each call; see `isoscore_star.istar_loss`.

    Attributes
    ----------
    shrinkage_cov : Tensor of shape (d, d) or None
        Σ_S if given as an array: a buffer.
    shrinkage : ShrinkageCovariance or None
        Σ_S if given as that.
    lam, zeta, target, floor : float
        May be assigned while training; `isoscore_star.LambdaSchedule` computes λ for each step.

    trust : TrustTest or None
        Of the anchored estimator: whether Σ_S is still near (``trust.trusted``).
    by_layer : LayerLosses or None
        Of the anchored estimator with a reduction other than the union: an `IStarLoss` for each layer.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        For a parameter out of range, or a `shrinkage_cov` that is no covariance of d dimensions.

    Notes
    -----
    The anchored loss has the gradient of 2·s(S, Σ_S), with Σ_S held constant, and is right near Σ_S only: on one that
    is kept for ever, states can turn away from it while the loss improves.

    A running Σ_S with a decay of at most 0.9, such as the module's own, follows the batches. The loss then has the
    value λ·(1 − s(S, Σ_S)), and the log has s(S, Σ_S), which is right for any batch since both are independent (with a
    `rank`, and for the first batch, that of two halves of some 512 states).

    With any other Σ_S the value is λ·(1 − 2·s(S, Σ_S) + s(Σ_S, Σ_S)), and `trust` tests whether the last batches are
    near. Where they are not, a running Σ_S begins anew with the newest batch, and until it is near again the loss is
    the paper's, with ζ. Compiled code, which cannot choose, has no gradient then. The log has the score of two halves
    of some 512 states, and none with fewer than four sequences.

    Examples
    --------
    >>> import torch
    >>> from isoscore_star.backends.torch import IStarLoss
    >>> layers = [torch.randn(4, 10, 16, requires_grad=True) for _ in range(3)]
    >>> attention_mask = torch.ones(4, 10)
    >>> penalty = IStarLoss(dim=16, lam=1.0, estimator="anchored")
    >>> loss = penalty(layers, attention_mask)
    >>> loss.backward()
    >>> loss.shape
    torch.Size([])
    >>> sorted(penalty.collect())
    ['isoscore_star', 'istar_penalty']
    """

    shrinkage_cov: Tensor | None

    if TYPE_CHECKING:  # torch declares Any

        def __call__(self, hidden_states: Any, attention_mask: Any = None, groups: Any = "auto") -> Tensor:
            """Compute the penalty; see `forward`."""
            ...

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
        layers: Sequence[int] | None = None,
        target: float | None = None,
        floor: float | None = None,
        sync: str | bool = "auto",
        log_layers: bool = False,
        rank: int | None = None,
        check_values: bool = False,
    ) -> None:
        super().__init__()
        self.dim = parameters.dimensions(dim, "dim")
        self.lam = parameters.number("lam", lam)
        self.zeta = parameters.number("zeta", zeta, 0.0, 1.0)
        self.estimator = parameters.choice("estimator", estimator, parameters.ESTIMATORS)
        self.reduction = parameters.choice("reduction", reduction, REDUCTIONS)
        self.skip_embeddings = skip_embeddings
        self.layers = checked_layers(layers)
        self.target = _optional_score("target", target)
        self.floor = _optional_score("floor", floor)
        self.sync = checked_sync(sync)
        self.log_layers = log_layers
        self.check_values = check_values
        self._require_direction()
        self.register_buffer("shrinkage_cov", None)
        self.shrinkage: ShrinkageCovariance | None = None
        self.by_layer = self._losses_by_layer(rank)
        self._require_own_covariances(shrinkage_cov)
        if isinstance(shrinkage_cov, ShrinkageCovariance):
            self._require_same_states(shrinkage_cov)
            self.shrinkage = shrinkage_cov
        elif shrinkage_cov is not None:
            self.set_shrinkage_cov(shrinkage_cov)
        elif self._anchors_union:
            self.shrinkage = short_memory(self.dim, self.sync)
        self.trust = TrustTest() if self._anchors_union else None
        self.directions = self._leading_directions(rank)
        self._told = False
        self.log = TrainingLog(watched="isoscore_star")

    def set_shrinkage_cov(self, cov: Any) -> None:
        """Set Σ_S, checking its values.

        With a `ShrinkageCovariance` it replaces that one's Σ_S, until its policy refreshes it.

        Parameters
        ----------
        cov : array of shape (d, d)
            NumPy or torch. It keeps its floating-point dtype (half precision becomes float32), and moves to the device
            of the one that it replaces.
        """
        self._require_own_covariances(cov)
        if self.shrinkage is not None:
            self.shrinkage.set(cov)
            return
        tensor = constant_covariance(cov, self.dim)
        self.shrinkage_cov = tensor if self.shrinkage_cov is None else tensor.to(self.shrinkage_cov.device)

    def forward(self, hidden_states: Any, attention_mask: Any = None, groups: Any = "auto") -> Tensor:
        """Compute the penalty.

        Parameters
        ----------
        hidden_states : Tensor of shape (batch, tokens, d) or (..., d), or a sequence of such tensors
            One layer, or a model's ``hidden_states``; entries that are None are skipped.
        attention_mask : Tensor of shape (batch, tokens), optional
            1 for tokens, 0 for padding; for all layers, or a sequence with one for each entry.
        groups : "auto", int, array of labels, or None, default "auto"
            Which states were sampled together, for the unbiased estimator; see `isoscore_star.isoscore_unbiased`. With
            fewer than four groups its gradient is zero, of which the log tells once, unless the labels are on a device,
            which is not waited for. Labels for all layers, or a list with an array for each entry.

        Returns
        -------
        Tensor
            0-d, or of shape (layers,) with ``reduction="none"``.

        Raises
        ------
        InvalidValueError
            If ζ > 0 and Σ_S was never set (or was assigned beside a `ShrinkageCovariance`), or shapes do not fit.
        """
        chosen = select_layers(hidden_states, attention_mask, layers=self.layers, skip_embeddings=self.skip_embeddings)
        if isinstance(groups, list) and isinstance(hidden_states, Sequence) and len(groups) == len(hidden_states):
            groups = [groups[index] for index in chosen.indices]
        for state in chosen.states:
            checks.width("hidden_states", state, self.dim)
        if self.check_values and self.estimator != "unbiased":
            self._check_values(chosen)  # before anything is learned
        learns_later = self.trust is not None and self.shrinkage is not None and self.shrinkage.cov is not None
        if self.shrinkage is not None and self.training and not learns_later:
            self.shrinkage.update(chosen.states, chosen.masks)
        cov = self._covariance()
        logged: Any
        if self.reduction == "union":
            score, logged = self._score(chosen.states, chosen.masks, cov, groups)
            result = loss = self._penalty(score)
            layer_scores = self._layers_for_log(chosen, cov, groups) if self.log_layers else []
            if self.trust is None:
                logged = score if logged is None else logged
            elif logged is None or not learns_later:  # the first Σ_S is of the batch itself
                logged = self._for_log(score, chosen.states, chosen.masks, groups)
        else:
            layer_scores = self._scores_by_layer(chosen, cov, groups)
            losses = torch.stack([self._penalty(score) for score in layer_scores])
            logged, loss = torch.stack(layer_scores).mean(), losses.mean()
            result = loss if self.reduction == "mean" else losses
            if self.by_layer is not None:  # their logs have the true scores
                self.log.record({"istar_penalty": loss})
                return result
        names = [f"isoscore_star/layer_{index:02d}" for index in chosen.indices]
        by_layer = dict(zip(names, layer_scores, strict=True)) if layer_scores else {}
        self.log.record({"isoscore_star": logged, "istar_penalty": loss, **by_layer})
        if self.training and learns_later:  # of the anchored loss: the batch is compared with those before it
            self._learn(chosen)
        return result

    def collect(self) -> dict[str, float]:
        """Return the means of score and loss since the last call, for a log; waits for the device.

        Returns
        -------
        dict of str to float
            ``"isoscore_star"``, ``"istar_penalty"`` and, if there are layers' scores, ``"isoscore_star/layer_07"`` with
            the layer's index in `hidden_states`. Empty if the loss was not called, or is compiled.

        Notes
        -----
        Warns once (logger ``"isoscore_star"``) if the score falls below a tenth of its first value.
        """
        own = self.log.collect()
        return own if self.by_layer is None else own | self.by_layer.collect()

    def extra_repr(self) -> str:
        """Show the parameters."""
        shrinkage = f"zeta={self.zeta:g}, " if self.estimator != "unbiased" else ""
        optional = {"layers": self.layers, "target": self.target, "floor": self.floor}
        shown = "".join(f", {name}={value}" for name, value in optional.items() if value is not None)
        return (
            f"dim={self.dim}, lam={self.lam:g}, {shrinkage}estimator={self.estimator!r}, "
            f"reduction={self.reduction!r}{shown}"
        )

    def _covariance(self) -> Tensor | None:
        if self.shrinkage is not None and self.shrinkage_cov is not None:
            raise InvalidValueError(
                "shrinkage_cov",
                "it was assigned or loaded, but this loss has a ShrinkageCovariance to take it from. "
                "Call set_shrinkage_cov, or set the loss's shrinkage to None",
            )
        self._require_own_covariances(self.shrinkage_cov if self.shrinkage is None else self.shrinkage)
        unused = self.zeta == 0 and self.shrinkage is not None and self.trust is None
        if unused or self.estimator == "unbiased" or self.by_layer is not None:
            return None
        cov = self.shrinkage_cov if self.shrinkage is None else self.shrinkage.current()
        return cov if self.trust is None else parameters.anchor(cov)

    def _score(self, states: list[Tensor], masks: list[Any], cov: Tensor | None, groups: Any) -> Scored:
        cloud = checks.points(states, masks, BACKEND)
        across = "world" if is_distributed(self.sync) else None
        few = self.estimator == "unbiased" and self._has_few_groups(cloud, groups, across)
        if self.trust is not None:
            trust = None if self._follows else self.trust
            return anchored_or_shrunk(
                cloud, cov, self.zeta, trust, across, directions=self.directions, observe=self.training
            )
        score = training_score(
            cloud,
            cov,
            self.zeta,
            mask=masks,
            across=across,
            estimator=self.estimator,
            groups=groups,
            check_values=self.check_values,
        )
        # Of too few groups the score is zero, and nothing to log.
        return Scored(score, Fraction(torch.zeros_like(score), torch.zeros_like(score)) if few else None)

    @property
    def _follows(self) -> bool:
        """Whether Σ_S is an average of the last few batches, which is never far from the next."""
        shrinkage = self.shrinkage
        return shrinkage is not None and shrinkage.policy == "running" and shrinkage.decay <= SHORT_MEMORY

    def _scores_by_layer(self, chosen: Layers, cov: Tensor | None, groups: Any) -> list[Tensor]:
        if self.by_layer is not None:
            settings = {"zeta": self.zeta, "check_values": self.check_values}
            return self.by_layer.scores(chosen, groups_by_layer(groups, chosen), **settings)
        layers = zip(chosen.states, chosen.masks, groups_by_layer(groups, chosen), strict=True)
        return [self._score([state], [mask], cov, own).score for state, mask, own in layers]

    def _layers_for_log(self, chosen: Layers, cov: Tensor | None, groups: Any) -> list[Any]:
        if self.trust is not None:
            layers = zip(chosen.states, chosen.masks, groups_by_layer(groups, chosen), strict=True)
            return [self._for_log(state.new_zeros(()), [state], [mask], own) for state, mask, own in layers]
        with torch.no_grad():
            return self._scores_by_layer(chosen, cov, groups)

    def _for_log(self, score: Tensor, states: list[Tensor], masks: list[Any], groups: Any) -> Any:
        """Return the score to log: for the anchored loss, that of two halves of a sample of the states."""
        if self.trust is None or torch.compiler.is_compiling() or transformed():
            return score
        across = "world" if is_distributed(self.sync) else None
        return fraction_of_sample(states, masks, groups, across)

    def _learn(self, chosen: Layers) -> None:
        shrinkage, trust = self.shrinkage, self.trust
        if shrinkage is not None and trust is not None:
            if not trust.trusted and shrinkage.restart():
                trust.reset()
            shrinkage.update(chosen.states, chosen.masks)

    @torch.no_grad()
    def _check_values(self, chosen: Layers) -> None:
        """Check the values of masks and, for the anchored loss, of points: Σ_S learns from no batch that is refused."""
        cloud = checks.points(chosen.states, chosen.masks, BACKEND)
        if not torch.compiler.is_compiling() and not transformed():
            value_checks.mask_values(chosen.masks, BACKEND)
        if self.trust is not None:
            across = "world" if is_distributed(self.sync) else None
            training_score(cloud, None, 0.0, mask=chosen.masks, across=across, check_values=True)

    def _has_few_groups(self, cloud: Points, groups: Any, across: Any) -> bool:
        """Return whether the host knows of fewer than four groups, of which the log tells once."""
        found = None if torch.compiler.is_compiling() else groups_of(cloud, groups, waiting=False)
        if found is None or not isinstance(found.count, int):
            return False
        count = found.count if across is None else found.count * BACKEND.place(across)[1]
        if count < 4 and not self._told:
            self._told = True
            LOGGER.warning(
                "The unbiased score of tokens needs at least 4 sequences in a batch (2 for each half); this one has "
                "%d, so the penalty has no gradient. Take a larger batch, or estimator='anchored', which takes any",
                count,
            )
        return count < 4

    def _penalty(self, score: Tensor) -> Tensor:
        self.lam = parameters.number("lam", self.lam)  # may have been assigned
        self._require_direction()
        if self.target is not None:
            # An unbiased score may lie below 0: less than one effective dimension.
            ratio = formulas.dimensions_ratio(score.clamp(min=0), self.target, self.dim)  # type: ignore[arg-type]
            return self.lam * torch.as_tensor(ratio).log().square()
        return self.lam * (1 - (score if self.floor is None else score.clamp(min=self.floor)))

    def _require_direction(self) -> None:
        if self.target is not None and (self.lam < 0 or self.floor is not None):
            raise InvalidValueError(
                "target",
                "it is approached from either side, with lam of at least 0 and no floor; got "
                f"lam={self.lam:g}, floor={self.floor}. Leave out the target to push one way",
            )
        if self.floor is not None and self.lam > 0:
            raise InvalidValueError(
                "floor", f"it stops a pull downwards, which lam={self.lam:g} is not. Leave it out, or give lam < 0"
            )

    def _leading_directions(self, rank: int | None) -> LeadingDirections | None:
        if rank is None:
            return None
        if self.estimator != "anchored":
            raise InvalidValueError(
                "rank", f"it is of the anchored estimator; got estimator={self.estimator!r}. Leave it out"
            )
        return LeadingDirections(self.dim, parameters.rank("rank", rank, self.dim))

    @property
    def _anchors_union(self) -> bool:
        return self.estimator == "anchored" and self.reduction == "union"

    def _losses_by_layer(self, rank: int | None) -> LayerLosses | None:
        if self.estimator != "anchored" or self.reduction == "union":
            return None
        make = functools.partial(IStarLoss, self.dim, estimator="anchored", sync=self.sync, rank=rank)
        return LayerLosses(make, self.layers)

    def _require_own_covariances(self, shrinkage_cov: Any) -> None:
        if shrinkage_cov is not None and self.by_layer is not None:
            raise InvalidValueError(
                "shrinkage_cov",
                f"the anchored estimator with reduction={self.reduction!r} has a running covariance for each layer; "
                'got one for all. Leave it out, or take reduction="union"',
            )

    def _require_same_states(self, shrinkage: ShrinkageCovariance) -> None:
        # Policies other than "epoch" get the states that the loss selected.
        for name in ("dim", "layers", "skip_embeddings") if shrinkage.policy == "epoch" else ("dim",):
            ours, its = getattr(self, name), getattr(shrinkage, name)
            if ours != its:
                raise InvalidValueError(
                    "shrinkage_cov",
                    f"it has to be of the states that the loss takes; got {name}={its!r} there and "
                    f"{name}={ours!r} here. Give both the same",
                )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        load_optional_buffer(self, "shrinkage_cov", state_dict, prefix, (self.dim, self.dim))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _optional_score(name: str, value: float | None) -> float | None:
    return None if value is None else parameters.number(name, value, 0.0, 1.0)
