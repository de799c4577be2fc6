"""Runs of a folder of fine-tunings, gathered by their settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

Run = Mapping[str, Any]
Groups = Mapping[tuple[float, str], Sequence[Run]]
"""Runs that differ in their seed alone, by λ and by what else the sweep varies."""

_SETTINGS = (
    "zeta",
    "estimator",
    "target",
    "floor",
    "lam_schedule",
    "warmup_steps",
    "epochs",
    "batch_size",
    "lr",
)
"""What a sweep may vary beside λ."""


def groups_of(runs: Sequence[Run]) -> dict[tuple[float, str], list[Run]]:
    """Gather the runs that differ in their seed alone, by λ and by what else the sweep varies."""
    varying = [key for key in _SETTINGS if len({str(run.get(key)) for run in runs}) > 1]
    found: dict[tuple[float, str], list[Run]] = {}
    for run in runs:
        other = ", ".join(f"{key.replace('_', ' ')} {_shown(run.get(key))}" for key in varying)
        found.setdefault((float(run["lam"]), other), []).append(run)
    return dict(sorted(found.items()))


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def isotropy(run: Run) -> float | None:
    """Return the score of all layers, the unbiased one where it is defined."""
    plug_in: float | None = run["isoscore_star"]
    unbiased: float | None = run["isoscore_star_unbiased"]
    return plug_in if unbiased is None else unbiased


def metric_of(run: Run) -> float | None:
    """Return the metric's value."""
    value: float | None = run["metric"]["value"]
    return value


def mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of what is defined, or None."""
    return fmean(known(values)) if known(values) else None


def known(values: Sequence[float | None]) -> list[float]:
    """Return what is defined."""
    return [value for value in values if value is not None]


def name_of(key: tuple[float, str]) -> str:
    """Name a group."""
    return f"λ = {key[0]:g}" + (f", {key[1]}" if key[1] else "")
