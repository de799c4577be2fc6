"""`IsoScoreStar`: the score of all embeddings of an epoch and of all processes, as a torchmetrics metric."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from isoscore_star import arguments
from isoscore_star.backends.torch import StreamingMoments


class IsoScoreStar(Metric):
    """IsoScore* of all points, the same for any split into batches and processes.

    Its state holds count, mean and scatter (float64, about d² numbers: 134 MB for d = 4096; twice that for the halves
    of the unbiased estimator), which processes exchange instead of points. Half-precision points are multiplied in
    float32.

    Parameters
    ----------
    dim : int
        Dimensions d, the last axis of the points.
    zeta : float, default 0.0
        ζ in [0, 1], the weight of Σ_S. Not used by the unbiased estimator.
    shrinkage_cov : array of shape (d, d), optional
        Σ_S, NumPy or torch, a constant.
    estimator : {"shrinkage", "unbiased"}, default "shrinkage"
        ``"unbiased"`` needs neither: it removes the bias of small samples; see `isoscore_star.isoscore_unbiased`.
    groups : "auto", int or None, default "auto"
        Which points of every batch were sampled together, for the unbiased estimator; see
        `isoscore_star.isoscore_unbiased`. None, for independent points, halves the state.
    **kwargs
        Arguments of every metric: ``process_group``, ``sync_on_compute``, ``dist_sync_on_step``, ...

    Raises
    ------
    InvalidValueError, InvalidTypeError
        For a parameter out of range; by `update` for points of another width than d.

    Notes
    -----
    The result is 0 before there are two points (for the unbiased estimator four, or two groups with points in each
    half) or any variance, and NaN if a point was not finite, or some updates had groups and others not. Groups are
    numbered on from update to update and from process to process.

    The state stays in float64, also after ``set_dtype`` or a conversion of the module that holds the metric, and on the
    CPU if that module moves to MPS, which has no float64. In a ``MetricCollection`` all metrics get the same points:
    for a score of each layer, update a separate metric for each.

    Examples
    --------
    >>> import torch
    >>> from isoscore_star.integrations.torchmetrics import IsoScoreStar
    >>> metric = IsoScoreStar(dim=2)
    >>> metric.update(torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
    >>> metric.update(torch.tensor([[-1.0, 1.0], [-1.0, -1.0]]))
    >>> round(metric.compute().item(), 12)
    1.0
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    moments: Tensor
    shrinkage_cov: Tensor | None

    def __init__(
        self,
        dim: int,
        zeta: float = 0.0,
        shrinkage_cov: Any = None,
        estimator: str = "shrinkage",
        groups: Any = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dim = arguments.dimensions(dim, "dim")
        self.estimator = arguments.choice("estimator", estimator, arguments.MEASURING_ESTIMATORS)
        self.groups = arguments.usual_groups(groups)
        self.zeta = arguments.zeta(zeta, shrinkage_cov) if estimator == "shrinkage" else 0.0
        target = None if shrinkage_cov is None else torch.tensor(arguments.shrinkage_cov(shrinkage_cov, self.dim))
        # Not persistent, like a metric's state, so that checkpoints of a model with a metric do not change.
        self.register_buffer("shrinkage_cov", target, persistent=False)
        merge = functools.partial(_merged, dim=self.dim, fourth_order=self._fourth_order)
        empty = StreamingMoments(self.dim, fourth_order=self._fourth_order)
        if self._fourth_order and self.groups is not None:
            empty.update(torch.zeros(0, 1, self.dim))  # both halves, as in the processes with which it is merged
        self.add_state("moments", default=empty.packed(), dist_reduce_fx=merge)

    def update(self, states: Any, attention_mask: Any = None, groups: Any = "auto") -> None:
        """Add a batch of points.

        Parameters
        ----------
        states : Tensor of shape (batch, tokens, d) or (..., d), or a sequence of such tensors
            Points as rows; of a sequence, such as a model's hidden states, the union. Entries that are None are
            skipped.
        attention_mask : Tensor of shape (batch, tokens), optional
            1 for points, 0 for padding; one for all entries, or a sequence with one for each.
        groups : "auto", int, array of labels, or None, default "auto"
            Which points of this batch were sampled together; by default those of the metric.
        """
        clouds, masks = states, attention_mask
        if isinstance(states, Sequence):
            masks = list(masks) if isinstance(masks, Sequence) else [masks] * len(states)
            given = [(cloud, mask) for cloud, mask in zip(states, masks, strict=True) if cloud is not None]
            clouds, masks = [cloud for cloud, _ in given], [mask for _, mask in given]
        groups = arguments.groups_of_batch(groups, self.groups) if self._fourth_order else None
        self.moments = self._unpacked(self.moments).update(clouds, masks, groups).packed()

    def compute(self) -> Tensor:
        """Return the score of all points so far, a float64 tensor of shape (); NaN where there is no unbiased one."""
        moments = self._unpacked(self.moments)
        return (
            moments.isoscore_unbiased() if self._fourth_order else moments.isoscore_star(self.shrinkage_cov, self.zeta)
        )

    def merge_state(self, incoming_state: Any) -> None:
        """Add the points of another such metric, or of its ``metric_state``."""
        super().merge_state(incoming_state)
        self._computed = None  # torchmetrics would return the result from before

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Plot a value, or a sequence of values over time; needs matplotlib.

        Parameters
        ----------
        val : Tensor or sequence of Tensor, optional
            Results of ``compute`` or ``forward``; by default ``compute()``.
        ax : matplotlib Axes, optional
            By default those of a new figure.

        Returns
        -------
        figure, axes
            Of matplotlib.
        """
        return self._plot(val, ax)

    def set_dtype(self, dst_type: Any) -> IsoScoreStar:
        """Leave the state in float64: in float16 even its count would be wrong beyond 2048 points."""
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> Any:
        # torchmetrics prevents conversion by .half(), but not by model.to(torch.float16), nor that of buffers.
        def moved(tensor: Tensor) -> Tensor:
            if fn(torch.empty(0, device=tensor.device)).device.type == "mps":
                return tensor
            result = fn(tensor)
            return result if result.dtype == tensor.dtype else tensor.to(result.device)

        return super()._apply(moved, *args, **kwargs)

    @property
    def _fourth_order(self) -> bool:
        return self.estimator == "unbiased"

    def _unpacked(self, vector: Tensor) -> StreamingMoments:
        return StreamingMoments.from_packed(vector, self.dim, fourth_order=self._fourth_order)


def _merged(stacked: Tensor, dim: int, fourth_order: bool) -> Tensor:
    """Merge the states of several processes, stacked by torchmetrics."""
    first, *others = (StreamingMoments.from_packed(vector, dim, fourth_order=fourth_order) for vector in stacked)
    for other in others:
        first.merge(other, counting_on=True)
    return first.packed()
