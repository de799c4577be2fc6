"""A scan's folder: moments in safetensors with what they are of, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoscore_star import InvalidValueError, MissingDependencyError
from isoscore_star.atomic_files import LEFT_OVER, replacing, writing_to
from isoscore_star.readers import FileContentError, SelectionError

MOMENTS, NUMBERS = "moments.safetensors", "scan.json"

_KEY = "isoscore_star_scan"
_FORMAT = 2

_SHARE = 9
"""Between two writings pass at least as many times the time that the last one took."""


_HASHES = {
    "weights": "the model's weights differ",
    "fingerprint": "the texts, images or batches differ",
    "tokenizer": "the tokenizer differs",
}


class Stored(NamedTuple):
    """Moments, and a record of what they are of."""

    record: dict[str, Any]
    arrays: dict[str, NDArray[Any]]


class Folder:
    """A folder for a scan's result and, until that is there, its state.

    Parameters
    ----------
    path : Path
        Made at the first writing.
    settings : dict
        What the scan depends on; a stored one of others is refused.
    rank, size : int
        Of the process, which has a state of its own.
    seconds : float, default 20.0
        Write no state more often; 0 writes one after every batch.
    """

    def __init__(
        self, path: Path, settings: Mapping[str, Any], rank: int = 0, size: int = 1, seconds: float = 20.0
    ) -> None:
        require_safetensors()
        self.path, self.settings = path, json.loads(json.dumps(settings))
        self._rank, self._seconds = rank, seconds
        self._state = path / f"unfinished-{rank + 1}-of-{size}.safetensors"
        self._last, self._cost = time.monotonic(), 0.0

    def result(self) -> Stored | None:
        """Return the finished scan that the folder holds, if any."""
        return self._of_same_settings(self.path / MOMENTS)

    def state(self) -> Stored | None:
        """Return the state of an unfinished scan, if any."""
        with writing_to(self.path):
            others = sorted(self.path.glob("unfinished-*.safetensors"))
        if not self._state.exists() and others and self._rank == 0:
            raise SelectionError(
                "output",
                f"{self.path} holds {others[0].name}, of another number of processes. Start as many, or choose another "
                "folder",
            )
        return self._of_same_settings(self._state)

    def is_due(self) -> bool:
        """Return whether it is time to write the state."""
        return not self._seconds or time.monotonic() - self._last >= max(self._seconds, _SHARE * self._cost)

    def write_state(self, record: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write the state."""
        start = time.monotonic()
        self._write(self._state, record, arrays)
        self._last = time.monotonic()
        self._cost = self._last - start

    def write_result(
        self, record: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], numbers: Mapping[str, Any]
    ) -> None:
        """Write the result, and delete the states."""
        self._write(self.path / MOMENTS, record, arrays)
        with writing_to(self.path):
            with replacing(self.path / NUMBERS) as partial:
                partial.write_text(json.dumps(numbers, indent=2, allow_nan=False) + "\n", encoding="utf-8")
            for left in [*self.path.glob("unfinished-*.safetensors"), *self.path.glob(LEFT_OVER)]:
                left.unlink(missing_ok=True)

    def _write(self, path: Path, record: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        from safetensors.numpy import save_file

        # `ascontiguousarray` would make numbers arrays of one axis.
        ordered = {key: np.require(array, requirements="C") for key, array in arrays.items()}
        whole = json.loads(json.dumps({"format": _FORMAT, "settings": self.settings, **record}))
        text = json.dumps({**whole, "checksum": _checksum(whole, ordered)})
        with writing_to(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            with replacing(path) as partial:
                save_file(ordered, partial, {_KEY: text})

    def _of_same_settings(self, path: Path) -> Stored | None:
        with writing_to(self.path):
            if not path.exists():
                return None
        stored = read(path)
        before = stored.record["settings"]
        differing = [
            _difference(name, before.get(name), self.settings.get(name))
            for name in dict.fromkeys([*before, *self.settings])
            if before.get(name) != self.settings.get(name)
        ]
        if differing:
            raise SelectionError(
                "output",
                f"{self.path} holds another scan: {'; '.join(differing)}. Choose another folder, or give the same "
                "model, texts and options",
            )
        return stored


def read(path: Path) -> Stored:
    """Read moments and their record.

    Raises
    ------
    FileContentError
        If the file is damaged, or no scan's.
    """
    require_safetensors()
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            record = json.loads((file.metadata() or {})[_KEY])
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if not isinstance(record["settings"], dict):
            raise ValueError("no settings")
        if record.get("format") != _FORMAT:
            raise ValueError(f"format {record.get('format')}, and this version reads {_FORMAT}")
        if record.pop("checksum", None) != _checksum(record, arrays):
            raise ValueError("its checksum does not fit")
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise FileContentError(
            path, f"is not the file of a scan, or damaged ({reason}). Delete it to start anew"
        ) from (error)
    return Stored(record, arrays)


def _checksum(record: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return SHA-256 of a record and of names, dtypes, shapes and bytes of arrays."""
    digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode())
    for key, array in sorted(arrays.items()):
        digest.update(f"\0{key}\0{array.dtype.str}{array.shape}".encode())
        digest.update(np.require(array, requirements="C").tobytes())
    return digest.hexdigest()


def require_safetensors() -> None:
    """Require the package that a scan's files need."""
    try:
        import safetensors  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            'a scan\'s folder needs safetensors, which is not installed: pip install "isoscore-star[files]"'
        ) from error


def require_folder(folder: Path) -> Path:
    """Require a folder that holds a finished scan, and return its file."""
    path = folder / MOMENTS
    if path.is_file():
        return path
    if any(folder.glob("unfinished-*.safetensors")):
        raise InvalidValueError("folder", f"the scan in {folder} is not finished. Run the same command again to go on")
    raise InvalidValueError(
        "folder",
        f"{folder} holds no scan, which has a file {MOMENTS}. Of a model make one: isoscore-star scan MODEL --output "
        "DIR",
    )


def _difference(name: str, before: Any, now: Any) -> str:
    if name in _HASHES:
        return _HASHES[name]
    return f"{name} was {json.dumps(before)}, is now {json.dumps(now)}"
