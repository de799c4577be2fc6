"""Metrics of GLUE, by scikit-learn and SciPy."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALONGSIDE = {
    "accuracy": ("accuracy",),
    "f1": ("f1", "accuracy"),
    "matthews": ("matthews",),
    "pearson": ("pearson", "spearman"),
}
"""Each main metric, and all metrics computed with it; pearson is for regression."""


def scores(metric: str, logits: NDArray[Any], labels: NDArray[Any]) -> dict[str, float]:
    """Score predictions.

    Parameters
    ----------
    metric : str
        One of `ALONGSIDE`.
    logits : ndarray of shape (n, classes), or (n, 1) for regression
        Output of the model.
    labels : ndarray of shape (n,)
        Class numbers, or values for regression.

    Returns
    -------
    dict of str to float
        The main metric first. A correlation with constant predictions counts as 0.
    """
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    if metric == "pearson":
        return _correlations(logits.reshape(len(labels)), labels)
    predicted = logits.argmax(-1)
    accuracy = float(accuracy_score(labels, predicted))
    if metric == "matthews":
        return {"matthews": float(matthews_corrcoef(labels, predicted))}
    if metric == "f1":
        average = "binary" if logits.shape[-1] == 2 else "macro"
        return {"f1": float(f1_score(labels, predicted, average=average, zero_division=0.0)), "accuracy": accuracy}
    return {"accuracy": accuracy}


def _correlations(predicted: NDArray[Any], labels: NDArray[Any]) -> dict[str, float]:
    from scipy.stats import pearsonr, spearmanr

    if len(labels) < 2 or not np.isfinite(predicted).all():
        return {"pearson": 0.0, "spearman": 0.0}
    measures = {"pearson": pearsonr, "spearman": spearmanr}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about constant input, whose correlation is NaN
        values = {name: measure(predicted, labels).statistic for name, measure in measures.items()}
    return {name: float(value) if math.isfinite(value) else 0.0 for name, value in values.items()}
