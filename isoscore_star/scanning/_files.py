"""A scan's folder: moments in safetensors with what they are of, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isoscore_star import InvalidValueError
from isoscore_star.atomic_files import LEFT_OVER, replacing, writing_to
from isoscore_star.readers import SelectionError
from isoscore_star.recorded_arrays import (
    Arrays,
    Kind,
    Pace,
    Recorded,
    read_recorded,
    require_safetensors,
    write_recorded,
)

MOMENTS, NUMBERS = "moments.safetensors", "scan.json"

KIND = Kind("isoscore_star_scan", 2, "the file of a scan")


_HASHES = {
    "weights": "the model's weights differ",
    "fingerprint": "the texts, images or batches differ",
    "tokenizer": "the tokenizer differs",
}


_DERIVED = {"tokenizer": "fingerprint", "batch_size": "wanted_blocks"}
"""What follows from another setting and is no difference of its own: ids of the texts, batches that fill the blocks."""


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
        require_safetensors(KIND.what)
        self.path, self.settings = path, json.loads(json.dumps(settings))
        self._rank, self.pace = rank, Pace(seconds)
        self._state = path / f"unfinished-{rank + 1}-of-{size}.safetensors"

    def result(self) -> Recorded | None:
        """Return the finished scan that the folder holds, if any."""
        return self._of_same_settings(self.path / MOMENTS)

    def state(self) -> Recorded | None:
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

    def write_state(self, record: Mapping[str, Any], arrays: Arrays) -> None:
        """Write the state."""
        with self.pace.writing():
            self._write(self._state, record, arrays)

    def write_result(self, record: Mapping[str, Any], arrays: Arrays, numbers: Mapping[str, Any]) -> None:
        """Write the result, and delete the states."""
        self._write(self.path / MOMENTS, record, arrays)
        with writing_to(self.path):
            with replacing(self.path / NUMBERS) as partial:
                partial.write_text(json.dumps(numbers, indent=2, allow_nan=False) + "\n", encoding="utf-8")
            for left in [*self.path.glob("unfinished-*.safetensors"), *self.path.glob(LEFT_OVER)]:
                left.unlink(missing_ok=True)

    def _write(self, path: Path, record: Mapping[str, Any], arrays: Arrays) -> None:
        write_recorded(path, KIND, {"settings": self.settings, **record}, arrays)

    def _of_same_settings(self, path: Path) -> Recorded | None:
        with writing_to(self.path):
            if not path.exists():
                return None
        stored = read(path)
        before = stored.record["settings"]
        names = [
            name for name in dict.fromkeys([*before, *self.settings]) if before.get(name) != self.settings.get(name)
        ]
        differing = [
            _difference(name, before.get(name), self.settings.get(name))
            for name in names
            if _DERIVED.get(name) not in names
        ]
        if differing:
            raise SelectionError(
                "output",
                f"{self.path} holds another scan: {'; '.join(differing)}. Choose another folder, or give the same "
                "model, texts and options",
            )
        return stored


def read(path: Path) -> Recorded:
    """Read moments and their record.

    Raises
    ------
    FileContentError
        If the file is damaged, or no scan's.
    """
    return read_recorded(path, KIND)


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
    name = "blocks" if name == "wanted_blocks" else name
    return f"{name} was {json.dumps(before)}, is now {json.dumps(now)}"
