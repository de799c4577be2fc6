"""`ShrinkageCovariance`: Σ_S from a pass over data, from the training batches, fixed, or isotropic."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from numbers import Integral
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from isoscore_star.backends.torch._compat import transformed
from isoscore_star.backends.torch.backend import BACKEND
from isoscore_star.backends.torch.covariance import covariance_of
from isoscore_star.backends.torch.moments import StreamingMoments
from isoscore_star.backends.torch.training.data_pass import Forward, cut, hidden_states_of, moved, place, progress_of
from isoscore_star.backends.torch.training.layers import checked_layers, select_layers
from isoscore_star.backends.torch.training.preserve import evaluation_mode, preserve_rng_state
from isoscore_star.backends.torch.training.sync import checked_sync, is_distributed
from isoscore_star.core import checks, parameters, value_checks
from isoscore_star.core.errors import InvalidTypeError, InvalidValueError
from isoscore_star.core.sampling import STATES, sample_of, sampled
from isoscore_star.core.trust import USUAL_MEMORY

POLICIES = ("epoch", "running", "fixed", "identity")


class ShrinkageCovariance(nn.Module):
    """Σ_S, the shrinkage covariance of IsoScore*; pass it to `IStarLoss` as ``shrinkage_cov``.

    Parameters
    ----------
    dim : int
        Width d of the hidden states.
    policy : {"epoch", "running", "fixed", "identity"}, default "epoch"
        Source of Σ_S. ``"epoch"``: `fit` computes it from data before every epoch, as in the paper. ``"running"``: the
        exponential average of the training batches' covariances. ``"identity"``: the same average of (tr S/d)·I, which
        pulls every score towards 1. ``"fixed"``: the given one.
    shrinkage_cov : array of shape (d, d), optional
        Initial Σ_S; NumPy or torch, its values are checked.
    decay : float, default 0.99
        Decay of the average, in [0, 1). The average is bias-corrected: after the first batch it is that batch's.
    max_points : int, default 250_000
        Token states that `fit` reads, over all layers and all ranks.
    batch_points : int, optional
        Of the averages: at most about so many token states of each batch, every n-th of each sequence. All by default.
    layers : sequence of int, optional
        Indices of the hidden states that `fit` reads, as for the loss. All by default.
    skip_embeddings : bool, default False
        Without `layers`, leave out the first entry in `fit`.
    sync : {"auto", True, False}, default "auto"
        ``"auto"`` computes Σ_S of all ranks' points whenever torch.distributed runs with several; True requires that
        it is initialised; False computes each rank's own.

    Attributes
    ----------
    cov : Tensor of shape (d, d) or None
        Σ_S, a buffer; None until known. Float64 for points (or a `shrinkage_cov`) in float64, else float32, also in a
        model that is cast to half precision.
    averaged : Tensor of shape () or None
        Weight of all batches in the average, for its bias correction; a buffer.
    count : int
        Points that the last `fit` read.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        For a parameter out of range, or a `shrinkage_cov` that is no covariance of d dimensions.

    Notes
    -----
    `load_state_dict` restores Σ_S exactly, also into a new module.

    Examples
    --------
    >>> import torch
    >>> from isoscore_star.backends.torch import IStarLoss, ShrinkageCovariance
    >>> model = torch.nn.Linear(16, 8)
    >>> batches = [torch.randn(64, 16) for _ in range(10)]
    >>> shrinkage = ShrinkageCovariance(dim=8)
    >>> penalty = IStarLoss(dim=8, zeta=0.2, shrinkage_cov=shrinkage)
    >>> shrinkage.fit(model, batches, max_points=500, forward=lambda model, batch: (model(batch), None)).count
    500
    >>> penalty(model(batches[0])).shape
    torch.Size([])
    """

    cov: Tensor | None
    averaged: Tensor | None

    def __init__(
        self,
        dim: int,
        policy: str = "epoch",
        *,
        shrinkage_cov: Any = None,
        decay: float = 0.99,
        max_points: int = 250_000,
        batch_points: int | None = None,
        layers: Sequence[int] | None = None,
        skip_embeddings: bool = False,
        sync: bool | str = "auto",
    ) -> None:
        super().__init__()
        self.dim = parameters.dimensions(dim, "dim")
        self.policy = parameters.choice("policy", policy, POLICIES)
        self.decay = parameters.decay("decay", decay)
        self.max_points = _points_wanted("max_points", max_points)
        self.batch_points = None if batch_points is None else _points_wanted("batch_points", batch_points)
        self.layers = checked_layers(layers)
        self.skip_embeddings = skip_embeddings
        self.sync = checked_sync(sync)
        self.count = 0
        self.register_buffer("cov", None)
        self.register_buffer("averaged", None)
        if shrinkage_cov is not None:
            self.set(shrinkage_cov)

    def set(self, cov: Any) -> None:
        """Set Σ_S, checking its values.

        Parameters
        ----------
        cov : array of shape (d, d)
            NumPy or torch; it moves to the device of the one that it replaces.
        """
        tensor = constant_covariance(cov, self.dim)
        self._start(tensor if self.cov is None else tensor.to(self.cov.device))

    def current(self) -> Tensor:
        """Return Σ_S.

        Returns
        -------
        Tensor of shape (d, d)
            Without gradient.

        Raises
        ------
        InvalidValueError
            If it is not known yet.
        """
        if self.cov is not None:
            return self.cov
        ways = {
            "epoch": "Call fit(model, batches) before the first step and then at every epoch, or give shrinkage_cov=, "
            'or take policy="running", which needs no pass over data',
            "fixed": "Give shrinkage_cov=, or load a state_dict that holds it",
        }
        from_batches = (
            "It comes with the first training batch (of a loss in training mode); or call fit(model, batches)"
        )
        raise InvalidValueError(
            "shrinkage_cov",
            f"there is no covariance yet (policy {self.policy!r}). " + ways.get(self.policy, from_batches),
        )

    @torch.no_grad()
    def fit(
        self,
        model: nn.Module,
        batches: Iterable[Any],
        max_points: int | None = None,
        *,
        forward: Forward | None = None,
        progress: bool | Callable[[int, int], object] = False,
    ) -> ShrinkageCovariance:
        """Compute Σ_S from the model's hidden states on data.

        The model runs in evaluation mode and without gradients, in d² memory. The modules' modes and the random
        generators of Python, NumPy, torch and the loader are restored.

        Parameters
        ----------
        model : nn.Module
            Called as ``model(**batch, output_hidden_states=True).hidden_states``, without the batch's labels. Of a
            DistributedDataParallel the inner module is called.
        batches : iterable of mappings, or of anything with `forward`
            Moved to the model's device. States that ``attention_mask`` marks as padding are left out.
        max_points : int, optional
            Overrides the module's own. The last batch is cut, evenly over the layers, so that the count is exact;
            `batches` is read at most once. Each rank reads its part of the points.
        forward : callable, optional
            ``forward(model, batch)`` returns hidden states (a tensor or a sequence) and their attention mask (or None),
            for models with another signature or output; see also `HiddenStates`.
        progress : bool or callable, default False
            True shows a bar if `rich` is installed; a callable gets (points read, points wanted) after every batch.

        Returns
        -------
        ShrinkageCovariance
            This object.

        Raises
        ------
        InvalidValueError
            For policy ``"fixed"``, if the model returns no hidden states, or if these or the mask do not fit.
        DegenerateDataError
            If there are fewer than two points, or all are identical.

        Notes
        -----
        In a distributed run every rank has to call it, with its own part of the data. A fully sharded model needs the
        same number of batches on every rank.
        """
        if self.policy == "fixed":
            raise InvalidValueError(
                "policy", '"fixed" keeps the covariance that it was given. Use policy="epoch" to read it from data'
            )
        together = is_distributed(self.sync)
        wanted = self.max_points if max_points is None else _points_wanted("max_points", max_points)
        if together:  # this rank's part
            each, rest = divmod(wanted, dist.get_world_size())
            wanted = each + (dist.get_rank() < rest)
        if isinstance(model, nn.parallel.DistributedDataParallel):
            model = model.module  # DDP's forward pass broadcasts buffers, and waits for ranks that read no more
        device, dtype = place(model)
        moments = StreamingMoments(self.dim, device)
        # Even an iterator over an unshuffled DataLoader draws a number from torch's generator.
        preserved = preserve_rng_state(device, batches)
        with evaluation_mode(model), preserved, progress_of(progress, wanted) as show:
            for batch in batches:
                states, mask = hidden_states_of(model, moved(batch, device), forward)
                chosen = select_layers(states, mask, layers=self.layers, skip_embeddings=self.skip_embeddings)
                dtype = torch.float64 if chosen.states[0].dtype == torch.float64 else torch.float32
                for state in chosen.states:
                    checks.width("hidden_states", state, self.dim)
                cloud = checks.points([state.to(device) for state in chosen.states], chosen.masks)
                moments.update(cloud.clouds, cut(cloud.clouds, cloud.masks, wanted - moments.count))
                show(moments.count, wanted)
                if moments.count >= wanted:
                    break
        if together:
            moments.reduce()
        value_checks.enough_points(moments.count)
        cov = moments.cov
        value_checks.covariance_values("shrinkage_cov", cov, BACKEND)
        self.count = moments.count
        self._start(self._shaped(cov).to(dtype))
        return self

    @torch.no_grad()
    def update(self, layers: Sequence[Tensor], masks: Sequence[Any]) -> None:
        """Add a training batch to the average of the policies ``"running"`` and ``"identity"``.

        `IStarLoss` calls it in training mode, before it computes the score. It never waits for the device.

        Parameters
        ----------
        layers : sequence of Tensor, each of shape (..., d)
            Their union is the batch. Without a variance that is finite, and inside `torch.func`'s transformations,
            Σ_S stays unchanged.
        masks : sequence of array or None
            One for each.
        """
        if not self._averages or transformed():
            return
        cloud = checks.points(list(layers), list(masks), BACKEND)
        if self.batch_points is not None:
            cloud = sampled(cloud, sample_of(cloud.arrays, self.batch_points, BACKEND))
        dtype = torch.float64 if layers[0].dtype == torch.float64 else torch.float32
        cov = self._shaped(covariance_of(cloud, is_distributed(self.sync))).to(dtype)
        if self.cov is None or self.averaged is None:
            self.cov, self.averaged = cov.new_zeros(cov.shape, dtype=dtype), cov.new_zeros((), dtype=dtype)
        old, averaged = self.cov.to(cov.device), self.averaged.to(cov.device)
        total = cov.trace()  # zero for fewer than two points
        usable = (total > 0) & (total < torch.inf)
        step = usable.to(averaged) * (1 - self.decay)
        averaged = averaged * (1 - step) + step
        step = step / torch.where(averaged > 0, averaged, 1)
        # Not in place, since a backward pass may still need the old tensors.
        self.cov, self.averaged = old + step * (torch.where(usable, cov.to(old.dtype), old) - old), averaged

    def restart(self) -> bool:
        """Let the next batch replace the average, and return whether there is one."""
        if self.averaged is not None:
            self.averaged = torch.zeros_like(self.averaged)
        return self._averages

    @property
    def _averages(self) -> bool:
        return self.policy in ("running", "identity")

    def extra_repr(self) -> str:
        """Show the parameters."""
        known = "unknown yet" if self.cov is None else "known"
        decay = f", decay={self.decay:g}" if self._averages else ""
        return f"dim={self.dim}, policy={self.policy!r}{decay}, cov {known}"

    def _start(self, cov: Tensor) -> None:
        self.cov = cov
        self.averaged = cov.new_ones(()) if self._averages else None

    def _shaped(self, cov: Tensor) -> Tensor:
        if self.policy != "identity":
            return cov
        return torch.eye(self.dim, dtype=cov.dtype, device=cov.device) * (cov.trace() / self.dim)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ShrinkageCovariance:
        # Casting a model to half precision must not round Σ_S.
        before = {name: buffer for name, buffer in self.named_buffers(recurse=False) if buffer is not None}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, buffer in before.items():
            now = getattr(self, name)
            if now.dtype in (torch.float16, torch.bfloat16):
                setattr(self, name, buffer.to(now.device))
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        for name in ("cov", "averaged"):
            saved, own = state_dict.get(prefix + name), getattr(self, name)
            if saved is None:
                if self.policy != "fixed":
                    setattr(self, name, None)  # saved before it was known
            elif own is None or own.dtype != saved.dtype:
                # Nothing is loaded into None, and another precision would round.
                # Of this module's width: torch tells of another one.
                shape = (self.dim, self.dim) if name == "cov" else ()
                setattr(self, name, saved.new_zeros(shape, device=saved.device if own is None else own.device))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def constant_covariance(cov: Any, dim: int) -> Tensor:
    """Check Σ_S, values too, and return a copy without gradient."""
    matrix = checks.square_matrix("shrinkage_cov", cov, BACKEND, dim)
    value_checks.covariance_values("shrinkage_cov", matrix, BACKEND)
    tensor = torch.as_tensor(matrix).detach().clone()
    constant: Tensor = BACKEND.constant(tensor, tensor)
    return constant


def short_memory(dim: int, sync: bool | str = "auto") -> ShrinkageCovariance:
    """Return the Σ_S of the anchored loss: a running average of the last few batches, from some states of each.

    See `isoscore_star.core.trust.USUAL_MEMORY`.
    """
    return ShrinkageCovariance(dim, "running", decay=USUAL_MEMORY, batch_points=STATES, sync=sync)


def _points_wanted(name: str, points: Any) -> int:
    if isinstance(points, bool) or not isinstance(points, Integral):
        raise InvalidTypeError(name, f"expected an integer of at least 2; got {points!r}")
    if points < 2:
        raise InvalidValueError(name, f"a covariance needs at least 2 points; got {points}")
    return int(points)
