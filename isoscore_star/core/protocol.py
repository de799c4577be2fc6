"""What a backend is: the few operations that differ between frameworks.

A new one is a class that inherits `Backend`, writes its ten operations, and has an instance named ``BACKEND``;
CONTRIBUTING.md shows one on a page. A third party announces its own by an entry point in the group
``isoscore_star.backends`` whose name is the backend's and whose value is that instance.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from numpy.typing import NDArray

from isoscore_star.core.errors import InvalidValueError
from isoscore_star.core.messages import shown

Array = Any
"""An array of some framework; which one is known by the backend alone."""


class Invariants(NamedTuple):
    """All that the score needs of the points (and of Σ_S), in units of their own; see `isoscore_star.core.formulas`.

    Attributes
    ----------
    count : int or 0-d array
        m, the number of points that no mask leaves out.
    unit : 0-d array
        s = √(tr S/d), a length; zero where S is. Without gradient.
    t, f : 0-d array
        tr S/s² and ‖S/s²‖²_F; zero for fewer than two points and for identical ones.
    q : 0-d array or None
        Σ‖xᵢ‖⁴/((m−1)s⁴), only when the fourth order was asked for.
    cross, t0, f0 : 0-d array or None
        ⟨S, Σ_S⟩/(s²s₀²), tr Σ_S/s₀² and ‖Σ_S/s₀²‖²_F, only when a shrinkage covariance was given.
    target_unit : 0-d array or None
        s₀, the root of a unit of variance: of the mean, √(tr Σ_S/d), or of the largest. Without gradient.
    precision : float
        Machine epsilon of the numbers that the products were made of.
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


@runtime_checkable
class Backend(Protocol):
    """The interface that each framework implements natively: ten operations to write, the others have a default.

    Everything is given as arrays of the backend's own framework, except where NumPy is named; shapes and dtypes were
    checked before (`isoscore_star.core.checks`).
    """

    name: str
    """How the backend is called: ``get_backend(name)``, the extra, the file."""

    takes: tuple[str, ...] = ()
    """Backends whose arrays may stand beside this one's own, in a union too: autograd's constants are NumPy's, a Keras
    model's tensors those of the framework it runs on."""

    constants_for_all: bool = False
    """Whether its arrays may be a mask or Σ_S beside points of every other backend, as NumPy's are."""

    flushes_subnormals: bool = False
    """Whether the framework takes subnormal numbers for zero, as XLA does."""

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
        """Bring an array (NumPy or native) to the dtype in which `like` is computed, and to its device."""

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

        With `across` it is also the union over the devices which that names in the framework's own terms; each device
        gets the same invariants, and the part of the gradient that is its own points'. A backend that cannot sum over
        devices calls `refuse_across`.

        Sums and products accumulate in float32 or better. What stands behind a mask, NaN included, reaches neither
        the values nor the gradients. Nothing is raised for values, and the host never waits for the device.
        """

    @abstractmethod
    def covariance_sums(self, cov: Array) -> tuple[Array, Array]:
        """Compute tr C and ‖C‖²_F of a covariance (d, d), or of the eigenvalues (d,) of one, in a unit of their own.

        `isoscore_star.core.scaling.sums_in_unit` does that, given how the framework sums.
        """

    @abstractmethod
    def where(self, condition: Array, a: Any, b: Any) -> Array:
        """Choose between scalars, elementwise and differentiably."""

    @abstractmethod
    def concrete(self, scalar: Any) -> float | None:
        """Return a scalar's value, or None while the function is being traced or compiled and there is none yet."""

    @abstractmethod
    def to_numpy(self, array: Array) -> NDArray[Any]:
        """Copy to a NumPy array, detached (bfloat16 as float32)."""

    def accept(self, name: str, array: Any) -> Array:
        """Return what was given for an argument as an array that the operations take; raise where it is none."""
        return array

    def dtype_name(self, array: Array) -> str:
        """Return the dtype's name as NumPy has it: ``"float32"``, ``"bfloat16"``, ``"bool"``, ``"complex64"``, ..."""
        return str(getattr(array.dtype, "name", array.dtype))

    def recorder(self, X: Any) -> str | None:
        """Return the module whose ``record(function, X, arguments)`` takes calls on X, if X is a model's placeholder.

        None where X has values, or will have some once traced code runs.
        """
        return None

    def score(self, invariants: Invariants, zeta: Any, dim: int) -> Any:
        """Compute IsoScore*, or for ``zeta=None`` the floored unbiased score, in fewer steps than core's.

        Returns NotImplemented where `isoscore_star.core.score` is to do it.
        """
        return NotImplemented

    def result(self, score: Array) -> Any:
        """Return what the caller gets for a computed score: a float for NumPy, else the 0-d array as it is."""
        return score


def refuse_across(backend: Backend, across: Any) -> None:
    """Raise for an `across`, in a backend that cannot sum over devices."""
    if across is not None:
        raise InvalidValueError(
            "across",
            f"the {backend.name} backend cannot sum over devices; got {shown(across)}. Leave it out, or merge Moments",
        )
