"""Claim 1: IsoScore* = (T²/F − 1)/(d − 1) is Algorithm 1, in value and in gradient, on every backend.

Algorithm 1 is taken as printed, by eigenvalues (`isoscore_star.reference`). Its gradient is made here, without any of
the library's formulas and without automatic differentiation: the derivative of steps 4 to 7 for each eigenvalue by a
complex step, which is exact to rounding, and from there to the points by the chain rule for a symmetric matrix,
∂λₖ/∂Σ = vₖvₖᵀ. Because the score is a symmetric function of the eigenvalues, this holds for repeated ones too.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import isoscore_star as iso
from isoscore_star.validation import ADAPTERS
from paper_checks._claim import Claim, Findings, Run, Table

VALUE_BOUND, GRADIENT_BOUND = 1e-12, 1e-10
DIMS = (2, 5, 16, 64, 256)
SPECTRA = ("even", "power law", "one outlier", "repeated", "half zero", "isotropic")
CLOUDS = ("generic", "fewer points than dimensions", "repeated eigenvalues", "isotropic")
SHAPES = ((40, 16), (200, 32))
ZETAS = (0.0, 0.2, 0.8)


def spectrum(kind: str, d: int, rng: np.random.Generator) -> np.ndarray:
    """Draw eigenvalues of a kind."""
    values = rng.gamma(1.0, size=d) + 1e-3
    if kind == "power law":
        values = np.arange(1, d + 1.0) ** -rng.uniform(0.5, 3)
    elif kind == "one outlier":
        values[0] = 10 ** rng.uniform(1, 6)
    elif kind == "repeated":
        values = np.repeat(values[: (d + 1) // 2], 2)[:d]
    elif kind == "half zero":
        values[d - d // 2 :] = 0
    elif kind == "isotropic":
        values = np.full(d, values[0])
    return values


def cloud(kind: str, m: int, d: int, rng: np.random.Generator) -> np.ndarray:
    """Draw points of a kind; the last two have exactly the spectra that they are named after."""
    if kind == "fewer points than dimensions":
        return rng.normal(size=(d // 2, d)) * np.linspace(0.2, 2, d) + 3
    points = rng.normal(size=(m, d)) * np.linspace(0.2, 2, d)
    if kind == "generic":
        return points + 3
    left, _, right = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
    scales = np.repeat([3.0, 1.0], d // 2) if kind == "repeated eigenvalues" else np.ones(d)
    return np.asarray((left * scales) @ right)


def derivative_of_the_printed_steps(eigenvalues: np.ndarray) -> np.ndarray:
    """∂score/∂λ for steps 4 to 7 of Algorithm 1, by a complex step of 1e-30 in each eigenvalue in turn."""
    d, step = len(eigenvalues), 1e-30 * eigenvalues.max()
    stepped = eigenvalues + 1j * step * np.eye(d)
    normalised = np.sqrt(d) * stepped / np.sqrt(np.sum(stepped**2, axis=1, keepdims=True))  # step 4
    squared_defect = np.sum((normalised - 1) ** 2, axis=1) / (2 * (d - np.sqrt(d)))  # step 5
    phi = (d - squared_defect * (d - np.sqrt(d))) ** 2 / d**2  # step 6
    return np.asarray(((d * phi - 1) / (d - 1)).imag / step)  # step 7


def gradient_of_the_printed_algorithm(points: np.ndarray, target: np.ndarray, zeta: float) -> np.ndarray:
    """∂IsoScore*/∂X through the eigenvalues of Σ."""
    centred = points - points.mean(axis=0)
    sigma = (1 - zeta) * np.cov(points.T) + zeta * target
    eigenvalues, vectors = np.linalg.eigh(sigma)
    by_sigma = (vectors * derivative_of_the_printed_steps(np.maximum(eigenvalues, 0))) @ vectors.T
    return np.asarray(2 * (1 - zeta) / (len(points) - 1) * centred @ by_sigma)


def gradient_scale(points: np.ndarray, gradient: np.ndarray, zeta: float, kind: str) -> float:
    """Give the gradient's largest entry; for isotropic points, whose gradient is zero, that of its two equal halves."""
    if kind != "isotropic" or zeta:
        return float(np.abs(gradient).max())
    m, d = points.shape
    variance = points.var(axis=0, ddof=1).mean()
    return float(4 / ((m - 1) * (d - 1)) * np.abs(points).max() / variance)


