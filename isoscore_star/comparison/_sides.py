"""One of the two clouds that are compared: what was measured, and what leaving out each point, group or block adds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from isoscore_star.comparison._streams import Stream
from isoscore_star.core.block_error import LEAST_BLOCKS, balanced, block_influences, log_ratio, union
from isoscore_star.core.moments import Moments
from isoscore_star.core.second_pass import SecondPass
from isoscore_star.core.standard_error import Influences, freedom
from isoscore_star.measurement import Measurement

FloatArray = NDArray[np.float64]

POINTS, GROUPS, BLOCKS = "points", "groups", "blocks"


@dataclass(frozen=True, eq=False)
class Side:
    """A measured cloud.

    `unit` says what was left out, None where that is not known; `unit_count` how many of them there are. `moments` are
    None where only a measurement was given.
    """

    measurement: Measurement
    moments: Moments | None = None
    unit: str | None = None
    unit_count: int = 0
    influences: Influences | None = None
    freedom: float = math.inf

    @property
    def ratio(self) -> float:
        """PR, the effective dimensions."""
        return self.measurement.effective_dimensions

    @property
    def errors(self) -> tuple[float, float] | None:
        """Standard errors of log PR and of the score."""
        if self.influences is not None:
            of_log, of_score = (math.sqrt(float(values @ values)) for values in self.influences)
            return of_log, of_score
        error, dim = self.measurement.standard_error, self.measurement.dim
        if error is None or self.measurement.unbiased_score is None or self.ratio <= 0:
            return None
        return error * (dim - 1) / self.ratio, error


def of_stream(stream: Stream, measured: Measurement, taken: SecondPass) -> Side:
    """Return the side of a cloud whose points were taken once more."""
    found, influences = taken.found(), taken.influences()
    measurement = replace(
        measured,
        standard_error=found.error,
        groups=stream.groups,
        group_count=found.group_count,
        design_effect=found.design_effect,
        longest_points=found.longest,
        _between=found.between,
        _freedom=found.freedom,
        _has_points=True,
    )
    unit = POINTS if found.group_count is None else GROUPS
    known = math.inf if influences is None else freedom_of(influences.log_ratio, unit)
    count = measurement.count if found.group_count is None else found.group_count
    return Side(measurement, stream.moments, unit, count, influences, known)


def of_moments(moments: Moments) -> Side:
    """Return the side of points that cannot be had again."""
    return Side(Measurement.from_moments(moments), moments)


def of_measurement(measurement: Measurement) -> Side:
    """Return the side of a measurement, of which only the standard error is known."""
    unit = POINTS if measurement.group_count is None else GROUPS
    freedom = math.inf if measurement._freedom is None else measurement._freedom
    return Side(measurement, None, unit, measurement.group_count or measurement.count, None, freedom)


def of_blocks(blocks: Sequence[Moments]) -> Side:
    """Return the side of blocks of whole groups, each of which is left out; empty ones add nothing."""
    measurement = Measurement.from_blocks(blocks)
    kept = balanced([block for block in blocks if block.count])
    moments, count = union(kept), len(kept)
    influences = None
    if measurement.standard_error is not None and count >= LEAST_BLOCKS:
        own = block_influences(kept, log_ratio(moments))
        of_log = np.zeros(len(blocks))
        of_log[[block.count > 0 for block in blocks]] = own
        influences = Influences(of_log, of_log * measurement.effective_dimensions / (measurement.dim - 1))
    return Side(measurement, moments, BLOCKS, count, influences, count - 1.0)


def freedom_of(values: FloatArray, unit: str | None) -> float:
    """Return the degrees of freedom of the sum of the squares of deviations."""
    if unit == BLOCKS:
        return np.count_nonzero(values) - 1.0
    halves = [values] if unit == POINTS else [half[half != 0] for half in (values[0::2], values[1::2])]
    return freedom(halves) if any(len(half) for half in halves) else math.inf
