"""The names and signatures of the authors' package (PyPI IsoScore 2.0.1) and training code; needs torch, as theirs do.

``from isoscore_star import compat as IsoScore`` replaces ``from IsoScore import IsoScore`` in a script. New code should
call the functions that each docstring names; docs/migration.md lists old calls, new calls and differences.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from isoscore_star import functions
from isoscore_star.backends.torch import BACKEND, CosineRegularizer
from isoscore_star.core import checks
from isoscore_star.core.errors import InvalidTypeError
from isoscore_star.distributions import isoscore_from_cov

__all__ = ["IsoScore", "IsoScore_cov", "IsoScore_star", "cosine_regularizer", "istar"]


def IsoScore(points: Any) -> Tensor:  # noqa: N802 - their name
    """Compute IsoScore of a point cloud. New name: `isoscore_star.isoscore`.

    Parameters
    ----------
    points : array of shape (m, d)
        Points as rows: a tensor, NumPy array, or nested list; not differentiated.

    Returns
    -------
    Tensor
        0-d, in the points' dtype (half precision as float32, integers as float64), on their device.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        As `isoscore_star.isoscore`; DegenerateDataError for points that are all identical, where theirs gives NaN.

    Examples
    --------
    >>> from isoscore_star import compat as IsoScore
    >>> IsoScore.IsoScore([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    tensor(1.)
    """
    return functions.isoscore(_tensor(points).detach())


def IsoScore_star(points: Any, C0: Any, zeta: float) -> Tensor:  # noqa: N802 - their name
    """Compute IsoScore* of a point cloud. New name: `isoscore_star.isoscore_star`.

    Parameters
    ----------
    points : array of shape (m, d)
        See `IsoScore`; not differentiated.
    C0 : array of shape (d, d)
        Shrinkage covariance, NumPy or torch. May be None with ζ = 0.
    zeta : float
        ζ in [0, 1], the weight of `C0`.

    Returns
    -------
    Tensor
        0-d, in the wider of the two dtypes, on the points' device.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        As `isoscore_star.isoscore_star`.

    Examples
    --------
    >>> import torch
    >>> from isoscore_star import compat as IsoScore
    >>> IsoScore.IsoScore_star(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.eye(2), 1.0)
    tensor(1.)
    """
    cloud, cov = _same_dtype(_tensor(points).detach(), C0)
    return functions.isoscore_star(cloud, None if cov is None else cov.detach(), zeta)


def IsoScore_cov(cov: Any) -> Tensor:  # noqa: N802 - their name
    """Compute IsoScore of a distribution with this covariance. New name: `isoscore_star.isoscore_from_cov`.

    Parameters
    ----------
    cov : array of shape (d, d)
        NumPy, torch, or nested list; not differentiated.

    Returns
    -------
    Tensor
        0-d.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        As `isoscore_star.isoscore_from_cov`; theirs also takes matrices that are no covariance.

    Examples
    --------
    >>> from isoscore_star import compat as IsoScore
    >>> IsoScore.IsoScore_cov([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 0.0]])
    tensor(0.5000)
    """
    return isoscore_from_cov(_tensor(cov).detach())


class istar(nn.Module):  # noqa: N801 - their name
    """The training score. New name: `isoscore_star.backends.torch.IStarLoss`, or `isoscore_star.istar_loss`.

    Both return λ·(1 − IsoScore*), take attention masks, and need no `C0` with ``estimator="unbiased"``.

    Examples
    --------
    >>> import torch
    >>> from isoscore_star.compat import istar
    >>> states = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> loss = 1.0 * (1 - istar().IsoScore_star(states, torch.eye(2), zeta=0.5, is_eval=False))
    >>> loss.backward()
    >>> states.grad.shape
    torch.Size([4, 2])
    """

    def IsoScore_star(  # noqa: N802 - their name
        self, points: Any, C0: Any, zeta: float, is_eval: bool = True, gpu_id: Any = None
    ) -> Tensor:
        """Compute IsoScore* for evaluation, or differentiably for training.

        Parameters
        ----------
        points : array of shape (m, d)
            For training (``is_eval=False``) a floating-point tensor, whose ``requires_grad`` is set, as theirs is.
        C0 : array of shape (d, d)
            Shrinkage covariance; see the function `IsoScore_star`.
        zeta : float
            ζ in [0, 1].
        is_eval : bool, default True
            Whether to detach the points.
        gpu_id : optional
            Not used: all is computed on the points' device.

        Returns
        -------
        Tensor
            0-d; with ``is_eval=False`` never NaN for finite points: a batch without variance has S = 0.

        Raises
        ------
        InvalidTypeError
            If ``is_eval=False`` and the points are no tensor.
        InvalidValueError
            As `isoscore_star.isoscore_star`; with ``is_eval=False`` values are not checked.
        """
        if is_eval:
            return IsoScore_star(points, C0, zeta)
        if not isinstance(points, Tensor):
            raise InvalidTypeError(
                "points",
                f"expected a torch tensor, since is_eval=False asks for its gradient; got "
                f"{type(points).__name__}. Convert it by torch.as_tensor, or leave is_eval out",
            )
        points.requires_grad_()
        cloud, cov = _same_dtype(points, C0)
        score: Tensor = functions.training_score(checks.points(cloud, None, BACKEND), cov, zeta)
        return score

    def isoscore_star(self, points: Any, C0: Any, zeta: float, is_eval: bool = False, gpu_id: Any = None) -> Tensor:
        """Compute the same, by the name and with the default for `is_eval` of their training code."""
        return self.IsoScore_star(points, C0, zeta, is_eval, gpu_id)

    def isoscore_cov(self, cov: Any, gpu_id: Any = None) -> Tensor:
        """Compute IsoScore of a covariance, differentiably. New name: `isoscore_star.isoscore_from_cov`."""
        return isoscore_from_cov(_tensor(cov))


class cosine_regularizer(nn.Module):  # noqa: N801 - their name
    """CosReg of their training code. New name: `isoscore_star.backends.torch.CosineRegularizer`.

    That has λ, masks and layers, too. Neither computes the m × m matrix of theirs.

    Examples
    --------
    >>> import torch
    >>> from isoscore_star.compat import cosine_regularizer
    >>> cosine_regularizer()(torch.tensor([[1.0, 0.0], [2.0, 0.0]]))
    tensor(0.5000)
    """

    def __init__(self) -> None:
        super().__init__()
        self.regularizer = CosineRegularizer(sync=False)

    def forward(self, points: Any) -> Tensor:
        """Return the sum of the cosines of all pairs i ≠ j, divided by m².

        Parameters
        ----------
        points : Tensor of shape (m, d)
            Zero vectors have cosine 0 with all, where theirs gives NaN.

        Returns
        -------
        Tensor
            0-d, differentiable.
        """
        result: Tensor = self.regularizer(_tensor(points))
        return result


def _tensor(array: Any) -> Tensor:
    if isinstance(array, Tensor):
        return array
    if hasattr(array, "flags") and not array.flags.writeable:
        array = array.copy()  # torch warns about sharing read-only memory
    return torch.as_tensor(array)


def _same_dtype(points: Tensor, C0: Any) -> tuple[Tensor, Tensor | None]:
    """Promote the points to the wider dtype, as their arithmetic does."""
    if C0 is None:
        return points, None
    cov = _tensor(C0)
    return points.to(torch.promote_types(points.dtype, cov.dtype)), cov
