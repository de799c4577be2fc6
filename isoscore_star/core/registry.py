"""The known backends. Nothing else imports a framework by name."""

from __future__ import annotations

import importlib.util
import logging
import sys
from importlib.metadata import EntryPoint, entry_points
from typing import NamedTuple

from isoscore_star.core.errors import InvalidTypeError, InvalidValueError, MissingDependencyError
from isoscore_star.core.protocol import Backend

LOGGER = logging.getLogger("isoscore_star")

ENTRY_POINT_GROUP = "isoscore_star.backends"


class _BuiltIn(NamedTuple):
    """A backend of this package: the framework it needs, and that framework's array classes."""

    framework: str
    arrays: tuple[tuple[str, str], ...]


# In the order of look-up: autograd's box wraps an ndarray, so it comes before NumPy.
_BUILT_IN = {
    "torch": _BuiltIn("torch", (("torch", "Tensor"),)),
    "tensorflow": _BuiltIn(
        "tensorflow",
        (
            ("tensorflow", "Tensor"),
            ("tensorflow", "Variable"),
            ("tensorflow", "RaggedTensor"),
            ("tf_keras.__internal__", "KerasTensor"),
        ),
    ),
    "jax": _BuiltIn("jax", (("jax", "Array"),)),
    "keras": _BuiltIn("keras", (("keras", "KerasTensor"), ("keras", "Variable"))),
    "autograd": _BuiltIn("autograd", (("autograd.numpy.numpy_boxes", "ArrayBox"),)),
    "numpy": _BuiltIn("numpy", (("numpy", "ndarray"),)),
}

_loaded: dict[str, Backend] = {}
_name_of_type: dict[type, str] = {}


def available_backends() -> tuple[str, ...]:
    """Return the names of the backends whose framework is installed, without importing any.

    Returns
    -------
    tuple of str
        This package's own, then those registered by an entry point.

    Examples
    --------
    >>> import isoscore_star as iso
    >>> "numpy" in iso.available_backends()
    True
    """
    own = (name for name, entry in _BUILT_IN.items() if _installed(entry.framework))
    return (*own, *(name for name in _third_party() if name not in _BUILT_IN))


def get_backend(name: str) -> Backend:
    """Load a backend by its name.

    Parameters
    ----------
    name : str
        ``"numpy"``, ``"autograd"``, ``"torch"``, ``"tensorflow"``, ``"jax"``, ``"keras"``, or one registered by another
        package.

    Returns
    -------
    Backend
        The object with the operations that `isoscore_star.Backend` describes.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        If there is no such backend, or the name is no string.
    MissingDependencyError
        If its framework is not installed; the message names the extra to install.

    Examples
    --------
    >>> import isoscore_star as iso
    >>> iso.get_backend("numpy").name
    'numpy'
    """
    if not isinstance(name, str):
        raise InvalidTypeError("name", f"expected the name of a backend; got {type(name).__name__}")
    if name in _loaded:
        return _loaded[name]
    if name in _BUILT_IN:
        backend = _load_built_in(name)
    else:
        third_party = _third_party()
        if name not in third_party:
            known = ", ".join((*_BUILT_IN, *third_party))
            raise InvalidValueError("name", f"there is no backend {name!r}; the known ones are {known}")
        backend = _load_third_party(third_party[name])
    _loaded[name] = backend
    return backend


