"""`IStarActivityRegularizer`: the I-STAR penalty for the argument ``activity_regularizer`` of any Keras layer."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from isoscore_star.backends.keras import _compat
from isoscore_star.core import parameters, value_checks
from isoscore_star.core.errors import InvalidValueError
from isoscore_star.functions import istar_loss


@keras.saving.register_keras_serializable(package="isoscore_star")
class IStarActivityRegularizer(keras.regularizers.Regularizer):  # type: ignore[misc]
    """The I-STAR penalty λ·(1 − IsoScore*) of a layer's output: ``Dense(64, activity_regularizer=...)``.

    λ has the same scale as in `IStarRegularizer`, although Keras (since 3.14) divides an activity regularizer's value
    by the batch size. That layer also takes masks, unions of layers, schedules and a refreshed Σ_S, and keeps
    ``val_loss`` free of the penalty. Here Keras passes no mask, adds the penalty in evaluation too, and Σ_S is a
    constant, saved in the model's configuration.

    Parameters
    ----------
    lam : float, default 1.0
        λ. Above 0 pushes towards isotropy, below 0 away from it.
    zeta : float, default 0.2
        ζ in [0, 1], the weight of Σ_S. Not used by the unbiased estimator.
    estimator : {"shrinkage", "unbiased"}, default "shrinkage"
        ``"unbiased"`` needs neither ζ nor Σ_S. The anchored one needs the layer, which has a memory.
    shrinkage_cov : array of shape (d, d), optional
        Σ_S.
    groups : "auto", int or None, default "auto"
        Which rows of a batch were sampled together, for the unbiased estimator: those of one index along an axis, by
        default the first of inputs of three axes; see `isoscore_star.isoscore_unbiased`.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        For a parameter out of range, a `shrinkage_cov` that is no covariance, or ζ > 0 without one.

    Examples
    --------
    >>> import keras
    >>> from isoscore_star.backends.keras import IStarActivityRegularizer
    >>> layer = keras.layers.Dense(16, activity_regularizer=IStarActivityRegularizer(estimator="unbiased"))
    >>> states = layer(keras.random.normal((32, 8)))
    >>> len(layer.losses)
    1
    """

    def __init__(
        self,
        lam: float = 1.0,
        zeta: float = 0.2,
        estimator: str = "shrinkage",
        shrinkage_cov: Any = None,
        *,
        groups: Any = "auto",
    ) -> None:
        self.lam = parameters.number("lam", lam)
        if isinstance(estimator, str) and estimator == "anchored":
            raise InvalidValueError(
                "estimator",
                '"anchored" needs a memory, of whether Σ_S is still near the batches, which a regularizer of Keras has '
                "not. Put the layer IStarRegularizer behind this one",
            )
        self.estimator = parameters.choice("estimator", estimator, parameters.MEASURING_ESTIMATORS)
        self.groups = parameters.usual_groups(groups)
        self.shrinkage_cov = None if shrinkage_cov is None else value_checks.shrinkage_target(shrinkage_cov, None)
        self.zeta = parameters.number("zeta", zeta, 0.0, 1.0)
        if estimator == "shrinkage":
            parameters.zeta(self.zeta, self.shrinkage_cov)
        _compat.divides_by_batch_size()  # cached here, outside of any graph

    def __call__(self, x: Any) -> Any:
        """Compute the penalty, times the batch size if Keras divides by it."""
        penalty = istar_loss(x, self.shrinkage_cov, self.zeta, self.lam, estimator=self.estimator, groups=self.groups)
        return penalty * ops.cast(ops.shape(x)[0], penalty.dtype) if _compat.divides_by_batch_size() else penalty

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {
            "lam": self.lam,
            "zeta": self.zeta,
            "estimator": self.estimator,
            "shrinkage_cov": None if self.shrinkage_cov is None else self.shrinkage_cov.tolist(),
            "groups": self.groups,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Construct from a configuration, in which Σ_S is a list."""
        cov = config["shrinkage_cov"]
        return cls(**{**config, "shrinkage_cov": None if cov is None else np.asarray(cov)})
