"""The interface of a backend: the operations that differ between frameworks.

A backend inherits `Backend`, implements its eleven operations, and has an instance named ``BACKEND``; CONTRIBUTING.md
shows one on a page. A third party registers its own by an entry point in the group ``isoscore_star.backends`` whose
name is the backend's and whose value is that instance.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from isoscore_star.core.errors import InvalidValueError
from isoscore_star.core.messages import shown
from isoscore_star.core.places import token_places, tokens_taken

Array = Any
"""An array of the backend's framework."""


NO_GROUP = -(2**31)
"""What `Backend.distinct` takes for the number of masked points, below those of all groups."""


class Invariants(NamedTuple):
    """What a score depends on, scale-normalised; see `isoscore_star.core.formulas`.

    Attributes
    ----------
    count : int or 0-d array
        m, the number of unmasked points.
    unit : 0-d array
        s = √(tr S/d); zero where S is. Without gradient.
    t, f : 0-d array
        tr S/s² and ‖S/s²‖²_F; zero for fewer than two points and for identical ones.
    q : 0-d array or None
        Σ‖xᵢ‖⁴/((m−1)s⁴), with `fourth_order` only.
    cross, t0, f0 : 0-d array or None
        ⟨S, Σ_S⟩/(s²s₀²), tr Σ_S/s₀² and ‖Σ_S/s₀²‖²_F, with a shrinkage covariance only.
    target_unit : 0-d array or None
        s₀: the root of Σ_S's mean variance, √(tr Σ_S/d), or of its largest. Without gradient.
    precision : float
        Machine epsilon of the dtype in which points are multiplied.
    """

    count: Any
    unit: Array
    t: Array
    f: Array
    q: Array | None = None
    cross: Array | None = None
    t0: Array | None = None
    f0: Array | None = None
    target_unit: Array | None = None
    precision: float = 2.0**-52


class Pair(NamedTuple):
    """What the score of two halves depends on: covariances A and B, each in units s² = tr A/d of its own.

    Attributes
    ----------
    counts : pair of int or 0-d array
        Unmasked points of each half.
    units : pair of 0-d array
        s of each half; zero where it has no spread. Without gradient.
    t_a, t_b, inner : 0-d array
        tr A, tr B and ⟨A, B⟩; zero where a half has fewer than two points, or no spread.
    precision : float
        Machine epsilon of the dtype in which points are multiplied.
    """

    counts: tuple[Any, Any]
    units: tuple[Array, Array]
    t_a: Array
    t_b: Array
    inner: Array
    precision: float = 2.0**-52


