"""Static checks of arrays, by type, dtype and shape.

They never wait for a device, and run inside a traced or compiled function too. `isoscore_star.core.value_checks` has
those that need values.
"""

from __future__ import annotations

from numbers import Real
from typing import Any, NamedTuple

from numpy.typing import NDArray

from isoscore_star.core.errors import InvalidTypeError, InvalidValueError
from isoscore_star.core.parameters import FLOATS, number
from isoscore_star.core.protocol import Array, Backend
from isoscore_star.core.registry import backend_of

_INTEGERS = tuple(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64))


class Points(NamedTuple):
    """A checked union of clouds, flattened by its backend, and the arrays and masks as they were given."""

    backend: Backend
    clouds: list[Array]
    masks: list[Array | None]
    dim: int
    arrays: list[Array]
    given_masks: list[Array | None]

    def rows(self) -> list[NDArray[Any]]:
        """Return the unmasked points of each cloud in NumPy."""
        to_numpy, pairs = self.backend.to_numpy, zip(self.clouds, self.masks, strict=True)
        return [to_numpy(cloud) if keep is None else to_numpy(cloud)[to_numpy(keep)] for cloud, keep in pairs]


def points(X: Any, mask: Any = None, backend: Backend | None = None) -> Points:
    """Check X and its mask, and flatten them; `backend` is X's, if known."""
    backend = backend or backend_of(X)
    is_union = isinstance(X, (list, tuple))
    arrays = list(X) if is_union else [X]
    names = [f"X[{i}]" for i in range(len(arrays))] if is_union else ["X"]
    arrays = [backend.accept(name, array) for name, array in zip(names, arrays, strict=True)]
    for name, array in zip(names, arrays, strict=True):
        check_array(name, array, backend)
    dims = [int(array.shape[-1]) for array in arrays]
    if len(set(dims)) > 1:
        raise InvalidValueError(
            "X",
            f"the clouds of one union need the same number of dimensions (last axis); got {dims}. "
            "Measure clouds of different width one by one",
        )
    return flattened(backend, arrays, _masks(mask, arrays, names, is_union, backend))


def flattened(backend: Backend, arrays: list[Array], masks: list[Array | None]) -> Points:
    """Flatten checked arrays and their masks; one mask of several arrays of a shape stays one, for backends to see."""
    flat: list[Array | None] = []
    for index, (array, mask) in enumerate(zip(arrays, masks, strict=True)):
        same = index and mask is masks[index - 1] and tuple(array.shape) == tuple(arrays[index - 1].shape)
        flat.append(flat[-1] if same else None if mask is None else backend.mask(mask, array))
    return Points(backend, [backend.points(array) for array in arrays], flat, int(arrays[0].shape[-1]), arrays, masks)


def check_array(name: str, array: Array, backend: Backend) -> None:
    """Require the dtype and shape of points as rows."""
    check_dtype(name, backend.dtype_name(array))
    shape = shape_of(name, array)
    if len(shape) < 2:
        raise InvalidValueError(
            name,
            f"expected points as rows, shape (points, dimensions) or (..., dimensions); got shape {shape}. "
            "A single vector has no isotropy; a list of them becomes points by numpy.stack (torch.stack, ...)",
        )
    if shape[-1] is None:
        raise InvalidValueError(
            name,
            f"the number of dimensions (last axis) has to be known and the same for all points; got shape "
            f"{shape}. Give the traced function's argument a shape such as (None, 768)",
        )
    if shape[-1] < 2:
        raise InvalidValueError(
            name,
            f"isotropy needs at least 2 dimensions (last axis); got shape {shape}. If points are columns, transpose",
        )


def shape_of(name: str, array: Array) -> tuple[Any, ...]:
    """Return the shape, with None for a size that is not known while tracing."""
    try:
        return tuple(array.shape)
    except ValueError:  # of TensorFlow, for an unknown rank
        raise InvalidValueError(
            name,
            "the number of axes has to be known; got a tensor of unknown rank. "
            "Give the traced function's argument a shape such as (None, None, 768)",
        ) from None


def check_dtype(name: str, dtype: str) -> None:
    """Require real numbers."""
    if dtype not in FLOATS + _INTEGERS:
        if dtype == "object":
            raise InvalidTypeError(
                name,
                f"expected real floating-point or integer numbers; got Python objects (dtype object), such as "
                "a column of lists. If each is the vector of a point, give numpy.stack(column); if each is a number, "
                f"{name}.astype(float)",
            )
        raise InvalidTypeError(
            name,
            f"expected real floating-point or integer numbers of at least 8 bits, floating-point ones of at "
            f"least 16; got dtype {dtype}. Convert to float32 or float64 what is meant as numbers",
        )


