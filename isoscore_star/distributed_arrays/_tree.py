"""Named tasks, and their reduction by a tree: the Dask dashboard shows them by these names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from uuid import uuid4

_FAN_IN = 4
"""Partial results that one task merges: of d = 8,192 two halves are 1 GiB, so that a worker needs room for few."""


def named(name: str, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Return a task for each call, which the dashboard shows under this name."""
    from dask import delayed

    own, token = delayed(function, traverse=False), uuid4().hex
    return [own(*arguments, dask_key_name=f"{name}-{token}-{i}") for i, arguments in enumerate(calls)]


def merged(parts: list[Any], merge: Callable[[list[Any]], Any]) -> Any:
    """Return the task of all parts, four of which are merged at a time, neighbours first."""
    while len(parts) > 1:
        some = ([*parts[i : i + _FAN_IN]] for i in range(0, len(parts), _FAN_IN))
        parts = named("isoscore-merge", merge, ((part,) for part in some))
    return parts[0]


def kept(task: Any) -> Any:
    """Start a task whose result stays where it is computed, on a cluster, for tasks that need it."""
    return task.persist()


def together(tasks: list[Any]) -> tuple[Any, ...]:
    """Compute tasks at once, so that what they share is read once."""
    from dask import compute

    found: tuple[Any, ...] = compute(*tasks)
    return found
