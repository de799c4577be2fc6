"""How far the score of halves from a sketch is from the exact one, and in which memory.

Run ``python benchmarks/sketch.py [--write FILE]``. Token states (200 sequences of 10, d = 512) with the spectra
that are hard for a sketch; 20 sketches each. There is nothing to time: the memory is what a sketch saves.
"""

from __future__ import annotations

import numpy as np
from tables import HERE, report, with_write

import isoscore_star as iso

DIM, SEQUENCES, TOKENS, SEEDS = 512, 200, 10, 20
SIZES = (64, 128, 256)
SPECTRA = {
    "1/j": 1 / np.arange(1, DIM + 1),
    "one direction, 1000 times the others": np.r_[1000.0, np.ones(DIM - 1)],
    "flat": np.ones(DIM),
}


def states(spectrum: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.normal(size=(DIM, DIM)))[0]
    drawn = 0.5 * rng.normal(size=(SEQUENCES, 1, DIM)) + rng.normal(size=(SEQUENCES, TOKENS, DIM))
    return np.asarray((drawn * np.sqrt(spectrum)) @ rotation)


def row(name: str, spectrum: np.ndarray, size: int) -> str:
    points = states(spectrum)
    exact = iso.participation_ratio(iso.isoscore_unbiased(points), DIM)
    off, said = [], []
    for seed in range(SEEDS):
        moments = iso.Moments(sketch=size, seed=seed).update(points)
        off.append(iso.participation_ratio(moments.isoscore_unbiased(), DIM) / exact - 1)
        error = iso.measure(moments).sketch_error
        assert error is not None
        said.append(error)
    spread = float(np.sqrt(np.mean(np.square(off))))
    return f"| {name} | {size} | {size / DIM:.3f} | {spread:.2%} | {np.median(said):.2%} | {np.mean(off):+.2%} |"


def main() -> None:
    arguments = with_write(__doc__).parse_args()
    rows = [row(name, spectrum, size) for name, spectrum in SPECTRA.items() for size in SIZES]
    report(
        arguments.write,
        "Effective dimensions from a sketch",
        f"Made by `python benchmarks/sketch.py --write benchmarks/SKETCH.md`, {HERE}. `Moments(sketch=k)` of "
        f"{SEQUENCES} sequences of {TOKENS} tokens, d = {DIM}; {SEEDS} sketches of each.",
        [
            "| spectrum | k | memory, of exact moments | off, root mean square | said (median) | mean |",
            "| --- | ---: | ---: | ---: | ---: | ---: |",
        ],
        rows,
    )


if __name__ == "__main__":
    main()
