"""What a backend is: the few operations that differ between frameworks.

To write a seventh backend, copy the outline of a sixth: one file with a class that has the members below and an
instance named ``BACKEND``. A third party announces its own by an entry point in the group
``isoscore_star.backends`` whose name is the backend's and whose value is that instance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from numpy.typing import NDArray

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
    """The interface that each framework implements natively.

    Everything is given as arrays of the backend's own framework, except where NumPy is named; arguments were
    checked before (`isoscore_star.core.checks`), so a backend checks nothing.
    """

    name: str
    """How the backend is called: ``get_backend(name)``, the extra, the file."""

    differentiable: bool
    """Whether gradients flow through `invariants`."""

    distributed: bool
    """Whether `invariants` can sum over the devices of a distributed run (its argument `across`)."""

    takes: tuple[str, ...]
    """Backends whose arrays may stand beside this one's own: autograd's constants are NumPy's, a Keras model's tensors
    those of the framework it runs on."""

    def owns(self, array: object) -> bool:
        """Return whether the array is one of this framework's."""
        ...

    def dtype_name(self, array: Array) -> str:
        """Name the dtype as NumPy would: ``"float32"``, ``"bfloat16"``, ``"bool"``, ``"complex64"``, ..."""
        ...

    def points(self, array: Array) -> Array:
        """Flatten leading axes, (..., d) to (m, d)."""
        ...

    def mask(self, mask: Array, like: Array) -> Array:
        """Bring a mask (NumPy or native) to a flat boolean array on the points' device: true where it is not zero."""
        ...

    def constant(self, array: Array, like: Array) -> Array:
        """Bring an array (NumPy or native) to the dtype in which `like` is computed, and to its device."""
        ...

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
        gets the same invariants, and the part of the gradient that is its own points'. It is None if not `distributed`.

        Sums and products accumulate in float32 or better. What stands behind a mask, NaN included, reaches neither
        the values nor the gradients. Nothing is raised and the host never waits for the device.
        """
        ...

    def total(self, array: Array) -> Array:
        """Sum all entries to a 0-d array."""
        ...

    def diagonal(self, matrix: Array) -> Array:
        """Take the diagonal of a square matrix."""
        ...

    def detached(self, scalar: Array) -> Array:
        """Return a 0-d array as a constant, without gradient."""
        ...

    def where(self, condition: Array, a: Any, b: Any) -> Array:
        """Choose between scalars, elementwise and differentiably."""
        ...

    def concrete(self, scalar: Any) -> float | None:
        """Return a scalar's value, or None while the function is being traced or compiled and there is none yet."""
        ...

    def to_numpy(self, array: Array) -> NDArray[Any]:
        """Copy to a NumPy array, detached (bfloat16 as float32)."""
        ...

    def result(self, score: Array) -> Any:
        """Turn a computed score into what the caller gets: a float for NumPy, else the 0-d array as it is."""
        ...

    def devices(self) -> tuple[str, ...]:
        """Name the devices that are present here: ``"cpu"``, ``"cuda:0"``, ..."""
        ...

    def native(self, array: NDArray[Any], dtype: str, device: str) -> Array:
        """Copy a NumPy array to a dtype and a device by their names; a TypeError where it does not exist."""
        ...

    # A backend whose framework takes subnormal numbers for zero (XLA's do) says so by ``flushes_subnormals = True``.
    # A backend with placeholders (Keras' symbolic tensors) also has ``defer(function, X, arguments)``: for those it
    # records the call of a public function in the model being built, for all else it answers NotImplemented.
    # One that pays for every operation (torch) also has ``score_in_one_step(invariants, zeta, dim)``: IsoScore*, or for
    # ``zeta=None`` the unbiased score with its floor, as one step; or NotImplemented.

    def value_and_gradient(self, function: Callable[[Array], Array], X: Array) -> tuple[Array, Array | None]:
        """Return a scalar function's value at X and its gradient, which is None if not `differentiable`."""
        ...
