"""A folder of results that are costly to get, each made once: what several claims share, or a killed run had done."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


class Cache:
    """Results by their parameters, as JSON files that a person can read.

    Parameters
    ----------
    folder : Path
        Made when the first result comes.

    Examples
    --------
    >>> import tempfile
    >>> cache = Cache(Path(tempfile.mkdtemp()))
    >>> cache.get("training", {"lam": 1.0, "seed": 0}, lambda: {"score": 0.5})
    {'score': 0.5}
    >>> cache.get("training", {"seed": 0, "lam": 1.0}, lambda: 1 / 0)  # known by now
    {'score': 0.5}
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, kind: str, parameters: Mapping[str, Any], make: Callable[[], Any]) -> Any:
        """Give the result for these parameters, made now if it was not made before.

        Parameters
        ----------
        kind : str
            What it is; the beginning of the file's name.
        parameters : mapping
            Everything that the result hangs on, a version of the code that makes it too; JSON values.
        make : callable
            Makes it; JSON values.

        Returns
        -------
        Any
            As it reads from JSON, so that the first time and the next are the same.
        """
        file = self.path(kind, parameters)
        if not file.exists():
            record = {"parameters": dict(parameters), "result": make()}
            file.parent.mkdir(parents=True, exist_ok=True)
            # A run that is killed here leaves no half file under the final name.
            part = file.with_suffix(f".{os.getpid()}.part")
            part.write_text(json.dumps(record, indent=1))
            part.replace(file)
        return json.loads(file.read_text())["result"]

    def path(self, kind: str, parameters: Mapping[str, Any]) -> Path:
        """Give the file of a result, for what belongs beside it (model states, say)."""
        text = json.dumps(parameters, sort_keys=True)
        return self.folder / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