def _masks(mask: Any, arrays: list[Array], names: list[str], is_union: bool, backend: Backend) -> list[Array | None]:
    if mask is None:
        return [None] * len(arrays)
    if is_union and isinstance(mask, (list, tuple)):
        if len(mask) != len(arrays):
            raise InvalidValueError(
                "mask", f"expected one mask (or None) for each of the {len(arrays)} clouds; got {len(mask)} masks"
            )
        masks = list(mask)
    else:
        masks = [mask] * len(arrays)
    checked: list[Array | None] = []
    for index, (given, array, name) in enumerate(zip(masks, arrays, names, strict=True)):
        shape = tuple(array.shape)
        if index and given is masks[index - 1] and shape == tuple(arrays[index - 1].shape) and None not in shape:
            checked.append(checked[-1])  # the same object, which backends count once
        else:
            checked.append(_mask(given, array, name, backend))
    return checked


def _mask(mask: Any, array: Array, name: str, backend: Backend) -> Array | None:
    if mask is None:
        return None
    owner, mask = own_or_constant("mask", mask, backend)
    dtype = owner.dtype_name(mask)
    if dtype != "bool" and dtype not in FLOATS + _INTEGERS:
        raise InvalidTypeError("mask", f"expected booleans or zeros and ones; got dtype {dtype}")
    expected = tuple(array.shape[:-1])
    shape = shape_of("mask", mask)
    if not same_shape(shape, expected):
        raise InvalidValueError(
            "mask",
            f"expected shape {expected}, one entry for each point of {name} (shape {tuple(array.shape)}); "
            f"got {shape}. Entries are 1 or true for a point, 0 or false for padding"
            + (f"; of stacked layers with one mask give list({name})" if same_shape(shape, expected[1:]) else ""),
        )
    return mask


def same_shape(shape: tuple[int | None, ...], expected: tuple[int | None, ...]) -> bool:
    """Compare shapes, in which None matches any size."""
    pairs = zip(shape, expected, strict=False)
    return len(shape) == len(expected) and all(a is None or b is None or a == b for a, b in pairs)


def own_or_constant(name: str, array: Any, backend: Backend) -> tuple[Backend, Array]:
    """Require an array of X's framework or NumPy; return its backend and the array."""
    if isinstance(array, (list, tuple)):
        raise InvalidTypeError(
            name,
            f"expected an array of X's framework ({backend.name}) or NumPy; got a {type(array).__name__} of "
            f"{len(array)}. Convert it by numpy.asarray",
        )
    owner = owner_of(name, array, backend)
    known = owner is backend or owner.name in backend.takes or backend.name in owner.takes
    if known or owner.constants_for_all:
        return owner, owner.accept(name, array)
    raise InvalidTypeError(
        name,
        f"expected an array of X's framework ({backend.name}) or NumPy; got one of {owner.name}. "
        f"Convert it, or give X in {owner.name}",
    )


def owner_of(name: str, array: Any, backend: Backend) -> Backend:
    """Return the backend of an array, which is most likely the given one."""
    return backend if backend.owns(array) else backend_of(array, name)


def scalar(name: str, value: Any) -> Any:
    """Require a finite number, or an array of real numbers, whose values are not checked."""
    if isinstance(value, Real):
        return number(name, value)
    check_dtype(name, backend_of(value, name).dtype_name(value))
    return value


def width(name: str, array: Any, dim: int) -> None:
    """Require points of the loss's dim."""
    shape = tuple(getattr(array, "shape", ()))
    if shape and shape[-1] != dim:
        raise InvalidValueError(
            name, f"this loss was made for dim={dim}; got shape {shape}, whose last axis is {shape[-1]}"
        )


def square_matrix(name: str, matrix: Any, backend: Backend, dim: int | None = None) -> Any:
    """Require a covariance's framework, dtype and shape (d, d); return it, as an ndarray if it is array-like."""
    owner, matrix = own_or_constant(name, matrix, backend)
    check_dtype(name, owner.dtype_name(matrix))
    shape = shape_of(name, matrix)
    if len(shape) != 2 or None in shape or shape[0] != shape[1] or shape[0] < 2:
        raise InvalidValueError(
            name, f"expected a square matrix of shape (d, d) with d of at least 2; got shape {shape}"
        )
    if dim is not None and shape[0] != dim:
        raise InvalidValueError(
            name,
            f"expected shape ({dim}, {dim}), as X has {dim} dimensions; got {shape}. "
            "It has to come from points of the same kind as X",
        )
    return matrix