@runtime_checkable
class Backend(Protocol):
    """The interface that each framework implements natively: eleven abstract operations, the others have a default.

    Arrays are the backend's own, except where NumPy is named, and their shapes and dtypes have been checked
    (`isoscore_star.core.checks`). They have a ``shape`` and NumPy's indexing, ``matrix[0, 0]`` and ``matrix[:1, :1]``.
    A scalar is a float or a 0-d array, with the operators of arithmetic and comparison.
    """

    name: str
    """Name in ``get_backend(name)``, of the extra and of the file."""

    takes: tuple[str, ...] = ()
    """Backends whose arrays may be mixed with its own, also in a union: NumPy's with autograd's, those of the framework
    that Keras runs on with Keras variables."""

    constants_for_all: bool = False
    """Whether its arrays may be a mask or Σ_S for points of every other backend, as NumPy's are."""

    flushes_subnormals: bool = False
    """Whether the framework takes subnormal numbers for zero, as XLA does."""

    slices_from_unknown: bool = False
    """Whether `every_second` takes a start that has no value while tracing."""

    @abstractmethod
    def owns(self, array: object) -> bool:
        """Return whether the array is one of this framework's."""

    @abstractmethod
    def points(self, array: Array) -> Array:
        """Flatten leading axes, (..., d) to (m, d)."""

    @abstractmethod
    def mask(self, mask: Array, like: Array) -> Array:
        """Bring a mask (NumPy or native) to a flat boolean array on the points' device: true where it is not zero."""

    @abstractmethod
    def constant(self, array: Array, like: Array) -> Array:
        """Bring Σ_S, ζ, λ or a score (NumPy or native) to the dtype in which `like` is computed, and to its device."""

    @abstractmethod
    def invariants(
        self,
        clouds: Sequence[Array],
        masks: Sequence[Array | None],
        shrinkage_cov: Array | None,
        *,
        fourth_order: bool,
        across: Any = None,
    ) -> Invariants:
        """Compute the invariants of the union of the clouds, (m₁, d), (m₂, d), ...

        `across` extends the union over devices, named in the framework's own terms; each device gets the same
        invariants, and the gradient of its own points. A backend that cannot sum over devices calls `refuse_across`.

        Sums and products accumulate in float32 or better. Masked points, NaN included, affect neither values nor
        gradients. Nothing is raised for values, and the host never waits for the device.
        """

    @abstractmethod
    def pair(
        self,
        clouds: Sequence[Array],
        masks: Sequence[Array | None],
        other_clouds: Sequence[Array],
        other_masks: Sequence[Array | None],
        *,
        across: Any = None,
    ) -> Pair:
        """Compute tr A, tr B and ⟨A, B⟩ of the covariances of two unions of clouds; otherwise as `invariants`."""

    @abstractmethod
    def covariance_sums(self, cov: Array) -> tuple[Array, Array]:
        """Compute tr C and ‖C‖²_F of a covariance (d, d) or of its eigenvalues (d,), by `scaling.sums_in_unit`."""

    @abstractmethod
    def where(self, condition: Array, a: Any, b: Any) -> Array:
        """Choose between scalars, elementwise and differentiably."""

    @abstractmethod
    def concrete(self, scalar: Any) -> float | None:
        """Return a scalar's value, or None while the function is traced or compiled."""

    @abstractmethod
    def to_numpy(self, array: Array) -> NDArray[Any]:
        """Copy to a NumPy array, detached (bfloat16 as float32)."""

    def anchored(
        self, clouds: Sequence[Array], masks: Sequence[Array | None], shrinkage_cov: Array, *, across: Any = None
    ) -> Invariants:
        """Compute the invariants of which ‖S‖²_F may be left out: by one product, if the backend knows how."""
        return self.invariants(clouds, masks, shrinkage_cov, fourth_order=False, across=across)

    def place(self, across: Any) -> tuple[Any, Any]:
        """Return the number of this device among those of `across`, and their number."""
        refuse_across(self, across)
        return 0, 1

    def numbered(self, count: Any, array: Array, across: Any) -> tuple[Any, Any]:
        """Return the number of the first of this device's `count` groups, in an array, and the count of all devices."""
        device, devices = self.place(across)
        return device * count, devices * count

    def every_second(self, array: Array, axis: int, start: Any) -> Array:
        """Return every second of the slices along an axis of an array that is not flattened yet."""
        return array[(slice(None),) * axis + (slice(start, None, 2),)]

    def some_along(self, array: Array, axis: int, most: int, total: Any) -> Array:
        """Return about `most` of a `total` of points: as many tokens, along axis 1, of every sequence, or rows (0).

        See `isoscore_star.core.places`; `total` is a scalar where sizes are not known.
        """
        size = array.shape[axis]
        taken = tokens_taken(size, most, max(total, 1))
        if taken >= size:
            return array
        sequences = np.arange(array.shape[0] if axis else 1)[:, None]
        places = token_places(sequences, np.arange(taken), size, taken)
        return array[sequences, places] if axis else array[places[0]]

    def size(self, array: Array, axis: int) -> Any:
        """Return the length of an axis: an int, or a scalar where it is not known while tracing."""
        return array.shape[axis]

    def numbers_along(self, array: Array, axis: int) -> Any:
        """Return each point's index along an axis of an array that is not flattened yet; flat, may be NumPy's."""
        return np.indices(array.shape[:-1])[axis].reshape(-1)

    def distinct(self, numbers: Sequence[Array], masks: Sequence[Array | None], like: Array) -> Any:
        """Return how many different numbers the unmasked points have, without waiting; None if that is not known.

        Numbers, integers that may be NumPy's, and masks are flat; `like` is a cloud.
        """
        return None

    def in_turn(self, array: Array, axis: int, start: Any) -> tuple[Array, Array]:
        """Return every second of the slices along an axis, from `start` modulo two on, and the others."""
        return self.every_second(array, axis, start % 2), self.every_second(array, axis, (start + 1) % 2)

    def waits_for(self, array: Array) -> bool:
        """Return whether the host would wait for a device to read an array."""
        return False

    def flat(self, labels: Array) -> Array:
        """Flatten labels, one a point."""
        return labels.reshape(-1)

    def accept(self, name: str, array: Any) -> Array:
        """Convert an argument to an array that the operations take; raise if that is impossible."""
        return array

    def dtype_name(self, array: Array) -> str:
        """Return the dtype's name as NumPy has it: ``"float32"``, ``"bfloat16"``, ``"bool"``, ``"complex64"``, ..."""
        return str(getattr(array.dtype, "name", array.dtype))

    def recorder(self, X: Any) -> str | None:
        """Return the module whose ``record(function, X, arguments)`` records calls, if X is a model's placeholder."""
        return None

    def unbiased_score(self, invariants: Invariants, dim: int) -> Any:
        """Compute the floored unbiased score of independent points; NotImplemented leaves it to the core."""
        return NotImplemented

    def result(self, score: Array) -> Any:
        """Convert a computed score to what the caller gets: a float for NumPy, else the 0-d array."""
        return score


def refuse_across(backend: Backend, across: Any) -> None:
    """Require no `across`, in a backend that cannot sum over devices."""
    if across is not None:
        raise InvalidValueError(
            "across",
            f"the {backend.name} backend cannot sum over devices; got {shown(across)}. Leave it out, or merge Moments",
        )
