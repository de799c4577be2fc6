"""Reading of the next item in a thread, while the last one is multiplied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")

_END: Any = object()


def ahead(items: Iterable[Item]) -> Iterator[Item]:
    """Return items in their order, of which the next one is read while this one is used; an error is raised here.

    Examples
    --------
    >>> from isoscore_star.readers._ahead import ahead
    >>> list(ahead(range(3)))
    [0, 1, 2]
    """
    iterator = iter(items)
    with ThreadPoolExecutor(1, "isoscore-reader") as reader:
        coming = reader.submit(next, iterator, _END)
        while (item := coming.result()) is not _END:
            coming = reader.submit(next, iterator, _END)
            yield item
