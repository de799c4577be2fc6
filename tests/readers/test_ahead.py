"""The next item is read while the last one is used, and errors come where items are taken."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from isoscore_star.readers._ahead import ahead


def test_the_next_item_is_read_while_this_one_is_used() -> None:
    read = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        read.set()
        yield 1

    taken = ahead(items())
    assert next(taken) == 0
    assert read.wait(10)  # before the next one is asked for
    assert list(taken) == [1]


def test_an_error_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 0
        raise OSError("gone")

    taken = ahead(items())
    assert next(taken) == 0
    with pytest.raises(OSError, match="gone"):
        next(taken)


def test_no_thread_is_left() -> None:
    before = threading.active_count()
    taken = ahead(range(9))
    next(taken)
    taken.close()  # type: ignore[attr-defined]  # a generator's
    assert threading.active_count() == before
