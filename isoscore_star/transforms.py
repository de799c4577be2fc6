"""Centring, removal of the leading directions and partial whitening of embeddings, as one transformer of scikit-learn.

x ↦ (x − μ)·W with W = Σⱼ wⱼ·uⱼuⱼᵀ over the eigenvectors uⱼ of the covariance. The leading `remove` directions have
wⱼ = 0; the others wⱼ = (λⱼ/λ̄)^(−power/2) with eigenvalues shrunk towards their mean λ̄. So these are cases of it:
centring (no direction removed, power 0), "all but the top" (Mu & Viswanath, ICLR 2018: some removed, power 0),
whitening (power 1, in the coordinates of the points: ZCA) and everything between.
"""

from __future__ import annotations

from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from isoscore_star import DegenerateDataError, InvalidValueError, MissingDependencyError, Moments, arguments

try:
    from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as missing:
    raise MissingDependencyError(
        "scikit-learn", 'transforms are transformers of scikit-learn: pip install "isoscore-star[transforms]"'
    ) from missing

if TYPE_CHECKING:
    import torch

FloatArray = NDArray[np.float64]

_DTYPES = (np.float64, np.float32)


class SpectralTransform(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Centre points, remove their leading directions, and whiten the others in part or in full.

    Parameters
    ----------
    remove : int, default 0
        Leading directions that are removed, from 0 to d − 1.
    power : float, default 0.0
        From 0, which keeps the spectrum, to 1, after which all directions have the same variance.
    shrinkage : float, default 0.0
        From 0 to 1: how far the eigenvalues are drawn to their mean before the power is taken, so that directions of
        little variance, which are mostly noise in a small sample, are not blown up.

    Attributes
    ----------
    mean_ : ndarray of shape (d,), float64
        Mean of the points.
    explained_variance_ : ndarray of shape (d,), float64
        Eigenvalues of their covariance (ddof = 1), largest first.
    components_ : ndarray of shape (d, d), float64
        Its eigenvectors, one a row.
    matrix_ : ndarray of shape (d, d), float64
        W of the equation in this module, symmetric.
    moments_ : Moments
        What was fitted.
    n_features_in_ : int
        d.

    Notes
    -----
    Directions without variance stay removed at any power, unless `shrinkage` is above 0. Lengths are in units of the
    mean variance of the directions that stay, so that they keep their size. Whitening can harm: measure your task
    (docs/transforms.md).

    Wrong points raise scikit-learn's errors, wrong parameters `InvalidValueError` or `InvalidTypeError`.

    Examples
    --------
    >>> import numpy as np
    >>> import isoscore_star as iso
    >>> from isoscore_star.transforms import SpectralTransform
    >>> embeddings = np.random.default_rng(0).normal(size=(1000, 8)) * [9, 4, 1, 1, 1, 1, 1, 1] + 5
    >>> bool(iso.isoscore(embeddings) < 0.1)
    True
    >>> for arguments in ({"remove": 2}, {"power": 0.5}, {"power": 1.0}):
    ...     print(round(iso.isoscore(SpectralTransform(**arguments).fit_transform(embeddings)), 2))
    0.71
    0.37
    1.0
    """

    def __init__(self, remove: int = 0, power: float = 0.0, shrinkage: float = 0.0) -> None:
        self.remove = remove
        self.power = power
        self.shrinkage = shrinkage

    def fit(self, X: Any, y: Any = None) -> SpectralTransform:
        """Fit to points, and forget those before.

        Parameters
        ----------
        X : array of shape (m, d), or Moments
            At least two points.
        y : ignored
            Not used.

        Returns
        -------
        SpectralTransform
            This object.
        """
        if isinstance(X, Moments):
            if X.count < 2:
                raise DegenerateDataError("X", f"a covariance needs at least 2 points; got Moments of {X.count}")
            self.n_features_in_ = arguments.dimensions(X.dim, "X")
            if hasattr(self, "feature_names_in_"):
                del self.feature_names_in_
            return self._take(Moments().merge(X))
        points = validate_data(self, X, dtype=_DTYPES, ensure_min_samples=2, ensure_min_features=2)
        return self._take(Moments().update(points, groups=None))

    def partial_fit(self, X: Any, y: Any = None) -> SpectralTransform:
        """Fit to points beside those before.

        Parameters
        ----------
        X : array of shape (m, d)
            One point or more; all of them together at least two.
        y : ignored
            Not used.

        Returns
        -------
        SpectralTransform
            This object.
        """
        first = not hasattr(self, "moments_")
        points = validate_data(self, X, dtype=_DTYPES, ensure_min_features=1 + first, reset=first)
        self._parameters()  # before the points count
        return self._take((Moments() if first else self.moments_).update(points, groups=None))

    def transform(self, X: Any) -> NDArray[Any]:
        """Transform points.

        Parameters
        ----------
        X : array of shape (m, d)
            Float32 stays float32; all else becomes float64.

        Returns
        -------
        ndarray of shape (m, d)
            New points, in the old coordinates.
        """
        check_is_fitted(self)
        points = validate_data(self, X, dtype=_DTYPES, reset=False)
        return transformed(points, self.mean_, self.matrix_, points.dtype)

    def to_torch(self) -> torch.nn.Linear:
        """Return the same as a linear layer, float32, that is not trained."""
        _require("torch")
        import torch

        check_is_fitted(self)
        layer = torch.nn.Linear(self.n_features_in_, self.n_features_in_)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(self.matrix_.T))
            layer.bias.copy_(torch.from_numpy(-self.mean_ @ self.matrix_))
        return layer.requires_grad_(False)

    def to_sentence_transformers(self) -> Any:
        """Return the same as a module of a `SentenceTransformer`, which saves and loads it.

        Returns
        -------
        sentence_transformers.sentence_transformer.modules.Dense
            To append or, where the model ends in `Normalize`, to insert before that.
        """
        _require("sentence-transformers")
        import torch
        from sentence_transformers.sentence_transformer.modules import Dense

        layer = self.to_torch()
        return Dense(
            self.n_features_in_,
            self.n_features_in_,
            activation_function=torch.nn.Identity(),
            init_weight=layer.weight.detach(),
            init_bias=layer.bias.detach(),
        )

    @property
    def mean_(self) -> FloatArray:
        """Mean of the points."""
        return self.spectrum_.mean

    @property
    def explained_variance_(self) -> FloatArray:
        """Eigenvalues of their covariance, largest first."""
        return self.spectrum_.variances

    @property
    def components_(self) -> FloatArray:
        """Eigenvectors of their covariance, one a row."""
        return self.spectrum_.directions.T

    @property
    def matrix_(self) -> FloatArray:
        """W of the equation in this module."""
        check_is_fitted(self)
        remove, power, shrinkage = self._parameters()
        weights = self.spectrum_.weights(remove, power, shrinkage)
        directions = self.spectrum_.directions[:, remove:]
        return (directions * weights) @ directions.T

    def _take(self, moments: Moments) -> SpectralTransform:
        self._parameters()
        self.moments_, self.spectrum_ = moments, _Spectrum(moments)
        return self

    def _parameters(self) -> tuple[int, float, float]:
        remove = arguments.integer("remove", self.remove, 0)
        if remove >= self.n_features_in_:
            raise InvalidValueError("remove", f"of {self.n_features_in_} directions one has to stay; got {remove}")
        power = arguments.number("power", self.power, 0.0, 1.0)
        return remove, power, arguments.number("shrinkage", self.shrinkage, 0.0, 1.0)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def transformed(points: NDArray[Any], mean: FloatArray, matrix: FloatArray, dtype: Any) -> NDArray[Any]:
    """Return (x − μ)·W in a dtype; the mean, which may be far from zero, is subtracted in float64."""
    result: NDArray[Any] = (points - mean).astype(dtype) @ matrix.astype(dtype)
    return result


def _require(extra: str) -> None:
    package = extra.replace("-", "_")
    if find_spec(package) is None:
        raise MissingDependencyError(
            f'this needs {package}, which is not installed: pip install "isoscore-star[{extra}]"'
        )


class _Spectrum:
    """Eigenvalues and eigenvectors of a covariance, computed when they are first needed."""

    def __init__(self, moments: Moments) -> None:
        self._moments = moments

    @property
    def mean(self) -> FloatArray:
        return self._moments.mean

    @cached_property
    def _eigh(self) -> tuple[FloatArray, FloatArray]:
        values, vectors = np.linalg.eigh(self._moments.cov)
        return np.maximum(values[::-1], 0.0), vectors[:, ::-1]

    @property
    def variances(self) -> FloatArray:
        return self._eigh[0]

    @property
    def directions(self) -> FloatArray:
        return self._eigh[1]

    def weights(self, remove: int, power: float, shrinkage: float) -> FloatArray:
        """Return the factors of the directions that stay."""
        kept = self.variances[remove:]
        mean = kept.mean()
        # What eigh leaves of a zero: its error is some d·ε of the largest eigenvalue.
        least = len(self.variances) * np.finfo(np.float64).eps * self.variances[0]
        if not kept[0] > least:
            raise DegenerateDataError("X", f"no variance is left when the {remove} leading directions are removed")
        shrunk = (1 - shrinkage) * kept + shrinkage * mean
        usable = shrunk > least
        return np.where(usable, np.where(usable, shrunk / mean, 1.0) ** (-power / 2), 0.0 if power else 1.0)
