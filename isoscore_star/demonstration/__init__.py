"""The library applied to real hidden states: layers measured, and isotropy raised and lowered in training."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from isoscore_star import Measurement, __version__, available_backends, measure
from isoscore_star.demonstration._comparison import LAMS, SEEDS, Comparison, Run
from isoscore_star.demonstration._files import prepare_folder, write_files
from isoscore_star.sample import Sample, load_sample

__all__ = ["LAMS", "SEEDS", "Comparison", "Demonstration", "Run", "demonstrate", "prepare_folder", "write_files"]

Progress = Callable[[float], None]
"""Called with the fraction of the work that is done."""


@dataclass(frozen=True)
class Demonstration:
    """Result of the demonstration.

    Attributes
    ----------
    sentences, tokens : int
        Size of the sample.
    layers : tuple of Measurement
        Of each layer's token states, the embedding layer's first.
    union : Measurement
        Of all transformer layers' token states together, without the embedding layer's, as in the paper.
    comparison : Comparison or None
        Training with λ > 0, λ = 0 and λ < 0; None without torch.
    left_out : tuple of str
        Messages about parts that could not be done, and what to install for them.
    """

    sentences: int
    tokens: int
    layers: tuple[Measurement, ...]
    union: Measurement
    comparison: Comparison | None
    left_out: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and lists, for JSON."""
        return {
            "version": __version__,
            "sample": {"sentences": self.sentences, "tokens": self.tokens},
            "layers": [{"layer": number, **layer.to_dict()} for number, layer in enumerate(self.layers)],
            "union": {"layers": list(range(1, len(self.layers))), **self.union.to_dict()},
            "training": None if self.comparison is None else self.comparison.to_dict(),
            "left_out": list(self.left_out),
        }


def demonstrate(seed: int = 0, progress: Progress | None = None) -> Demonstration:
    """Measure every layer of the embedded sample and, with torch installed, train with I-STAR on it.

    Parameters
    ----------
    seed : int, default 0
        First of the five random seeds of the training.
    progress : callable, optional
        See `Progress`.

    Returns
    -------
    Demonstration
        The same for the same seed, machine and versions.

    Examples
    --------
    >>> from isoscore_star.demonstration import demonstrate
    >>> results = demonstrate()
    >>> round(results.layers[6].unbiased_score, 2), round(results.union.unbiased_score, 2)
    (0.3, 0.13)
    >>> print(results.comparison.verdict[0])
    lam = 1 raised isotropy, as asked: ...
    """
    sample = load_sample()
    trains = "torch" in available_backends()
    steps, counter = len(sample.states) + 1 + (len(LAMS) * SEEDS if trains else 0), count(1)

    def step() -> None:
        if progress is not None:
            progress(next(counter) / steps)

    layers, union = _measure(sample, step)
    return Demonstration(
        sentences=len(sample.sentences),
        tokens=int(sample.mask.sum()),
        layers=layers,
        union=union,
        comparison=_train(sample, seed, step) if trains else None,
        left_out=tuple(_left_out(trains)),
    )


def _measure(sample: Sample, step: Callable[[], None]) -> tuple[tuple[Measurement, ...], Measurement]:
    sentence = np.broadcast_to(np.arange(len(sample.sentences))[:, None], sample.mask.shape)
    layers = []
    for states in sample.states:
        layers.append(measure(states, mask=sample.mask, groups=sentence))
        step()
    transformer = list(sample.states[1:])
    union = measure(transformer, mask=sample.mask, groups=[sentence] * len(transformer))
    step()
    return tuple(layers), union


def _train(sample: Sample, seed: int, step: Callable[[], None]) -> Comparison:
    from isoscore_star.demonstration._training import one_thread, train

    runs = []
    with one_thread():
        for run_seed in range(seed, seed + SEEDS):
            for lam in LAMS:
                runs.append(train(sample, lam, run_seed))
                step()
    return Comparison(tuple(runs))


def _left_out(trained: bool) -> Iterator[str]:
    if not trained:
        yield 'Left out: training with I-STAR needs torch, which is not installed: pip install "isoscore-star[torch]"'
    if importlib.util.find_spec("matplotlib") is None:
        yield 'Left out: the pictures need matplotlib, which is not installed: pip install "isoscore-star[plot]"'
