"""`IStarRegularizer`: the I-STAR penalty as a Keras layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from isoscore_star.backends.keras import _compat
from isoscore_star.backends.keras.modules.anchor import anchored, anchored_or_shrunk, following
from isoscore_star.backends.keras.modules.average import (
    Average,
    covariance_of,
    covariance_of_sample,
    with_batch,
)
from isoscore_star.core import checks, parameters, value_checks
from isoscore_star.core.checks import Points
from isoscore_star.core.errors import InvalidTypeError, InvalidValueError
from isoscore_star.core.registry import get_backend
from isoscore_star.core.sampling import STATES, Fraction, fraction_of_halves
from isoscore_star.core.trust import SHORT_MEMORY, USUAL_MEMORY, is_near
from isoscore_star.functions import istar_loss


@keras.saving.register_keras_serializable(package="isoscore_star")
class IStarRegularizer(keras.layers.Layer):  # type: ignore[misc]
    """Adds the I-STAR penalty λ·(1 − IsoScore*) of its input to the model's loss, and returns the input unchanged.

    The model's outputs have to depend on it, since Keras drops other layers with their losses. The penalty does not
    depend on the batch size. Rows that a Keras mask (such as that of ``Embedding(mask_zero=True)``) excludes do not
    count.

    Parameters
    ----------
    lam : float, default 1.0
        λ. Above 0 pushes towards isotropy, below 0 away from it.
    zeta : float, default 0.2
        ζ in [0, 1], the weight of Σ_S. Of the shrinkage estimator, and of the anchored one while a constant Σ_S is far.
    estimator : {"shrinkage", "unbiased", "anchored"}, default "shrinkage"
        ``"shrinkage"``: IsoScore*, as in the paper. ``"unbiased"``, of two halves of the sequences, needs neither ζ nor
        Σ_S, but at least four sequences. ``"anchored"``: the batch against a Σ_S, whose gradient has the right size
        for any batch, for half the products; see Notes.
    shrinkage_cov : array of shape (d, d) or "later", optional
        Σ_S, whose values are checked. With ζ > 0 it may also be set before the first training step, by
        `set_shrinkage_cov`, an `IStarCallback` with data, or loaded weights. ``"later"`` announces it: with ζ = 0, so
        that a schedule can raise ζ; to the anchored estimator, which without it takes Σ_S from the batches.
    running_average : float, optional
        Decay in [0, 1), such as 0.99, of an exponential average of the batches' covariances, which then is Σ_S. The
        anchored estimator takes 0.5, a short memory, if it is given no Σ_S, from about 512 states of each batch.
    in_evaluation : bool, default False
        Add the penalty in evaluation too. By default ``val_loss`` is the task's alone.
    groups : "auto", int or None, default "auto"
        Which rows of a batch were sampled together, for the unbiased estimator: those of one index along an axis, by
        default the first of inputs of three axes; see `isoscore_star.isoscore_unbiased`.
    **kwargs
        ``name`` and ``dtype``, as for every layer.

    Attributes
    ----------
    lam, zeta : keras.Variable
        λ and ζ, scalars. ``assign`` to them while the model trains; nothing is recompiled. Without Σ_S ``zeta`` is the
        number 0.0.
    shrinkage_cov : keras.Variable of shape (d, d) or None
        Σ_S, a weight that is not trained, in float32, or float64 under a float64 policy.
    trusted : bool
        Of the anchored estimator: whether Σ_S is near the last batches. Waits for the device.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        For a parameter out of range, or a `shrinkage_cov` that is no covariance; when called, if ζ > 0 and Σ_S was not
        set, or in a tf_keras model, which would drop the loss.

    Notes
    -----
    The loss is added unless Keras passes ``training=False``. A subclassed model whose ``call`` has no argument
    ``training`` passes none, so its evaluation includes the penalty.

    Under a `tf.distribute` strategy each replica computes the score (and the running average) of its own part of a
    batch; under a `keras.distribution` on JAX it is that of the global batch.

    The anchored loss is right near Σ_S only: on one that is kept for ever, states can turn away from it while the
    loss improves. A running Σ_S with a decay of at most 0.9, such as the layer's own, follows the batches; its loss
    has the value of 1 − s(S, Σ_S), which is right for any batch since both are independent. With any other, running
    averages of both sides of tr S·‖Σ_S‖² = tr Σ_S·⟨S, Σ_S⟩, weights of the layer, tell whether Σ_S is near the batches,
    within a fifth. Where it is not, a running Σ_S begins anew with that batch; on a constant one the loss is the
    paper's, with ζ, until it is near again.
    The anchored form takes one product, of the points with Σ_S. That of a constant Σ_S adds the paper's two where it is
    far, alone: a graph chooses by a condition of its own, without the host; eagerly, as always on torch, the host reads
    the answer, for which it waits for an accelerator once in a step. The logged score is never that of the loss: it is
    that of two halves of about 512 states.

    Import this module before loading a saved model.

    Examples
    --------
    >>> import keras
    >>> from isoscore_star.backends.keras import IStarRegularizer
    >>> model = keras.Sequential([keras.layers.Dense(16), IStarRegularizer(lam=1.0, estimator="unbiased")])
    >>> states = model(keras.random.normal((32, 8)), training=True)
    >>> len(model.losses)
    1

    Of isotropic states, with a Σ_S from the batches before:

    >>> layer = IStarRegularizer(lam=1.0, estimator="anchored")
    >>> for _ in range(3):
    ...     states = layer(keras.random.normal((32, 10, 8)), training=True)
    >>> round(layer.mean_score(), 1)
    1.0
    """

    def __init__(
        self,
        lam: float = 1.0,
        zeta: float = 0.2,
        estimator: str = "shrinkage",
        shrinkage_cov: Any = None,
        *,
        running_average: float | None = None,
        in_evaluation: bool = False,
        groups: Any = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self._initial_lam = parameters.number("lam", lam)
        self._initial_zeta = parameters.number("zeta", zeta, 0.0, 1.0)
        self.estimator = parameters.choice("estimator", estimator, parameters.ESTIMATORS)
        self.running_average = None if running_average is None else parameters.decay("running_average", running_average)
        self.in_evaluation = in_evaluation
        self.groups = parameters.usual_groups(groups)
        self.supports_masking = True
        # Called with inputs and masks, instead of adding a loss.
        self.observer: Callable[[Any, Any], Any] | None = None

        announced = isinstance(shrinkage_cov, str) and parameters.choice("shrinkage_cov", shrinkage_cov, ("later",))
        self._dim: Any = None
        given = None if announced or shrinkage_cov is None else value_checks.shrinkage_target(shrinkage_cov, None)
        self._initial_cov = given
        self._makes_its_own = estimator == "anchored" and not announced and given is None and running_average is None
        self._decay = USUAL_MEMORY if self._makes_its_own else self.running_average
        self._has_cov = given is not None or self._decay is not None
        self.mixes = estimator == "anchored" or (
            estimator == "shrinkage" and bool(announced or self._has_cov or self._initial_zeta > 0)
        )

        self.lam = self._weight("lam", (), _constantly(self._initial_lam))
        self.zeta = self._weight("zeta", (), _constantly(self._initial_zeta)) if self.mixes else 0.0
        self.shrinkage_cov: Any = None
        self._score_total = self._weight("score_total", (), "zeros", "sum")
        self._score_rows = self._weight("score_rows", (), "zeros", "sum")

    def build(self, input_shape: Any) -> None:
        """Create the weight Σ_S."""
        self._dim = _width(input_shape)
        if self._initial_cov is not None:
            value_checks.shrinkage_target(self._initial_cov, self._dim)
        if self.mixes:
            averages = None if self._decay is None else "mean"
            first = "zeros" if self._initial_cov is None else _constantly(self._initial_cov)
            self.shrinkage_cov = self._weight("shrinkage_cov", (self._dim, self._dim), first, averages)
            if averages:
                self._averaged = self._weight("averaged", (), "zeros" if first == "zeros" else "ones", averages)
        if self.estimator == "anchored":
            self._sides = self._weight("sides", (2,), "zeros", "mean")

    def set_shrinkage_cov(self, cov: Any) -> None:
        """Set Σ_S, checking its values.

        Parameters
        ----------
        cov : array of shape (d, d)
            Of any installed framework, such as ``isoscore_star.Moments().update(points).cov``.
        """
        if not self.mixes:
            raise InvalidValueError(
                "shrinkage_cov",
                f"the layer {self.name!r} mixes none in (zeta=0 or the unbiased estimator). "
                'Make it with zeta > 0, or with shrinkage_cov="later" if a schedule raises zeta',
            )
        matrix, self._has_cov = value_checks.shrinkage_target(cov, self._dim), True
        if self.shrinkage_cov is None:
            self._initial_cov = matrix
            return
        self.shrinkage_cov.assign(matrix)
        if self._decay is not None:
            self._averaged.assign(1.0)
        if self.estimator == "anchored":
            self._sides.assign([0.0, 0.0])  # of the test with another Σ_S

    @property
    def trusted(self) -> bool:
        """Whether Σ_S is near the last batches, of the anchored estimator; True before the first."""
        if self.estimator != "anchored" or not self.built:
            return True
        left, right = get_backend("keras").to_numpy(self._sides)
        return bool(is_near(left, right))

    def call(self, inputs: Any, mask: Any = None, training: bool | None = None) -> Any:
        """Add the penalty and return the input.

        Parameters
        ----------
        inputs : tensor of shape (batch, ..., d), or a list or tuple of such tensors
            A list means the union of its clouds.
        mask : tensor of shape (batch, ...), or a list, optional
            Keras passes the one attached to the input.
        training : bool, optional
            Unless it is False the penalty is added.

        Returns
        -------
        tensor, or list or tuple of tensors
            The input.
        """
        if self.observer is not None:
            self.observer(inputs, mask)
        elif training or training is None or self.in_evaluation:
            self._add_penalty(inputs, mask, averages=training is not False)
        return inputs

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Return the mask."""
        return mask

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape of the input."""
        return input_shape

    def compute_output_spec(self, inputs: Any, mask: Any = None, training: bool | None = None) -> Any:
        """Return symbolic tensors like the input."""
        return keras.tree.map_structure(lambda x: keras.KerasTensor(x.shape, dtype=x.dtype), inputs)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor, without Σ_S, a weight."""
        config = {
            "lam": self._initial_lam,
            "zeta": self._initial_zeta,
            "estimator": self.estimator,
            "shrinkage_cov": "later" if self.mixes and not self._makes_its_own else None,
            "running_average": self.running_average,
            "in_evaluation": self.in_evaluation,
            "groups": self.groups,
        }
        return {**super().get_config(), **config}

    def load_own_variables(self, store: Any) -> None:
        """Load the weights, Σ_S among them."""
        super().load_own_variables(store)
        if self.mixes:
            self._has_cov = self._has_cov or bool(get_backend("keras").to_numpy(self.shrinkage_cov).any())

    def mean_score(self) -> float | None:
        """Return the mean score of the batches since `reset_score`, weighted by their rows, like Keras' losses."""
        total, rows = map(get_backend("keras").to_numpy, (self._score_total, self._score_rows))
        return float(total / rows) if rows else None

    def reset_score(self) -> None:
        """Reset the mean score."""
        self._score_total.assign(0.0)
        self._score_rows.assign(0.0)

    def _add_penalty(self, inputs: Any, mask: Any, *, averages: bool) -> None:
        clouds = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
        if _compat.inside_tf_keras(clouds):  # which would train without the layer's loss
            raise InvalidTypeError(
                "inputs",
                "a layer of Keras 3 in a tf_keras model would be trained without its loss. In tf_keras, call "
                "model.add_loss(isoscore_star.istar_loss(states, ...)) on the symbolic tensor of a functional model",
            )
        if _compat.only_finding_shapes(clouds):
            return
        zeta: Any = self.zeta
        if self.mixes:
            self._require_cov()
            dtypes = {keras.backend.standardize_dtype(cloud.dtype) for cloud in clouds}
            narrow = dtypes <= {"float32", "float16", "bfloat16"}
            zeta = ops.cast(self.zeta, "float32" if narrow else "float64")
        if self.estimator == "anchored":
            cloud = checks.points(inputs, mask)
            penalty = 1 - self._anchored_score(cloud, zeta, averages=averages)
            fraction = self._true_score(cloud)
        else:
            if self._decay is not None and self.mixes and averages:
                cloud = checks.points(inputs, mask)
                batch = covariance_of(cloud.arrays, cloud.given_masks, self.shrinkage_cov.dtype)
                self._assign(with_batch(self._average(), batch, self._decay))
            cov = self.shrinkage_cov.value if self.mixes else None
            penalty = istar_loss(inputs, cov, zeta, 1.0, mask=mask, estimator=self.estimator, groups=self.groups)
            fraction = Fraction(1 - penalty, 1.0)
        self.add_loss(ops.cast(self.lam, penalty.dtype) * penalty)
        dtype = self._score_rows.dtype
        rows = ops.cast(ops.shape(clouds[0])[0], dtype)
        self._score_total.assign(self._score_total + rows * ops.stop_gradient(ops.cast(fraction.numerator, dtype)))
        self._score_rows.assign(self._score_rows + rows * ops.stop_gradient(ops.cast(fraction.denominator, dtype)))

    def _anchored_score(self, cloud: Points, zeta: Any, *, averages: bool) -> Any:
        """Compute the score of which the anchored loss is made, and learn from the batch if it `averages`."""
        if self._decay is None:
            found = anchored_or_shrunk(cloud, self.shrinkage_cov.value, zeta, self._sides.value)
            if averages:
                self._sides.assign(found.sides)
            return found.score
        average, batch = self._average(), covariance_of_sample(cloud, STATES, self.shrinkage_cov.dtype)
        # The batch is compared with those before it; where there are none, with itself.
        cov = ops.where(average.averaged > 0, average.cov, batch)
        if self._decay <= SHORT_MEMORY:
            if averages:
                self._assign(with_batch(average, batch, self._decay))
            return following(cloud, cov)
        found = anchored(cloud, cov, self._sides.value)
        if averages:
            # Where Σ_S is far the average begins anew with this batch, and the test with the next one.
            kept = ops.cast(found.near, average.averaged.dtype)
            self._assign(with_batch(average._replace(averaged=average.averaged * kept), batch, self._decay))
            self._sides.assign(kept * ops.cast(found.sides, kept.dtype))
        return found.score

    def _true_score(self, cloud: Points) -> Fraction:
        """Compute the score to log beside the anchored loss: that of two halves of a sample of the states."""
        states = [ops.stop_gradient(array) for array in cloud.arrays]
        return fraction_of_halves(states, cloud.given_masks, self.groups, cloud.backend)

    def _average(self) -> Average:
        return Average(self.shrinkage_cov.value, self._averaged.value)

    def _assign(self, average: Average) -> None:
        self.shrinkage_cov.assign(average.cov)
        self._averaged.assign(average.averaged)

    def _require_cov(self) -> None:
        if self._has_cov:
            return
        if self.estimator == "anchored":
            raise InvalidValueError(
                "shrinkage_cov",
                f'it was to be set later (shrinkage_cov="later"), but the layer {self.name!r} was given none. Set it '
                "(set_shrinkage_cov, or an IStarCallback with data), or leave shrinkage_cov out, to take it from the "
                "batches. To call the model without its loss, say training=False",
            )
        raise InvalidValueError(
            "shrinkage_cov",
            f"zeta={self._initial_zeta:g} mixes in a shrinkage covariance, but the layer "
            f"{self.name!r} was given none. Give one (shrinkage_cov=, set_shrinkage_cov, or an IStarCallback "
            "with data), or take it from the batches (running_average=0.99), or set zeta=0, or use "
            'estimator="unbiased", which needs none. To call the model without its loss, say training=False',
        )

    def _weight(self, name: str, shape: tuple[int, ...], initializer: Any, assigned: str | None = None) -> Any:
        """Create a weight that is not trained; `assigned` is the aggregation over replicas, if calls assign to it.

        Each replica of a tf.distribute strategy then has its own value (on_read): synchronising inside a call would mix
        up their losses, which Keras keeps in one list.
        """
        on_read = {"synchronization": "on_read"} if assigned and keras.backend.backend() == "tensorflow" else {}
        with keras.name_scope(self.name):
            return keras.Variable(
                initializer,
                shape=shape,
                dtype="float64" if self.variable_dtype == "float64" else "float32",
                trainable=False,
                autocast=False,
                aggregation=assigned,
                name=name,
                **on_read,
            )


def _constantly(value: Any) -> Callable[..., Any]:
    return lambda shape, dtype=None: ops.broadcast_to(ops.convert_to_tensor(value, dtype), shape)


def _width(input_shape: Any) -> int:
    if isinstance(input_shape, dict):
        raise InvalidTypeError("inputs", "expected one tensor, or a list or tuple of them; got a dict")
    shapes = input_shape if input_shape and isinstance(input_shape[0], (list, tuple)) else [input_shape]
    for shape in shapes:
        if len(shape) < 2 or shape[-1] is None:
            raise InvalidValueError(
                "inputs", f"expected points as rows, shape (batch, ..., d) with d known; got {tuple(shape)}"
            )
    if len({shape[-1] for shape in shapes}) > 1:
        raise InvalidValueError(
            "inputs",
            f"the clouds of one union need the same number of dimensions (last axis); got shapes {shapes}. "
            "Use one layer for each width",
        )
    return parameters.dimensions(int(shapes[0][-1]), "inputs")
