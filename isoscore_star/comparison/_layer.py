"""What the comparison of two clouds tells."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from isoscore_star.measurement import Measurement

Interval = tuple[float, float]

_LARGEST = 700.0  # of exp


@dataclass(frozen=True)
class ComparedLayer:
    """Two clouds, compared. Every difference is that of `b` less `a`.

    Attributes
    ----------
    name : str
        Of the layer; ``"all points"`` if there is but one.
    a, b : Measurement
        What was measured.
    difference : float
        Of the unbiased scores (of `score`, if one of them is not defined).
    interval : (float, float) or None
        95 % interval of `difference`; None without standard errors, for which `warnings` has the reason.
    log_ratio : float
        log(PR_b / PR_a), with the effective dimensions PR.
    log_ratio_error : float or None
        Its standard error.
    log_ratio_interval : (float, float) or None
        Its 95 % interval.
    unpaired_log_ratio_interval : (float, float) or None
        The same if the clouds were samples of their own: what pairing earns.
    paired : bool
        Whether the same points, groups or blocks were left out of both.
    pairing : str
        What was paired, or why nothing was.
    cka : float or None
        Linear CKA of corresponding rows, from 0 to 1 (the same up to rotation, reflection and scale).
    debiased_cka : float or None
        CKA without the bias of few points, of independent points; it may lie below 0.
    cka_reason : str
        Why `cka` or `debiased_cka` is None, or nothing.
    angles : tuple of float
        Principal angles in degrees, largest first, between the spans of the leading directions of both; empty for
        clouds of different width.
    notes : tuple of str
        What to mind in this comparison, beside the warnings of `a` and `b`.
    """

    name: str
    a: Measurement
    b: Measurement
    difference: float
    interval: Interval | None
    log_ratio: float
    log_ratio_error: float | None
    log_ratio_interval: Interval | None
    unpaired_log_ratio_interval: Interval | None
    paired: bool
    pairing: str
    cka: float | None
    debiased_cka: float | None
    cka_reason: str
    angles: tuple[float, ...]
    notes: tuple[str, ...] = ()
    _rounding: float = field(default=0.0, repr=False)

    @property
    def ratio(self) -> float:
        """PR_b / PR_a: how many times the effective dimensions of `a` are those of `b`."""
        return math.exp(self.log_ratio)

    @property
    def ratio_interval(self) -> Interval | None:
        """95 % interval of `ratio`."""
        if self.log_ratio_interval is None:
            return None
        low, high = self.log_ratio_interval
        return math.exp(min(low, _LARGEST)), math.exp(min(high, _LARGEST))

    @property
    def differs(self) -> bool | None:
        """Whether 0 lies outside both intervals and the difference is not rounding; None without intervals.

        Of clouds of different width, whose scores are fractions of different numbers, by `interval` alone.
        """
        if self.interval is None or self.log_ratio_interval is None:
            return None
        intervals = [self.interval] + [self.log_ratio_interval] * (self.a.dim == self.b.dim)
        return not self.is_rounding and all(low > 0 or high < 0 for low, high in intervals)

    @property
    def is_rounding(self) -> bool:
        """Whether the scores are the same but for rounding."""
        return self.a.dim == self.b.dim and abs(self.log_ratio) <= self._rounding

    @property
    def gain(self) -> float | None:
        """How many times wider the interval of `log_ratio` would be without pairing; None where that is not known."""
        if not self.paired or self.log_ratio_interval is None or self.unpaired_log_ratio_interval is None:
            return None
        own, other = (high - low for low, high in (self.log_ratio_interval, self.unpaired_log_ratio_interval))
        return other / own if own > self._rounding else None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to mind, in sentences."""
        own = [f"{side}: {text}" for side, of in (("A", self.a), ("B", self.b)) for text in of.warnings]
        return (*self.notes, *own)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and lists, for JSON."""
        names = ("name", "difference", "log_ratio", "log_ratio_error", "ratio", "differs", "paired", "pairing")
        intervals = ("interval", "log_ratio_interval", "unpaired_log_ratio_interval", "ratio_interval")
        similarity = ("cka", "debiased_cka", "cka_reason")
        return {
            **{name: getattr(self, name) for name in names},
            **{name: None if getattr(self, name) is None else list(getattr(self, name)) for name in intervals},
            **{name: getattr(self, name) for name in similarity},
            "angles": list(self.angles),
            "warnings": list(self.warnings),
            "a": self.a.to_dict(),
            "b": self.b.to_dict(),
        }
