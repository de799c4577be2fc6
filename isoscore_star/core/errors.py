"""Every error that the library raises on purpose."""

from typing import TYPE_CHECKING


class IsoScoreError(Exception):
    """Base of all errors of this library."""

    # TensorFlow's AutoGraph raises an error from inside a traced function anew, with more context, and keeps its class
    # only if that is made by this very function (the other bases bring equal ones of their own).
    if not TYPE_CHECKING:
        __init__ = Exception.__init__


class InvalidValueError(IsoScoreError, ValueError):
    """An argument has an allowed type but a value, shape or range that is not allowed."""


class DegenerateDataError(InvalidValueError):
    """The points carry no answer: too few, identical, or an estimate whose denominator is not positive."""


class InvalidTypeError(IsoScoreError, TypeError):
    """An argument has a type or dtype that is not allowed, or arrays of two frameworks were mixed."""


class MissingDependencyError(IsoScoreError, ImportError):
    """Something optional is not installed; the message names the extra that brings it."""
