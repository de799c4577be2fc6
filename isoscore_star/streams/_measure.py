"""`measure` of anything: arrays, moments, batches, files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from isoscore_star import measurement
from isoscore_star.core.batches import is_stream, numbers_in_lists, require_alone
from isoscore_star.core.errors import InvalidTypeError, IsoScoreError
from isoscore_star.measurement import Measurement
from isoscore_star.readers import Cloud, StreamedCloud, open_clouds
from isoscore_star.streams._batched import BatchedCloud

_SEED = 0  # of the sample for the standard error, so that a file has the same one every time


def measure(
    X: Any, shrinkage_cov: Any = None, zeta: float = 0.0, *, mask: Any = None, groups: Any = "auto"
) -> Measurement:
    """Measure a cloud: IsoScore*, the unbiased score with its standard error, and what explains them.

    Parameters
    ----------
    X : array of shape (sequences, tokens, d), (m, d) or (..., d), or a list or tuple of such arrays, Moments, or
        an iterable of batches, or str or Path
        Points as rows; see `isoscore_star.isoscore`. Computed in NumPy for every framework. Moments give all but the
        standard error; see `Measurement.from_moments`. An iterable that is no list, such as a generator or a data
        loader, gives batches, each as `isoscore_star.Moments.update` takes them: it is read once, tensors of torch on
        an accelerator are summed there, and the standard error leaves out blocks of whole groups
        (`Measurement.from_blocks`). A name is that of a file, a folder or a pattern; see
        `isoscore_star.readers.open_array`. Of arrays and data frames of Dask the chunks are read twice if the points
        are in groups, as labels are, whose distinct ones are found first; of independent points the error is that of a
        sample of 4,096 or 4·d, each drawn by its row's number.
    shrinkage_cov, zeta :
        Σ_S and ζ, which only `score` depends on; see `isoscore_star.isoscore_star`.
    mask : array of shape ``X.shape[:-1]``, or str, optional
        1 or true for points, 0 or false for padding. Of a file the name of a file, or of an array or column beside the
        points; batches have their own.
    groups : "auto", int, array of shape ``X.shape[:-1]``, str, or None, default "auto"
        Which points were sampled together, such as the tokens of a sentence; see `isoscore_star.isoscore_unbiased`.
        The unbiased score is that of two halves of the groups, and its standard error leaves out each group. Of a file
        a name, as for `mask`; labels of batches come with them, and a label of another batch is another group.

    Returns
    -------
    Measurement
        Scores, standard error, effective dimensions, spectrum, outlier dimensions.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        As `isoscore_star.isoscore_star`; also if `groups` does not fit X.
    SelectionError, FileContentError, MissingDependencyError
        As `isoscore_star.readers.open_array`.

    Examples
    --------
    >>> import numpy as np
    >>> import isoscore_star as iso
    >>> points = np.random.default_rng(0).normal(size=(200, 50)) * np.r_[10.0, np.ones(49)]
    >>> measurement = iso.measure(points)
    >>> round(measurement.score, 3), round(measurement.unbiased_score, 3), round(measurement.standard_error, 3)
    (0.025, 0.025, 0.003)
    >>> [outlier.dimension for outlier in measurement.outlier_dimensions]
    [0]
    >>> batches = (points[start : start + 20] for start in range(0, 200, 20))
    >>> abs(iso.measure(batches).unbiased_score - measurement.unbiased_score) < 1e-12
    True
    """
    if isinstance(X, (str, Path)):
        return _of_files(X, shrinkage_cov, zeta, mask, groups)
    if is_stream(X):
        require_alone(mask=mask)
        if not (groups is None or isinstance(groups, (str, int))):
            raise InvalidTypeError(
                "groups",
                "labels of batches come with them: give mappings {'X': ..., 'groups': ...} as batches; got "
                f"{type(groups).__name__}",
            )
        return BatchedCloud().take(X, groups).measurement(shrinkage_cov, zeta)
    return measurement.measure(numbers_in_lists(X), shrinkage_cov, zeta, mask=mask, groups=groups)


def _of_files(name: str | Path, shrinkage_cov: Any, zeta: float, mask: Any, groups: Any) -> Measurement:
    """Measure a file, a folder or a pattern, as the command does."""
    for argument, value in (("mask", mask), ("groups", groups)):
        if not (value is None or isinstance(value, (str, Path))):
            raise InvalidTypeError(
                argument,
                f"of a file it is the name of a file, or of an array or column beside the points; got "
                f"{type(value).__name__}",
            )
    clouds = open_clouds(
        [name], (), None if mask is None else str(mask), groups="none" if groups is None else str(groups)
    )
    dim = int(clouds[0].source.shape[-1] or 0)
    streamed = StreamedCloud(dim, np.random.default_rng(_SEED))
    for cloud in clouds:
        _take(streamed, cloud)
    try:
        return streamed.measurement(shrinkage_cov, zeta)
    except IsoScoreError as error:
        raise error.about(clouds[0].source.name) from error


def _take(streamed: StreamedCloud, cloud: Cloud) -> None:
    streamed.take(cloud.source, None if cloud.mask is None else cloud.mask.reshape(-1), groups=cloud.groups)