def check(run: Run) -> Findings:
    """Compare values over spectra, then values and gradients over clouds, on each backend."""
    os.environ.setdefault("JAX_ENABLE_X64", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow tells of its build at every import
    found = Findings()
    rng = run.rng(1)

    # Spectra: on each backend the largest difference of value and gradient.
    per_kind = run.pick(5, 100)
    spectra = [spectrum(kind, d, rng) for kind in SPECTRA for d in DIMS for _ in range(per_kind)]
    truths = [
        (iso.reference.score_from_eigenvalues(values), derivative_of_the_printed_steps(values)) for values in spectra
    ]
    apart: dict[str, dict[str, float]] = {}
    for name in iso.available_backends():
        backend, adapter, value_apart, gradient_apart = iso.get_backend(name), ADAPTERS[name], 0.0, 0.0
        for values, (truth, slope) in zip(spectra, truths, strict=True):
            native = adapter.native(values, "float64", "cpu")
            value, gradient = adapter.value_and_gradient(iso.isoscore_from_spectrum, native)
            value_apart = max(value_apart, abs(float(value) - truth))
            if gradient is not None:
                # Of equal eigenvalues the gradient is zero: two halves of this size that cancel.
                equal = np.ptp(values) == 0
                scale = 2 / (len(values) - 1) / values[0] if equal else np.abs(slope).max()
                gradient_apart = max(gradient_apart, float(np.abs(backend.to_numpy(gradient) - slope).max() / scale))
        apart[name] = {"value": value_apart, "gradient": gradient_apart}
    found.data["spectra"] = {"count": len(spectra), "largest_differences": apart}
    error = max(one["value"] for one in apart.values())
    slope_error = max(one["gradient"] for one in apart.values())
    found.expect(
        f"value, {len(spectra):,} spectra, d from 2 to 256, on each of {', '.join(apart)}",
        expected="Algorithm 1's value",
        obtained=f"differs by {error:.1e} at most",
        tolerance="1e-12: a score lies in [0, 1]; the printed steps lose some d·ε = 6e-14 themselves",
        holds=error <= VALUE_BOUND,
    )

    found.expect(
        "gradient for the eigenvalues, the same spectra",
        expected="Algorithm 1's gradient, by complex steps",
        obtained=f"differs by {slope_error:.1e} of its largest entry at most",
        tolerance="1e-10: sums of d ≤ 256 terms err by some d·ε = 6e-14",
        holds=slope_error <= GRADIENT_BOUND,
    )

    # Clouds: the same, with gradients for the points.
    clouds = []
    for kind in CLOUDS:
        for m, d in SHAPES:
            for _ in range(run.pick(1, 12)):
                points = cloud(kind, m, d, rng)
                target = np.cov(rng.normal(size=(4 * d, d)).T)
                clouds += [(kind, points, target, zeta) for zeta in ZETAS]
    worst: dict[str, dict[str, dict[str, float]]] = {}
    for name in iso.available_backends():
        backend, adapter = iso.get_backend(name), ADAPTERS[name]
        worst[name] = {kind: {"value": 0.0, "gradient": 0.0} for kind in CLOUDS}
        for kind, points, target, zeta in clouds:

            def score(X: Any, target: np.ndarray = target, zeta: float = zeta) -> Any:
                return iso.isoscore_star(X, target, zeta)

            value, gradient = adapter.value_and_gradient(score, adapter.native(points, "float64", "cpu"))
            largest = worst[name][kind]
            off = abs(float(value) - iso.reference.isoscore_star(points, target, zeta))
            largest["value"] = max(largest["value"], off)
            if gradient is not None:
                printed = gradient_of_the_printed_algorithm(points, target, zeta)
                off = float(np.abs(backend.to_numpy(gradient) - printed).max())
                largest["gradient"] = max(largest["gradient"], off / gradient_scale(points, printed, zeta, kind))
    found.data["clouds"] = worst
    value_off = max(one["value"] for kinds in worst.values() for one in kinds.values())
    gradient_off = max(one["gradient"] for kinds in worst.values() for one in kinds.values())
    names = ", ".join(worst)
    found.expect(
        f"value, {len(clouds)} clouds on each of {names}",
        expected="Algorithm 1's value",
        obtained=f"differs by {value_off:.1e} at most",
        tolerance="1e-12, as above",
        holds=value_off <= VALUE_BOUND,
    )
    found.expect(
        "gradient for the points, the same clouds, with repeated eigenvalues, rank below d and all eigenvalues equal",
        expected="Algorithm 1's gradient, by complex steps",
        obtained=f"differs by {gradient_off:.1e} of its largest entry at most",
        tolerance="1e-10: a product of d ≤ 32 terms errs by some 1e-15, and LAPACK's eigenvectors by more",
        holds=gradient_off <= GRADIENT_BOUND,
    )
    lost = _eigenvector_route(clouds) if "torch" in worst else None
    if lost is not None:
        found.data["eigenvector_route"] = lost
        broken = lost["repeated eigenvalues"]["through eigenvectors"] + lost["isotropic"]["through eigenvectors"]
        total = lost["repeated eigenvalues"]["clouds"] + lost["isotropic"]["clouds"]
        found.expect(
            "IsoScore as first published turns points by their eigenvectors; its automatic gradient there",
            expected="lost at repeated eigenvalues",
            obtained=f"not finite or wrong (over 1e-3) in {broken} of {total} clouds",
            tolerance="more than half: their derivative has the factor 1/(λᵢ - λⱼ), which makes its error a ratio of "
            "two roundings, by chance a small one",
            holds=broken > total / 2,
        )
        plain = sum(one["through eigenvalues"] for one in lost.values())
        found.notes.append(
            f"Eigenvalues alone (torch.linalg.eigvalsh, Algorithm 1 of I-STAR) lose nothing: {plain} of "
            f"{sum(one['clouds'] for one in lost.values())} gradients were wrong. It is the way through eigenvectors, "
            "as in IsoScore's own algorithm, that breaks."
        )
        found.tables.append(
            Table(
                "Automatic gradients in torch that are not finite or off by over 1e-3 of the largest entry (ζ = 0)",
                ["cloud", "clouds", "through eigenvectors", "through eigenvalues", "closed form"],
                [[kind, *(str(lost[kind][column]) for column in lost[kind])] for kind in CLOUDS],
            )
        )
    missing = [name for name in ("autograd", "torch", "tensorflow", "jax", "keras") if name not in worst]
    if missing:
        found.notes.append(f"Not installed here, so not compared: {', '.join(missing)}.")
    found.figures[""] = _figure(worst)
    return found


def _eigenvector_route(clouds: list[tuple[str, np.ndarray, np.ndarray, float]]) -> dict[str, dict[str, int]]:
    """Count the gradients that three routes lose in torch, for ζ = 0."""
    import torch

    def printed_steps(spread: Any) -> Any:
        d = len(spread)
        normalised = d**0.5 * spread / torch.linalg.vector_norm(spread)
        squared_defect = torch.sum((normalised - 1) ** 2) / (2 * (d - d**0.5))
        phi = (d - squared_defect * (d - d**0.5)) ** 2 / d**2
        return (d * phi - 1) / (d - 1)

    def through_eigenvectors(X: Any) -> Any:
        _, vectors = torch.linalg.eigh(torch.cov(X.T))
        return printed_steps(torch.diagonal(torch.cov((X @ vectors).T)))

    def through_eigenvalues(X: Any) -> Any:
        return printed_steps(torch.linalg.eigvalsh(torch.cov(X.T)))

    routes: dict[str, Callable[[Any], Any]] = {
        "through eigenvectors": through_eigenvectors,
        "through eigenvalues": through_eigenvalues,
        "closed form": iso.isoscore,
    }
    lost = {kind: {"clouds": 0} | dict.fromkeys(routes, 0) for kind in CLOUDS}
    for kind, points, target, zeta in clouds:
        if zeta:
            continue
        lost[kind]["clouds"] += 1
        truth = gradient_of_the_printed_algorithm(points, target, 0.0)
        for name, route in routes.items():
            X = torch.tensor(points, requires_grad=True)
            try:
                (gradient,) = torch.autograd.grad(route(X), X)
            except RuntimeError:  # what torch says where eigenvalues are so close that it refuses
                lost[kind][name] += 1
                continue
            scale = gradient_scale(points, truth, 0.0, kind)
            wrong = np.abs(gradient.numpy() - truth).max() / scale
            lost[kind][name] += int(not wrong <= 1e-3)
    return lost


def _figure(worst: dict[str, dict[str, dict[str, float]]]) -> Any:
    figure: Any = Figure(figsize=(8, 3.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, what, bound in zip(panels, ("value", "gradient"), (VALUE_BOUND, GRADIENT_BOUND), strict=True):
        for name, kinds in worst.items():
            axes.plot(
                [max(kinds[kind][what], 1e-17) for kind in CLOUDS], range(len(CLOUDS)), "o", label=name, alpha=0.7
            )
        axes.axvline(bound, color="0.3", linestyle="--")
        axes.set(xscale="log", xlabel=f"largest difference, {what}")
    panels[0].set_yticks(range(len(CLOUDS)), CLOUDS)
    panels[1].legend(fontsize="small")
    return figure


CLAIM = Claim(
    1,
    "closed-form",
    "Algorithm 1 is (T²/F - 1)/(d - 1), in value and gradient, on every backend",
    "I-STAR, Algorithm 1",
    check,
)
