"""`IStarRegularizer`: the I-STAR penalty of a Keras model, as a layer that passes its input through unchanged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from isoscore_star.backends.keras import _compat
from isoscore_star.backends.keras.moments import batch_sums
from isoscore_star.core import checks, parameters, value_checks
from isoscore_star.core.errors import InvalidTypeError, InvalidValueError
from isoscore_star.core.registry import get_backend
from isoscore_star.core.scaling import larger, not_zero
from isoscore_star.functions import istar_loss


@keras.saving.register_keras_serializable(package="isoscore_star")
class IStarRegularizer(keras.layers.Layer):  # type: ignore[misc]
    """Adds the I-STAR penalty λ·(1 − IsoScore*) of its input to the loss of the model, and passes the input through.

    It has to stand on the way to the model's outputs: Keras leaves out a layer that nothing depends on, and its loss
    with it. The penalty is the same whatever the batch size. Rows that a Keras mask (as that of
    ``Embedding(mask_zero=True)``) leaves out do not count.

    Parameters
    ----------
    lam : float, default 1.0
        λ. Above 0 pushes towards isotropy, below 0 away from it.
    zeta : float, default 0.2
        ζ in [0, 1], the weight of Σ_S. Not used by the unbiased estimator.
    estimator : {"shrinkage", "unbiased"}, default "shrinkage"
        ``"unbiased"`` needs neither ζ nor Σ_S.
    shrinkage_cov : array of shape (d, d) or "later", optional
        Σ_S; its values are checked here. With ζ > 0 it may also come later, but before the first training step: by
        `set_shrinkage_cov`, by an `IStarCallback` that has data, or with loaded weights. With ζ = 0, ``"later"`` says
        that it will, so that a schedule can raise ζ.
    running_average : float, optional
        Take Σ_S from the batches themselves: the average of their covariances, in which each batch counts this
        many times what the next one does (0.99, say; below 1).
    in_evaluation : bool, default False
        Add the penalty when the model is evaluated, too. By default ``val_loss`` is the task's alone.
    **kwargs
        ``name`` and ``dtype``, as every layer has.

    Attributes
    ----------
    lam, zeta : keras.Variable
        λ and ζ, scalars. To change one while the model trains, ``assign`` to it: nothing is compiled anew. Where
        there is no Σ_S to mix in, ``zeta`` is 0.0.
    shrinkage_cov : keras.Variable of shape (d, d) or None
        Σ_S, a weight that is not trained: it is saved with the model. In float32, or float64 under a float64 policy.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        For a parameter out of range, or a `shrinkage_cov` that is no covariance; when called, if ζ > 0 and Σ_S never
        came, or if the input belongs to a tf_keras model, which would leave out the loss.

    Notes
    -----
    The loss is added unless Keras says ``training=False``. A subclassed model whose ``call`` has no argument
    ``training`` passes none on, so its evaluation includes the penalty.

    Under a `tf.distribute` strategy each replica takes the score (and the running average) of its own part of a batch;
    under a `keras.distribution` on JAX it is that of the global batch.

    To load a saved model, import this module before.

    Examples
    --------
    >>> import keras
    >>> from isoscore_star.backends.keras import IStarRegularizer
    >>> model = keras.Sequential([keras.layers.Dense(16), IStarRegularizer(lam=1.0, estimator="unbiased")])
    >>> states = model(keras.random.normal((32, 8)), training=True)
    >>> len(model.losses)
    1
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
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self._initial_lam = parameters.number("lam", lam)
        self._initial_zeta = parameters.number("zeta", zeta, 0.0, 1.0)
        self.estimator = parameters.choice("estimator", estimator, parameters.ESTIMATORS)
        self.running_average = _decay(running_average)
        self.in_evaluation = in_evaluation
        self.supports_masking = True
        # Whoever sets this sees inputs and masks instead of a loss being added.
        self.observer: Callable[[Any, Any], Any] | None = None

        announced = isinstance(shrinkage_cov, str) and parameters.choice("shrinkage_cov", shrinkage_cov, ("later",))
        self._dim: Any = None
        self._initial_cov = None if announced or shrinkage_cov is None else _covariance(shrinkage_cov)
        self._has_cov = self._initial_cov is not None or running_average is not None
        self.mixes = estimator == "shrinkage" and bool(announced or self._has_cov or self._initial_zeta > 0)

        self.lam = self._weight("lam", (), _constantly(self._initial_lam))
        self.zeta = self._weight("zeta", (), _constantly(self._initial_zeta)) if self.mixes else 0.0
        self.shrinkage_cov: Any = None
        self._score_total = self._weight("score_total", (), "zeros", "sum")
        self._score_rows = self._weight("score_rows", (), "zeros", "sum")

    def build(self, input_shape: Any) -> None:
        """Make the weight Σ_S, once d is known."""
        self._dim = _width(input_shape)
        if self._initial_cov is not None:
            _covariance(self._initial_cov, self._dim)
        if self.mixes:
            averages = None if self.running_average is None else "mean"
            first = "zeros" if self._initial_cov is None else _constantly(self._initial_cov)
            self.shrinkage_cov = self._weight("shrinkage_cov", (self._dim, self._dim), first, averages)
            if averages:
                self._averaged = self._weight("averaged", (), "zeros" if first == "zeros" else "ones", averages)

    def set_shrinkage_cov(self, cov: Any) -> None:
        """Set Σ_S, checking its values.

        Parameters
        ----------
        cov : array of shape (d, d)
            Of any installed framework, for example ``isoscore_star.Moments().update(points).cov``.
        """
        if not self.mixes:
            raise InvalidValueError(
                "shrinkage_cov",
                f"the layer {self.name!r} mixes none in (zeta=0 or the unbiased estimator). "
                'Make it with zeta > 0, or with shrinkage_cov="later" if a schedule raises zeta',
            )
        matrix, self._has_cov = _covariance(cov, self._dim), True
        if self.shrinkage_cov is None:
            self._initial_cov = matrix
            return
        self.shrinkage_cov.assign(matrix)
        if self.running_average is not None:
            self._averaged.assign(1.0)

    def call(self, inputs: Any, mask: Any = None, training: bool | None = None) -> Any:
        """Add the penalty and give the input back.

        Parameters
        ----------
        inputs : tensor of shape (batch, ..., d), or a list or tuple of such tensors
            A list means the union of its clouds, and comes back as it is.
        mask : tensor of shape (batch, ...), or a list, optional
            Keras gives the mask that the input carries.
        training : bool, optional
            Keras gives it; without it the penalty is added.

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
        """Pass the mask on."""
        return mask

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape of the input."""
        return input_shape

    def compute_output_spec(self, inputs: Any, mask: Any = None, training: bool | None = None) -> Any:
        """Return symbolic tensors like the input."""
        return keras.tree.map_structure(lambda x: keras.KerasTensor(x.shape, dtype=x.dtype), inputs)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor; Σ_S comes with the weights."""
        config = {
            "lam": self._initial_lam,
            "zeta": self._initial_zeta,
            "estimator": self.estimator,
            "shrinkage_cov": "later" if self.mixes else None,
            "running_average": self.running_average,
            "in_evaluation": self.in_evaluation,
        }
        return {**super().get_config(), **config}

    def load_own_variables(self, store: Any) -> None:
        """Load the weights, Σ_S among them."""
        super().load_own_variables(store)
        if self.mixes:
            self._has_cov = self._has_cov or bool(get_backend("keras").to_numpy(self.shrinkage_cov).any())

    def mean_score(self) -> float | None:
        """Return the mean score of the batches since `reset_score`, weighted by their rows as Keras weights losses."""
        total, rows = map(get_backend("keras").to_numpy, (self._score_total, self._score_rows))
        return float(total / rows) if rows else None

    def reset_score(self) -> None:
        """Forget the scores of past batches."""
        self._score_total.assign(0.0)
        self._score_rows.assign(0.0)

    def _add_penalty(self, inputs: Any, mask: Any, *, averages: bool) -> None:
        clouds = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
        _refuse_tf_keras(clouds)
        if _compat.only_finding_shapes(clouds):
            return
        cov, zeta = None, self.zeta
        if self.mixes:
            if not self._has_cov:
                raise self._missing_cov()
            if self.running_average is not None and averages:
                checks.points(inputs, mask)
                masks = mask if isinstance(mask, (list, tuple)) else [mask] * len(clouds)
                self._follow(clouds, list(masks), 1 - self.running_average)
            narrow = all(keras.backend.standardize_dtype(cloud.dtype) in _NARROW for cloud in clouds)
            zeta = ops.cast(self.zeta, "float32" if narrow else "float64")
            cov = self.shrinkage_cov.value
        penalty = istar_loss(inputs, cov, zeta, 1.0, mask=mask, estimator=self.estimator)
        self.add_loss(ops.cast(self.lam, penalty.dtype) * penalty)
        rows = ops.cast(ops.shape(clouds[0])[0], self._score_rows.dtype)
        score = 1 - ops.stop_gradient(ops.cast(penalty, self._score_total.dtype))
        self._score_total.assign(self._score_total + rows * score)
        self._score_rows.assign(self._score_rows + rows)

    def _follow(self, clouds: list[Any], masks: list[Any], weight: float) -> None:
        """Take the batch into the running average by its weight, unless it has no covariance."""
        batch = batch_sums(clouds, masks, self.shrinkage_cov.dtype)
        step = ops.cast(batch.count > 1, batch.count.dtype) * weight
        averaged = self._averaged * (1 - step) + step
        step = step / not_zero(averaged, ops.where)
        cov = batch.scatter / larger(batch.count - 1, 1, ops.where) * batch.unit * batch.unit
        self.shrinkage_cov.assign(self.shrinkage_cov + step * (cov - self.shrinkage_cov))
        self._averaged.assign(averaged)

    def _missing_cov(self) -> InvalidValueError:
        return InvalidValueError(
            "shrinkage_cov",
            f"zeta={self._initial_zeta:g} mixes in a shrinkage covariance, but the layer "
            f"{self.name!r} was given none. Give one (shrinkage_cov=, set_shrinkage_cov, or an IStarCallback with "
            "data), or take it from the batches (running_average=0.99), or set zeta=0, or use "
            'estimator="unbiased", which needs none. To call the model without its loss, say training=False',
        )

    def _weight(self, name: str, shape: tuple[int, ...], initializer: Any, assigned: str | None = None) -> Any:
        """Make a weight that is not trained; if a call assigns to it, say how replicas' values become one.

        Replicas of a tf.distribute strategy then each keep a value of their own (on_read): waiting for each other
        inside a call would mix up their losses, as Keras keeps those of all replicas in one list.
        """
        of_its_own = {"synchronization": "on_read"} if assigned and keras.backend.backend() == "tensorflow" else {}
        with keras.name_scope(self.name):
            return keras.Variable(
                initializer,
                shape=shape,
                dtype="float64" if self.variable_dtype == "float64" else "float32",
                trainable=False,
                autocast=False,
                aggregation=assigned,
                name=name,
                **of_its_own,
            )


_NARROW = ("float32", "float16", "bfloat16")


def _constantly(value: Any) -> Callable[..., Any]:
    return lambda shape, dtype=None: ops.broadcast_to(ops.convert_to_tensor(value, dtype), shape)


def _covariance(cov: Any, dim: Any = None) -> Any:
    return value_checks.shrinkage_target(cov, dim)


def _decay(running_average: float | None) -> float | None:
    if running_average is None:
        return None
    decay = parameters.number("running_average", running_average, 0.0, 1.0)
    if decay == 1:
        raise InvalidValueError("running_average", "expected a number in [0, 1); 1 would never take a batch in")
    return decay


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


def _refuse_tf_keras(clouds: list[Any]) -> None:
    """Raise inside a tf_keras model: it would take the layer, and train without its loss."""
    if _compat.inside_tf_keras(clouds):
        raise InvalidTypeError(
            "inputs",
            "a layer of Keras 3 in a tf_keras model would be trained without its loss. In tf_keras, call "
            "model.add_loss(isoscore_star.istar_loss(states, ...)) on the symbolic tensor of a functional model",
        )
