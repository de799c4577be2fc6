"""Scans, explanations and comparisons with the attributes that the real ones have, of figures that a test chooses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

import isoscore_star as iso


@dataclass(frozen=True)
class Direction:
    index: int
    variance_share: float
    share: float
    halves_share: float | None = None


@dataclass(frozen=True)
class Coordinate:
    dimension: int
    variance_share: float
    share: float


@dataclass(frozen=True)
class Part:
    name: str
    count: int
    variance_share: float
    share: float
    score_without: float | None
    unbiased_without: float | None = None


@dataclass(frozen=True)
class Between:
    name: str
    group_count: int
    variance_share: float
    shares: tuple[float, float, float]
    score_within: float


@dataclass(frozen=True)
class WhatIf:
    name: str
    score: float
    effective_dimensions: float


@dataclass(frozen=True)
class Measure:
    name: str
    value: float | None
    isotropic: str
    source: str
    note: str = ""
    error: float | None = None


@dataclass(frozen=True)
class Explanation:
    score: float
    unbiased_score: float | None
    effective_dimensions: float
    count: int
    dim: int
    directions: tuple[Direction, ...]
    coordinates: tuple[Coordinate, ...]
    diagonal_share: float
    parts: tuple[Part, ...]
    between: tuple[Between, ...]
    mean_share: float
    average_cosine: float | None
    what_ifs: tuple[WhatIf, ...]
    measures: tuple[Measure, ...]
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class ScannedLayer:
    name: str
    measurement: Any
    without: dict[str, Any]
    explanation: Explanation
    stability: tuple[tuple[int, float | None, float], ...] = ()


@dataclass(frozen=True)
class Scan:
    model: str
    layers: tuple[ScannedLayer, ...]
    union: ScannedLayer | None = None
    embeddings: ScannedLayer | None = None
    notes: tuple[str, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class ComparedLayer:
    name: str
    a: Any
    b: Any
    difference: float
    interval: tuple[float, float] | None
    log_ratio: float
    log_ratio_error: float | None
    paired: bool
    cka: float | None
    angles: tuple[float, ...]


@dataclass(frozen=True)
class Comparison:
    a: str
    b: str
    rows: tuple[ComparedLayer, ...]
    warnings: tuple[str, ...] = ()


def points(
    seed: int, dim: int = 48, count: int = 40, loud: float = 12.0, first: float = 1.0, tokens: int = 12
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Draw sequences of tokens, one loud coordinate, a falling spectrum, first tokens `first` times as long."""
    rng = np.random.default_rng(seed)
    scales = np.arange(1, dim + 1) ** -0.4
    scales[(3 * seed + 5) % dim] = loud / 4
    states = rng.normal(size=(count, tokens, dim)) * scales + rng.normal(size=(count, 1, dim)) * scales * 0.4
    states[:, 0] = states[:, 0] * 0.2 + first * np.eye(dim)[(3 * seed + 5) % dim]
    return states


def explanation(measurement: Any, without: dict[str, Any]) -> Explanation:
    """Explain a measurement by formulas written out."""
    spectrum = measurement.spectrum / measurement.spectrum.sum()
    variances = measurement.variances / measurement.variances.sum()
    whole = float((spectrum**2).sum())
    d = measurement.dim

    def what_if(name: str, values: Any) -> WhatIf:
        effective = float(values.sum() ** 2 / (values**2).sum())
        return WhatIf(name, (effective - 1) / (d - 1), effective)

    top = measurement.outlier_dimensions
    return Explanation(
        measurement.score,
        measurement.unbiased_score,
        measurement.effective_dimensions,
        measurement.count,
        d,
        tuple(Direction(i, float(p), float(p**2) / whole) for i, p in enumerate(spectrum[:10])),
        tuple(Coordinate(i, share, share**2 / whole) for i, share in top),
        float((variances**2).sum() / whole),
        tuple(
            Part(name, measurement.count - one.count, 0.4, 0.8, one.score, one.unbiased_score)
            for name, one in without.items()
        ),
        (Between("sequences", 40, 0.15, (0.78, 0.17, 0.05), measurement.score * 1.1),),
        0.62,
        0.55,
        (
            what_if("without the largest direction", spectrum[1:]),
            what_if("without the 3 largest directions", spectrum[3:]),
            what_if("without outlier coordinates", np.sort(variances)[: d - len(top) or d]),
            what_if("standardised", spectrum**0.6),
            what_if("half whitened", spectrum**0.5),
        ),
        (
            Measure("IsoScore", measurement.score, "1", "Rudman et al. 2022"),
            Measure("effective rank (RankMe)", 12.5, str(d), "Garrido et al. 2023", "centred", 0.3),
            Measure("stable rank", 3.25, str(d), "Rudelson & Vershynin 2007"),
            Measure("alpha-ReQ", 1.1, "0", "Agrawal et al. 2022", "fitted to ranks 3 to 40"),
            Measure("condition number", float("inf"), "1", "Golub & Van Loan"),
            Measure("LiDAR", None, str(d), "Thilak et al. 2024", "needs labels"),
        ),
        (
            f"One coordinate holds most: {measurement.effective_dimensions:.1f} of {d} dimensions are in use.",
            f"The largest direction alone is {spectrum[0]:.0%} of the variance.",
        ),
    )


