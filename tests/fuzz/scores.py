"""Calls of the scores and the loss on a drawn cloud, each with the answer that is right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from adapters import Adapter
from fuzz import clouds, truth
from fuzz.clouds import Case
from fuzz.truth import L, Sample
from fuzz.verdict import MUST_RAISE, Expected

import isoscore_star as iso

Call = tuple[str, Callable[[], Any], Expected]

PROMISE = {"float64": 1e-12, "float32": 1e-5, "half": 1e-3}
# Of the largest entry, and of the largest of the terms whose difference an entry is.
GRADIENT = {"float64": (1e-10, 1e-12), "float32": (1e-4, 1e-5), "half": (1e-2, 1e-2)}
# Of spread, of distance from the mean, of distance from zero: what the declared range is, 1e±150 and 1e±15.
RANGE = {"float64": (1e-150, 1e151, 1e158), "float32": (1e-15, 1e16, 1e23), "half": (1e-15, 1e16, 1e23)}


class Trial:
    """One cloud through one backend."""

    def __init__(self, adapter: Adapter, rng: np.random.Generator, case: Case, precision: str) -> None:
        self.adapter, self.rng, self.case, self.precision = adapter, rng, case, precision
        flat = case.array.reshape(-1, case.array.shape[-1])
        with np.errstate(all="ignore"):
            seen = truth.rounded(flat, case.dtype)
            if precision == "float32" and case.dtype in clouds.INTEGERS:
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
        layout = case.layout if numpy or case.layout not in clouds.LAYOUTS_OF_NUMPY else "C"
        X = self.adapter.native(clouds.laid_out(array, layout), dtype)
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
        if target is None or zeta == 0:
            return True
        low, high = (1e-290, 1e290) if self.precision == "float64" else (1e-30, 1e30)
        variance = float(target.diagonal().mean())
        if self.degenerate or not self.sample.finite:
            return bool(low < variance < high)
        apart = float(self.sample.t / self.sample.d / L(variance))
        return bool(low < variance < high and 1e-24 < apart < 1e24)

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

    def loss(self, lam: float, score: Expected) -> Expected:
        """Answer for λ(1 − score) of the training path, which looks at no value."""
        if not self.sample.finite:
            return Expected(np.nan)
        overflow = not score.inside and abs(self.sample.points).max(initial=0) > 1e15
        bound = abs(lam) * score.bound + 1e-30
        return score._replace(value=L(lam) * (1 - score.value), bound=bound, nan=overflow, error="no")

    # calls -------------------------------------------------------------------------------------------------------

    def calls(self, count: int) -> Iterator[Call]:
        """Draw some calls."""
        kinds = [self.call_star, self.call_star, self.call_unbiased, self.call_loss, self.call_loss_unbiased]
        kinds += [self.call_moments, self.call_measure] * (1 if self.adapter.name != "numpy" else 2)
        if self.adapter.differentiable:
            kinds += [self.call_gradient] * 3
        if self.adapter.name == "numpy":
            kinds += [self.call_reference]
        for kind in self.rng.permutation(len(kinds))[:count]:
            yield from kinds[kind]()

    def value(self, function: Callable[[Any], Any]) -> Callable[[], float]:
        if self.adapter.name == "torch":
            return lambda: float(function(self.parts(self.X)).detach())
        return lambda: self.adapter.value(lambda X: function(self.parts(X)), self.X)

    def call_star(self) -> Iterator[Call]:
        target, given, zeta, share = self.shrinkage()
        if given is None and self.rng.random() < 0.5:
            yield "isoscore", self.value(lambda x: iso.isoscore(x, mask=self.mask)), self.star(None, 0.0)
            return
        expected = self.star(target, zeta)
        yield "isoscore_star", self.value(lambda x: iso.isoscore_star(x, given, share, mask=self.mask)), expected

    def call_unbiased(self) -> Iterator[Call]:
        yield (
            "isoscore_unbiased",
            self.value(lambda x: iso.isoscore_unbiased(x, mask=self.mask)),
            self.unbiased(),
        )

    def call_loss(self) -> Iterator[Call]:
        target, given, zeta, share = self.shrinkage()
        lam, weight = self.weight()
        checked = self.rng.random() < 0.15
        if checked:
            score = self.star(target, zeta)
            expected = (
                score
                if score.value is None
                else score._replace(value=L(lam) * (1 - score.value), bound=abs(lam) * score.bound + 1e-30)
            )
        else:
            expected = self.loss(lam, self.training_score(target, zeta))

        def function(X: Any) -> Any:
            return iso.istar_loss(X, given, share, weight, mask=self.mask, check_values=checked)

        if not checked and self.rng.random() < 0.02 and self.adapter.name in ("tensorflow", "jax"):
            yield "istar_loss traced", lambda: float(self.traced(function)(self.X)), expected
        else:
            yield "istar_loss", self.value(function), expected

    def traced(self, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        if self.adapter.name == "jax":
            import jax

            return jax.jit(lambda X: function(self.parts(X)))
        import tensorflow as tf

        return tf.function(lambda X: function(self.parts(X)))

    def training_score(self, target: np.ndarray | None, zeta: float) -> Expected:
        score = self.sample.score(target, zeta, degenerate=self.degenerate) if self.sample.finite else L(np.nan)
        return self.bounded(score, self.near(target, zeta))

    def training_unbiased(self) -> Expected:
        sample = self.sample
        if not sample.finite or sample.n < 4 or self.degenerate:
            return self.expected(L(0), PROMISE[self.precision])
        value, bound = sample.unbiased(truth.ROUNDING[self.precision], floored=True)
        return self.expected(value, bound)

    def call_loss_unbiased(self) -> Iterator[Call]:
        lam, weight = self.weight()
        yield (
            "istar_loss unbiased",
            self.value(lambda x: iso.istar_loss(x, None, 0.0, weight, mask=self.mask, estimator="unbiased")),
            self.loss(lam, self.training_unbiased()),
        )

    def call_gradient(self) -> Iterator[Call]:
        sample, rng = self.sample, self.rng
        if not sample.finite or not self.inside or self.case.dtype in clouds.INTEGERS:
            return
        target, given, zeta, share = self.shrinkage()
        if not self.near(target, zeta):
            return
        measuring = rng.random() < 0.3
        if measuring and (self.measured(4) is not None or sample.margin < 0.01):
            return
        unbiased = rng.random() < 0.4
        if unbiased:
            call = iso.isoscore_unbiased if measuring else lambda x, **k: -iso.istar_loss(x, estimator="unbiased", **k)
            degenerate = self.degenerate or sample.n < 4
            if not degenerate and sample.unbiased(truth.ROUNDING[self.precision], floored=True)[1] > 1e-2:
                return
            found = None if degenerate else sample.unbiased_gradient(floored=not measuring)
        else:
            call = iso.isoscore_star if measuring else lambda *a, **k: -iso.istar_loss(*a, **k)
            found = None if self.degenerate else sample.score_gradient(target, zeta)
        right = np.zeros((self.rows, sample.d), L)
        by_largest, by_terms = GRADIENT[self.precision]
        bound = 0.0
        if found is not None:
            right[self.kept] = found[0]
            bound = by_largest * float(abs(found[0]).max()) + by_terms * float(found[1])
            if unbiased:  # which divides by a difference: its relative error is that of D and of N/D, as in the score
                _, kappa = sample.denominator(truth.ROUNDING[self.precision], floored=not measuring)
                bound += 2 * float(kappa * found[1])
        smallest, largest = (6e-8, 6e4) if self.case.dtype == "float16" else (1e-37, 1e37)
        if self.precision == "float64":
            smallest, largest = 1e-300, 1e300
        if bound and float(found[1]) > largest:
            return
        arguments = () if unbiased else (given, share)

        def function(X: Any) -> Any:
            return call(self.parts(X), *arguments, mask=self.mask)

        yield (
            "gradient" + " unbiased" * unbiased,
            lambda: self.gradient(function).reshape(-1, sample.d),
            Expected(right, bound + smallest),
        )

    def gradient(self, function: Callable[[Any], Any]) -> np.ndarray:
        if self.adapter.name == "torch" and self.rng.random() < 0.2:
            import torch

            return torch.func.grad(function)(self.X).detach().double().numpy()
        return self.adapter.gradient(function, self.X)

    def call_moments(self) -> Iterator[Call]:
        sample, rng, d = self.sample, self.rng, self.sample.d
        flat = self.X if self.case.array.ndim == 2 else None
        ends = sorted({0, self.rows, *(int(i) for i in rng.integers(0, self.rows + 1, int(rng.integers(0, 4))))})
        pieces = list(pairwise(ends)) if flat is not None else []
        keep = None if self.case.keep is None else self.case.keep
        merging = rng.random() < 0.5

        def take() -> iso.Moments:
            if not pieces:
                return iso.Moments().update(self.parts(self.X), self.mask)
            whole = iso.Moments()
            for a, b in pieces:
                part = iso.Moments() if merging else whole
                part.update(flat[a:b], None if keep is None else keep[a:b])
                if merging:
                    whole = whole.merge(part) if rng.random() < 0.5 else part.merge(whole)
            return whole

        if not sample.finite:
            yield "Moments.update", take, MUST_RAISE._replace(error="must" if self.inside else "may")
            return
        target, given, zeta, _ = self.shrinkage(plain=True)
        which = rng.integers(4)
        if which == 0:
            yield "Moments.isoscore", lambda: take().isoscore(), self.star(None, 0.0)
        elif which == 1:
            yield "Moments.isoscore_star", lambda: take().isoscore_star(given, zeta), self.star(target, zeta)
        elif which == 2:
            yield "Moments.isoscore_unbiased", lambda: take().isoscore_unbiased(), self.unbiased()
        elif sample.n < 2:
            yield "Moments.cov", lambda: take().cov, MUST_RAISE
        elif self.inside:
            size = float(abs(sample.cov).max())
            yield "Moments.cov", lambda: take().cov, Expected(sample.cov, PROMISE[self.precision] * size)
            mean = sample.points.astype(L).mean(axis=0)
            bound = PROMISE[self.precision] * float(sample.spread) + 1e-15 * float(abs(mean).max())
            yield "Moments.mean", lambda: take().mean, Expected(mean, bound)
        else:
            wanted = np.array([sample.n, d], float)
            yield (
                "Moments.count",
                lambda: np.array([take().count, take().dim], float),
                Expected(wanted, error="may", different=True),
            )

    def call_measure(self) -> Iterator[Call]:
        sample = self.sample
        target, given, zeta, _ = self.shrinkage(plain=True)
        expected = self.star(target, zeta)
        groups = self.groups()
        found: list[iso.Measurement] = []

        def measure() -> float:
            found.append(iso.measure(self.parts(self.X), given, zeta, mask=self.mask, groups=groups))
            return found[-1].score

        yield "measure", measure, expected
        if not found or expected.value is None:
            return
        measurement = found[-1]
        unbiased = self.unbiased()
        if measurement.unbiased_score is not None:
            yield (
                "measure.unbiased_score",
                lambda: measurement.unbiased_score,
                unbiased._replace(inside=expected.inside),
            )
        elif unbiased.error == "no":
            yield "measure.unbiased_score", lambda: np.float64(np.nan), unbiased
        rest = Expected(np.array([sample.n, sample.d], float))
        yield "measure.count", lambda: np.array([measurement.count, measurement.dim], float), rest
        yield "Measurement", lambda: readable(measurement), Expected(np.float64(1))
        if groups is None and measurement.standard_error is not None and 5 <= sample.n <= 12 and self.inside:
            error = truth.jackknife(sample.points)
            if error is not None and unbiased.bound < 1e-9:
                expected = Expected(L(error), 1e-6 * (1 + error))
                yield "measure.standard_error", lambda: np.float64(measurement.standard_error), expected

    def call_reference(self) -> Iterator[Call]:
        if self.case.cuts or self.case.array.ndim != 2 or self.case.keep is not None:
            return
        target, given, zeta, _ = self.shrinkage(plain=True)
        expected = self.star(target, zeta)
        if expected.value is not None:
            expected = expected._replace(bound=1e-12)
        yield "reference", lambda: iso.reference.isoscore_star(self.X, given, zeta), expected

    def groups(self) -> Any:
        """Draw labels of what belongs together, mostly none."""
        if self.rng.random() < 0.7:
            return None
        labels = self.rng.integers(0, max(2, self.rows // 3), self.rows)
        labels = labels.astype(self.rng.choice(["int64", "uint8", "float64", "U4"]))
        if self.case.cuts:
            return np.split(labels, self.case.cuts)
        return labels.reshape(self.case.array.shape[:-1])

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


def readable(measurement: iso.Measurement) -> np.float64:
    """Look at all that a Measurement shows: 1 if every number of it is finite."""
    import json

    shown = str(measurement) + repr(measurement) + json.dumps(measurement.to_dict(), allow_nan=False)
    measurement.warnings  # noqa: B018
    numbers = [*measurement.spectrum, *measurement.variances, *measurement.cov.flat, measurement.effective_dimensions]
    good = bool(shown) and np.isfinite(numbers).all() and (measurement.spectrum >= 0).all()
    if measurement.standard_error is not None:
        good = good and 0 <= measurement.standard_error < np.inf
    return np.float64(good)
