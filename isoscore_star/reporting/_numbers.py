"""Numbers as the report writes them."""

from __future__ import annotations

import math
from typing import Any

NONE = "not defined"


def score(value: float | None) -> str:
    """Write a score: three decimals, and of smaller ones two digits.

    Examples
    --------
    >>> score(0.28041), score(0.000123), score(0.0), score(None)
    ('0.280', '0.00012', '0', 'not defined')
    """
    if value is None or not math.isfinite(value):
        return NONE
    if value == 0:
        return "0"
    if abs(value) >= 0.01:
        return _signed(f"{value:.3f}")
    return _signed(f"{value:.{min(12, 1 - math.floor(math.log10(abs(value))))}f}")


def _signed(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")


def interval(pair: Any) -> str:
    """Write the two ends of an interval, or nothing.

    Examples
    --------
    >>> interval((0.26, 0.3)), interval(None)
    ('0.260 to 0.300', '')
    """
    return "" if pair is None else f"{score(pair[0])} to {score(pair[1])}"


def percent(fraction: float | None) -> str:
    """Write a fraction as a percentage.

    Examples
    --------
    >>> percent(0.4567), percent(0.0123), percent(0.00002), percent(1.0)
    ('46 %', '1.2 %', '0.002 %', '100 %')
    """
    if fraction is None or not math.isfinite(fraction):
        return NONE
    value = 100 * fraction
    if value == 0 or abs(value) >= 10:
        return f"{value:.0f} %"
    if abs(value) >= 1:
        return f"{value:.1f} %"
    return f"{value:.1g} %" if abs(value) >= 1e-4 else "under 0.0001 %"


def times(factor: float) -> str:
    """Write a factor.

    Examples
    --------
    >>> times(172.8), times(3.21)
    ('173', '3.2')
    """
    return f"{factor:,.0f}" if factor >= 10 else f"{factor:.1f}"


def dimensions(value: float) -> str:
    """Write a number of effective dimensions.

    Examples
    --------
    >>> dimensions(108.4), dimensions(1.23)
    ('108', '1.2')
    """
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def general(value: Any) -> str:
    """Write any number of a table of measures.

    Examples
    --------
    >>> general(1234567.0), general(0.5), general(None), general(float("inf"))
    ('1.23e+06', '0.5', 'none', 'infinite')
    """
    if value is None:
        return "none"
    if isinstance(value, float) and not math.isfinite(value):
        return "infinite" if value > 0 else "not a number"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{float(value):.4g}" if abs(value) < 1e5 else f"{float(value):.3g}"


def rounded(value: float | None, digits: int = 4) -> float | None:
    """Round to significant digits, for the page's data; None for what JSON lacks.

    Examples
    --------
    >>> rounded(0.123456), rounded(float("nan"))
    (0.1235, None)
    """
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{digits}g}")
