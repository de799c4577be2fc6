"""One cloud through one backend: how it is handed over, with which arguments, and which answers are right."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from adapters import Adapter
from fuzz import cases, clouds, truth
from fuzz.cases import Case
from fuzz.truth import L, Sample
from fuzz.verdict import MUST_RAISE, Expected

PROMISE = {"float64": 1e-12, "float32": 1e-5, "half": 1e-3}
# Of spread, of distance from the mean, of distance from zero: what the declared range is, 1e±150 and 1e±15.
RANGE = {"float64": (1e-150, 1e151, 1e158), "float32": (1e-15, 1e16, 1e23), "half": (1e-15, 1e16, 1e23)}


class Trial:
    """One cloud through one backend."""

    def __init__(self, adapter: Adapter, rng: np.random.Generator, case: Case, precision: str) -> None:
        self.adapter, self.rng, self.case, self.precision = adapter, rng, case, precision
        flat = case.array.reshape(-1, case.array.shape[-1])
        with np.errstate(all="ignore"):
            seen = truth.rounded(flat, case.dtype)
            if precision == "float32" and case.dtype in cases.INTEGERS:
                seen = flat.astype(np.float32).astype(np.float64)
        self.rows = len(flat)
        self.kept = np.ones(len(flat), bool) if case.keep is None else case.keep != 0
        self.sample = sample = Sample(seen[self.kept])
        self.degenerate = sample.finite and (sample.n < 2 or sample.identical)
        self.inside = self._inside()
        self.X, self.mask = self._given()

    def _inside(self) -> bool:
        sample = self.sample
        if not sample.finite or self.degenerate:
            return True
        low, high, far = RANGE[self.precision]
        largest = abs(sample.centred).max()
        return bool(sample.spread >= low and largest <= high and abs(sample.points).max() <= far)

    def _given(self) -> tuple[Any, Any]:
        array, case, rng = self.case.array, self.case, self.rng
        dtype = case.dtype if case.dtype == "bfloat16" else None
        numpy = self.adapter.name == "numpy"
        layout = case.layout if numpy or case.layout not in cases.LAYOUTS_OF_NUMPY else "C"
        X = self.adapter.native(cases.laid_out(array, layout), dtype)
        if self.adapter.name == "torch" and X.is_floating_point() and rng.random() < 0.2:
            X.requires_grad_()
        if case.keep is None:
            return X, None
        native = self.adapter.name not in ("keras", "autograd") and rng.random() < 0.5
        give = self.adapter.native if native else np.asarray
        if not case.cuts:
            return X, give(case.keep.reshape(array.shape[:-1]))
        return X, [give(part) for part in np.split(case.keep, case.cuts)]

    def parts(self, X: Any) -> Any:
        """Give the cloud, or the union that it is cut into."""
        if not self.case.cuts:
            return X
        ends = (0, *self.case.cuts, self.rows)
        return [X[a:b] for a, b in pairwise(ends)]

    def value(self, function: Callable[[Any], Any]) -> Callable[[], float]:
        if self.adapter.name == "torch":
            return lambda: float(function(self.parts(self.X)).detach())

        def value() -> float:
            # autograd has no value without a gradient, which of points so small no float can hold.
            fits = self.degenerate or not self.sample.finite or self.sample.spread > 1e-30
            with np.errstate(over="warn" if fits or self.inside else "ignore"):
                return self.adapter.value(lambda X: function(self.parts(X)), self.X)

        return value

    def traced(self, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        if self.adapter.name == "jax":
            import jax

            return jax.jit(lambda X: function(self.parts(X)))
        import tensorflow as tf

        return tf.function(lambda X: function(self.parts(X)))

    def gradient(self, function: Callable[[Any], Any]) -> np.ndarray:
        if self.adapter.name == "torch" and self.rng.random() < 0.2:
            import torch

            return torch.func.grad(function)(self.X).detach().double().numpy()
        return self.adapter.gradient(function, self.X)

    # arguments ---------------------------------------------------------------------------------------------------

    def weight(self) -> tuple[float, Any]:
        """Draw λ, and it as a float or a scalar of the framework."""
        lam = float(self.rng.choice([1.0, -1.0, 3.0, -5.0, 0.1, 1e-3, 0.0, 100.0]))
        return self._scalar(lam)

    def _scalar(self, number: float) -> tuple[float, Any]:
        which = self.rng.integers(6)
        if which == 0:
            return number, np.asarray(number)
        if which == 1:
            return float(np.float32(number)), np.float32(number)
        if which == 2 and self.adapter.name in ("torch", "tensorflow", "jax"):
            narrow = self.precision != "float64" or self.rng.random() < 0.5
            number = float(np.float32(number)) if narrow else number
            return number, self.adapter.native(np.array([number], np.float32 if narrow else np.float64))[0]
        return number, int(number) if number.is_integer() and which == 3 else number

    def shrinkage(self, *, plain: bool = False) -> tuple[np.ndarray | None, Any, float, Any]:
        """Draw Σ_S as it is and as it is given, and ζ likewise; with `plain` as floats and arrays of NumPy."""
        rng, sample = self.rng, self.sample
        if rng.random() < 0.35:
            return None, None, 0.0, 0.0
        zeta = float(rng.choice([0.0, 1.0, 0.2, 0.4, 0.8, 1e-8, 0.999, rng.random()]))
        zeta, share = (zeta, zeta) if plain else self._scalar(zeta)
        usable = sample.finite and not self.degenerate and self.inside
        variance = float(sample.t / sample.d) if usable else 1.0
        wide = "float64" if self.precision == "float64" else "float32"
        for _ in range(5):
            cov = clouds.shrinkage_cov(rng, sample.d, variance, wide)
            narrow = (wide == "float32" and rng.random() < 0.7) or rng.random() < 0.1
            with np.errstate(all="ignore"):
                cov = cov.astype(np.float32 if narrow else np.float64)
            if np.isfinite(cov).all() and (cov.diagonal() > 0).any():
                break
        else:
            cov = np.eye(sample.d, dtype=cov.dtype)
        native = not plain and self.adapter.name not in ("keras", "autograd") and rng.random() < 0.5
        return cov.astype(np.float64), self.adapter.native(cov) if native else cov, zeta, share

    def groups(self) -> Any:
        """Draw labels of what belongs together, mostly none."""
        if self.rng.random() < 0.7:
            return None
        labels = self.rng.integers(0, max(2, self.rows // 3), self.rows)
        labels = labels.astype(self.rng.choice(["int64", "uint8", "float64", "U4"]))
        if self.case.cuts:
            return np.split(labels, self.case.cuts)
        return labels.reshape(self.case.array.shape[:-1])

    # what is right -----------------------------------------------------------------------------------------------

    def measured(self, least: int = 2) -> Expected | None:
        """Give the answer that needs no arithmetic: an error."""
        if not self.sample.finite or self.sample.n < least or self.sample.identical or self.sample.d < 2:
            return MUST_RAISE
        return None

    def expected(self, value: Any, bound: float, **changes: Any) -> Expected:
        near = changes.pop("near", True)
        inside = self.inside and near
        given = {"error": "no" if inside else "may", "different": not self.degenerate, "inside": inside} | changes
        return Expected(value, bound, **given)

    def star(self, target: np.ndarray | None, zeta: float) -> Expected:
        if (known := self.measured()) is not None:
            return known
        return self.bounded(self.sample.score(target, zeta), self.near(target, zeta))

    def bounded(self, score: Any, near: bool) -> Expected:
        """Answer for a score in [0, 1]; rounding of a Σ_S may leave that by a little, which NumPy's answer cuts off."""
        beyond = float(max(-score, score - 1, 0)) if np.isfinite(score) else 0.0
        return self.expected(score, PROMISE[self.precision] + beyond, near=near)

    def near(self, target: np.ndarray | None, zeta: float) -> bool:
        """Tell whether Σ_S, too, is inside the declared range."""
        if target is None:
            return True
        low, high = (1e-300, 1e300) if self.precision == "float64" else (1e-30, 1e30)
        variance = float(target.diagonal().mean())
        near = low < variance < high
        if zeta > 0 and self.sample.finite and not self.degenerate:
            near = near and 1e-24 < float(self.sample.t / self.sample.d / L(variance)) < 1e24
        return bool(near)

    def unbiased(self) -> Expected:
        sample = self.sample
        if (known := self.measured(4)) is not None:
            return known
        epsilon = {"float64": 2.0**-52, "float32": 2.0**-23, "half": 2.0**-10}[self.precision]
        least = max({"float64": 1e-10, "float32": 1e-3, "half": 1e-2}[self.precision], 64 * epsilon * sample.n)
        if sample.margin < 2e-16:  # zero, or no float64 can tell it from that
            return MUST_RAISE._replace(different=True, inside=self.inside)
        value, bound = sample.unbiased(truth.ROUNDING[self.precision])
        return self.expected(value, bound, **({"error": "may"} if sample.margin < least else {}))

    def loss(self, lam: float, score: Expected, target: np.ndarray | None = None) -> Expected:
        """Answer for λ(1 − score) of the training path, which looks at no value."""
        if not self.sample.finite:
            return Expected(np.nan)
        large = abs(self.sample.points).max(initial=0) > 1e15 or (target is not None and abs(target).max() > 1e30)
        return self.penalty(lam, score)._replace(nan=bool(large and not score.inside), error="no")

    def flushed(self, target: np.ndarray | None = None) -> bool:
        """Tell whether the framework takes these numbers for zero: TensorFlow's and JAX's CPUs flush subnormal ones.

        So a loss, which looks at no value, counts them as zero. Differences of points are subnormal long before the
        points are, so this holds for some digits above the smallest normal number.
        """
        if self.adapter.name not in ("tensorflow", "jax", "keras") or not self.sample.finite:
            return False
        smallest = 1e-300 if self.precision == "float64" else 1e-30
        spread = 1.0 if self.degenerate else float(self.sample.spread)
        return spread < smallest or (target is not None and bool(target.diagonal().mean() < smallest))

    def penalty(self, lam: float, score: Expected) -> Expected:
        """Answer for λ(1 − score), given that for the score."""
        if score.value is None:
            return score
        return score._replace(value=L(lam) * (1 - score.value), bound=abs(lam) * score.bound + 1e-30)

    def training_score(self, target: np.ndarray | None, zeta: float) -> Expected:
        score = self.sample.score(target, zeta, degenerate=self.degenerate) if self.sample.finite else L(np.nan)
        return self.bounded(score, self.near(target, zeta))

    def training_unbiased(self) -> Expected:
        sample = self.sample
        if not sample.finite or sample.n < 4 or self.degenerate:
            return self.expected(L(0), PROMISE[self.precision])
        value, bound = sample.unbiased(truth.ROUNDING[self.precision], floored=True)
        return self.expected(value, bound)
