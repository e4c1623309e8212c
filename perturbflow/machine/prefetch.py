"""Reading ahead and writing behind: what a thread does while the networks compute."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")

DEPTH = 2
"""Results that wait for the networks, or the networks' for the file: what bounds the memory."""


def ahead(load: Callable[[Item], Loaded], items: Iterable[Item], depth: int = DEPTH) -> Iterator[Loaded]:
    """`load(item)` of each item, in order, made by a thread that is up to `depth` items ahead.

    What `load` raises is raised here, in its place.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        waiting: deque[Future[Loaded]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(load, item))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


@contextmanager
def behind(function: Callable[..., Any], depth: int = DEPTH) -> Iterator[Callable[..., None]]:
    """Give a callable that hands its arguments to a thread, which calls `function` with them, one call after another.

    It waits where more than `depth` calls are not done yet. What a call raises is raised by a later one or, at the
    latest, at the end of the block; the block ends when all calls are done, even where it ends with an error.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="behind") as pool:
        waiting: deque[Future[Any]] = deque()

        def call(*arguments: Any) -> None:
            waiting.append(pool.submit(function, *arguments))
            while len(waiting) > depth or (waiting and waiting[0].done()):
                waiting.popleft().result()

        yield call
        while waiting:
            waiting.popleft().result()
