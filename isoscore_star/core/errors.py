"""Every error that the library raises on purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any


class IsoScoreError(Exception):
    """Base of all errors of this library.

    Constructed from a reason, or from the name of an argument and a reason; the message is ``"argument: reason"``.

    Attributes
    ----------
    argument : str or None
        The argument, entry of one (``"X[1]"``) or file. None where several are involved, and for errors that
        TensorFlow raises again from a traced function, which keep only the message.
    reason : str
        What was expected, what was given, and what to do.

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

    # AutoGraph raises an error of a traced function again, with more context, and keeps its class only if __init__ is
    # this very function (ValueError's and TypeError's are equal, but others). So both parts are the exception's own
    # arguments; and `args` shows the message, which is what Keras takes its first entry for.
    if not TYPE_CHECKING:
        __init__ = Exception.__init__
        args = property(lambda self: (str(self),) if self.parts else ())

    @property
    def parts(self) -> tuple[str, ...]:
        """What the error was made of: reason, or argument and reason."""
        return tuple(map(str, vars(BaseException)["args"].__get__(self)))

    @property
    def argument(self) -> str | None:
        """Name of the argument, or None."""
        return self.parts[0] if len(self.parts) > 1 else None

    @property
    def reason(self) -> str:
        """The message without the name."""
        return self.parts[-1] if self.parts else ""

    def __reduce__(self) -> tuple[Any, ...]:
        # By its parts, which tblib, by which Dask's workers send errors, would not find behind `args`.
        return type(self), self.parts, self.__dict__ or None

    def about(self, argument: str) -> IsoScoreError:
        """Return the same error about `argument`, such as the file that X was read from; other names are kept."""
        return type(self)(argument, self.reason if self.argument == "X" else str(self))

    def __str__(self) -> str:
        return self.reason if self.argument is None else f"{self.argument}: {self.reason}"


class InvalidValueError(IsoScoreError, ValueError):
    """An argument has an allowed type but a value, shape or range that is not allowed."""


class DegenerateDataError(InvalidValueError):
    """The points define no score: too few, identical, or an estimate whose denominator is not positive."""


class InvalidTypeError(IsoScoreError, TypeError):
    """An argument has a type or dtype that is not allowed, or arrays of two frameworks were mixed."""


class MissingDependencyError(IsoScoreError, ImportError):
    """An optional dependency is not installed; the message names the extra that installs it."""
