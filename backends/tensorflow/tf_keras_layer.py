"""tf_keras (Keras 2): the layer that records a score or penalty of a functional model's placeholder.

    states = tf_keras.layers.Dense(64)(inputs)
    model = tf_keras.Model(inputs, tf_keras.layers.Dense(10)(states))
    model.add_loss(iso.istar_loss(states, cov, zeta=0.2, lam=1.0))

The layer is saved with the model, Σ_S as a weight. To load the model in another process, import this module first. A
mask that Keras attached to the tensor, as ``Embedding(mask_zero=True)`` does, is used unless another one is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from isoscore_star.backends.tensorflow._compat import is_placeholder
from isoscore_star.core import checks, parameters, value_checks
from isoscore_star.core.errors import InvalidTypeError
from isoscore_star.core.recordable import configured_groups, recorded_function
from isoscore_star.core.registry import get_backend

__all__ = ["ScoreLayer"]


@tf_keras.saving.register_keras_serializable(package="isoscore_star")
class ScoreLayer(tf_keras.layers.Layer):  # type: ignore[misc]
    """One of this library's functions of points, as a layer of a tf_keras model.

    Parameters
    ----------
    function : str
        ``"istar_loss"``, ``"isoscore"``, ``"isoscore_star"`` or ``"isoscore_unbiased"``.
    arguments : dict
        Its arguments apart from the points, the mask and Σ_S: numbers and words, and labels of groups as lists.
    cov_shape : tuple of int, optional
        Shape of Σ_S, which is a weight that is not trained.
    cov_dtype : str, optional
        Its dtype.
    """

    def __init__(
        self,
        function: str,
        arguments: dict[str, Any],
        cov_shape: Any = None,
        cov_dtype: str | None = None,
        **kwargs: Any,
    ) -> None:
        # Without autocast, by which a mixed-precision policy would cast the points to half precision.
        super().__init__(autocast=False, **kwargs)
        self.function, self.arguments = function, arguments
        self.cov_shape, self.cov_dtype = cov_shape, cov_dtype
        self.supports_masking = True
        self.shrinkage_cov: Any = None
        if cov_shape is not None:
            # NaN until the values are set or loaded, since a clone without its weights has no Σ_S.
            self.shrinkage_cov = self.add_weight(
                "shrinkage_cov",
                tuple(cov_shape),
                dtype=cov_dtype,
                initializer=tf_keras.initializers.Constant(np.nan),
                trainable=False,
                experimental_autocast=False,
            )

    def call(self, inputs: Any, mask: Any = None, groups: Any = None) -> Any:
        """Call the function; `groups` are labels that come with the inputs."""
        arguments = dict(self.arguments)
        if groups is not None:
            arguments["groups"] = groups
        if not tf.distribute.has_strategy() or tf.distribute.in_cross_replica_context():
            arguments["across"] = None  # the model is being built, or called on the points of one device
        if self.shrinkage_cov is not None:
            arguments["shrinkage_cov"] = tf.convert_to_tensor(self.shrinkage_cov)
        function = tf.autograph.experimental.do_not_convert(recorded_function(self.function))
        score = function(inputs, mask=mask, **arguments)
        if arguments.get("across") is not None:
            # Keras divides every loss by the number of replicas, but each has only its own points' gradient.
            others = tf.distribute.get_strategy().num_replicas_in_sync - 1
            score += others * (score - tf.stop_gradient(score))
        return score

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        """Return None: a score has no points to mask."""

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "function": self.function,
            "arguments": dict(self.arguments),
            "cov_shape": self.cov_shape,
            "cov_dtype": self.cov_dtype,
        }


def record(function: Callable[..., Any], X: Any, given: Mapping[str, Any]) -> Any:
    """Return the output of a new layer that calls a public function on placeholders."""
    arguments = dict(given)
    mask, cov = arguments.pop("mask", None), arguments.pop("shrinkage_cov", None)
    for name in {"zeta", "lam"} & set(arguments):
        arguments[name] = _number(name, arguments[name])
    # With mask=None Keras would not pass on the mask that it attached.
    tensors = {} if mask is None else {"mask": mask}
    if "groups" in arguments:
        labels = arguments.pop("groups")
        if any(map(is_placeholder, labels if isinstance(labels, (list, tuple)) else [labels])):
            tensors["groups"] = labels
        else:
            arguments["groups"] = configured_groups(labels, X)
    if cov is None:
        return ScoreLayer(function.__name__, arguments)(X, **tensors)
    backend = get_backend("tensorflow")
    points = X[0] if isinstance(X, (list, tuple)) else X
    matrix = checks.square_matrix("shrinkage_cov", cov, backend, points.shape[-1])
    value_checks.covariance_values("shrinkage_cov", matrix, backend)
    values = backend.constant(matrix, points)
    layer = ScoreLayer(function.__name__, arguments, tuple(values.shape), values.dtype.name)
    layer.shrinkage_cov.assign(values)
    return layer(X, **tensors)


def _number(name: str, value: Any) -> float:
    known = value.numpy() if isinstance(value, tf.Tensor) and hasattr(value, "numpy") else value
    if isinstance(known, (Real, np.ndarray)):
        return parameters.number(name, known[()] if isinstance(known, np.ndarray) else known)
    raise InvalidTypeError(
        name,
        f"in a functional tf_keras model it is saved with the model as a number; got {type(value).__name__}. "
        "To change it while training, call this function in a layer, a loss or a train_step of your own",
    )