def scanned(name: str, seed: int, **options: Any) -> ScannedLayer:
    """Scan one layer of drawn points."""
    states = points(seed, **options)
    measurement = iso.measure(states)
    without = {
        "first tokens": iso.measure(states[:, 1:]),
        "special tokens": iso.measure(states[:, :-1]),
    }
    steps = [5, 10, 20, 40]
    measured = [iso.measure(states[:n]) for n in steps]
    stability = tuple((n, one.unbiased_score, one.score) for n, one in zip(steps, measured, strict=True))
    return ScannedLayer(name, measurement, without, explanation(measurement, without), stability)


def scan(names: list[str] | None = None, model: str = "sentence-transformers/tiny", **options: Any) -> Scan:
    """Scan a model of twelve layers, whose later ones have long first tokens."""
    names = names or ["embeddings", *(f"layer {i}" for i in range(1, 13))]
    layers = [
        scanned(name, i % 6, loud=3.0 + i % 5, first=1.0 + (i > len(names) // 2) * 25.0, **options)
        for i, name in enumerate(names)
    ]
    return Scan(
        model,
        tuple(layers),
        scanned("union", 1, **options),
        scanned("embeddings", 2, loud=2.0, **options),
        ("texts were cut at 128 tokens",),
        {
            "model": model,
            "dtype": "float32",
            "device": "cpu",
            "texts": "sha256:" + "ab" * 32,
            "sequences": 40,
            "tokens": 480,
            "seconds": 12.5,
            "versions": {"isoscore-star": "0.1.0", "torch": "2.13.0"},
        },
        ("layer 3: only 40 sequences",),
    )


def comparison(names: list[str] | None = None, a: str = "float32", b: str = "int8") -> Comparison:
    """Compare two clouds in each of some layers."""
    names = names or [f"layer {i}" for i in range(1, 13)]
    rows = []
    for i, name in enumerate(names):
        one = iso.measure(points(i % 6, loud=4.0))
        other = iso.measure(points(i % 6, loud=4.0 + (i % 3 - 1) * 1.5))
        difference = float(other.unbiased_score or 0) - float(one.unbiased_score or 0)
        interval = None if i == 7 else (difference - 0.05, difference + 0.05)
        rows.append(
            ComparedLayer(name, one, other, difference, interval, 0.1, 0.02, True, 0.9 - 0.02 * i, (3.0, 12.0, 40.0))
        )
    return Comparison(a, b, tuple(rows), ("layer 8 has no interval: its sequences do not correspond",))


def runs(metric: str = "accuracy", note: str = "scores are of 128 held-out sentences") -> dict[str, Any]:
    """Make the content of a results.json: five values of λ, three seeds, two estimators."""
    rng = np.random.default_rng(0)
    found = []
    for lam in (-3.0, -1.0, 0.0, 1.0, 3.0):
        for estimator in ("shrinkage", "unbiased"):
            for seed in range(3):
                isotropy = 0.1 + 0.02 * lam + 0.005 * rng.normal()
                found.append(
                    {
                        "name": f"lam={lam}-seed={seed}",
                        "seed": seed,
                        "lam": lam,
                        "zeta": 0.2,
                        "estimator": estimator,
                        "target": None,
                        "floor": None,
                        "lam_schedule": "constant",
                        "warmup_steps": 0,
                        "epochs": 3.0,
                        "batch_size": 16,
                        "lr": 5e-5,
                        "metric": {"name": metric, "value": 0.9 - 0.005 * lam + 0.004 * rng.normal()},
                        "isoscore_star": isotropy,
                        "isoscore_star_unbiased": isotropy + 0.01,
                        "intrinsic_dimension": 12.0,
                        "seconds_per_step": 0.2,
                        "isoscore_star_by_layer": [isotropy * (1 - 0.1 * k) for k in range(7)],
                        "notes": [note],
                    }
                )
    return {
        "settings": {"model": "tiny", "task": "sst2", "layers": None},
        "versions": {"python": "3.11"},
        "runs": found,
    }
