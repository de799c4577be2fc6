"""`IsoScoreStar`: the score of everything a Keras model puts out, as a metric."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from isoscore_star import _checks, _formulas, _value_checks
from isoscore_star._errors import InvalidValueError
from isoscore_star._protocol import Invariants
from isoscore_star._score import shrunk_score, unbiased_score
from isoscore_star.backends.keras_moments import BatchMoments, at_least, batch_moments


@keras.saving.register_keras_serializable(package="isoscore_star")
class IsoScoreStar(keras.metrics.Metric):  # type: ignore[misc]
    """IsoScore* of all points of an epoch, exact however they are split into batches.

    It measures ``y_pred``, so in ``compile`` it belongs to an output that gives embeddings; on its own,
    ``metric.update_state(None, states)``. Points that a Keras mask leaves out do not count.

    Parameters
    ----------
    dim : int, optional
        Dimensions d, the last axis. Found out at the first update if left out.
    zeta : float, default 0.0
        ζ in [0, 1], the share of Σ_S.
    shrinkage_cov : array of shape (d, d), optional
        Σ_S, a constant.
    estimator : {"shrinkage", "unbiased"}, default "shrinkage"
        ``"unbiased"`` needs neither: it takes away the bias of few points, for the price of d + 2 more numbers.
    name, dtype : str, optional
        As every metric has. State is float32, or float64 if that is asked for.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        For a parameter out of range, or points of another width than d.

    Notes
    -----
    The result is 0 before there are two points (four for the unbiased estimator) or any variance. Replicas of a
    ``tf.distribute`` strategy each keep a state of their own, which Keras would add up: that is refused.

    Examples
    --------
    >>> import keras
    >>> from isoscore_star.backends.keras import IsoScoreStar
    >>> metric = IsoScoreStar(dim=2)
    >>> for batch in ([[1.0, 1.0], [1.0, -1.0]], [[-1.0, 1.0], [-1.0, -1.0]]):
    ...     metric.update_state(None, batch)
    >>> round(float(metric.result()), 6)
    1.0
    """

    def __init__(
        self,
        dim: int | None = None,
        zeta: float = 0.0,
        shrinkage_cov: Any = None,
        estimator: str = "shrinkage",
        name: str = "isoscore_star",
        dtype: Any = None,
    ) -> None:
        wide = keras.dtype_policies.get(dtype or keras.config.floatx()).compute_dtype == "float64"
        super().__init__(name=name, dtype="float64" if wide else "float32")
        unknown: Any = dim
        self.estimator = _checks.choice("estimator", estimator, _checks.ESTIMATORS)
        self.zeta = _checks.zeta(zeta, shrinkage_cov) if estimator == "shrinkage" else 0.0
        self.shrinkage_cov = None if shrinkage_cov is None else _value_checks.shrinkage_target(shrinkage_cov, unknown)
        self.dim: int | None = None
        if dim is not None:
            self._build(_checks.dimensions(dim, "dim"))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Take in a batch of points.

        Parameters
        ----------
        y_true : ignored
            Whatever Keras gives.
        y_pred : tensor of shape (m, d) or (..., d)
            Points as rows.
        sample_weight : tensor, optional
            A mask: points whose weight is zero do not count. Of shape ``y_pred.shape[:-1]``, or fewer of its axes.
        """
        _refuse_replicas()
        mask = getattr(y_pred, "_keras_mask", None)
        if not ops.is_tensor(y_pred):  # Keras would make float32 of NumPy's float64
            y_pred = ops.convert_to_tensor(y_pred, self.dtype)
        if self.dim is None:
            self._build(_checks.dimensions(y_pred.shape[-1], "y_pred"))
        if len(y_pred.shape) < 2 or y_pred.shape[-1] != self.dim:
            raise InvalidValueError(
                f"y_pred: expected points as rows, shape (..., {self.dim}); got {tuple(y_pred.shape)}"
            )
        batch = batch_moments([y_pred], [_keep(y_pred, mask, sample_weight)], self.dtype)
        count, old_mean, old_scatter = map(_read, (self.count, self.mean, self.scatter))
        before = at_least(count + batch.count, 1) - batch.count  # the count, but for 1 where neither has points
        mean = _formulas.merged_mean(before, old_mean, batch.count, batch.mean)
        delta = batch.mean - old_mean
        outer = (delta * _formulas.merged_outer_factor(before, batch.count))[:, None] * delta
        scatter = old_scatter + batch.scatter + outer
        if self.estimator == "unbiased":
            self._merge_fourth_order(batch, mean, ops.trace(scatter) / (before + batch.count))
        self.scatter.assign(scatter)
        self.mean.assign(mean)
        self.count.assign(count + batch.count)

    def result(self) -> Any:
        """Compute the score of all points so far.

        Returns
        -------
        tensor
            A scalar.
        """
        if self.dim is None:
            return ops.zeros((), self.dtype)
        target = None if self.shrinkage_cov is None else ops.convert_to_tensor(self.shrinkage_cov, self.dtype)
        count, scatter = _read(self.count), _read(self.scatter)
        freedom = at_least(count - 1, 1)
        total = ops.trace(scatter) / freedom
        target_total = 0.0 if target is None else ops.trace(target)
        scale = (total + target_total) / self.dim
        scale = ops.where(scale > 0, scale, 1.0)
        sample = scatter / (freedom * scale)
        invariants = Invariants(count, scale, total / scale, ops.sum(sample * sample))
        if self.estimator == "unbiased":
            # In two steps, since unit⁴/σ² is in range though neither of its parts need be.
            squared = ops.square(_read(self.unit)) / scale
            fourth = _read(self.fourth) * squared * squared / freedom
            return unbiased_score(invariants._replace(q=fourth), self.dim, ops.where, floored=True)
        if target is not None:
            target = target / scale
            cross, squared_norm = ops.sum(sample * target), ops.sum(target * target)
            invariants = invariants._replace(cross=cross, t0=target_total / scale, f0=squared_norm)
        return shrunk_score(invariants, self.zeta, self.dim, ops.where)

    def get_config(self) -> dict[str, Any]:
        """Give the arguments of the constructor."""
        return {
            **super().get_config(),
            "dim": self.dim,
            "zeta": self.zeta,
            "shrinkage_cov": None if self.shrinkage_cov is None else self.shrinkage_cov.tolist(),
            "estimator": self.estimator,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Make one from its configuration, where Σ_S is a list."""
        cov = config["shrinkage_cov"]
        return cls(**{**config, "shrinkage_cov": None if cov is None else np.asarray(cov)})

    def _build(self, dim: int) -> None:
        self.dim = dim
        if self.shrinkage_cov is not None:
            self.shrinkage_cov = _value_checks.shrinkage_target(self.shrinkage_cov, dim)
        self.count = self._state("count", ())
        self.mean = self._state("mean", (dim,))
        self.scatter = self._state("scatter", (dim, dim))
        if self.estimator == "unbiased":
            # Σa² and z are kept in powers of a unit of length, since fourth powers leave the range before squares do.
            self.unit = self._state("unit", ())
            self.third = self._state("third", (dim,))
            self.fourth = self._state("fourth", ())

    def _state(self, name: str, shape: tuple[int, ...]) -> Any:
        return self.add_variable(shape=shape, initializer="zeros", dtype=self.dtype, name=name)

    def _merge_fourth_order(self, batch: BatchMoments, mean: Any, variance: Any) -> None:
        state = (self.unit, self.count, self.mean, self.scatter, self.third, self.fourth)
        old_unit, count, old_mean, scatter, third, fourth = map(_read, state)
        unit = at_least(ops.sqrt(variance), old_unit)
        divisor = ops.where(unit > 0, unit, 1.0)
        ratio = old_unit / divisor
        past_third, past_fourth = _about(mean, count, old_mean, scatter, third * ratio**3, fourth * ratio**4, divisor)
        points = batch.centred / divisor
        squared_norms = ops.sum(points * points, axis=1)
        third, fourth = ops.sum(squared_norms[:, None] * points, axis=0), ops.sum(squared_norms * squared_norms)
        third, fourth = _about(mean, batch.count, batch.mean, batch.scatter, third, fourth, divisor)
        self.third.assign(past_third + third)
        self.fourth.assign(past_fourth + fourth)
        self.unit.assign(unit)


def _read(variable: Any) -> Any:
    # Not .value, which on TensorFlow is a variable again, and lacks what `keras.ops` ask of a tensor.
    return ops.cast(variable, variable.dtype)


def _about(mean: Any, count: Any, old_mean: Any, scatter: Any, third: Any, fourth: Any, unit: Any) -> tuple[Any, Any]:
    """Move Σaᵢxᵢ and Σaᵢ² of centred points, in powers of a unit, to another mean."""
    h = ops.where(count > 0, (mean - old_mean) / unit, 0.0)
    ah = ops.sum(scatter / unit * (h / unit), axis=1)
    t = ops.trace(scatter) / unit / unit
    hh, hah, hz = ops.sum(h * h), ops.sum(h * ah), ops.sum(h * third)
    moved = _formulas.recentred_fourth(fourth, count, t, hh, hah, hz)
    return _formulas.recentred_third(third, count, t, h, ah, hh), moved


def _refuse_replicas() -> None:
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    if tf.distribute.get_strategy().num_replicas_in_sync > 1:
        raise InvalidValueError(
            "IsoScoreStar: the replicas of a tf.distribute strategy would each keep moments of their own, which Keras "
            "adds up as if they were sums. Measure outside of the strategy, for example by isoscore_star.Moments"
        )


def _keep(points: Any, mask: Any, sample_weight: Any) -> Any:
    if sample_weight is None:
        return mask
    weighted = ops.not_equal(sample_weight, 0)
    while len(weighted.shape) < len(points.shape) - 1:
        weighted = weighted[..., None]
    weighted = ops.broadcast_to(weighted, ops.shape(points)[:-1])
    return weighted if mask is None else ops.logical_and(weighted, mask)
