"""How much is trained on and measured: in CI, on a small machine, and in the paper."""

from __future__ import annotations

from dataclasses import dataclass

from paper_checks._claim import Run


@dataclass(frozen=True)
class Size:
    """Amounts; None means all that there is.

    Attributes
    ----------
    epochs, batch, length : int
        Passes over the training examples, examples a step, tokens at which an example is cut off.
    train, validation, test : int or None
        Examples, the same ones for every run.
    ablated : int or None
        Test examples on which dimensions are ablated.
    states : int
        Token states a layer, at most, from which isotropy and spectra are measured.
    neighbours : int
        Token states a layer, at most, from which the intrinsic dimension is estimated.
    pairs : int or None
        Sentence pairs of STS-B.
    shrinkage_states : int
        Token states, over all layers, from which Σ_S is read; 250,000 in the paper.
    seeds : int
        Of every comparison of methods.
    """

    epochs: int
    batch: int
    length: int
    train: int | None
    validation: int | None
    test: int | None
    ablated: int | None
    states: int
    neighbours: int
    pairs: int | None
    shrinkage_states: int
    seeds: int


QUICK = Size(2, 16, 24, 160, 60, 120, 60, 1500, 500, 100, 2_000, 2)
FULL = Size(3, 16, 32, 512, 300, 800, 200, 6000, 1500, 300, 20_000, 5)
PAPER = Size(3, 32, 128, None, None, None, None, 250_000, 10_000, None, 250_000, 5)


def size_of(run: Run) -> Size:
    """Give the amounts of this run of the claims."""
    return PAPER if run.paper_size else run.pick(QUICK, FULL)
