"""What a claim is, what checking it gives, and what a check is handed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from paper_checks._cache import Cache

_Value = TypeVar("_Value")


class NoDataError(Exception):
    """A claim cannot be checked here, for want of data or of a package; the message says how to get it."""


class Verdict(str, Enum):
    """What came out for a claim."""

    holds = "holds"
    in_part = "holds in part"
    fails = "does not hold"
    no_data = "no data"
    error = "error"

    @property
    def bad(self) -> bool:
        """Whether the command has to exit with 1."""
        return self in (Verdict.fails, Verdict.error)


@dataclass(frozen=True)
class Check:
    """One number, or one table's worth of numbers, held against what the claim says.

    Attributes
    ----------
    what, expected, obtained : str
        What was looked at, what the claim says, and what came out (with its spread over seeds, where there is one).
    tolerance : str
        The bound, and why it is that and no other.
    holds : bool
        Whether `obtained` is within it.
    required : bool
        True for what has to hold. False for what is an open question, or is known not to be reproducible: the
        outcome is the result, it is reported either way, and `tolerance` says why nothing hangs on it.
    """

    what: str
    expected: str
    obtained: str
    tolerance: str
    holds: bool
    required: bool = True


@dataclass(frozen=True)
class Table:
    """A table of the report."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass
class Findings:
    """What checking a claim gave.

    Attributes
    ----------
    checks : list of Check
        At least one.
    tables : list of Table
        Evidence for the report.
    figures : dict
        matplotlib figures by name; the name ``""`` is that of the claim itself.
    data : dict
        All numbers behind figures and tables, for the JSON.
    notes : list of str
        What a reader should know: surprises, limits, what could not be reproduced.
    """

    checks: list[Check] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def expect(
        self, what: str, *, expected: str, obtained: str, tolerance: str, holds: bool, required: bool = True
    ) -> None:
        """Add a check."""
        self.checks.append(Check(what, expected, obtained, tolerance, bool(holds), required))

    @property
    def verdict(self) -> Verdict:
        """Sum up the checks."""
        if not all(check.holds for check in self.checks if check.required):
            return Verdict.fails
        return Verdict.holds if all(check.holds for check in self.checks) else Verdict.in_part


@dataclass(frozen=True)
class Run:
    """How the claims are checked this time.

    Attributes
    ----------
    quick : bool
        Whether it is the short form, which CI runs.
    output : Path
        The folder for results.
    cache : Cache
        Costly intermediate results that several claims share: fine-tuning runs.
    models, tasks : tuple of str
        What the claims of the regularizer are checked on instead of their own choice; empty for that.
    paper_size : bool
        Whether those claims train on all data for as long as the paper does, instead of what two cores can.
    jobs : int or None
        Fine-tuning runs at a time; by default one a core, or one if there is a GPU.
    """

    quick: bool
    output: Path
    cache: Cache
    models: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    paper_size: bool = False
    jobs: int | None = None

    def pick(self, quick: _Value, full: _Value) -> _Value:
        """Choose a size by the form."""
        return quick if self.quick else full

    def rng(self, *key: int) -> np.random.Generator:
        """Give a generator that hangs on the key alone, so that every run draws the same numbers."""
        return np.random.default_rng((2305, 19358, *key))


@dataclass(frozen=True)
class Claim:
    """A claim, and the function that checks it.

    Attributes
    ----------
    number, name : int, str
        Its place in the table, and what ``--only`` calls it.
    title : str
        The claim, in a sentence.
    source : str
        Figure, table or section of the paper; or of this library's own design, where the claim is its own.
    check : callable
        Checks it.
    """

    number: int
    name: str
    title: str
    source: str
    check: Callable[[Run], Findings]
