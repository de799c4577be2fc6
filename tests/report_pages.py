"""Pages of each kind, written once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import report_fakes as fakes

import isoscore_star as iso
from isoscore_star import reporting

THINGS: dict[str, Callable[[], Any]] = {
    "scan": fakes.scan,
    "comparison": fakes.comparison,
    "runs": fakes.runs,
    "measurement": lambda: iso.measure(fakes.points(1)),
}


@cache
def thing(kind: str) -> Any:
    return THINGS[kind]()


@cache
def page(kind: str) -> str:
    return reporting.to_html(thing(kind), "states.npy")
