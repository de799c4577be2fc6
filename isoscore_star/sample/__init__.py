"""A small sample of real hidden states, for examples and the demonstration."""

from __future__ import annotations

from dataclasses import dataclass, fields
from importlib import resources

import numpy as np
import numpy.typing as npt

__all__ = ["Sample", "load_sample"]


@dataclass(frozen=True, eq=False)
class Sample:
    """Token states of 60 short English sentences on four topics, from every layer of a sentence encoder.

    The model is sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0): 6 transformer layers, 384 dimensions.
    The sentences were written for this project.

    Attributes
    ----------
    states : ndarray of shape (7, 60, 13, 384), float16
        Layer, sentence, token, feature. Layer 0 is the embedding layer; states behind padding are zero.
    mask : ndarray of shape (60, 13), bool
        True for a token, [CLS] and [SEP] included; False for padding.
    labels : ndarray of shape (60,), int64
        Each sentence's topic, an index into `label_names`. The topics alternate, so a slice is balanced.
    label_names : ndarray of shape (4,), str
        The topics: cooking, weather, music, sport.
    sentences : ndarray of shape (60,), str
        The sentences themselves.
    """

    states: npt.NDArray[np.float16]
    mask: npt.NDArray[np.bool_]
    labels: npt.NDArray[np.int64]
    label_names: npt.NDArray[np.str_]
    sentences: npt.NDArray[np.str_]


def load_sample() -> Sample:
    """Read the sample that comes with the package.

    Returns
    -------
    Sample
        New arrays at each call.

    Examples
    --------
    >>> from isoscore_star.sample import load_sample
    >>> sample = load_sample()
    >>> sample.states.shape
    (7, 60, 13, 384)
    >>> last_layer = sample.states[-1][sample.mask]
    >>> last_layer.shape
    (632, 384)
    """
    path = resources.files(__name__).joinpath("minilm_hidden_states.npz")
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return Sample(**{field.name: arrays[field.name] for field in fields(Sample)})
