"""`IsoScoreStar`: the score of a Keras model's outputs, as a metric."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from isoscore_star.backends.keras import _compat
from isoscore_star.backends.keras.backend import BACKEND
from isoscore_star.backends.keras.moments import OPERATIONS, Compensated, batch_sums, plain
from isoscore_star.core import checks, parameters, value_checks
from isoscore_star.core.accumulator import target_of
from isoscore_star.core.array_likes import as_numpy
from isoscore_star.core.checks import Points
from isoscore_star.core.errors import InvalidValueError
from isoscore_star.core.groups import Groups, groups_of, groups_with_points, halves_of
from isoscore_star.core.merging import Sums, invariants_of_sums, merge, pair_of_sums, swapped
from isoscore_star.core.protocol import Invariants
from isoscore_star.core.scaling import Target, with_target
from isoscore_star.core.score import measured_halves_score, measured_unbiased_score, shrunk_score

_FIRST, _SECOND = "", "second_"
"""What the names of the state of each half begin with."""


@keras.saving.register_keras_serializable(package="isoscore_star")
class IsoScoreStar(keras.metrics.Metric):  # type: ignore[misc]
    """IsoScore* of all points of an epoch, independent of their batches.

    It measures ``y_pred``, so in ``compile`` it belongs to an output of embeddings; alone, call
    ``metric.update_state(None, states)``. Points that a Keras mask excludes do not count.

    Parameters
    ----------
    dim : int, optional
        Dimensions d, the last axis; by default that of the first update.
    zeta : float, default 0.0
        ζ in [0, 1], the weight of Σ_S.
    shrinkage_cov : array of shape (d, d), optional
        Σ_S, a constant.
    estimator : {"shrinkage", "unbiased"}, default "shrinkage"
        ``"unbiased"`` needs neither, and removes the bias of small samples; see `isoscore_star.isoscore_unbiased`.
    groups : "auto", int or None, default "auto"
        Which points of every batch were sampled together, for the unbiased estimator; see
        `isoscore_star.isoscore_unbiased`. None, for independent points, halves the state.
    name, dtype : str, optional
        As for every metric. State is float32, or float64 with a float64 `dtype`.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        For a parameter out of range, or points of another width than d.

    Notes
    -----
    The result is 0 for fewer than two points (for the unbiased estimator four, or two groups with points in each half)
    or without variance, and NaN if some updates had groups and others not. Groups are numbered on from update to
    update. Replicas of a ``tf.distribute`` strategy are refused, since Keras would add up their states.

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
        groups: Any = "auto",
    ) -> None:
        wide = keras.dtype_policies.get(dtype or keras.config.floatx()).compute_dtype == "float64"
        if wide:
            _require_float64()
        super().__init__(name=name, dtype="float64" if wide else "float32")
        self.estimator = parameters.choice("estimator", estimator, parameters.MEASURING_ESTIMATORS)
        self.groups = parameters.usual_groups(groups)
        self.zeta = parameters.zeta(zeta, shrinkage_cov) if estimator == "shrinkage" else 0.0
        self.shrinkage_cov = None if shrinkage_cov is None else value_checks.shrinkage_target(shrinkage_cov, dim)
        self.dim: int | None = None
        if dim is not None:
            self._build(parameters.dimensions(dim, "dim"))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None, groups: Any = "auto") -> None:
        """Take in a batch of points.

        Parameters
        ----------
        y_true : ignored
            Not used.
        y_pred : tensor of shape (m, d) or (..., d)
            Points as rows.
        sample_weight : tensor, optional
            A mask: points whose weight is zero do not count. Of shape ``y_pred.shape[:-1]``, or fewer of its axes.
        groups : "auto", int, array of labels, or None, default "auto"
            Which points of this batch were sampled together; by default those of the metric.
        """
        _refuse_replicas()
        mask = _compat.mask_of(y_pred)
        y_pred = _tensor("y_pred", y_pred, self.dtype)
        if len(y_pred.shape) < 2 or y_pred.shape[-1] != (self.dim or y_pred.shape[-1]):
            raise InvalidValueError(
                "y_pred", f"expected points as rows, shape (..., {self.dim or 'dimensions'}); got {tuple(y_pred.shape)}"
            )
        if self.dim is None:
            self._build(parameters.dimensions(y_pred.shape[-1], "y_pred"))
        keep = _keep(y_pred, mask, sample_weight, self.dtype)
        groups = parameters.groups_of_batch(groups, self.groups) if self.estimator == "unbiased" else None
        cloud = checks.points(y_pred, keep, BACKEND)
        found = groups_of(cloud, groups)
        if found is not None:
            self._take_halves(cloud, found)
            return
        batch = self._batch(cloud)
        self._take(_FIRST, batch)
        if self._in_halves:
            self._independent.assign(self._independent + batch.count)

    def result(self) -> Any:
        """Compute the score of all points so far.

        Returns
        -------
        tensor
            A scalar.
        """
        if self.dim is None:
            return ops.zeros((), self.dtype)
        sums = self._sums(_FIRST)
        if self.estimator == "unbiased":
            return self._unbiased_score(sums, self.dim)
        invariants, scale = self._invariants(sums, self.dim)
        if self.shrinkage_cov is not None:
            target = target_of(self.shrinkage_cov, 2.0**40)
            target = Target(*(ops.convert_to_tensor(part, self.dtype) for part in target))
            cross = ops.sum(sums.scatter.total * target.matrix) / scale / target.divisor
            invariants = with_target(invariants, target, cross)
        return shrunk_score(invariants, self.zeta, self.dim, ops.where)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {
            **super().get_config(),
            "dim": self.dim,
            "zeta": self.zeta,
            "shrinkage_cov": None if self.shrinkage_cov is None else self.shrinkage_cov.tolist(),
            "estimator": self.estimator,
            "groups": self.groups,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Construct from a configuration, in which Σ_S is a list."""
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
        if self._in_halves:
            shapes |= {"met": ()}
        self._states = {half: self._add_state(half, shapes) for half in self._prefixes}
        if self._in_halves:
            self._groups, self._independent = self._add_state("", {"groups": (), "independent": ()}).values()

    def _add_state(self, prefix: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
        return {
            name: self.add_variable(shape=shape, initializer="zeros", dtype=self.dtype, name=prefix + name)
            for name, shape in shapes.items()
        }

    @property
    def _in_halves(self) -> bool:
        return self.estimator == "unbiased" and self.groups is not None

    @property
    def _prefixes(self) -> tuple[str, ...]:
        return (_FIRST, _SECOND) if self._in_halves else (_FIRST,)

    def _batch(self, cloud: Points, groups: Groups | None = None) -> Sums:
        sums = batch_sums(cloud.clouds, cloud.masks, self.dtype, fourth_order=self.estimator == "unbiased")
        if groups is not None:
            sums.met = ops.cast(groups_with_points(cloud, groups), self.dtype)
        return sums

    def _take(self, half: str, batch: Sums) -> None:
        sums = self._sums(half)
        merge(sums, batch, OPERATIONS)
        self._assign(half, sums)

    def _take_halves(self, cloud: Points, groups: Groups) -> None:
        so_far, count = ops.cast(self._groups, self.dtype), groups.count
        halves = [self._batch(half, groups) for half in halves_of(cloud, groups)[:2]]
        batches = swapped(halves[0], halves[1], so_far % 2 != 0, ops.where)
        for half, batch in zip(self._prefixes, batches, strict=True):
            self._take(half, batch)
        if count is None:  # labels without values yet are the numbers
            count = ops.max(ops.concatenate(groups.numbers)) + 1
        self._groups.assign(so_far + ops.cast(count, self.dtype))

    def _unbiased_score(self, first: Sums, dim: int) -> Any:
        if not self._in_halves:
            return measured_unbiased_score(self._invariants(first, dim)[0], dim, ops.where)
        second, groups = self._sums(_SECOND), ops.cast(self._groups, self.dtype)
        inner = ops.sum(first.scatter.total * second.scatter.total)
        pair = pair_of_sums(first, second, inner, dim, OPERATIONS, self._precision)
        enough = ops.logical_and(first.met >= 2, second.met >= 2)
        halves = measured_halves_score(pair, dim, ops.where, enough=enough)
        halves = ops.where(ops.cast(self._independent, self.dtype) > 0, float("nan"), halves)
        merge(first, plain(second), OPERATIONS)
        independent = measured_unbiased_score(self._invariants(first, dim)[0], dim, ops.where)
        return ops.where(groups > 0, halves, independent)

    def _invariants(self, sums: Sums, dim: int) -> tuple[Invariants, Any]:
        scatter = sums.scatter.total
        parts = (sums.count, sums.unit, ops.trace(scatter), ops.sum(scatter * scatter), sums.fourth)
        invariants, scale = invariants_of_sums(*parts, dim, ops.where)
        return invariants._replace(precision=self._precision), scale

    @property
    def _precision(self) -> float:
        return float(np.finfo(self.dtype).eps)

    def _sums(self, half: str) -> Sums:
        # Not .value, which on TensorFlow is a variable, and lacks methods that `keras.ops` call.
        state = {name: ops.cast(variable, variable.dtype) for name, variable in self._states[half].items()}
        offset = Compensated(state.pop("mean"), state.pop("mean_rest"))
        return Sums(offset=offset, scatter=Compensated(state.pop("scatter"), state.pop("scatter_rest")), **state)

    def _assign(self, half: str, sums: Sums) -> None:
        state = vars(sums) | {"mean": sums.offset.total, "mean_rest": sums.offset.rest}
        state |= {"scatter": sums.scatter.total, "scatter_rest": sums.scatter.rest}
        for name, variable in self._states[half].items():
            variable.assign(state[name])


def _tensor(name: str, array: Any, dtype: str) -> Any:
    if not ops.is_tensor(array):
        array = as_numpy(name, array)
        checks.check_dtype(name, array.dtype.name)
        return ops.convert_to_tensor(array, dtype)  # by default Keras converts NumPy's float64 to float32
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
    """Combine Keras' attached mask with weights."""
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
