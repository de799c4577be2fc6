"""Files of arrays with a record of what they are of: written whole or not at all, and checked when they are read."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoscore_star import MissingDependencyError
from isoscore_star.atomic_files import replacing, writing_to
from isoscore_star.readers import FileContentError

_SHARE = 9
"""Between two writings pass at least as many times the time that the last one took."""

Arrays = Mapping[str, NDArray[Any]]


class Kind(NamedTuple):
    """What a file holds.

    Attributes
    ----------
    key : str
        Where in the file's metadata the record stands.
    format : int
        Which form the record and the arrays have; another one is refused.
    what : str
        What the file is, for messages, such as ``"the file of a scan"``.
    """

    key: str
    format: int
    what: str


class Pace:
    """When a state is due to be written.

    Parameters
    ----------
    seconds : float
        Write no more often, nor for more than a tenth of the time; 0 writes whenever it is asked.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds, self._last, self._cost = seconds, time.monotonic(), 0.0

    def is_due(self) -> bool:
        """Return whether it is time to write."""
        return not self._seconds or time.monotonic() - self._last >= max(self._seconds, _SHARE * self._cost)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Measure how long it takes."""
        start = time.monotonic()
        yield
        self._last = time.monotonic()
        self._cost = self._last - start


class Recorded(NamedTuple):
    """Arrays, and a record of what they are of."""

    record: dict[str, Any]
    arrays: dict[str, NDArray[Any]]


def write_recorded(path: Path, kind: Kind, record: Mapping[str, Any], arrays: Arrays, argument: str = "output") -> None:
    """Write a file of safetensors in the place of the one that is there.

    Raises
    ------
    InvalidValueError
        If it cannot be written; it names the argument.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    # `ascontiguousarray` would make numbers arrays of one axis.
    ordered = {key: np.require(array, requirements="C") for key, array in arrays.items()}
    whole = json.loads(json.dumps({"format": kind.format, **record}))
    text = json.dumps({**whole, "checksum": _checksum(whole, ordered)})
    with writing_to(path.parent, SafetensorError, argument):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            save_file(ordered, partial, {kind.key: text})


def read_recorded(path: Path, kind: Kind) -> Recorded:
    """Read a file that `write_recorded` wrote.

    Raises
    ------
    FileContentError
        If the file is damaged, or of another kind.
    """
    require_safetensors(kind.what)
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            record = json.loads((file.metadata() or {})[kind.key])
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it cannot be iterated over
        if not isinstance(record["settings"], dict):
            raise ValueError("no settings")
        if record.get("format") != kind.format:
            raise ValueError(f"format {record.get('format')}, and this version reads {kind.format}")
        if record.pop("checksum", None) != _checksum(record, arrays):
            raise ValueError("its checksum does not fit")
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise FileContentError(path, f"is not {kind.what}, or damaged ({reason}). Delete it to start anew") from error
    return Recorded(record, arrays)


def record_of(path: Path, kind: Kind) -> dict[str, Any] | None:
    """Return the record of a file, without its arrays; None if it is no such file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            found: dict[str, Any] = json.loads((file.metadata() or {})[kind.key])
            return found
    except (SafetensorError, OSError, KeyError, ValueError, TypeError):
        return None


def by_prefix(arrays: Arrays) -> dict[str, dict[str, NDArray[Any]]]:
    """Return arrays named ``"prefix/name"`` by their prefixes."""
    found: dict[str, dict[str, NDArray[Any]]] = {}
    for key, array in arrays.items():
        prefix, _, name = key.partition("/")
        found.setdefault(prefix, {})[name] = array
    return found


def require_safetensors(what: str) -> None:
    """Require the package that these files need."""
    try:
        import safetensors  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise MissingDependencyError(
            f'{what} needs safetensors, which is not installed: pip install "isoscore-star[files]"'
        ) from error


def _checksum(record: Mapping[str, Any], arrays: Arrays) -> str:
    """Return SHA-256 of a record and of names, dtypes, shapes and bytes of arrays."""
    digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode())
    for key, array in sorted(arrays.items()):
        digest.update(f"\0{key}\0{array.dtype.str}{array.shape}".encode())
        digest.update(np.require(array, requirements="C").tobytes())
    return digest.hexdigest()
