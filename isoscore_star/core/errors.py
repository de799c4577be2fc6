"""Every error that the library raises on purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING


class IsoScoreError(Exception):
    """Base of all errors of this library.

    Made of a reason alone, or of the name of an argument and a reason; the message is ``"argument: reason"``.

    Attributes
    ----------
    argument : str or None
        What was wrong: an argument, an entry of one (``"X[1]"``), a file. None where no single one was, and for errors
        that TensorFlow raises anew from inside a traced function, which keep the message alone.
    reason : str
        What was expected, what came, and what to do.

    Examples
    --------
    >>> import numpy as np
    >>> import isoscore_star as iso
    >>> try:
    ...     iso.isoscore(np.ones((3, 2)))
    ... except iso.IsoScoreError as error:
    ...     error.argument, error.reason[:31]
    ('X', 'all 3 points are identical (zer')
    """

    # TensorFlow's AutoGraph raises an error from inside a traced function anew, with more context, and keeps its class
    # only if that is made by this very function (the other bases bring equal ones of their own). So the two parts are
    # the exception's own arguments.
    if not TYPE_CHECKING:
        __init__ = Exception.__init__

    @property
    def argument(self) -> str | None:
        """Name of what was wrong, or None."""
        return str(self.args[0]) if len(self.args) > 1 else None

    @property
    def reason(self) -> str:
        """The message without the name."""
        return str(self.args[-1]) if self.args else ""

    def about(self, argument: str) -> IsoScoreError:
        """Return the same error, of a file, say, whose points were given as X; the name of another argument stays."""
        return type(self)(argument, self.reason if self.argument == "X" else str(self))

    def __str__(self) -> str:
        return self.reason if self.argument is None else f"{self.argument}: {self.reason}"


class InvalidValueError(IsoScoreError, ValueError):
    """An argument has an allowed type but a value, shape or range that is not allowed."""


class DegenerateDataError(InvalidValueError):
    """The points carry no answer: too few, identical, or an estimate whose denominator is not positive."""


class InvalidTypeError(IsoScoreError, TypeError):
    """An argument has a type or dtype that is not allowed, or arrays of two frameworks were mixed."""


class MissingDependencyError(IsoScoreError, ImportError):
    """Something optional is not installed; the message names the extra that brings it."""