def backend_of(X: object, name: str = "X") -> Backend:
    """Return the backend of an array, or of a list or tuple of arrays, by its type; nothing is imported for that.

    Parameters
    ----------
    X : array or sequence of arrays
        Of any supported framework. Whatever has ``__array__`` (such as a DataFrame) counts as NumPy. A sequence may mix
        NumPy arrays with autograd's, and tensors of the framework that Keras runs on with Keras variables.
    name : str, default "X"
        The argument's name in errors.

    Returns
    -------
    Backend
        That framework's backend.

    Raises
    ------
    InvalidTypeError
        If X is no array of a known framework, or mixes frameworks.

    Examples
    --------
    >>> import numpy as np
    >>> import isoscore_star as iso
    >>> iso.backend_of(np.zeros((3, 2))).name
    'numpy'
    """
    if not isinstance(X, (list, tuple)):
        return get_backend(_backend_name(X, name))
    names = {_backend_name(item, name): None for item in X}
    if not names:
        raise InvalidValueError(name, "expected at least one array; got an empty list")
    if len(names) == 1:
        return get_backend(next(iter(names)))
    for candidate in names:
        backend = get_backend(candidate)
        if set(names) <= {candidate, *backend.takes}:
            return backend
    raise InvalidTypeError(
        name,
        f"the clouds of one union have to be of one framework; got {' and '.join(names)}. "
        "Convert them to one of the two first",
    )


def _installed(framework: str) -> bool:
    # A mere folder of that name in the working directory has a specification without an origin.
    spec = importlib.util.find_spec(framework)
    return spec is not None and spec.origin is not None


def _load_built_in(name: str) -> Backend:
    framework = _BUILT_IN[name].framework
    try:
        return _import(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != framework:
            raise
        raise MissingDependencyError(
            f'the {name} backend needs {framework}, which is not installed: pip install "isoscore-star[{name}]"'
        ) from None


def _import(name: str) -> Backend:
    # By statements, which torch.compile traces, unlike importlib.
    if name == "torch":
        from isoscore_star.backends.torch.backend import BACKEND as TORCH

        return TORCH
    if name == "tensorflow":
        from isoscore_star.backends.tensorflow.backend import BACKEND as TENSORFLOW

        return TENSORFLOW
    if name == "jax":
        from isoscore_star.backends.jax import BACKEND as JAX

        return JAX
    if name == "keras":
        from isoscore_star.backends.keras.backend import BACKEND as KERAS

        return KERAS
    if name == "autograd":
        from isoscore_star.backends.autograd import BACKEND as AUTOGRAD

        return AUTOGRAD
    from isoscore_star.backends.numpy import BACKEND as NUMPY

    return NUMPY


def _backend_name(array: object, argument: str) -> str:
    cls = type(array)
    if cls not in _name_of_type:
        _name_of_type[cls] = _look_up(array, argument)
    return _name_of_type[cls]


def _look_up(array: object, argument: str) -> str:
    for name, entry in _BUILT_IN.items():
        for module, class_name in entry.arrays:
            cls = getattr(sys.modules.get(module), class_name, None)
            if cls is not None and isinstance(array, cls):
                return name
    for name in _third_party():
        if name not in _BUILT_IN:
            try:
                if get_backend(name).owns(array):
                    return name
            except MissingDependencyError as error:  # of a package that breaks itself alone
                LOGGER.warning("%s; its arrays are not recognised", error)
    if hasattr(array, "__array__"):
        return "numpy"
    installed = ", ".join(available_backends())
    raise InvalidTypeError(
        argument,
        f"{type(array).__module__}.{type(array).__qualname__} is no array of a known framework "
        f"(installed: {installed}). Give an array of one of them, a list of such arrays, or convert by numpy.asarray",
    )


def _load_third_party(point: EntryPoint) -> Backend:
    where = f"the entry point {point.name!r} of {ENTRY_POINT_GROUP}"
    try:
        backend = point.load()
    except Exception as error:  # whatever the import of somebody's package raises
        raise MissingDependencyError(f"{where} cannot be loaded: {type(error).__name__}: {error}") from error
    if isinstance(backend, type) or not isinstance(backend, Backend):
        missing = [name for name in dir(Backend) if not name.startswith("_") and not hasattr(backend, name)]
        raise InvalidTypeError(
            f"{where} gives {getattr(backend, '__name__', type(backend).__name__)}, which lacks members of "
            f"isoscore_star.Backend ({', '.join(missing) or 'it is a class'}); it has to name an instance of a class "
            "that inherits Backend"
        )
    if backend.name != point.name:
        raise InvalidValueError(f"{where} gives a backend of another name, {backend.name!r}; use one name for both")
    return backend


def _third_party() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
