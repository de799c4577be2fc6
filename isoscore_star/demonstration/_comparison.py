"""Training runs with λ > 0, λ = 0 and λ < 0 side by side, and their comparison in sentences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, NamedTuple

LAMS = (1.0, 0.0, -1.0)
"""λ of the runs that are compared; ±1 are the smallest of those that the paper searches."""

SEEDS = 5  # runs for each λ


@dataclass(frozen=True)
class Run:
    """One training; scores and accuracies are of held-out tokens.

    Attributes
    ----------
    lam : float
        λ of the I-STAR penalty.
    seed : int
        Of the initial weights and the order of the sentences; runs of one seed share both.
    scores : tuple of float
        Unbiased score of the hidden representation, before training and after each epoch.
    accuracies : tuple of float
        Fraction of tokens whose topic is predicted, likewise.
    """

    lam: float
    seed: int
    scores: tuple[float, ...]
    accuracies: tuple[float, ...]


class Summary(NamedTuple):
    """Medians and ranges over the seeds."""

    lam: float
    score_before: float
    score_after: float
    score_range: tuple[float, float]
    accuracy: float
    accuracy_range: tuple[float, float]


@dataclass(frozen=True)
class Comparison:
    """All runs of the demonstration."""

    runs: tuple[Run, ...]

    def of(self, lam: float) -> list[Run]:
        """Return the runs with this λ, in the order of their seeds."""
        return sorted((run for run in self.runs if run.lam == lam), key=lambda run: run.seed)

    def summary(self, lam: float) -> Summary:
        """Return medians and ranges of the runs with this λ."""
        runs = self.of(lam)
        after, accuracies = [run.scores[-1] for run in runs], [run.accuracies[-1] for run in runs]
        return Summary(
            lam=lam,
            score_before=median(run.scores[0] for run in runs),
            score_after=median(after),
            score_range=(min(after), max(after)),
            accuracy=median(accuracies),
            accuracy_range=(min(accuracies), max(accuracies)),
        )

    @property
    def verdict(self) -> tuple[str, ...]:
        """For each λ other than 0, whether isotropy changed as wanted, and how accuracy changed."""
        return tuple(f"{self._on_isotropy(lam)} {self._on_accuracy(lam)}" for lam in LAMS if lam != 0)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and lists, for JSON."""
        return {
            "summary": [self.summary(lam)._asdict() for lam in LAMS],
            "verdict": list(self.verdict),
            "runs": [asdict(run) for run in self.runs],
        }

    def _on_isotropy(self, lam: float) -> str:
        with_it, without = self.summary(lam).score_after, self.summary(0.0).score_after
        done, wanted = ("raised", "raise") if lam > 0 else ("lowered", "lower")
        sign = 1 if lam > 0 else -1
        success = f"{done} isotropy, as asked" if sign * (with_it - without) > 0 else f"did not {wanted} isotropy"
        agreeing = self._agreeing(lam, lambda run: sign * run.scores[-1])
        word = "higher" if lam > 0 else "lower"
        return (
            f"lam = {lam:g} {success}: the median score ends at {with_it:.3f}, against {without:.3f} "
            f"with lam = 0 ({word} in {agreeing} of {len(self.of(lam))} seeds)."
        )

    def _on_accuracy(self, lam: float) -> str:
        with_it, without = self.summary(lam).accuracy, self.summary(0.0).accuracy
        change = 100 * (with_it - without)
        if change == 0:
            return f"The median accuracy stayed at {with_it:.1%}."
        sign, word = (1, "higher") if change > 0 else (-1, "lower")
        agreeing = self._agreeing(lam, lambda run: sign * run.accuracies[-1])
        return (
            f"The median accuracy is {with_it:.1%}, {abs(change):.1f} points {word} than with lam = 0 "
            f"({word} in {agreeing} of {len(self.of(lam))} seeds)."
        )

    def _agreeing(self, lam: float, quantity: Callable[[Run], float]) -> int:
        """Count the seeds in which a quantity is larger than with λ = 0."""
        return sum(quantity(run) > quantity(other) for run, other in zip(self.of(lam), self.of(0.0), strict=True))
