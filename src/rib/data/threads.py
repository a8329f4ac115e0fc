"""Parallel work on many items in threads, for work that releases the GIL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Results in the order of the items. Each of n threads takes every n-th item, because scheduling single items is
    slow.

    Raises: the errors of `work`.
    """
    threads = min(cpu_count() or 1, len(items))
    if threads < 2:
        return [work(item) for item in items]
    found: list[Any] = [None] * len(items)

    def some(first: int) -> None:
        for place in range(first, len(items), threads):
            found[place] = work(items[place])

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(some, range(threads)))
    return found
