"""Scans, explanations and comparisons with the attributes that the real ones have, of figures that a test chooses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

import isoscore_star as iso


@dataclass(frozen=True)
class LongToken:
    text: int
    position: int
    token: str
    variance_share: float


@dataclass(frozen=True)
class ScannedLayer:
    name: str
    measurement: Any
    without: dict[str, Any]
    explanation: Any
    stability: tuple[tuple[int, float | None, float], ...] = ()
    longest_tokens: tuple[LongToken, ...] = ()


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
    sentences: tuple[str, ...] = ("int8 uses fewer dimensions than float32 in 4 of 12 layers",)


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


def scanned(name: str, seed: int, token: str = "<s>", **options: Any) -> ScannedLayer:
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
    parts = {
        "first tokens": iso.Moments().update(states[:, :1], groups=0),
        "rest": iso.Moments().update(states[:, 1:], groups=0),
    }
    explanation = measurement.explain(parts=parts, average_cosine=0.55)
    longest = (LongToken(3, 0, token, 0.25), LongToken(0, 2, "the", 0.01))
    return ScannedLayer(name, measurement, without, explanation, stability, longest)


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
