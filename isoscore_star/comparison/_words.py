"""A comparison in words, which claim no more than the intervals carry."""

from __future__ import annotations

import math
from collections.abc import Sequence

from isoscore_star.comparison._layer import ComparedLayer

_SHOWN = 4

_WORTH_TELLING = 1.2
"""Times as wide."""

_ZERO = 1e-3
"""Degrees, far above the rounding of angles and far below what a sample of any size tells."""


def sentences(rows: Sequence[ComparedLayer]) -> tuple[str, ...]:
    """Return the headline first."""
    if len(rows) == 1:
        found = (_headline(rows[0]), _gain(rows[0]), _cka(rows), _angles(rows))
    else:
        found = (_of_layers(rows), _most(rows), _cka(rows), _angles(rows))
    return tuple(text[0].upper() + text[1:] for text in found if text)


def listed(names: Sequence[str]) -> str:
    """Return some names and how many more there are."""
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def change(row: ComparedLayer) -> str:
    """Return how many fewer or more dimensions B uses, with the interval.

    Examples
    --------
    >>> import numpy as np
    >>> import isoscore_star as iso
    >>> points = np.random.default_rng(0).normal(size=(500, 8))
    >>> change(iso.compare(points * np.arange(1, 9), points).rows[0])
    '68 % more dimensions than A (95 %: 61 to 76 %)'
    """
    less = row.log_ratio < 0
    low, high = row.log_ratio_interval or (math.nan, math.nan)
    if row.log_ratio > math.log(2):
        interval = f"{_times(math.exp(low))} to {_times(math.exp(min(high, 700.0)))}"
        return f"{_times(row.ratio)} times as many dimensions as A (95 %: {interval})"
    ends = (-math.expm1(high), -math.expm1(low)) if less else (math.expm1(low), math.expm1(high))
    value = abs(math.expm1(row.log_ratio))
    digits = _digits(value, ends[1] - ends[0])
    interval = f"{100 * ends[0]:.{digits}f} to {100 * ends[1]:.{digits}f} %"
    return f"{100 * value:.{digits}f} % {'fewer' if less else 'more'} dimensions than A (95 %: {interval})"


def _headline(row: ComparedLayer) -> str:
    how = f", {row.pairing}" if row.paired else ", as two samples of their own"
    if row.log_ratio_interval is None or row.ratio_interval is None:
        return f"B's effective dimensions are {_times(row.ratio)} times A's; how sure that is, is not known"
    if row.is_rounding:
        return "A and B have the same score" + (" to within rounding" if row.log_ratio else "")
    if row.differs and row.log_ratio * row.difference > 0:
        return f"B uses {change(row)}{how}"
    low, high = row.ratio_interval
    digits = _digits(row.ratio, high - low) + 2
    interval = f"{low:.{digits}f} to {high:.{digits}f}"
    found = f"B's effective dimensions are {row.ratio:.{digits}f} times A's (95 %: {interval}){how}"
    if row.a.dim == row.b.dim:
        return f"no difference between A and B is clear of chance: {found}"
    return f"of {row.b.dim} dimensions for {row.a.dim}: {found}"


def _gain(row: ComparedLayer) -> str:
    if row.gain is None or row.gain < _WORTH_TELLING or row.is_rounding:
        return ""
    return f"without pairing the interval would be {_times(row.gain)} times as wide"


def _of_layers(rows: Sequence[ComparedLayer]) -> str:
    known = [row for row in rows if row.differs is not None]
    if not known:
        return f"how sure the differences of the {len(rows)} layers are is not known"
    fewer = sum(bool(row.differs) and row.difference < 0 for row in known)
    more = sum(bool(row.differs) and row.difference > 0 for row in known)
    rest = len(known) - fewer - more
    found = [
        text
        for count, text in (
            (fewer, f"lower in {fewer}"),
            (more, f"higher in {more}"),
            (rest, f"not clearly different in {rest}"),
        )
        if count
    ]
    return f"B's score is {', '.join(found)} of {len(known)} layers (each by a 95 % interval of its own)"


def _most(rows: Sequence[ComparedLayer]) -> str:
    clear = [row for row in rows if row.differs and row.a.dim == row.b.dim]
    if not clear:
        return ""
    row = max(clear, key=lambda row: abs(row.log_ratio))
    return f"most in {row.name}: {change(row)}" + (f", {row.pairing}" if row.paired else "")


def _cka(rows: Sequence[ComparedLayer]) -> str:
    known = [(row.cka, row.name) for row in rows if row.cka is not None]
    if not known:
        return ""
    least, name = min(known)
    where = "" if len(rows) == 1 else f", least in {name}"
    return f"linear CKA of corresponding points is {_near_one(least)}{where} (1: the same up to rotation and scale)"


def _angles(rows: Sequence[ComparedLayer]) -> str:
    known = [(row.angles[0], row.name, row) for row in rows if row.angles]
    if not known:
        return ""
    largest, name, row = max(known, key=lambda item: item[0])
    one = len(row.angles) == 1
    directions = "leading direction" if one else f"{len(row.angles)} leading directions"
    if largest < _ZERO:
        if len(rows) > 1:
            return "their leading directions are the same in every layer"
        return f"their {directions} {'is' if one else 'are'} the same"
    degrees = f"{largest:.0f}" if largest >= 1 else f"{largest:.2g}"
    if len(rows) > 1:
        return f"their leading directions are farthest apart in {name}: {degrees}° of {len(row.angles)}"
    return f"the angle between their {directions} is {degrees}°" + ("" if one else " at the largest")


def _near_one(value: float) -> str:
    return f"{value:.2f}" if value < 0.995 else f"{value:.6f}".rstrip("0").rstrip(".")


def _times(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:,.0f}"


def _digits(value: float, width: float) -> int:
    """Return how many digits of a percentage tell the ends of an interval apart."""
    if not width > 0 or not math.isfinite(width):
        return 0
    return max(0, min(6, math.ceil(-math.log10(100 * width / 2))))
