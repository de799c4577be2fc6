"""Draw IsoScore, IsoScore* and the unbiased score on growing batches: the picture of the README.

768 dimensions with spectrum (10, 6, 4, 4, 1, ..., 1), Gaussian; Σ_S from 250,000 points. Run ``make figure``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

import isoscore_star as iso

DIM, DRAWS, ZETA = 768, 20, 0.8
SPECTRUM = np.r_[10.0, 6.0, 4.0, 4.0, np.ones(DIM - 4)]
SIZES = [8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096]


def draw(rng: np.random.Generator, rows: int) -> NDArray[np.float32]:
    """Draw points of the distribution, float32."""
    points = rng.standard_normal(size=(rows, DIM), dtype=np.float32)
    points *= np.sqrt(SPECTRUM).astype(np.float32)
    return points


def scores(rng: np.random.Generator, cov: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Score batches of each size: for each measure an array (sizes, draws)."""
    measures: dict[str, Callable[[Any], float]] = {
        "IsoScore": iso.isoscore,
        f"IsoScore* (ζ = {ZETA})": lambda x: iso.isoscore_star(x, cov, ZETA),
        "unbiased (no Σ_S)": iso.isoscore_unbiased,
    }
    found: dict[str, list[list[float]]] = {name: [] for name in measures}
    for rows in SIZES:
        batches = [draw(rng, rows) for _ in range(DRAWS)]
        for name, measure in measures.items():
            found[name].append([measure(batch) for batch in batches])
    return {name: np.array(values) for name, values in found.items()}


def main() -> None:
    """Write docs/figures/batch_size.svg and .png."""
    rng = np.random.default_rng(0)
    moments = iso.Moments()
    for _ in range(25):
        moments.update(draw(rng, 10_000))
    figure: Any = Figure(figsize=(7, 3.6), layout="constrained")
    axes: Any = figure.subplots()
    for (name, values), colour in zip(scores(rng, moments.cov).items(), ("C3", "C0", "C2"), strict=True):
        mean, spread = values.mean(axis=1), values.std(axis=1)
        axes.plot(SIZES, mean, "o-", color=colour, label=name)
        axes.fill_between(SIZES, mean - spread, mean + spread, color=colour, alpha=0.2, linewidth=0)
    axes.axhline(iso.isoscore_from_spectrum(SPECTRUM), color="0.3", linestyle="--", label="true value")
    axes.set_xscale("log", base=2)
    axes.set_xticks(SIZES, [str(size) for size in SIZES])
    axes.set_ylim(0, 1.05)
    axes.set_xlabel("points in the batch")
    axes.set_ylabel("score (mean ± standard deviation)")
    axes.set_title(f"{DIM} dimensions, {DRAWS} batches each", fontsize="medium")
    axes.legend(loc="lower right", fontsize="small")
    folder = Path(__file__).parent.parent / "docs" / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "batch_size.svg", metadata={"Date": None})
    figure.savefig(folder / "batch_size.png", dpi=150)


if __name__ == "__main__":
    main()
