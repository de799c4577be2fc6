"""`IsoScoreStar`: the score of everything a Keras model puts out, as a metric."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from isoscore_star.backends.keras.moments import BatchMoments, Frame, at_least, batch_moments, safe
from isoscore_star.core import checks, formulas, value_checks
from isoscore_star.core.array_likes import as_numpy
from isoscore_star.core.errors import InvalidValueError
from isoscore_star.core.protocol import Invariants
from isoscore_star.core.score import measured_unbiased_score, shrunk_score


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
        ζ in [0, 1], the weight of Σ_S.
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
        if wide:
            _require_float64()
        super().__init__(name=name, dtype="float64" if wide else "float32")
        unknown: Any = dim
        self.estimator = checks.choice("estimator", estimator, checks.ESTIMATORS)
        self.zeta = checks.zeta(zeta, shrinkage_cov) if estimator == "shrinkage" else 0.0
        self.shrinkage_cov = None if shrinkage_cov is None else value_checks.shrinkage_target(shrinkage_cov, unknown)
        self.dim: int | None = None
        if dim is not None:
            self._build(checks.dimensions(dim, "dim"))

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
        y_pred = _tensor("y_pred", y_pred, self.dtype)
        if len(y_pred.shape) < 2 or y_pred.shape[-1] != (self.dim or y_pred.shape[-1]):
            raise InvalidValueError(
                "y_pred", f"expected points as rows, shape (..., {self.dim or 'dimensions'}); got {tuple(y_pred.shape)}"
            )
        if self.dim is None:
            self._build(checks.dimensions(y_pred.shape[-1], "y_pred"))
        keep = _keep(y_pred, mask, sample_weight, self.dtype)
        if 0 in y_pred.shape:
            return
        old = {name: _read(variable) for name, variable in self._states.items()}
        count = old["count"]
        batch = batch_moments([y_pred], [keep], self.dtype, count, Frame(old["anchor"], old["unit"]))
        ratio = old["unit"] / safe(batch.frame.unit)
        for name, power in _POWERS.items():
            if name in old:
                old[name] = old[name] * ratio**power
        before = at_least(count + batch.count, 1) - batch.count  # the count, but for 1 where neither has points
        delta = batch.mean - old["mean"] - old["mean_rest"]
        new = {"count": count + batch.count, "anchor": batch.frame.anchor, "unit": batch.frame.unit}
        step = formulas.merged_mean(before, 0.0, batch.count, delta)
        new["mean"], new["mean_rest"] = _added(old["mean"], step + old["mean_rest"])
        outer = (delta * formulas.merged_outer_factor(before, batch.count))[:, None] * delta
        new["scatter"], new["scatter_rest"] = _added(old["scatter"], batch.scatter + outer + old["scatter_rest"])
        if self.estimator == "unbiased":
            new["third"], new["fourth"] = _third_and_fourth(old, batch, step, step - delta)
        for name, value in new.items():
            self._states[name].assign(value)

    def result(self) -> Any:
        """Compute the score of all points so far.

        Returns
        -------
        tensor
            A scalar.
        """
        if self.dim is None:
            return ops.zeros((), self.dtype)
        count, unit, scatter = (_read(self._states[name]) for name in ("count", "unit", "scatter"))
        freedom = at_least(count - 1, 1)
        square = ops.trace(scatter) / freedom / self.dim
        divisor = ops.where(square == 0, 1.0, square)
        sample = scatter / freedom / divisor
        invariants = Invariants(count, unit * ops.sqrt(square), ops.trace(sample), ops.sum(sample * sample))
        if self.estimator == "unbiased":
            fourth = _read(self._states["fourth"]) / divisor / divisor / freedom
            return measured_unbiased_score(invariants._replace(q=fourth), self.dim, ops.where)
        if self.shrinkage_cov is not None:
            its_square = float(np.mean(np.diagonal(self.shrinkage_cov)))
            target = ops.convert_to_tensor(self.shrinkage_cov / its_square, self.dtype)
            invariants = invariants._replace(
                cross=ops.sum(sample * target),
                t0=ops.trace(target),
                f0=ops.sum(target * target),
                target_unit=ops.convert_to_tensor(np.sqrt(its_square), self.dtype),
            )
        return shrunk_score(invariants, self.zeta, self.dim, ops.where)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
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
            self.shrinkage_cov = value_checks.shrinkage_target(self.shrinkage_cov, dim)
        shapes = {"count": (), "anchor": (dim,), "unit": (), "mean": (dim,), "mean_rest": (dim,)}
        shapes |= {"scatter": (dim, dim), "scatter_rest": (dim, dim)}
        if self.estimator == "unbiased":
            shapes |= {"third": (dim,), "fourth": ()}
        self._states = {
            name: self.add_variable(shape=shape, initializer="zeros", dtype=self.dtype, name=name)
            for name, shape in shapes.items()
        }


_POWERS = {"mean": 1, "mean_rest": 1, "scatter": 2, "scatter_rest": 2, "third": 3, "fourth": 4}
"""Powers of the unit of length that the states are kept in."""


def _read(variable: Any) -> Any:
    # Not .value, which on TensorFlow is a variable again, and lacks what `keras.ops` ask of a tensor.
    return ops.cast(variable, variable.dtype)


def _added(total: Any, more: Any) -> tuple[Any, Any]:
    """Add, and give what rounding has left out (Knuth's two-sum), which thousands of batches would add up to much."""
    added = total + more
    part = added - total
    return added, (total - (added - part)) + (more - part)


def _third_and_fourth(old: dict[str, Any], batch: BatchMoments, step: Any, back: Any) -> tuple[Any, Any]:
    """Return Σaᵢxᵢ and Σaᵢ² about the common mean, by which the old one steps forward and the batch's own back."""
    squared_norms = ops.sum(batch.centred * batch.centred, axis=1)
    third, fourth = ops.sum(squared_norms[:, None] * batch.centred, axis=0), ops.sum(squared_norms * squared_norms)
    third, fourth = _about(back, batch.count, batch.scatter, third, fourth)
    past_third, past_fourth = _about(step, old["count"], old["scatter"], old["third"], old["fourth"])
    return past_third + third, past_fourth + fourth


def _about(h: Any, count: Any, scatter: Any, third: Any, fourth: Any) -> tuple[Any, Any]:
    """Move Σaᵢxᵢ and Σaᵢ² of centred points to another mean, which lies h beside theirs."""
    ah, t = ops.sum(scatter * h, axis=1), ops.trace(scatter)
    hh, hah, hz = ops.sum(h * h), ops.sum(h * ah), ops.sum(h * third)
    moved = formulas.recentred_fourth(fourth, count, t, hh, hah, hz)
    return formulas.recentred_third(third, count, t, h, ah, hh), moved


def _tensor(name: str, array: Any, dtype: str) -> Any:
    if not ops.is_tensor(array):
        array = as_numpy(name, array)
        checks.check_dtype(name, array.dtype.name)
        return ops.convert_to_tensor(array, dtype)  # Keras would make float32 of NumPy's float64
    checks.check_dtype(name, keras.backend.standardize_dtype(array.dtype))
    return array


def _require_float64() -> None:
    if keras.backend.backend() != "jax":
        return
    import jax.numpy as jnp

    if jnp.result_type(float) != jnp.float64:
        raise InvalidValueError(
            "dtype",
            'JAX has no float64 unless it is enabled, by jax.config.update("jax_enable_x64", True) before any '
            "array is made. Else leave dtype out",
        )


def _refuse_replicas() -> None:
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    if tf.distribute.get_strategy().num_replicas_in_sync > 1:
        raise InvalidValueError(
            "IsoScoreStar",
            "the replicas of a tf.distribute strategy would each keep moments of their own, which Keras "
            "adds up as if they were sums. Measure outside of the strategy, for example by isoscore_star.Moments",
        )


def _keep(points: Any, mask: Any, sample_weight: Any, dtype: str) -> Any:
    """Return the mask of the points, from the one that Keras carries along and from weights."""
    if sample_weight is None:
        return mask
    expected = tuple(points.shape[:-1])
    weighted = ops.not_equal(_weights(sample_weight, dtype), 0)
    if len(weighted.shape) == len(expected) + 1 and weighted.shape[-1] == 1:
        weighted = weighted[..., 0]
    while len(weighted.shape) < len(expected):
        weighted = weighted[..., None]
    sizes = zip(weighted.shape, expected, strict=False)
    if len(weighted.shape) > len(expected) or not all(None in pair or pair[0] in (1, pair[1]) for pair in sizes):
        raise InvalidValueError(
            "sample_weight",
            f"expected shape {expected} of the points in y_pred, or fewer of its axes; got "
            f"{tuple(sample_weight.shape)}",
        )
    weighted = ops.broadcast_to(weighted, ops.shape(points)[:-1])
    return weighted if mask is None else ops.logical_and(weighted, mask)


def _weights(sample_weight: Any, dtype: str) -> Any:
    kind = getattr(sample_weight, "dtype", None)
    is_mask = ops.is_tensor(sample_weight) and keras.backend.standardize_dtype(kind) == "bool"
    if is_mask or getattr(kind, "kind", "") == "b":
        return ops.convert_to_tensor(sample_weight)
    return _tensor("sample_weight", sample_weight, dtype)
