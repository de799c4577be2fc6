"""Settings of a fine-tuning: those that all runs share, and cells, which a sweep varies."""

from __future__ import annotations

import itertools
import math
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from isoscore_star import InvalidValueError, LambdaSchedule, arguments

PENALTY = ("lam", "zeta", "estimator", "target", "floor")
"""Settings that are part of the name of each run, beside the seed."""


MOST_EPOCHS = 1e9
MOST_SEED = 2**32 - 1  # of NumPy


@dataclass(frozen=True)
class Settings:
    """Settings of all runs; the options of the command have the same names."""

    model: str
    task: str
    eval_file: str | None = None
    columns: tuple[str, ...] | None = None
    text_column: str | None = None
    text_pair_column: str | None = None
    label_column: str | None = None
    metric: str | None = None
    layers: tuple[int, ...] | None = None
    dropout: float | None = None
    max_length: int = 128
    max_steps: int | None = None
    max_train: int | None = None
    max_eval: int | None = None
    gradient_accumulation: int = 1
    device: str = "auto"

    def steps(self, cell: Cell, examples: int) -> int:
        """Return the optimizer steps of a run on so many examples."""
        batches = math.ceil(examples / cell.batch_size)
        return self.max_steps or math.ceil(cell.epochs * math.ceil(batches / self.gradient_accumulation))


@dataclass(frozen=True)
class Cell:
    """Settings that a sweep may vary."""

    lam: float = 1.0
    zeta: float = 0.2
    estimator: str = "shrinkage"
    target: float | None = None
    floor: float | None = None
    lam_schedule: str = "constant"
    warmup_steps: int = 0
    epochs: float = 3.0
    batch_size: int = 16
    lr: float = 5e-5

    @property
    def effective(self) -> Cell:
        """The cell with settings without effect reset: cells with equal effective ones are the same training."""
        if self.lam == 0:
            own = {name: getattr(self, name) for name in ("epochs", "batch_size", "lr")}
            return Cell(lam=0.0, zeta=0.0, **own)
        return self if self.estimator == "shrinkage" else replace(self, zeta=0.0)


def cells(base: Cell, sweep: Mapping[str, Sequence[Any]]) -> list[Cell]:
    """Return every combination of a sweep's values, the last name changing fastest.

    Parameters
    ----------
    base : Cell
        The values of settings that are not swept.
    sweep : mapping of str to sequence
        Values by name. A `floor` holds for the cells with λ < 0, a `target` for those with λ ≠ 0.

    Returns
    -------
    list of Cell
        Checked, and all different.

    Raises
    ------
    InvalidValueError
        If a value is out of range, or a target comes with λ < 0, or a floor with no λ < 0 at all.
    """
    combined = [replace(base, **dict(zip(sweep, values, strict=True))) for values in itertools.product(*sweep.values())]
    for cell in combined:
        _check(cell)
    if any(cell.floor is not None for cell in combined) and not any(cell.lam < 0 for cell in combined):
        raise InvalidValueError("floor", "it stops a pull downwards, so it needs a lam below 0")
    return list(dict.fromkeys(replace(cell, floor=cell.floor if cell.lam < 0 else None) for cell in combined))


def check_seeds(seeds: Sequence[int]) -> None:
    """Require seeds that every random generator takes."""
    for seed in seeds:
        if not 0 <= seed <= MOST_SEED:
            bound = "least 0" if seed < 0 else f"most {MOST_SEED}"
            raise InvalidValueError("seeds", f"expected at {bound}; got {seed}")


def parse_sweep(words: Sequence[str]) -> dict[str, list[Any]]:
    """Read ``NAME=VALUE,VALUE,...``; raise InvalidValueError for unknown or repeated names and wrong values."""
    sweep: dict[str, list[Any]] = {}
    for word in " ".join(words).split():
        option, equals, values = word.partition("=")
        name = option.lstrip("-").replace("-", "_")
        if not equals or name not in _PARSERS:
            allowed = ", ".join(known.replace("_", "-") for known in _PARSERS)
            raise InvalidValueError(
                "sweep", f"expected NAME=VALUE,VALUE with a name of {allowed}; got {reprlib.repr(word)}"
            )
        if name in sweep:
            raise InvalidValueError("sweep", f"{option} comes twice. Put all its values behind one {option}=")
        sweep[name] = [_parsed(option, _PARSERS[name], value) for value in values.split(",")]
    return sweep


def _optional(value: str) -> float | None:
    return None if value == "none" else float(value)


_PARSERS: dict[str, Callable[[str], Any]] = {
    "lam": float,
    "zeta": float,
    "estimator": str,
    "target": _optional,
    "floor": _optional,
    "lam_schedule": str,
    "warmup_steps": int,
    "epochs": float,
    "batch_size": int,
    "lr": float,
}


def _parsed(option: str, parse: Callable[[str], Any], value: str) -> Any:
    try:
        return parse(value)
    except ValueError:
        kind = "a whole number" if parse is int else "a number"
        raise InvalidValueError("sweep", f"{option}: expected {kind}; got {reprlib.repr(value)}") from None


def _check(cell: Cell) -> None:
    arguments.number("lam", cell.lam)
    arguments.number("zeta", cell.zeta, 0.0, 1.0)
    arguments.choice("estimator", cell.estimator, arguments.ESTIMATORS)
    arguments.choice("lam_schedule", cell.lam_schedule, LambdaSchedule.SHAPES)
    for name in ("target", "floor"):
        if getattr(cell, name) is not None:
            arguments.number(name, getattr(cell, name), 0.0, 1.0)
    if cell.target is not None and (cell.lam < 0 or cell.floor is not None):
        raise InvalidValueError(
            "target",
            f"it is approached from either side, with lam above 0 and no floor; got lam={cell.lam:g}, "
            f"floor={cell.floor}",
        )
    for name in ("epochs", "lr"):
        if not arguments.number(name, getattr(cell, name)) > 0:
            raise InvalidValueError(name, f"expected a number above 0; got {getattr(cell, name):g}")
    if cell.epochs > MOST_EPOCHS:
        raise InvalidValueError("epochs", f"expected at most {MOST_EPOCHS:g}; got {cell.epochs:g}")
    if cell.batch_size < 1:
        raise InvalidValueError("batch_size", f"expected at least 1; got {cell.batch_size}")
    if cell.warmup_steps < 0:
        raise InvalidValueError("warmup_steps", f"expected at least 0; got {cell.warmup_steps}")
