"""A process that measures files one by one, so that what a damaged one does to it is survived."""

from __future__ import annotations

import contextlib
import os
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from fuzz.file_truth import READERS, algorithm_1

import isoscore_star as iso
from isoscore_star.readers import StreamedCloud, open_array

MEMORY = 12 * 2**30
"""Bytes of addresses that a process may take, so that a bomb is a MemoryError."""
LONGEST_MESSAGE = 2000
MOST_LEFT_OUT = 2
"""Columns that a table may do without, if it says so."""

Found = dict[str, Any]


def work(connection: Connection) -> None:
    """Answer a path by what the library makes of it, and, if that is a score, by what is right."""
    with contextlib.suppress(ImportError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what C++ says of damaged files
    connection.send("ready")
    while (path := connection.recv()) is not None:
        found = measured(Path(path))
        connection.send(found)
        if found["kind"] == "score":
            connection.send(right(Path(path), found))


def measured(path: Path) -> Found:
    """Measure a file by the library: a score, an error of its own, or a fault."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            source = open_array(path)
            cloud = StreamedCloud(int(source.shape[-1] or 0) if source.shape else 0, np.random.default_rng(0))
            cloud.take(source)
            score = cloud.measurement().score
    except iso.IsoScoreError as error:
        message = str(error)
        # What is wrong with the points is said of them; the shell puts the name of the file before.
        named = str(path) in message or message.startswith("X: ")
        plain = named and "\n" not in message and len(message) < LONGEST_MESSAGE
        return {"kind": "error" if plain else "message", "text": message[:LONGEST_MESSAGE]}
    except Warning as warning:
        return {"kind": "warning", "text": f"{type(warning).__name__}: {warning}"}
    except Exception as error:
        return {"kind": "foreign", "text": f"{type(error).__name__}: {error}"[:LONGEST_MESSAGE]}
    key = source.name.removeprefix(str(path)).removeprefix(":")
    return {"kind": "score", "score": score, "key": key, "left_out": MOST_LEFT_OUT if source.notes else 0}


def right(path: Path, found: Found) -> list[float] | str:
    """Give the scores that the file's own library allows, or say why it allows none."""
    scores, why = [], "no points"
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            for points in READERS["".join(path.suffixes)](path, found["key"], found["left_out"]):
                try:
                    scores.append(algorithm_1(points))
                except (ValueError, TypeError, np.linalg.LinAlgError) as error:
                    why = str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:LONGEST_MESSAGE]
    return scores or why
